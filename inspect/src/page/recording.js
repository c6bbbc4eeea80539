// A recording as it is known so far. Times are in microseconds since the cell's start.

/** States in the words of the page. */
const STATES = {
  running: "Computing",
  waiting: "Waiting",
  asking: "Needs an answer",
  completed: "Completed",
  failed: "Failed",
  limit: "Stopped at a limit",
  terminated: "Terminated",
  parked: "Parked",
  lost: "Ended without a result",
};

/** An empty recording. */
function newRecording() {
  return { version: 0, entries: new Map(), list: [] };
}

/** Takes over what changed. */
function merge(recording, news) {
  const { entries, source, ...rest } = news;
  delete recording.waiting;
  Object.assign(recording, rest, { received: performance.now() });
  if (source) recording.source = source;
  for (const entry of entries) recording.entries.set(entry.number, entry);
  const isKept = (number) => news.kept.some(([first, last]) => first <= number && number <= last);
  for (const number of recording.entries.keys()) {
    if (!isKept(number)) recording.entries.delete(number);
  }
  recording.list = [...recording.entries.values()].sort((a, b) => a.number - b.number);
  return recording;
}

/** How long the cell has lasted by now. */
function lasted(recording) {
  const since = recording.end || recording.saved ? 0 : performance.now() - recording.received;
  return recording.lasted + since * 1000;
}

/** Entries of a type. */
function ofType(recording, ...types) {
  return recording.list.filter((entry) => types.includes(entry.type));
}

/** Times between entries that are kept, `[from, until]`, of which nothing is known. */
function unkept(recording) {
  const at = (number) => recording.entries.get(number)?.at ?? 0;
  return recording.kept.slice(1).map(([first], i) => [at(recording.kept[i][1]), at(first)]);
}

/** Its state, by the names of `STATES`. */
function stateOf(recording) {
  if (recording.end) return recording.end.how;
  if (ofType(recording, "approval").some((entry) => entry.until === undefined)) return "asking";
  return recording.waiting ? "waiting" : "running";
}

/** Calls that have not ended: how many, and those that are kept. */
function openCalls(recording) {
  const number = recording.tools.reduce((sum, [, tool]) => sum + tool.open, 0);
  const calls = ofType(recording, "call").filter((call) => call.until === undefined);
  return { number, calls };
}

/** How a call ended, in a word. */
function outcome(call) {
  return call.end ? call.end.how : "running";
}
