//! `cellblock replay`: a script that was recorded runs again.

use crate::Exit;
use crate::limits::{LimitArguments, over_limit};
use crate::terminal;
use anyhow::{Context, Result, bail};
use cellblock::recording::{RecordedEvent, Recording, Recordings, Replay, ReplayError, Replayed};
use cellblock::{ContentItem, Engine, EngineConfig};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Characters of a result, an error or an input that are shown on a line.
const SHOWN: usize = 200;

/// Arguments of `cellblock replay`.
#[derive(Args)]
pub struct Arguments {
    /// A recording, as `run --record` writes it.
    file: PathBuf,
    /// Stop before the event of this number, and print what the script waits for.
    #[arg(long, value_name = "N", conflicts_with = "events")]
    until: Option<u64>,
    /// Print the events with their numbers, and run nothing.
    #[arg(long)]
    events: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    limits: LimitArguments,
}

/// Runs a recorded script again and says whether it went the same way.
pub fn main(arguments: &Arguments) -> Exit {
    crate::exit_of(replay(arguments))
}

fn replay(arguments: &Arguments) -> Result<Exit> {
    let name = || arguments.file.display().to_string();
    let limits = arguments.limits.cell()?;
    let replay = Replay::new(&read(&arguments.file)?).with_context(name)?;
    if arguments.events {
        terminal::print(&events(&replay, arguments.json))?;
        return Ok(Exit::Completed);
    }
    let mut config = EngineConfig::default();
    config.max_cells = 1;
    let engine = Engine::new(&config).context("no sandbox on this machine")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("cannot start the event loop")?;
    let replayed = match runtime.block_on(replay.run(&engine, &limits, arguments.until)) {
        Err(error @ ReplayError::OutOfTime { .. }) => {
            crate::complain(&format!("{}: {error}", name()));
            return Ok(Exit::Limit);
        }
        Err(ReplayError::OverLimits(over)) => {
            bail!("{}: {}", name(), over_limit("recorded", &over))
        }
        replayed => replayed.with_context(name)?,
    };
    let outcome = Outcome::of(&replayed);
    if arguments.json {
        terminal::print(&format!("{}\n", as_json(&replayed, outcome)))?;
    } else {
        terminal::print(&output(&replayed))?;
        for line in summary(&replayed) {
            crate::complain(&line);
        }
    }
    Ok(match outcome {
        Outcome::Same | Outcome::Stopped => Exit::Completed,
        Outcome::Incomplete | Outcome::Diverged => Exit::Failed,
    })
}

/// What came of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It went as it was recorded, to its end.
    Same,
    /// It went as it was recorded, to where the recording breaks off.
    Incomplete,
    /// It was stopped before an event.
    Stopped,
    /// It went another way.
    Diverged,
}

impl Outcome {
    fn of(replayed: &Replayed) -> Self {
        match replayed {
            Replayed { divergence: Some(_), .. } => Self::Diverged,
            Replayed { next: Some(_), .. } => Self::Stopped,
            Replayed { end: None, .. } => Self::Incomplete,
            _ => Self::Same,
        }
    }
}

/// Reads a recording of at most the size that one may have.
fn read(path: &Path) -> Result<Recording> {
    let name = || format!("cannot read the recording {}", path.display());
    let most = Recordings::MAX_BYTES as u64;
    let mut bytes = Vec::new();
    File::open(path)
        .with_context(name)?
        .take(most + 1)
        .read_to_end(&mut bytes)
        .with_context(name)?;
    if bytes.len() as u64 > most {
        bail!("{} has more than {most} bytes", path.display());
    }
    Ok(Recording::from_bytes(bytes))
}

/// A line for each event.
fn events(replay: &Replay, as_json: bool) -> String {
    let mut lines = String::new();
    for (at, event) in replay.events().enumerate() {
        let number = at + 1;
        // Writing to a string cannot fail.
        let _ = if as_json {
            writeln!(lines, "{}", json!({ "number": number, "event": event_json(&event) }))
        } else {
            writeln!(lines, "{number} {}", event_text(&event))
        };
    }
    lines
}

