//! The state of a recording, and how events change it.

use crate::entries::{CallEnd, Entries, Place, What};
use crate::recording::About;
use crate::text::Text;
use crate::totals::Totals;
use cellblock::model::code_mode_name;
use cellblock::support::CALL_CANCELLED;
use cellblock::{
    CellEvent, CellLimits, CellUsage, CodeModeNestedToolCall, ContentItem, LimitKind, ProgramValue,
    RuntimeResponse, ToolInput, normalize_identifier,
};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes of a program that are kept.
const SOURCE_BYTES: usize = 256 << 10;
/// Bytes of an input, a result or a notification that are kept.
const TEXT_BYTES: usize = 4 << 10;
/// Bytes of a question that are kept: more than a gateway asks.
const QUESTION_BYTES: usize = 64 << 10;
/// Bytes of one printed text that are kept.
const OUTPUT_BYTES: usize = 32 << 10;
/// Bytes of an image's URL above which it is not kept.
const IMAGE_BYTES: usize = 256 << 10;
/// Bytes of the program's value and of its error that are kept.
const END_BYTES: usize = 64 << 10;
/// Kinds of images that contain no scripts.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// The state of a recording.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) title: String,
    pub(crate) source: Text,
    pub(crate) limits: CellLimits,
    started: Instant,
    pub(crate) started_at: SystemTime,
    /// Counts changes.
    pub(crate) version: u64,
    /// Told of changes, too.
    changes: Option<watch::Sender<u64>>,
    pub(crate) entries: Entries,
    pub(crate) totals: Totals,
    /// The wait that goes on: its entry, where, and since when.
    pub(crate) waiting: Option<(Option<u64>, Option<Place>, u64)>,
    /// Calls that have not ended, by their ids; as many as a cell may have in flight.
    calls: HashMap<String, OpenCall>,
    /// Questions that wait for an answer.
    pub(crate) questions: BTreeMap<u64, OpenQuestion>,
    /// Number of the last question.
    last_question: u64,
    pub(crate) usage: CellUsage,
    pub(crate) end: Option<End>,
}

/// A call that has not ended.
#[derive(Debug)]
struct OpenCall {
    entry: Option<u64>,
    tool: String,
    since: u64,
}

/// A question that waits for its answer.
pub(crate) struct OpenQuestion {
    entry: Option<u64>,
    pub(crate) text: Text,
    pub(crate) since: u64,
    answer: Arc<AnswerQuestion>,
}

/// Takes the answer to a question, and returns whether it was awaited.
pub(crate) type AnswerQuestion = dyn Fn(bool) -> bool + Send + Sync;

impl fmt::Debug for OpenQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenQuestion").field("text", &self.text).finish_non_exhaustive()
    }
}

/// How a cell ended.
#[derive(Debug, Serialize)]
pub(crate) struct End {
    pub(crate) how: How,
    pub(crate) at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Text>,
    /// The place in the error that is nearest to where it was thrown.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LimitKind>,
    /// The value of the program, or a sentence about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Text>,
}

/// The kind of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Completed,
    Failed,
    Limit,
    Terminated,
    /// It left its session as bytes.
    Parked,
    /// There was no last response.
    Lost,
}

impl State {
    pub(crate) fn new(about: About, changes: Option<watch::Sender<u64>>) -> Self {
        let About { title, source, limits } = about;
        Self {
            title,
            source: Text::new(&source, SOURCE_BYTES),
            limits,
            started: Instant::now(),
            started_at: SystemTime::now(),
            version: 1,
            changes,
            entries: Entries::default(),
            totals: Totals::default(),
            waiting: None,
            calls: HashMap::new(),
            questions: BTreeMap::new(),
            last_question: 0,
            usage: CellUsage::default(),
            end: None,
        }
    }

    /// Makes a change, at this time.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Self, u64)) {
        self.version += 1;
        let at = self.now();
        change(self, at);
        if let Some(changes) = &self.changes {
            changes.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// The cell has ended without a last response, or was not started.
    pub(crate) fn lose(&mut self, at: u64, why: Option<&str>) {
        self.close(at);
        let error = why.map(|why| Text::new(why, END_BYTES));
        self.end = Some(End { error, ..End::new(How::Lost, at) });
    }

    /// A person is asked; returns the question's number.
    pub(crate) fn ask(&mut self, question: &str, answer: Arc<AnswerQuestion>, at: u64) -> u64 {
        let text = Text::new(question, QUESTION_BYTES);
        let what = What::Approval { question: text.clone(), approved: None };
        let entry = self.entries.begin(at, self.version, what);
        self.last_question += 1;
        self.questions.insert(self.last_question, OpenQuestion { entry, text, since: at, answer });
        self.last_question
    }

    /// A question was answered, or taken back.
    pub(crate) fn asked(&mut self, question: u64, answer: Option<bool>, at: u64) {
        let question = self.questions.remove(&question);
        let Some(entry) = question.and_then(|question| question.entry) else { return };
        self.entries.end(entry, at, self.version, |what| {
            if let What::Approval { approved, .. } = what {
                *approved = answer;
            }
        });
    }

    /// What takes the answer to a question.
    pub(crate) fn answer_of(&self, question: u64) -> Option<Arc<AnswerQuestion>> {
        self.questions.get(&question).map(|open| Arc::clone(&open.answer))
    }

    /// Microseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        micros(self.started.elapsed())
    }

