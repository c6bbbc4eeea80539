// Nodes and texts. What programs, tools and models wrote becomes text nodes and nothing else.

/**
 * Characters that change how text is laid out, or that cannot be seen; not those that only make
 * emoji and words of others.
 */
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

/** A text in which every character can be seen. */
function visible(text) {
  return text.replace(/\r\n/g, "\n").replace(HIDDEN, (c) => {
    const code = c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return `⟨U+${code}⟩`;
  });
}

/** Makes an element: `h("p.note", { title: "why" }, "text", node)`. */
function h(name, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  node.className = classes.join(" ");
  return add(node, ...children);
}

/** Adds properties, nodes and texts to an element. */
function add(node, ...children) {
  for (const child of children.flat(2)) {
    if (child === null || child === undefined || child === false) continue;
    if (child instanceof Node) node.append(child);
    else if (typeof child === "object") Object.assign(node, child);
    else node.append(visible(String(child)));
  }
  return node;
}

/** Puts these in the place of what an element has. */
function fill(node, ...children) {
  node.replaceChildren();
  return add(node, ...children);
}

function button(label, onclick, kind = "") {
  return h(`button${kind && "."}${kind}`, { type: "button", onclick }, label);
}

/** A number with its unit in words: `plural(2, "call")`. */
function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

function count(number) {
  return number.toLocaleString("en-US");
}

/** A time in microseconds, as people read it. */
function time(micros) {
  if (micros < 100) return `${Math.round(micros)} µs`;
  const ms = micros / 1000;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 2 : 1)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return whole(min, "min", Math.floor(s % 60), "s");
  return whole(Math.floor(min / 60), "h", min % 60, "min");
}

/** Two figures of a time; the second only where there is something of it. */
function whole(large, unit, small, smallUnit) {
  return `${count(large)} ${unit}${small > 0 ? ` ${small} ${smallUnit}` : ""}`;
}

/** A size, as people read it. */
function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1 << 20) return `${decimal(bytes / 1024)} KiB`;
  if (bytes < 1 << 30) return `${decimal(bytes / (1 << 20))} MiB`;
  return `${decimal(bytes / (1 << 30))} GiB`;
}

/** With one digit after the point, where that is not 0. */
function decimal(number) {
  return number.toFixed(number < 100 ? 1 : 0).replace(/\.0$/, "");
}

/** Large numbers in short: 1.2 M. */
function short(number) {
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= unit) return `${decimal(number / unit)} ${name}`;
  }
  return String(number);
}

/** A kept text, and how much of it was not kept. */
function kept({ text, cut = 0 }) {
  return [text, cut > 0 && h("span.note", ` … ${size(cut)} more, not kept`)];
}

/** A kept text that may be JSON, laid out where it is. */
function json(value) {
  if (value.cut) return kept(value);
  try {
    return [JSON.stringify(JSON.parse(value.text), null, 2)];
  } catch {
    return kept(value);
  }
}

/**
 * Shows a growing list of entries in an element, some at a time: `show(entries)` adds those
 * that are new, and what was shown stays. `make` makes a node of an entry.
 */
function growing(parent, step, make) {
  let shown = 0;
  let limit = step;
  let last = -1;
  let rest = [];
  const further = (number) => () => {
    limit += number;
    show(rest);
  };
  const more = button("", further(step), "more");
  const all = button("Show all", further(Infinity), "more");
  function show(entries) {
    rest = entries.filter((entry) => entry.number > last);
    for (const entry of rest.splice(0, limit - shown)) {
      parent.append(make(entry));
      last = entry.number;
      shown++;
    }
    more.remove();
    all.remove();
    if (rest.length === 0) return;
    parent.append(fill(more, `Show ${count(Math.min(step, rest.length))} of ${count(rest.length)} more`));
    if (rest.length > step) parent.append(all);
  }
  return show;
}
