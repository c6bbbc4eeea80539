//! What the run prints: output to standard output, everything else to standard error.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what this file is for")]

use super::Arguments;
use super::media::Media;
use crate::Exit;
use anyhow::{Context, Result};
use cellblock::{CellReport, ContentItem, RuntimeResponse};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Prints what a script says and how it ends.
pub struct Report<'a> {
    source: &'a str,
    out_dir: Option<&'a Path>,
    json: bool,
    stats: bool,
    started: Instant,
    content: Vec<ContentItem>,
    files: Vec<PathBuf>,
}

/// A notification of the script's.
pub fn notice(text: &str) {
    eprintln!("notify: {text}");
}

impl<'a> Report<'a> {
    /// A report for a script.
    pub fn new(source: &'a str, arguments: &'a Arguments) -> Self {
        Self {
            source,
            out_dir: arguments.out_dir.as_deref(),
            json: arguments.json,
            stats: arguments.stats,
            started: Instant::now(),
            content: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Whether a status line has its place: on a terminal.
    pub fn wants_status(&self) -> bool {
        std::io::stderr().is_terminal() && !self.json
    }

    /// Prints new output, or keeps it for the JSON object.
    pub fn content(&mut self, items: Vec<ContentItem>) -> Result<()> {
        for item in items {
            match &item {
                ContentItem::InputText { text } if !self.json => print_line(text)?,
                ContentItem::InputText { .. } => {}
                ContentItem::InputImage { image_url: url, .. }
                | ContentItem::InputAudio { audio_url: url } => self.media(url)?,
            }
            if self.json {
                self.content.push(item);
            }
        }
        Ok(())
    }

    fn media(&mut self, url: &str) -> Result<()> {
        let line = match (Media::parse(url), self.out_dir) {
            (None, _) => "[a data URL that cannot be decoded]".to_owned(),
            (Some(media), None) => {
                format!("[{}; use --out-dir to keep it]", media.describe())
            }
            (Some(media), Some(dir)) => {
                let path = media.write(dir, self.files.len() + 1)?;
                let line = format!("[{}: {}]", path.display(), media.describe());
                self.files.push(path);
                line
            }
        };
        if self.json { Ok(()) } else { print_line(&line) }
    }

    /// Prints the end and tells the exit code.
    pub fn end(&mut self, response: RuntimeResponse, notifications: &[String]) -> Result<Exit> {
        let report = response.report().clone();
        let (exit, error) = match &response {
            RuntimeResponse::Result { error_text: None, .. } => (Exit::Completed, None),
            RuntimeResponse::Result { error_text: Some(error), .. } => {
                let exit = if report.limit.is_some() { Exit::Limit } else { Exit::Failed };
                (exit, Some(error.clone()))
            }
            _ => (Exit::Interrupted, Some("terminated".to_owned())),
        };
        self.content(response.into_content())?;
        if self.json {
            self.print_json(exit, error.as_deref(), &report, notifications)?;
        } else if let Some(error) = &error {
            self.print_error(error);
        }
        if self.stats {
            self.print_stats(&report);
        }
        Ok(exit)
    }

    /// The error, after the line that it points at.
    fn print_error(&self, error: &str) {
        if let Some((line, column)) = place_of(error)
            && let Some(text) = self.source.lines().nth(line.saturating_sub(1))
        {
            let margin = format!("{line} | ");
            let lead: String = text.chars().take(column.saturating_sub(1)).collect();
            // Tabs stay tabs, so that the caret stands where the text does.
            let lead: String = lead.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
            eprintln!("{margin}{text}\n{:width$}{lead}^", "", width = margin.len());
        }
        eprintln!("{error}");
    }

    fn print_stats(&self, report: &CellReport) {
        let usage = &report.usage;
        eprintln!(
            "fuel {}, peak memory {}, calls {}, running {:.1} ms, wall {:.1} ms",
            usage.fuel,
            bytesize::ByteSize(usage.peak_memory_bytes),
            usage.calls,
            usage.running_time.as_secs_f64() * 1e3,
            self.started.elapsed().as_secs_f64() * 1e3
        );
    }

    fn print_json(
        &self,
        exit: Exit,
        error: Option<&str>,
        report: &CellReport,
        notifications: &[String],
    ) -> Result<()> {
        let usage = &report.usage;
        let status = match exit {
            Exit::Completed => "completed",
            Exit::Limit => "limit",
            Exit::Interrupted => "terminated",
            Exit::Failed | Exit::Usage => "failed",
        };
        let object = json!({
            "status": status,
            "content_items": self.content,
            "error_text": error,
            "limit": report.limit,
            "notifications": notifications,
            "files": self.files,
            "usage": {
                "fuel": usage.fuel,
                "peak_memory_bytes": usage.peak_memory_bytes,
                "calls": usage.calls,
                "output_bytes": usage.output_bytes,
                "running_ms": usage.running_time.as_secs_f64() * 1e3,
                "wall_ms": self.started.elapsed().as_secs_f64() * 1e3,
            },
        });
        print_line(&object.to_string())
    }
}

/// Prints a line; a reader that has gone away is an error like any other.
fn print_line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Line and column of the innermost frame in the script.
fn place_of(error: &str) -> Option<(usize, usize)> {
    let (_, rest) = error.split_once("exec_main.mjs:")?;
    let (line, rest) = rest.split_once(':')?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, column.parse().ok()?))
}
