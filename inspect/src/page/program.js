// The program, with the line at which it waits, the lines at which it waited, and its error.

/** Lines that are shown at first. */
const LINES = 300;
/** Lines around one of interest that are shown in any case. */
const AROUND = 8;
/** Characters of a line that are shown at first. */
const LINE_CHARS = 2_000;

/** The section of the program: `update()` shows what is new. */
function program(recording) {
  const lines = recording.source.text.split("\n");
  if (lines.at(-1) === "" && lines.length > 1) lines.pop();
  const code = h("div.code");
  const rows = new Map();
  const gaps = [];
  let marked = [];

  /** Makes the rows of lines `from` to `until`. */
  function make(from, until) {
    const made = [];
    for (let number = from; number <= until; number++) {
      const row = lineRow(number, lines[number - 1]);
      rows.set(number, row);
      made.push(row.node);
    }
    return made;
  }
  /** Shows a stretch of a gap, and leaves gaps around it. */
  function open(gap, from, until) {
    gaps.splice(gaps.indexOf(gap), 1);
    gap.node.replaceWith(...pieces(gap.from, from - 1), ...make(from, until), ...pieces(until + 1, gap.until));
  }
  function pieces(from, until) {
    if (from > until) return [];
    const gap = { from, until };
    const few = () => open(gap, from, Math.min(until, from + LINES - 1));
    gap.node = button(`Show lines ${count(from)} to ${count(Math.min(until, from + LINES - 1))} of ${count(lines.length)}`, few, "more");
    gaps.push(gap);
    return [gap.node];
  }
  code.append(...make(1, Math.min(LINES, lines.length)), ...pieces(LINES + 1, lines.length));

  function row(number) {
    const gap = gaps.find((gap) => gap.from <= number && number <= gap.until);
    if (gap) open(gap, Math.max(gap.from, number - AROUND), Math.min(gap.until, number + AROUND));
    return rows.get(number);
  }

  function update() {
    const longest = Math.max(...Object.values(recording.lines).map((line) => line.time), 1);
    for (const [number, { waits, time: spent }] of Object.entries(recording.lines)) {
      rows.get(Number(number))?.waited(waits, spent, spent / longest);
    }
    for (const each of marked) each.mark("");
    marked = [];
    const wait = !recording.end && recording.waiting;
    const at = wait?.place && row(wait.place.line);
    if (at) {
      const { number, calls } = openCalls(recording);
      const first = calls.slice(0, 2).map((call) => call.tool).join(", ");
      const rest = number > 2 ? ` and ${count(number - 2)} more` : "";
      const what = number > 0 ? ` for ${first}${rest}` : "";
      at.mark("waits", `waits ${time(lasted(recording) - wait.since)}${what}`);
      marked.push(at);
    }
    const error = recording.end?.place && row(recording.end.place.line);
    if (error) {
      const text = recording.end.error.text.split("\n")[0].slice(0, 200);
      error.mark("error", text);
      marked.push(error);
    }
  }
  const note = recording.source.cut > 0 &&
    h("p.note", `${size(recording.source.cut)} more of the program were not kept.`);
  const node = h("section.source", h("h2", "Program"), code, note);
  return { node, update, reveal: (number) => row(number)?.node.scrollIntoView({ block: "center" }) };
}

/** The row of a line. */
function lineRow(number, text) {
  const shown = h("code", text.slice(0, LINE_CHARS));
  if (text.length > LINE_CHARS) {
    const rest = button(`… ${count(text.length - LINE_CHARS)} more characters`, () => {
      fill(shown, text);
    }, "more");
    shown.append(rest);
  }
  const spent = h("span.spent");
  const label = h("span.label");
  const node = h("div.line", h("span.number", number), spent, h("div.text", shown, label));
  return {
    node,
    /** Shows how long the program waited here, and the part of the longest such time. */
    waited(waits, micros, part) {
      fill(spent, time(micros));
      spent.title = `waited here ${plural(waits, "time")}, ${time(micros)} together`;
      spent.style.setProperty("--part", part.toFixed(2));
    },
    mark(kind, text = "") {
      node.className = `line ${kind}`;
      fill(label, text);
    },
  };
}
