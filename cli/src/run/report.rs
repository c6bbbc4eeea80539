//! What the run prints: output to standard output, everything else to standard error.

use super::media::{Folder, Media};
use super::printer::Printer;
use crate::Exit;
use crate::terminal::escape_controls;
use cellblock::{CellReport, ContentItem, ParkedInfo, ProgramValue, RuntimeResponse};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// Characters of a pending call's input that are shown.
const INPUT_CHARS: usize = 200;

/// Prints what a script says and how it ends.
pub struct Report {
    printer: Printer,
    /// The script, for the line that an error points at.
    source: String,
    /// Where media are written.
    folder: Option<Folder>,
    json: bool,
    stats: bool,
    started: Instant,
    /// The output, for the JSON object.
    content: Vec<ContentItem>,
    /// Whether media could not be written.
    lost_media: bool,
}

impl Report {
    /// A report for a script: as a JSON object or as text, with figures or without.
    pub fn new(
        printer: Printer,
        source: String,
        folder: Option<Folder>,
        (json, stats): (bool, bool),
    ) -> Self {
        Self {
            printer,
            source,
            folder,
            json,
            stats,
            started: Instant::now(),
            content: Vec::new(),
            lost_media: false,
        }
    }

    /// Prints new output, or keeps it for the JSON object.
    pub fn content(&mut self, items: Vec<ContentItem>) {
        for item in items {
            if let ContentItem::InputImage { image_url: url, .. }
            | ContentItem::InputAudio { audio_url: url } = &item
            {
                self.media(url);
            }
            match item {
                item if self.json => self.content.push(item),
                ContentItem::InputText { text } => self.printer.output(text),
                _ => {}
            }
        }
    }

    fn media(&mut self, url: &str) {
        let line = match (Media::parse(url), &mut self.folder) {
            (None, _) => "[a data URL that cannot be decoded]".to_owned(),
            (Some(media), None) => {
                format!("[{}; use --out-dir to keep it]", media.describe())
            }
            (Some(media), Some(folder)) => match folder.write(&media) {
                Ok(path) => format!("[{}: {}]", path.display(), media.describe()),
                Err(why) => {
                    self.lost_media = true;
                    self.printer.error(format!("cellblock: {}: {why}", media.describe()));
                    format!("[{}; {why}]", media.describe())
                }
            },
        };
        if !self.json {
            self.printer.output(line);
        }
    }

    /// Prints the end and returns the exit code. `signal` is that of the signal that
    /// ended the script.
    pub fn end(
        &mut self,
        response: RuntimeResponse,
        signal: Option<Exit>,
        notifications: &[String],
    ) -> Exit {
        let report = response.report().clone();
        let (exit, error) = match &response {
            RuntimeResponse::Result { error_text: None, .. } => (Exit::Completed, None),
            RuntimeResponse::Result { error_text: Some(error), .. } => {
                let exit = if report.limit.is_some() { Exit::Limit } else { Exit::Failed };
                (exit, Some(error.clone()))
            }
            _ => (Exit::Terminated, Some("terminated".to_owned())),
        };
        self.content(response.into_content());
        if !self.json {
            self.value(report.value.as_ref());
        }
        if self.json {
            self.print_json(exit, error.as_deref(), &report, notifications);
        } else if let Some(error) = error {
            self.print_error(error);
        }
        if let Some(hint) = report.hint.as_ref().filter(|_| !self.json) {
            self.printer.error(format!("hint: {hint}"));
        }
        if self.stats {
            self.print_stats(&report);
        }
        match signal {
            Some(signal) => signal,
            None if exit == Exit::Completed && self.lost_media => Exit::Failed,
            None => exit,
        }
    }

