// The page of an inspector: all cells, and the one that is looked at, as they change. Or the
// one cell of a saved file.

/** How often times that go on are shown anew, in milliseconds. */
const TICK = 500;
/** How long the questions must have stood still before one can be answered, in milliseconds. */
const SETTLE = 700;
/** How long until a lost connection is tried again, in milliseconds. */
const RETRY = 1500;

function start() {
  const page = document.getElementById("page");
  const saved = JSON.parse(document.getElementById("recording").textContent);
  if (saved === null) {
    live(page);
    return;
  }
  const recording = merge(newRecording(), saved);
  recording.saved = true;
  document.title = visible(`${recording.title || "A program"} · ${STATES[stateOf(recording)]}`);
  fill(page, view(recording).node);
}

function live(page) {
  const token = new URLSearchParams(location.search).get("token") ?? "";
  const authorization = { Authorization: `Bearer ${token}` };
  const trouble = h("p.trouble", { hidden: true });
  const questions = h("section.questions", { ariaLive: "polite" });
  const list = h("div.lines");
  const left = h("p.note");
  const main = h("div.main", h("p.note", "No program has run yet."));
  fill(page, h("div.live", trouble, questions, h("nav.list", { ariaLabel: "Cells" }, list, left), main));
  page.className = "wide";

  let seen = 0;
  /** The cell that is looked at; the newest while nobody has chosen. */
  let chosen = Number(location.hash.slice(1)) || null;
  let current = null;
  let recording = null;
  let shown = null;
  let polling = new AbortController();
  /** Lines of the list. */
  const lines = new Map();
  /** When the list was received. */
  let listed = 0;
  /** Questions that are shown. */
  const cards = new Map();
  let settling;

  function look(number) {
    if (number === current) return;
    current = number;
    recording = newRecording();
    shown = null;
    seen = 0;
    fill(main);
    polling.abort();
  }
  function choose(number) {
    chosen = number;
    history.replaceState(null, "", `#${number}`);
    look(number);
    tickList();
  }

  async function poll() {
    polling = new AbortController();
    const since = recording?.version ?? 0;
    const asked = current;
    const query = new URLSearchParams({ seen, since });
    if (asked !== null) query.set("cell", asked);
    const response = await fetch(`changes?${query}`, { headers: authorization, signal: polling.signal });
    if (response.status === 403) throw new Error(await response.text());
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const news = await response.json();
    if (asked !== current) return;
    seen = news.version;
    trouble.hidden = true;
    if (news.recording) {
      merge(recording, news.recording);
      if (shown) shown.update();
      else {
        const save = h("a.save", { href: `cells/${current}?token=${encodeURIComponent(token)}` }, "Save");
        shown = view(recording, save);
        fill(main, shown.node);
      }
    }
    showList(news);
    showQuestions(news.cells);
    const newest = news.cells[0]?.number ?? null;
    const exists = news.cells.some((cell) => cell.number === chosen);
    look(exists ? chosen : newest);
  }

  function showList({ cells, unrecorded }) {
    const waiting = cells.reduce((sum, cell) => sum + cell.questions.length, 0);
    document.title = `${waiting > 0 ? `(${waiting}) ` : ""}Cellblock`;
    const numbers = new Set(cells.map((cell) => cell.number));
    for (const [number, line] of lines) {
      if (numbers.has(number)) continue;
      line.node.remove();
      lines.delete(number);
    }
    // The oldest first, so that each goes above those before it.
    for (const cell of cells.toReversed()) {
      if (!lines.has(cell.number)) {
        // A line stays the same node, so that a click on it is not lost.
        const line = listLine(cell);
        lines.set(cell.number, line);
        list.prepend(line.node);
      }
      lines.get(cell.number).cell = cell;
    }
    listed = performance.now();
    fill(left, unrecorded > 0 && `${plural(unrecorded, "cell")} started while too many were alive, and were not recorded.`);
    tickList();
  }

  function listLine(cell) {
    const about = h("span.note");
    const node = button([h("span.dot"), h("span.line", cell.line || "(empty)"), about], () => choose(cell.number));
    return { node, about, cell };
  }

  /** Shows the cells of the list as they are now. */
  function tickList() {
    for (const { node, about, cell } of lines.values()) {
      const isAlive = ["running", "waiting", "asking"].includes(cell.state);
      const took = cell.lasted + (isAlive ? (performance.now() - listed) * 1000 : 0);
      const calls = cell.calls > 0 ? ` · ${plural(cell.calls, "call")}` : "";
      fill(about, `${cell.title} · ${STATES[cell.state]} · ${time(took)}${calls}`);
      node.className = cell.state;
      node.ariaCurrent = String(cell.number === current);
    }
  }

  function showQuestions(cells) {
    const all = cells.flatMap((cell) => cell.questions.map((question) => ({ cell, question })));
    const names = new Set(all.map(({ cell, question }) => `${cell.number}/${question.number}`));
    let changed = false;
    for (const [name, card] of cards) {
      if (names.has(name)) continue;
      card.node.remove();
      cards.delete(name);
      changed = true;
    }
    for (const { cell, question } of all) {
      const name = `${cell.number}/${question.number}`;
      if (cards.has(name)) continue;
      const card = questionCard(cell, question);
      cards.set(name, card);
      questions.append(card.node);
      changed = true;
    }
    if (changed) settle();
  }

  /** Lets nobody click on another question than they read: the cards have just moved. */
  function settle() {
    for (const card of cards.values()) card.enable(false);
    clearTimeout(settling);
    settling = setTimeout(() => {
      for (const card of cards.values()) card.enable(true);
    }, SETTLE);
  }

  function questionCard(cell, question) {
    const said = h("span.note");
    let isSent = false;
    const answer = async (approved) => {
      isSent = true;
      enable(false);
      const body = JSON.stringify({ cell: cell.number, question: question.number, approved });
      const headers = { ...authorization, "Content-Type": "application/json" };
      try {
        const response = await fetch("answers", { method: "POST", headers, body });
        if (response.ok) fill(said, approved ? "Approved." : "Refused.");
        else if (response.status === 409) fill(said, "It does not wait for an answer any more.");
        else throw new Error();
      } catch {
        fill(said, "The answer did not arrive.");
        isSent = false;
        enable(true);
      }
    };
    const buttons = [button("Approve", () => answer(true), "approve"), button("Refuse", () => answer(false), "refuse")];
    const node = h("div.question", h("p", "May the program of ",
      button(cell.title, () => choose(cell.number), "link"), " make this call?"),
      h("pre", kept(question.text)), h("p.answers", buttons, said));
    function enable(may) {
      for (const each of buttons) each.disabled = !may || isSent;
    }
    return { node, enable };
  }

  async function follow() {
    for (;;) {
      try {
        await poll();
      } catch (error) {
        if (error.name === "AbortError") continue;
        fill(trouble, `Not up to date: ${error.message}`).hidden = false;
        await new Promise((done) => setTimeout(done, RETRY));
      }
    }
  }
  setInterval(() => {
    if (shown && !recording.end) shown.update();
    tickList();
  }, TICK);
  addEventListener("hashchange", () => choose(Number(location.hash.slice(1)) || null));
  follow();
}