    pub(crate) fn event(&mut self, event: CellEvent<'_>, at: u64) {
        let version = self.version;
        match event {
            CellEvent::Started => {
                self.started = Instant::now();
                self.started_at = SystemTime::now();
            }
            CellEvent::Waiting { place, usage } => {
                self.usage = *usage;
                let place = place.and_then(place_in);
                let entry = self.entries.begin(at, version, What::Wait { place });
                self.waiting = Some((entry, place, at));
            }
            CellEvent::Resumed => self.end_wait(at),
            CellEvent::Output(item) => self.entries.moment(at, version, printed(item)),
            CellEvent::Notification(text) => {
                let text = Text::new(text, TEXT_BYTES);
                self.entries.moment(at, version, What::Notification { text });
            }
            CellEvent::CallStarted(call) => self.begin_call(call, at),
            CellEvent::CallEnded { runtime_tool_call_id: id, result } => {
                self.end_call(
                    id,
                    at,
                    &match result {
                        Ok(json) => CallEnd::Succeeded { result: Text::new(json, TEXT_BYTES) },
                        Err(error) if error == CALL_CANCELLED => CallEnd::Cancelled,
                        Err(error) => CallEnd::Failed { error: Text::new(error, TEXT_BYTES) },
                    },
                );
            }
            CellEvent::Yielded { usage } => {
                self.usage = *usage;
                self.entries.moment(at, version, What::Yield);
            }
            CellEvent::Parked => {
                self.close(at);
                self.end = Some(End::new(How::Parked, at));
            }
            CellEvent::Ended(response) => self.end_with(response, at),
            _ => {}
        }
    }

    fn begin_call(&mut self, call: &CodeModeNestedToolCall, at: u64) {
        let tool = normalize_identifier(&code_mode_name(&call.tool_name));
        let json = call.input.as_ref().and_then(ToolInput::as_json);
        let input = json.map(|json| Text::new(json, TEXT_BYTES));
        self.totals.call_started(&tool);
        self.usage.calls += 1;
        let what = What::Call { tool: tool.clone(), input, end: None };
        let entry = self.entries.begin(at, self.version, what);
        let id = call.runtime_tool_call_id.clone();
        self.calls.insert(id, OpenCall { entry, tool, since: at });
    }

    fn end_call(&mut self, id: &str, at: u64, how: &CallEnd) {
        let Some(OpenCall { entry, tool, since }) = self.calls.remove(id) else { return };
        self.totals.call_ended(&tool, how, at - since);
        if let Some(entry) = entry {
            self.entries.end(entry, at, self.version, |what| {
                if let What::Call { end, .. } = what {
                    *end = Some(how.clone());
                }
            });
        }
    }

    fn end_wait(&mut self, at: u64) {
        let Some((entry, place, since)) = self.waiting.take() else { return };
        if let Some(place) = place {
            self.totals.waited(place.line, at - since);
        }
        if let Some(entry) = entry {
            self.entries.end(entry, at, self.version, |_| {});
        }
    }

    /// Ends what goes on.
    fn close(&mut self, at: u64) {
        self.end_wait(at);
        let open: Vec<_> = self.calls.keys().cloned().collect();
        for id in open {
            self.end_call(&id, at, &CallEnd::Cancelled);
        }
    }

    pub(crate) fn end_with(&mut self, response: &RuntimeResponse, at: u64) {
        // A correction does not change when it ended.
        let at = self.end.as_ref().map_or(at, |end| end.at);
        self.close(at);
        let report = response.report();
        if report.usage != CellUsage::default() {
            self.usage = report.usage;
        }
        let (how, error) = match response {
            RuntimeResponse::Terminated { .. } => (How::Terminated, None),
            RuntimeResponse::Result { error_text: None, .. } => (How::Completed, None),
            RuntimeResponse::Result { error_text, .. } => {
                let how = if report.limit.is_some() { How::Limit } else { How::Failed };
                (how, error_text.as_deref())
            }
            RuntimeResponse::Yielded { .. } => return,
        };
        let value = report.value.as_ref().map(|value| match value {
            ProgramValue::Json(json) => json.clone(),
            ProgramValue::Stored { key, bytes } => {
                format!("{bytes} bytes of JSON, stored as {key:?}")
            }
            ProgramValue::Refused(why) => format!("It cannot be shown: {why}"),
        });
        let text = |text: &str| Text::new(text, END_BYTES);
        self.end = Some(End {
            error: error.map(text),
            place: error.and_then(place_in),
            hint: report.hint.as_deref().map(text),
            limit: report.limit,
            value: value.as_deref().map(text),
            ..End::new(how, at)
        });
    }
}

impl End {
    fn new(how: How, at: u64) -> Self {
        Self { how, at, error: None, place: None, hint: None, limit: None, value: None }
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The first place in the program that a text names.
fn place_in(text: &str) -> Option<Place> {
    let (_, rest) = text.split_once("exec_main.mjs:")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Place { line: next()?, column: next()? })
}

/// A piece of output.
fn printed(item: &ContentItem) -> What {
    match item {
        ContentItem::InputText { text } => What::Text { text: Text::new(text, OUTPUT_BYTES) },
        ContentItem::InputImage { image_url: url, .. }
        | ContentItem::InputAudio { audio_url: url } => {
            let kind = url.strip_prefix("data:").unwrap_or_default();
            let kind = kind.split([';', ',']).next().unwrap_or_default();
            let is_shown = IMAGES.contains(&kind) && url.len() <= IMAGE_BYTES;
            What::Media {
                kind: kind.chars().take(80).collect(),
                bytes: url.len(),
                url: is_shown.then(|| url.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