    /// Prints that the script was parked, or why it could not be, and what it waits for.
    pub fn parked(
        &mut self,
        file: &Path,
        info: &ParkedInfo,
        notifications: &[String],
        written: anyhow::Result<()>,
    ) -> Exit {
        let error = written.err().map(|error| format!("{error:#}"));
        let exit = match error {
            Some(_) => Exit::Usage,
            None if self.lost_media => Exit::Failed,
            None => Exit::Completed,
        };
        if self.json {
            let calls: Vec<_> = info
                .calls
                .iter()
                .map(|call| {
                    json!({
                        "id": call.runtime_tool_call_id,
                        "tool": call.tool_name.name,
                        "input": call.input,
                    })
                })
                .collect();
            let object = json!({
                "status": if error.is_none() { "parked" } else { "failed" },
                "content_items": self.content,
                "error_text": error,
                "notifications": notifications,
                "files": self.folder.as_ref().map(Folder::files).unwrap_or_default(),
                "parked": { "file": error.is_none().then_some(file), "calls": calls },
                "timer_in_ms": info.timer_in.map(milliseconds),
                "ends_in_ms": milliseconds(info.ends_in),
            });
            self.printer.output(object.to_string());
            return exit;
        }
        self.printer.error(match error {
            None => format!("cellblock: parked in {}; it waits for", file.display()),
            Some(error) => format!("cellblock: {error}; the script is not parked, it waited for"),
        });
        for call in &info.calls {
            let input = call.input.clone().and_then(|input| input.into_json().ok());
            let input: String = input.unwrap_or_default().chars().take(INPUT_CHARS).collect();
            let (id, tool) = (&call.runtime_tool_call_id, &call.tool_name.name);
            self.printer.error(format!("    {id} {tool} {input}").trim_end().to_owned());
        }
        if let Some(timer_in) = info.timer_in {
            let time = humantime::format_duration(Duration::from_millis(milliseconds(timer_in)));
            self.printer.error(format!("    its next timer, which is due in {time}"));
        }
        exit
    }

    /// The value of the script, where it was asked for.
    fn value(&self, value: Option<&ProgramValue>) {
        match value {
            Some(ProgramValue::Json(json)) => self.printer.output(json.clone()),
            Some(ProgramValue::Stored { key, bytes }) => self.printer.error(format!(
                "cellblock: the result is {bytes} bytes of JSON, and is stored as {key:?}"
            )),
            Some(ProgramValue::Refused(why)) => {
                self.printer.error(format!("cellblock: the result cannot be shown: {why}"));
            }
            None => {}
        }
    }

    /// The error, after the line that it points at.
    fn print_error(&self, error: String) {
        if let Some((line, column)) = place_of(&error)
            && let Some(text) = self.source.lines().nth(line.saturating_sub(1))
        {
            let margin = format!("{line} | ");
            let lead: String = text.chars().take(column.saturating_sub(1)).collect();
            // As wide as the text is on a terminal. Tabs stay tabs, so that the caret
            // stands where the text does.
            let lead = escape_controls(&lead);
            let lead: String = lead.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
            let caret = format!("{:width$}{lead}^", "", width = margin.len());
            self.printer.error(format!("{margin}{text}\n{caret}"));
        }
        self.printer.error(error);
    }

    fn print_stats(&self, report: &CellReport) {
        let usage = &report.usage;
        self.printer.error(format!(
            "fuel {}, peak memory {}, calls {}, running {:.1} ms, wall {:.1} ms",
            usage.fuel,
            bytesize::ByteSize(usage.peak_memory_bytes),
            usage.calls,
            usage.running_time.as_secs_f64() * 1e3,
            self.started.elapsed().as_secs_f64() * 1e3
        ));
    }

    fn print_json(
        &self,
        exit: Exit,
        error: Option<&str>,
        report: &CellReport,
        notifications: &[String],
    ) {
        let usage = &report.usage;
        let result = match &report.value {
            Some(ProgramValue::Json(text)) => json!({ "json": text }),
            Some(ProgramValue::Stored { key, bytes }) => json!({ "stored": key, "bytes": bytes }),
            Some(ProgramValue::Refused(why)) => json!({ "refused": why }),
            None => serde_json::Value::Null,
        };
        let status = match exit {
            Exit::Completed => "completed",
            Exit::Limit => "limit",
            Exit::HungUp | Exit::Interrupted | Exit::Terminated => "terminated",
            Exit::Failed | Exit::Usage => "failed",
        };
        let object = json!({
            "status": status,
            "content_items": self.content,
            "error_text": error,
            "hint": report.hint,
            "result": result,
            "limit": report.limit,
            "notifications": notifications,
            "files": self.folder.as_ref().map(Folder::files).unwrap_or_default(),
            "usage": {
                "fuel": usage.fuel,
                "peak_memory_bytes": usage.peak_memory_bytes,
                "calls": usage.calls,
                "output_bytes": usage.output_bytes,
                "running_ms": usage.running_time.as_secs_f64() * 1e3,
                "wall_ms": self.started.elapsed().as_secs_f64() * 1e3,
            },
        });
        self.printer.output(object.to_string());
    }
}

/// Line and column of the innermost frame in the script.
fn place_of(error: &str) -> Option<(usize, usize)> {
    let (_, rest) = error.split_once("exec_main.mjs:")?;
    let (line, rest) = rest.split_once(':')?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// Milliseconds, rounded up.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
