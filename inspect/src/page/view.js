// One cell: what it did, why it waits, and what it cost.

/** Items of output that are shown at first, and added at a time. */
const ITEMS = 100;
/** Calls that are named where the program waits for many. */
const NAMED = 6;

/** The view of a recording: `update()` shows what is new. `tools` stands beside the title. */
function view(recording, tools) {
  const state = h("span.state");
  const lede = h("p.lede");
  const end = h("section.end", { hidden: true });
  const cost = h("dl.cost");
  const source = program(recording);
  const parts = [why(recording, source), timeline(recording), source, output(recording), approvals(recording)];
  const [waits, when, , said, answers] = parts;
  const started = new Date(recording.started_ms).toLocaleString();
  const node = h("article.cell",
    h("header", h("div.title", state, h("h1", recording.title || "A program"), tools),
      lede, h("p.note.started", `Started ${started}`)),
    waits.node, end, when.node,
    h("div.columns", source.node, h("div", said.node, answers.node)),
    h("section", h("h2", "Cost"), cost));

  function update() {
    const name = stateOf(recording);
    fill(state, STATES[name]).className = `state ${name}`;
    fill(lede, sentence(recording));
    if (recording.end) showEnd(recording, end, source);
    showCost(recording, cost);
    for (const part of parts) part.update();
  }
  update();
  return { node, update };
}

/** What the cell did, in a sentence. */
function sentence(recording) {
  const { usage, tools, end } = recording;
  const all = lasted(recording);
  const computing = Math.min(usage.running, all);
  const waited = all - computing;
  const calls = usage.calls === 0 ? "" :
    ` It ${end ? "made" : "has made"} ${plural(usage.calls, "call")} of ${tools.length === 1 ? tools[0][0] : plural(tools.length, "tool")}${failures(tools)}.`;
  const person = asking(recording, all);
  const split = waited < 1000 ? "" : `: ${time(computing)} computing and ${time(waited)} waiting${person}`;
  return `It ${end ? "took" : "has taken"} ${time(all)}${split}.${calls}`;
}

/** How long a person was waited for. */
function asking(recording, all) {
  let until = 0;
  let sum = 0;
  for (const asked of ofType(recording, "approval")) {
    const end = asked.until ?? all;
    sum += Math.max(end - Math.max(asked.at, until), 0);
    until = Math.max(until, end);
  }
  return sum > 0 ? `, of which ${time(sum)} for a person's answer` : "";
}

function failures(tools) {
  const failed = tools.reduce((sum, [, tool]) => sum + tool.failed, 0);
  return failed > 0 ? `, of which ${count(failed)} failed` : "";
}

/** A link to a line of the program. */
function lineLink(number, source) {
  return button(`line ${number}`, () => source.reveal(number), "link");
}

/** The section that says why the program waits. Its link stays the same node under a click. */
function why(recording, source) {
  let line = 0;
  const link = button("", () => source.reveal(line), "link");
  const [since, at, what] = [h("span"), h("span", " at ", link), h("span")];
  const list = h("ul");
  const node = h("section.why", h("p", since, at, what), list);
  function update() {
    const wait = !recording.end && recording.waiting;
    node.hidden = !wait;
    if (!wait) return;
    const { number, calls } = openCalls(recording);
    const now = lasted(recording);
    fill(since, `It has waited ${time(now - wait.since)}`);
    at.hidden = !wait.place;
    if (wait.place && wait.place.line !== line) {
      line = wait.place.line;
      fill(link, `line ${line}`);
    }
    const asked = ofType(recording, "approval").filter((asked) => asked.until === undefined);
    const answers = asked.length === 0 ? "" :
      ` ${plural(asked.length, "call")} ${asked.length === 1 ? "needs" : "need"} the answer of a person first.`;
    fill(what, number > 0 ? ` for ${plural(number, "call")} to return.` : " for a timer.", answers);
    const named = calls.slice(0, NAMED).map((call) => h("li", h("code", call.tool), ` for ${time(now - call.at)}`));
    const rest = number - named.length;
    fill(list, named, rest > 0 && h("li", plural(rest, "more call")));
  }
  return { node, update };
}

