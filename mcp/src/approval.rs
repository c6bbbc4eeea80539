//! Calls that wait for the approval of a person.

use crate::visible::visible;
use cellblock::support::lock;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How long a person has to answer; then the call is refused.
pub(crate) const PATIENCE: Duration = Duration::from_mins(15);
/// Characters of a call's arguments that are shown.
const ARGUMENT_CHARS: usize = 8_000;
/// Characters of one argument that are shown.
const VALUE_CHARS: usize = 1_000;
/// Questions of one cell that may wait at a time; more calls are refused.
const MAX_PENDING: usize = 50;

/// The questions of one cell.
#[derive(Default)]
pub(crate) struct Approvals {
    pending: Mutex<Pending>,
    /// A question does not wait any more.
    settled: Notify,
}

#[derive(Default)]
struct Pending {
    last: u64,
    waiting: BTreeMap<String, Waiting>,
}

struct Waiting {
    question: String,
    answer: oneshot::Sender<bool>,
    /// Somebody has been asked.
    asked: bool,
}

/// A question, and the name by which it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Approvals {
    /// Puts a question, which is answered by what is returned. `None` when too many wait.
    pub(crate) fn put(&self, question: &str) -> Option<Answered<'_>> {
        let mut pending = lock(&self.pending);
        if pending.waiting.len() >= MAX_PENDING {
            return None;
        }
        pending.last += 1;
        let name = format!("call_{}", pending.last);
        let (answer, answered) = oneshot::channel();
        let question = question.to_owned();
        pending.waiting.insert(name.clone(), Waiting { question, answer, asked: false });
        Some(Answered { of: self, name, reply: answered })
    }

    /// Whether there is a question that nobody has been asked.
    pub(crate) fn has_unasked(&self) -> bool {
        lock(&self.pending).waiting.values().any(|waiting| !waiting.asked)
    }

    /// All questions that wait, to be asked together.
    pub(crate) fn ask(&self) -> Vec<Question> {
        let mut pending = lock(&self.pending);
        let asked = pending.waiting.iter_mut().map(|(name, waiting)| {
            waiting.asked = true;
            Question { name: name.clone(), text: waiting.question.clone() }
        });
        asked.collect()
    }

    /// Returns when none of these questions waits any more.
    pub(crate) async fn settled(&self, questions: &[Question]) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // From here on no answer is missed.
            settled.as_mut().enable();
            let waits =
                |question: &Question| lock(&self.pending).waiting.contains_key(&question.name);
            if !questions.iter().any(waits) {
                return;
            }
            settled.await;
        }
    }

    /// Answers a question. False when it does not wait, or no longer.
    pub(crate) fn answer(&self, name: &str, approved: bool) -> bool {
        let waiting = lock(&self.pending).waiting.remove(name);
        self.settled.notify_waiters();
        waiting.is_some_and(|waiting| waiting.answer.send(approved).is_ok())
    }
}

/// A question that waits for its answer. Dropping it takes it back.
pub(crate) struct Answered<'a> {
    of: &'a Approvals,
    name: String,
    reply: oneshot::Receiver<bool>,
}

impl Answered<'_> {
    /// The name by which the question is answered.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The answer; `None` when it does not come in time.
    pub(crate) async fn answer(mut self) -> Option<bool> {
        tokio::time::timeout(PATIENCE, &mut self.reply).await.ok()?.ok()
    }
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        lock(&self.of.pending).waiting.remove(&self.name);
        self.of.settled.notify_waiters();
    }
}

/// A call as a person is asked about it: what cannot be seen in it is written as an escape.
/// Long texts are cut inside, so that no argument is hidden behind another.
pub(crate) fn question(tool: &str, arguments: Option<&Map<String, Value>>, why: &str) -> String {
    let Some(arguments) = arguments else { return format!("{tool} without arguments{why}") };
    let mut cut_in = 0;
    let members = arguments.iter().map(|(name, value)| {
        let name = shortened(&Value::from(name.as_str()), &mut cut_in);
        format!("{name}:{}", shortened(value, &mut cut_in))
    });
    let shown = visible(&format!("{{{}}}", members.collect::<Vec<_>>().join(",")));
    let cut_in = match cut_in {
        0 => String::new(),
        count => format!(" ({count} characters in all are not shown)"),
    };
    let count = shown.chars().count();
    let more = match count.saturating_sub(ARGUMENT_CHARS) {
        0 => String::new(),
        more => format!(" … and {more} more characters, which are not shown"),
    };
    let shown: String = shown.chars().take(ARGUMENT_CHARS).collect();
    format!("{tool} {shown}{more}{cut_in}{why}")
}

/// A value as JSON whose middle is left out where it is long. Adds up what is left out.
fn shortened(value: &Value, left_out: &mut usize) -> String {
    let text = value.to_string();
    let count = text.chars().count();
    if count <= VALUE_CHARS {
        return text;
    }
    let half = VALUE_CHARS / 2;
    *left_out += count - 2 * half;
    let start: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(count - half).collect();
    format!("{start} … {end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn questions_are_asked_together_and_answered_once() {
        let approvals = Approvals::default();
        let one = approvals.put("one").expect("room");
        let two = approvals.put("two").expect("room");
        assert!(approvals.has_unasked());
        let asked = approvals.ask();
        let texts: Vec<_> = asked.iter().map(|question| question.text.as_str()).collect();
        assert_eq!(texts, ["one", "two"]);
        assert!(!approvals.has_unasked());
        assert!(approvals.answer(&asked[0].name, true));
        assert!(!approvals.answer(&asked[0].name, true), "a second answer");
        approvals.settled(&asked[..1]).await;
        assert_eq!(one.answer().await, Some(true));
        assert_eq!(two.answer().await, None, "nobody answers");
        assert!(!approvals.answer(&asked[1].name, true), "too late");
        approvals.settled(&asked).await;
        let held: Vec<_> = (0..MAX_PENDING).map(|_| approvals.put("more").expect("room")).collect();
        assert!(approvals.put("one too many").is_none());
        drop(held);
        assert!(approvals.put("again").is_some());
    }

    #[test]
    fn every_argument_is_shown() {
        let arguments = |value: serde_json::Value| {
            let serde_json::Value::Object(members) = value else { panic!("{value}") };
            question("files.write", Some(&members), "")
        };
        let shown = arguments(json!({ "a": "x\u{202e}y" }));
        assert_eq!(shown, "files.write {\"a\":\"x\\u{202e}y\"}");
        let shown = arguments(json!({ "content": "a".repeat(5_000), "path": "/etc/passwd" }));
        assert!(shown.contains("aa … aa"), "{shown}");
        assert!(
            shown.ends_with("\",\"path\":\"/etc/passwd\"} (4002 characters in all are not shown)"),
            "{shown}"
        );
        let many: Map<_, _> = (0..5_000).map(|n| (format!("{n:04}"), json!(n))).collect();
        let shown = question("t", Some(&many), "");
        assert!(shown.contains(" more characters, which are not shown"), "{shown}");
        assert!(shown.chars().count() < ARGUMENT_CHARS + 100);
        assert_eq!(question("t", None, " (why)"), "t without arguments (why)");
    }
}
