/*---
description: a script with a file of the harness
includes: [one.js]
---*/
var own = one + 1;
assert(own === 2, "own");
