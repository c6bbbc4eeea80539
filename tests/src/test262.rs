//! Runs test262, the tests of the language's standard, from a checkout.
//!
//! A cell runs modules, so a test that is a module is the program itself. A test that is a
//! script is run as strict code through `eval`, and where that fails as a module: each
//! lacks something that a script has, such as global variables or `this`. What needs other
//! realms, agents, files to import or sloppy code is skipped.

use crate::backends::Backends;
use cellblock::{CellLimits, CodeModeService, ExecuteRequest, RuntimeResponse, SessionLimits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Flags of tests that no cell can run.
const SKIPPED_FLAGS: [&str; 4] = ["noStrict", "raw", "CanBlockIsFalse", "CanBlockIsTrue"];

/// Features of tests that no cell can run: what the contract removes, other realms and
/// agents, proposals that the engine does not have, and tail calls, which V8 does not have
/// either.
const SKIPPED_FEATURES: [&str; 22] = [
    "Atomics",
    "Atomics.pause",
    "Atomics.waitAsync",
    "IsHTMLDDA",
    "ShadowRealm",
    "SharedArrayBuffer",
    "Temporal",
    "await-dictionary",
    "cross-realm",
    "decorators",
    "dynamic-import",
    "explicit-resource-management-async-context",
    "host-gc-required",
    "import-attributes",
    "import-bytes",
    "import-defer",
    "import-text",
    "joint-iteration-await",
    "json-modules",
    "source-phase-imports",
    "source-phase-imports-module-source",
    "tail-call-optimization",
];

/// Pieces of source that no cell can run.
const SKIPPED_SOURCES: [&str; 8] = [
    "createRealm",
    "$262.evalScript",
    "$262.agent",
    "_FIXTURE",
    "import(",
    "import.meta",
    "from './",
    "from \"./",
];

/// What a test says of itself in front of its code.
#[derive(Debug, Default)]
pub struct FrontMatter {
    flags: Vec<String>,
    features: Vec<String>,
    includes: Vec<String>,
    /// The name of the error that it ends with.
    negative: Option<String>,
}

impl FrontMatter {
    /// Reads the comment that begins with `/*---`, which is YAML of a simple kind.
    pub fn read(source: &str) -> Self {
        let mut front = Self::default();
        let Some(text) = source.split("/*---").nth(1).and_then(|rest| rest.split("---*/").next())
        else {
            return front;
        };
        let mut key = "";
        for line in text.lines() {
            let indented = line.starts_with([' ', '\t']);
            let line = line.trim();
            if let Some((name, rest)) = line.split_once(':').filter(|_| !indented) {
                key = name;
                front.add(key, rest);
            } else if key == "negative" {
                if let Some(kind) = line.strip_prefix("type:") {
                    front.negative = Some(kind.trim().to_owned());
                }
            } else {
                front.add(key, line.trim_start_matches('-'));
            }
        }
        front
    }

    fn add(&mut self, key: &str, items: &str) {
        let list = match key {
            "flags" => &mut self.flags,
            "features" => &mut self.features,
            "includes" => &mut self.includes,
            _ => return,
        };
        let items = items.trim().trim_start_matches('[').trim_end_matches(']').split(',');
        list.extend(items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()));
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    fn is_skipped(&self, source: &str) -> bool {
        SKIPPED_FLAGS.iter().any(|flag| self.has(flag))
            || self.features.iter().any(|own| SKIPPED_FEATURES.contains(&own.as_str()))
            || SKIPPED_SOURCES.iter().any(|part| source.contains(part))
    }
}

/// How a test ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Passed,
    /// Otherwise; the text is the error.
    Failed(String),
    /// It was not run.
    Skipped,
}

/// A checkout, and the engine that its tests run on.
pub struct Checkout {
    folder: PathBuf,
    service: CodeModeService,
}

impl Checkout {
    /// A checkout with its folders `harness` and `test`.
    pub fn new(folder: &Path) -> Self {
        let cell = CellLimits { running_time: Duration::from_mins(2), ..CellLimits::default() };
        let limits = SessionLimits { cell, ..SessionLimits::default() };
        let service = CodeModeService::new(Backends::Wasm.session(limits));
        Self { folder: folder.to_owned(), service }
    }