/** How it ended, where there is more to say than that it completed. */
function showEnd({ end }, node, source) {
  const limit = end.limit && `The limit that was reached is ${end.limit.replaceAll("_", " ")}.`;
  fill(node,
    end.error && [h("pre.error", kept(end.error)),
      end.place && h("p", "See ", lineLink(end.place.line, source), ".")],
    limit && h("p", limit),
    end.hint && h("p.hint", kept(end.hint)));
  node.hidden = !node.hasChildNodes();
}

/** What was used of each limit. */
function showCost(recording, list) {
  const { usage, limits } = recording;
  const all = lasted(recording);
  const figures = [
    ["Time in all", all, limits.lasted, time],
    ["Time computing", usage.running, limits.running, time],
    ["Fuel", usage.fuel, limits.fuel, short],
    ["Memory at most", usage.memory_bytes, limits.memory_bytes, size],
    ["Calls", usage.calls, limits.calls, count],
    ["Output", usage.output_bytes, limits.output_bytes, size],
  ];
  fill(list, figures.map(([name, used, limit, show]) => {
    const part = Math.min(used / limit, 1);
    const bar = h("span.used");
    bar.style.width = `${part * 100}%`;
    const meter = h(part > 0.8 ? "span.meter.high" : "span.meter", { title: `${(part * 100).toFixed(1)} %` }, bar);
    return h("div", h("dt", name), h("dd", show(used), h("span.note", ` of ${show(limit)}`), meter));
  }));
}

/** The section of the output: what the model reads. */
function output(recording) {
  const items = h("div.items");
  const show = growing(items, ITEMS, item);
  const empty = h("p.note", "Nothing yet.");
  const note = h("p.note");
  const result = h("div.result");
  const node = h("section.output", h("h2", "Output"), empty, items, note, result);
  function update() {
    const all = ofType(recording, "text", "media", "notification");
    show(all);
    empty.hidden = all.length > 0 || items.hasChildNodes();
    if (recording.end) fill(empty, "Nothing.");
    const value = recording.end?.value;
    fill(result, value && [h("h2", "Result"), h("pre", json(value))]);
    const { output: unkept } = recording.dropped;
    fill(note, unkept > 0 && `${plural(unkept, "item")} between the first and the newest were not kept.`);
  }
  return { node, update };
}

/** The section of the calls that a person was asked about. */
function approvals(recording) {
  const items = h("div");
  const notes = new Map();
  const node = h("section", h("h2", "Approvals"), items);
  function update() {
    const asked = ofType(recording, "approval");
    for (const entry of asked) {
      if (!notes.has(entry.number)) {
        notes.set(entry.number, h("p.note"));
        items.append(h("div.item", notes.get(entry.number), h("pre", kept(entry.question))));
      }
      const answer = { true: "Approved", false: "Refused" }[entry.approved];
      const took = time((entry.until ?? lasted(recording)) - entry.at);
      fill(notes.get(entry.number),
        entry.until === undefined ? `Asked for ${took}` : `${answer ?? "Not answered"} after ${took}`);
    }
    node.hidden = notes.size === 0;
  }
  return { node, update };
}

/** An item of output. */
function item(entry) {
  const at = { title: `after ${time(entry.at)}` };
  switch (entry.type) {
    case "text":
      return h("pre.item", at, kept(entry.text));
    case "notification":
      return h("pre.item.aside", at, h("span.tag", "notification "), kept(entry.text));
    default: {
      const about = `${entry.kind || "data"}, ${size(entry.bytes)}`;
      const image = entry.url && h("img", { src: entry.url, alt: about, loading: "lazy", decoding: "async" });
      return h("figure.item", at, image, h("figcaption.note", about, !image && ", not kept"));
    }
  }
}
