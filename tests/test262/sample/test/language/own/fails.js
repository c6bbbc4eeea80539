/*---
description: what fails
flags:
  - onlyStrict
---*/
assert(1 === 2, "mine");
