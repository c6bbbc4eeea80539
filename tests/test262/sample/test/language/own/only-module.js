/*---
description: what only a module allows
---*/
var { a } = { a: await 1 };
assert(a === 1);
