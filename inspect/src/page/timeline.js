// When what happened: the program, and the calls it made.

/** Calls above this number are shown together, a row for each tool, before each is shown. */
const SINGLE_CALLS = 30;
/** Rows that are shown at first, and added at a time. */
const ROWS = 30;
/** Width of a lane in its own units. */
const UNITS = 1000;

/** The section of the timeline: `update()` shows what is new. */
function timeline(recording) {
  const scale = h("div.ticks");
  const whole = lane();
  const took = h("span.time");
  const tools = h("div", { hidden: true }, h("h3", "Each tool"));
  const rows = h("div.calls");
  const each = h("h3", { hidden: true }, "Each call");
  const note = h("p.note");
  const legend = h("p.legend");
  const shown = new Map();
  const lanes = new Map();
  const show = growing(rows, ROWS, (call) => {
    const row = callRow(recording, call);
    shown.set(call.number, row);
    return row.node;
  });
  const node = h("section.timeline", h("h2", "Timeline"), legend,
    h("div.scale", { ariaHidden: "true" }, scale),
    h("div.row.program", h("span.name", "the program"), whole.node, took),
    tools, each, rows, note);

  function update() {
    const total = Math.max(lasted(recording), 1);
    const calls = ofType(recording, "call");
    drawScale(scale, total);
    drawProgram(recording, whole, total);
    fill(took, time(total));
    const isMany = recording.usage.calls > SINGLE_CALLS;
    tools.hidden = each.hidden = !isMany;
    if (isMany) drawTools(recording, tools, lanes, calls, total);
    show(calls);
    for (const [number, row] of shown) row.update(recording.entries.get(number), total);
    const dropped = recording.dropped.calls;
    fill(note, dropped > 0 && `${plural(dropped, "call")} between the first and the newest were counted and not kept.`);
    fill(legend, keys(recording));
  }
  return { node, update };
}

/** What the colours mean, of those that are there. */
function keys(recording) {
  const calls = ofType(recording, "call");
  const some = (how) => calls.some((call) => how.includes(outcome(call)));
  return [
    ["run", "computing", true],
    ["wait", "waiting", true],
    ["ask", "waiting for a person", ofType(recording, "approval").length > 0],
    ["said", "output", ofType(recording, "text", "media", "notification").length > 0],
    ["unkept", "not kept", unkept(recording).length > 0],
    ["call", "call", some(["succeeded"])],
    ["failed", "call that failed", some(["failed"])],
    ["cancelled", "call that was cancelled", some(["cancelled"])],
    ["open", "call that has not ended", some(["running"])],
  ].filter(([, , isThere]) => isThere).map(([kind, name]) => h(`span.key.${kind}`, name));
}

/** A lane in which stretches of time are drawn, by kind. */
function lane() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "lane");
  svg.setAttribute("viewBox", `0 0 ${UNITS} 10`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const paths = new Map();
  /** Draws stretches `[from, until]` of a kind, of a time in all. */
  function draw(kind, stretches, total) {
    if (!paths.has(kind)) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", kind);
      svg.append(path);
      paths.set(kind, path);
    }
    let drawn = "";
    let end = -1;
    for (const [from, until] of stretches) {
      const left = (from / total) * UNITS;
      const right = Math.max((until / total) * UNITS, left + 1.5);
      // What cannot be told from its neighbour needs no shape of its own.
      if (right <= end) continue;
      const x = Math.max(left, end);
      drawn += `M${x.toFixed(1)} 0h${(right - x).toFixed(1)}v10H${x.toFixed(1)}z`;
      end = right;
    }
    paths.get(kind).setAttribute("d", drawn);
  }
  return { node: svg, draw };
}

