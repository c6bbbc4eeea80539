// Array.fromAsync, by the steps of the standard. Evaluated when the guest is built, with
// the built-ins of then, so that what a program changes does not matter.
(internals) => ({
  async fromAsync(items, mapper = undefined, receiver = undefined) {
    const { TypeError, Array, Object, isConstructor, call, define, asyncIterator, iterator, min, trunc, isNaN } = internals;
    if (mapper !== undefined && typeof mapper !== 'function') throw new TypeError('mapper is not a function');
    const make = (...length) => (isConstructor(this) ? new this(...length) : new Array(...length));
    const put = (target, at, value) =>
      define(target, at, { value, writable: true, enumerable: true, configurable: true });
    let begin = items[asyncIterator];
    let isAsync = true;
    if (begin === undefined || begin === null) {
      isAsync = false;
      begin = items[iterator];
    }
    if (begin === undefined || begin === null) {
      const source = Object(items);
      let length = trunc(+source.length);
      length = isNaN(length) || length < 0 ? 0 : min(length, 9007199254740991);
      const target = make(length);
      for (let at = 0; at < length; at++) {
        let value = await source[at];
        if (mapper !== undefined) value = await call(mapper, receiver, [value, at]);
        put(target, at, value);
      }
      target.length = length;
      return target;
    }
    const target = make();
    const source = call(begin, items, []);
    if (Object(source) !== source) throw new TypeError('Result of the Symbol.asyncIterator method is not an object');
    const next = source.next;
    for (let at = 0; ; at++) {
      let result = call(next, source, []);
      if (isAsync) result = await result;
      if (Object(result) !== result) throw new TypeError(`Iterator result ${String(result)} is not an object`);
      if (result.done) {
        target.length = at;
        return target;
      }
      let value = result.value;
      try {
        if (!isAsync) value = await value;
        if (mapper !== undefined) value = await call(mapper, receiver, [value, at]);
        put(target, at, value);
      } catch (error) {
        try {
          const close = source.return;
          if (close !== undefined && close !== null) await call(close, source, []);
        } catch {}
        throw error;
      }
    }
  },
})
