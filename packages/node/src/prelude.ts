// What stands in front of every program: with it a call that fails rejects with an `Error`.
//
// By the contract, which others share, it rejects with a string. The prelude stands on the
// first line, so that the lines of the program keep their numbers; columns of the first line
// are set right in errors.

/** It is always the same where programs wait. */
export const PRELUDE =
  "{const raw=globalThis.tools,all=Object.create(null),E=Error;" +
  "for(const name of Object.keys(raw)){const f=raw[name];all[name]=(...given)=>{" +
  "const e=new E('');return f(...given).then(undefined,why=>{" +
  "if(typeof why!=='string')throw why;e.message=why;" +
  "e.stack=['Error: '+why,...String(e.stack).split('\\n').slice(2)].join('\\n');" +
  "throw e})}}globalThis.tools=all}void 0;";

/** What stands in front of a program. */
export function preludeOf(program: string): string {
  // One in a Markdown fence does not run, and is best seen as it is by those who say so.
  return program.trimStart().startsWith("```") ? "" : PRELUDE;
}

/**
 * An error's text with the places of the program as its author knows it. `length` is that of the
 * prelude.
 */
export function withoutPrelude(text: string, length: number): string {
  return text
    .split("\n")
    .flatMap((line) => moved(line, length))
    .join("\n");
}

/** A line with its place set right; none for a place within the prelude. */
function moved(line: string, length: number): string[] {
  const place = line.match(/exec_main\.mjs:1:(\d+)/);
  if (!place) return [line];
  const column = Number(place[1]) - length;
  if (column > 0) return [line.replace(place[0], `exec_main.mjs:1:${column}`)];
  return line.startsWith("    at ") ? [] : [line];
}