    /// The tests in a folder of `test`, by their paths from there.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn tests(&self, folder: &str) -> std::io::Result<Vec<String>> {
        let root = self.folder.join("test");
        let (mut found, mut open) = (Vec::new(), vec![root.join(folder)]);
        while let Some(path) = open.pop() {
            if path.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    open.push(entry?.path());
                }
            } else if path.extension().is_some_and(|kind| kind == "js") {
                let name = path.strip_prefix(&root).unwrap_or(&path);
                found.push(name.to_string_lossy().into_owned());
            }
        }
        found.retain(|name| !name.ends_with("_FIXTURE.js"));
        found.sort();
        Ok(found)
    }

    /// Runs one test.
    ///
    /// # Errors
    /// A test or a file of the harness that cannot be read.
    pub async fn run(&self, name: &str) -> std::io::Result<Verdict> {
        let source = std::fs::read_to_string(self.folder.join("test").join(name))?;
        let front = FrontMatter::read(&source);
        if front.is_skipped(&source) {
            return Ok(Verdict::Skipped);
        }
        let mut harness = String::from(PRELUDE);
        let always = ["assert.js", "sta.js", "doneprintHandle.js"];
        for file in always.into_iter().chain(front.includes.iter().map(String::as_str)) {
            harness.push_str(&std::fs::read_to_string(self.folder.join("harness").join(file))?);
            harness.push('\n');
        }
        let end = if front.has("async") { WAIT } else { "" };
        let module = format!("{harness}\n{source}\n{end}");
        if front.has("module") {
            return Ok(self.verdict(module, &front).await);
        }
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let script = format!(
            "(0, eval)({});\n(0, eval)({});\n{end}",
            quoted(&harness),
            quoted(&format!("\"use strict\";\n{source}"))
        );
        match self.verdict(script, &front).await {
            Verdict::Failed(why) => Ok(match self.verdict(module, &front).await {
                Verdict::Passed => Verdict::Passed,
                _ => Verdict::Failed(why),
            }),
            verdict => Ok(verdict),
        }
    }

    async fn verdict(&self, source: String, front: &FrontMatter) -> Verdict {
        let request = ExecuteRequest { yield_time_ms: Some(60_000), ..ExecuteRequest::new(source) };
        let response = match self.service.execute(request).await {
            Ok(response) => response,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        let RuntimeResponse::Result { error_text, content_items, .. } = response else {
            return Verdict::Failed("it did not end".to_owned());
        };
        let printed = serde_json::json!(content_items).to_string();
        match (&front.negative, error_text) {
            (Some(kind), Some(error)) if error.starts_with(kind.as_str()) => Verdict::Passed,
            (None, None) if !front.has("async") => Verdict::Passed,
            (None, None) if printed.contains("Test262:AsyncTestComplete") => Verdict::Passed,
            (Some(kind), None) => Verdict::Failed(format!("no {kind}")),
            (_, Some(error)) => Verdict::Failed(error),
            (None, None) => Verdict::Failed(printed),
        }
    }
}

/// What a host of test262 gives its tests.
const PRELUDE: &str = "globalThis.$262 = { global: globalThis, gc() {}, \
    detachArrayBuffer(buffer) { buffer.transfer() } };\n\
    globalThis.print = line => { text(String(line)); globalThis.hasPrinted = true };\n";

/// The end of a test that is over when it says so.
const WAIT: &str = "\n;await new Promise(done => { let left = 200; \
    (function look() { if (globalThis.hasPrinted || !left--) done(); else setTimeout(look, 5) })() });";

/// Tests that ran, and those that passed, of one folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// That passed.
    pub passed: usize,
    /// That ran.
    pub ran: usize,
    /// That a cell cannot run.
    pub skipped: usize,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Summary {
    /// By the first two parts of the tests' paths.
    pub folders: BTreeMap<String, Count>,
    /// Tests that failed, with their errors.
    pub failed: BTreeMap<String, String>,
}

/// Tests that run at one time.
const AT_ONCE: usize = 4;

/// Runs tests, several at a time.
///
/// # Errors
/// A file that cannot be read.
pub async fn run(checkout: Arc<Checkout>, tests: Vec<String>) -> std::io::Result<Summary> {
    let mut summary = Summary::default();
    let mut running = tokio::task::JoinSet::new();
    let mut waiting = tests.into_iter();
    loop {
        while running.len() < AT_ONCE
            && let Some(test) = waiting.next()
        {
            let checkout = Arc::clone(&checkout);
            running.spawn(async move { (checkout.run(&test).await, test) });
        }
        let Some(ended) = running.join_next().await else { return Ok(summary) };
        let (verdict, test) = ended.map_err(std::io::Error::other)?;
        let folder: Vec<_> = test.split('/').take(2).collect();
        let count = summary.folders.entry(folder.join("/")).or_default();
        match verdict? {
            Verdict::Skipped => count.skipped += 1,
            Verdict::Passed => {
                count.ran += 1;
                count.passed += 1;
            }
            Verdict::Failed(why) => {
                count.ran += 1;
                summary.failed.insert(test, why);
            }
        }
    }
}