/** Steps of the scale, in microseconds: 1, 2 and 5 of each power of ten, then round times. */
const STEPS = [
  ...Array.from({ length: 8 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat(),
  ...[60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800].map((s) => s * 1e6),
];

function drawScale(scale, total) {
  const step = STEPS.find((step) => total / step <= 5) ?? total;
  const ticks = [];
  for (let at = 0; at < total; at += step) {
    // Beside the right end there is no room for a label.
    const label = at === 0 ? "0" : at / total < 0.9 && time(at).replace(/\.0+ /, " ");
    const tick = h("span.tick", label);
    tick.style.left = `${(at / total) * 100}%`;
    ticks.push(tick);
  }
  fill(scale, ticks);
}

/** The program computes where it does not wait. */
function drawProgram(recording, program, total) {
  const waits = ofType(recording, "wait").map((wait) => [wait.at, wait.until ?? total]);
  program.draw("run", [[0, total]], total);
  program.draw("wait", waits, total);
  const asked = ofType(recording, "approval").map((asked) => [asked.at, asked.until ?? total]);
  program.draw("ask", asked, total);
  const said = ofType(recording, "text", "media", "notification");
  program.draw("said", said.map((entry) => [entry.at, entry.at]), total);
  program.draw("unkept", unkept(recording), total);
}

/** A row for each tool, those first that took longest when they were first drawn. */
function drawTools(recording, parent, lanes, calls, total) {
  const sorted = [...recording.tools].sort(([, a], [, b]) => b.time - a.time).slice(0, ROWS);
  const kinds = { succeeded: "call", failed: "failed", cancelled: "cancelled", running: "open" };
  const stretches = new Map();
  for (const call of calls) {
    const key = `${kinds[outcome(call)]} ${call.tool}`;
    if (!stretches.has(key)) stretches.set(key, []);
    stretches.get(key).push([call.at, call.until ?? total]);
  }
  for (const [name, totals] of sorted) {
    if (!lanes.has(name)) {
      const drawn = lane();
      const figures = h("span.time");
      const row = h("div.row", h("span.name", name), drawn.node, figures);
      lanes.set(name, { row, drawn, figures });
      parent.append(row);
    }
    const { row, drawn, figures } = lanes.get(name);
    for (const kind of ["call", "failed", "cancelled", "open"]) {
      drawn.draw(kind, stretches.get(`${kind} ${name}`) ?? [], total);
    }
    const failed = totals.failed > 0 ? `, ${count(totals.failed)} failed` : "";
    fill(figures, `${count(totals.calls)} ×${failed}`);
    row.title = visible(`${name}: ${plural(totals.calls, "call")}${failed}, ${time(totals.time)} together`);
  }
}

/** A row for a call, which opens to show its input and result. */
function callRow(recording, call) {
  const bar = h("span.bar");
  const took = h("span.time");
  const brief = (call.input?.text ?? "").slice(0, 200);
  const body = h("div.body");
  const summary = h("summary.row", h("span.name", call.tool, h("span.brief", brief)),
    h("span.track", bar), took);
  const node = h("details.call", summary, body);
  node.addEventListener("toggle", () => node.open && fillCall(recording, body, call));
  /** Shows the call as it is `now`; one that is not kept any more stays as it was. */
  function update(now, total) {
    if (!now) {
      if (call.end === undefined) fill(took, "ended, not kept");
      return;
    }
    const until = now.until ?? total;
    bar.style.left = `${Math.min((now.at / total) * 100, 99.5)}%`;
    bar.style.width = `${Math.max(((until - now.at) / total) * 100, 0.3)}%`;
    const how = outcome(now);
    const changed = now !== call;
    call = now;
    node.className = `call ${how}`;
    const word = how === "succeeded" ? "" : `${how === "running" ? "not ended" : how} `;
    fill(took, h("span.how", word), time(until - now.at));
    if (node.open && changed) fillCall(recording, body, call);
  }
  return { node, update };
}

function fillCall(recording, body, call) {
  const end = call.end;
  const wait = ofType(recording, "wait").find((wait) => wait.at >= call.at && wait.place);
  fill(body,
    h("p.note", `Made ${time(call.at)} after the start.`,
      wait && ` The program then waited at line ${wait.place.line}.`),
    call.input ? [h("h4", "Input"), h("pre", json(call.input))] : h("p.note", "Without input."),
    end?.result && [h("h4", "Result"), h("pre", json(end.result))],
    end?.error && [h("h4", "Error"), h("pre.error", kept(end.error))],
    end?.how === "cancelled" && h("p.note", "It was cancelled."));
}
