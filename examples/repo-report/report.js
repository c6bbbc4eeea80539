// A report on the git repository in the current folder, as Markdown. Every
// question is a nested call of `git`; those that do not depend on each other
// run at the same time.
const COMMITS = 40;
const lines = (text) => text.split("\n").filter((line) => line !== "");
const table = (head, rows) =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
const bySize = (a, b) => b.size - a.size || (a.path < b.path ? -1 : 1);

const [log, shortlog, files] = await Promise.all([
  tools.git_log({ count: COMMITS }),
  tools.git_shortlog(),
  tools.git_files(),
]);

const commits = lines(log).map((line) => {
  const [hash, author, date, subject] = line.split("\t");
  return { hash, author, date, subject };
});

// One call for each commit, all in flight together.
const stats = await Promise.all(commits.map(({ hash }) => tools.git_numstat({ commit: hash })));
const touched = new Map();
commits.forEach((commit, at) => {
  commit.added = 0;
  commit.removed = 0;
  for (const line of lines(stats[at])) {
    const [added, removed, path] = line.split("\t");
    commit.added += Number(added) || 0;
    commit.removed += Number(removed) || 0;
    touched.set(path, (touched.get(path) ?? 0) + 1);
  }
});

const tree = lines(files).map((line) => {
  const [head, path] = line.split("\t");
  return { path, size: Number(head.trim().split(/\s+/)[3]) || 0 };
});
const kinds = Map.groupBy(tree, ({ path }) => path.match(/[^/]\.([^./]+)$/)?.[1] ?? "(none)");
const sum = (list) => list.reduce((total, { size }) => total + size, 0);

text("# Repository report");
text(`${tree.length} files, ${sum(tree)} bytes; the newest ${commits.length} commits.\n`);
text("## Authors\n");
text(table(["commits", "author"], lines(shortlog).map((line) => line.trim().split("\t"))));
text("\n## Newest commits\n");
text(table(
  ["commit", "date", "added", "removed", "subject"],
  commits.slice(0, 10).map((c) => [c.hash, c.date, c.added, c.removed, c.subject.replaceAll("|", "\\|")]),
));
text("\n## Largest files\n");
text(table(["bytes", "path"], tree.toSorted(bySize).slice(0, 8).map(({ size, path }) => [size, path])));
text("\n## Kinds of file\n");
text(table(
  ["kind", "files", "bytes"],
  [...kinds].map(([kind, list]) => ({ path: kind, size: sum(list), files: list.length }))
    .sort(bySize).slice(0, 8).map(({ path, files, size }) => [path, files, size]),
));
text("\n## Most often changed\n");
text(table(
  ["commits", "path"],
  [...touched].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).slice(0, 5).map(([path, n]) => [n, path]),
));
