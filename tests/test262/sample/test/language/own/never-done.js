/*---
description: a script that is never done
flags: [async]
---*/
Promise.resolve();
