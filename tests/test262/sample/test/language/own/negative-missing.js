/*---
description: an error that is due and does not come
negative:
  phase: runtime
  type: TypeError
---*/
assert(true);
