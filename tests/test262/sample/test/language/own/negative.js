/*---
description: a syntax error that is due
negative:
  phase: parse
  type: SyntaxError
---*/
throw "never";
let let = 1;
