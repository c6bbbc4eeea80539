function assert(truth, message) {
  if (truth !== true) throw new Test262Error(message);
}
