//! What the tests take from registries: servers from npm, and a client from `PyPI`. Where a
//! registry cannot be reached, the test says so and does nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const SERVERS: [&str; 3] = [
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
];
const CLIENT: &str = "mcp==2.3.0";

/// The folder of the npm packages.
pub fn servers() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let dir = folder("mcp-servers");
            let mut npm = Command::new("npm");
            npm.args(["install", "--prefer-offline", "--no-audit", "--no-fund", "--prefix"]);
            installed("npm", npm.arg(&dir).args(SERVERS)).then_some(dir)
        })
        .as_deref()
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
