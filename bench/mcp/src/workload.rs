//! What the tasks are about: a folder of notes and a memory, always the same.

use crate::Client;
use anyhow::Result;
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a model reads the folder, whose real path differs from run to run.
pub const SHOWN: &str = "/notes";

/// A folder with notes and the servers over it.
pub struct Workload {
    dir: tempfile::TempDir,
    servers: PathBuf,
}

impl Workload {
    /// Makes the folder: forty notes, a log of 3,000 lines and a list of twenty people.
    pub fn make(servers: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let notes = dir.path().join("notes");
        std::fs::create_dir(&notes)?;
        for n in 0..40 {
            let mut note = format!("# Note {n}\n\n");
            for line in 0..20 {
                let todo = if (n * line) % 17 == 5 { "TODO: " } else { "" };
                // Writing to a string cannot fail.
                let _ = writeln!(note, "{todo}Line {line} of note {n} says what lines say.");
            }
            std::fs::write(notes.join(format!("note-{n:02}.md")), note)?;
        }
        let mut log = String::new();
        for n in 0..3_000 {
            let level = if n % 250 == 7 { "ERROR" } else { "INFO" };
            let _ = writeln!(
                log,
                "2026-11-01T00:{:02}:{:02}Z {level} request {n} took {} ms",
                n / 60 % 60,
                n % 60,
                n % 97
            );
        }
        std::fs::write(notes.join("server.log"), log)?;
        let mut people = String::new();
        for n in 0..20 {
            let _ = writeln!(people, "person{n},team{}", n % 4);
        }
        std::fs::write(notes.join("people.csv"), people)?;
        Ok(Self { dir, servers: servers.to_owned() })
    }

    /// The path of the notes.
    pub fn notes(&self) -> String {
        self.dir.path().join("notes").display().to_string()
    }

    /// A text as a model is to read it.
    pub fn shown(&self, text: &str) -> String {
        text.replace(&self.notes(), SHOWN)
    }

    fn node(&self, server: &str) -> (String, Vec<String>) {
        let entry = self.servers.join(server).join("dist/index.js").display().to_string();
        ("node".to_owned(), vec![entry])
    }

    /// The server of the file system.
    pub fn files(&self) -> Result<Client> {
        let (command, args) = self.node("server-filesystem");
        Client::start(Command::new(command).args(args).arg(self.notes()))
    }

    /// The server of the memory.
    pub fn memory(&self) -> Result<Client> {
        let (command, args) = self.node("server-memory");
        let file = self.dir.path().join("memory.json");
        Client::start(Command::new(command).args(args).env("MEMORY_FILE_PATH", file))
    }

    /// Cellblock in front of both.
    pub fn gateway(&self, cellblock: &Path) -> Result<Client> {
        let (command, mut args) = self.node("server-filesystem");
        args.push(self.notes());
        let (_, memory) = self.node("server-memory");
        let config = json!({ "mcpServers": {
            "files": { "command": command, "args": args },
            "memory": { "command": command, "args": memory,
                "env": { "MEMORY_FILE_PATH": self.dir.path().join("memory.json") } },
        } });
        let path = self.dir.path().join("mcp.json");
        std::fs::write(&path, config.to_string())?;
        Client::start(Command::new(cellblock).args(["mcp", "--config"]).arg(path))
    }
}
