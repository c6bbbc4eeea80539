/*---
description: a module
flags: [module, async]
---*/
await null;
assert(this === undefined);
Promise.resolve().then(() => $DONE());
export {};