fn event_text(event: &RecordedEvent) -> String {
    match event {
        RecordedEvent::Succeeded(id, json) => format!("{id} returned {}", shown(json)),
        RecordedEvent::Failed(id, text) => format!("{id} failed: {}", shown(text)),
        RecordedEvent::Timer(id) => format!("the timer {id} fired"),
    }
}

fn event_json(event: &RecordedEvent) -> Value {
    match event {
        RecordedEvent::Succeeded(id, json) => json!({ "call": id, "result": json }),
        RecordedEvent::Failed(id, text) => json!({ "call": id, "error": text }),
        RecordedEvent::Timer(id) => json!({ "timer": id }),
    }
}

/// The start of a text, on one line.
fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(SHOWN).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start.replace('\n', "\\n")
}

/// The output of the script.
fn output(replayed: &Replayed) -> String {
    let mut lines = String::new();
    for item in &replayed.content_items {
        match item {
            ContentItem::InputText { text } => lines.push_str(text),
            ContentItem::InputImage { image_url: url, .. }
            | ContentItem::InputAudio { audio_url: url } => {
                let kind = url.split([';', ',']).next().unwrap_or_default();
                let _ = write!(lines, "[{}, {} bytes of URL]", shown(kind), url.len());
            }
        }
        lines.push('\n');
    }
    lines
}

/// What there is to say of the replay itself.
fn summary(replayed: &Replayed) -> Vec<String> {
    let Replayed { events, fuel, .. } = replayed;
    let mut lines = Vec::new();
    if let Some(error) = &replayed.error_text {
        lines.push(format!("the script failed: {error}"));
    }
    if let Some(divergence) = &replayed.divergence {
        let (line, what) = (divergence.line, &divergence.what);
        lines.push(format!("line {line} of the recording went another way: {what}"));
    } else if let Some(next) = &replayed.next {
        let number = events + 1;
        lines.push(format!(
            "stopped before event {number}, after {fuel} fuel: {}",
            event_text(next)
        ));
    } else if let Some(end) = replayed.end.as_deref() {
        lines.push(format!("the same as recorded: {events} events, {fuel} fuel, {end}"));
    } else {
        lines.push(format!(
            "the recording is not complete: it has no end. What there is of it went as recorded: \
             {events} events, {fuel} fuel"
        ));
    }
    if replayed.end.is_none() {
        for call in &replayed.waiting {
            let input = call.input.as_deref().map(shown).unwrap_or_default();
            let call = format!("    {} {} {input}", call.runtime_tool_call_id, call.tool);
            lines.push(format!("it waits for\n{}", call.trim_end()));
        }
        if let Some(timer) = replayed.timer {
            lines.push(format!("it waits for the timer {timer}"));
        }
    }
    lines
}

fn as_json(replayed: &Replayed, outcome: Outcome) -> Value {
    let waiting: Vec<_> = replayed
        .waiting
        .iter()
        .map(|call| {
            json!({
                "id": call.runtime_tool_call_id,
                "tool": call.tool,
                "input": call.input,
            })
        })
        .collect();
    let status = match outcome {
        Outcome::Same => "same",
        Outcome::Incomplete => "incomplete",
        Outcome::Stopped => "stopped",
        Outcome::Diverged => "diverged",
    };
    json!({
        "status": status,
        "content_items": replayed.content_items,
        "notifications": replayed.notifications,
        "events": replayed.events,
        "fuel": replayed.fuel,
        "end": replayed.end,
        "error_text": replayed.error_text,
        "waiting": waiting,
        "timer": replayed.timer,
        "next": replayed.next.as_ref().map(event_json),
        "divergence": replayed.divergence.as_ref().map(|divergence| {
            json!({ "line": divergence.line, "what": divergence.what })
        }),
    })
}
