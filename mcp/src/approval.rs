//! Calls that wait for the approval of a person.

use cellblock::support::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a person has to answer; then the call is refused.
pub(crate) const PATIENCE: Duration = Duration::from_mins(15);
/// Characters of a call's arguments that are shown.
const ARGUMENT_CHARS: usize = 4_000;
/// Questions of one cell that may wait at a time; more calls are refused.
const MAX_PENDING: usize = 50;

/// The questions of one cell.
#[derive(Default)]
pub(crate) struct Approvals(Mutex<Pending>);

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
        let mut pending = lock(&self.0);
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
        lock(&self.0).waiting.values().any(|waiting| !waiting.asked)
    }

    /// All questions that wait, to be asked together.
    pub(crate) fn ask(&self) -> Vec<Question> {
        let mut pending = lock(&self.0);
        let asked = pending.waiting.iter_mut().map(|(name, waiting)| {
            waiting.asked = true;
            Question { name: name.clone(), text: waiting.question.clone() }
        });
        asked.collect()
    }

    /// Answers a question. False when it does not wait, or no longer.
    pub(crate) fn answer(&self, name: &str, approved: bool) -> bool {
        let waiting = lock(&self.0).waiting.remove(name);
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
    /// The answer; `None` when it does not come in time.
    pub(crate) async fn answer(mut self) -> Option<bool> {
        tokio::time::timeout(PATIENCE, &mut self.reply).await.ok()?.ok()
    }
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        lock(&self.of.0).waiting.remove(&self.name);
    }
}

/// A call as a person is asked about it: what cannot be seen in it is written as an escape.
pub(crate) fn question(tool: &str, arguments: Option<&str>, why: &str) -> String {
    let arguments = arguments.unwrap_or("without arguments");
    let count = arguments.chars().count();
    let shown: String = arguments
        .chars()
        .take(ARGUMENT_CHARS)
        .flat_map(|c| {
            let plain = !c.is_control() && !is_format(c);
            let escaped = (!plain).then(|| c.escape_unicode()).into_iter().flatten();
            plain.then_some(c).into_iter().chain(escaped)
        })
        .collect();
    let more = match count.saturating_sub(ARGUMENT_CHARS) {
        0 => String::new(),
        more => format!(" … and {more} more characters, which are not shown"),
    };
    format!("{tool} {shown}{more}{why}")
}

/// Characters that change how text is laid out, or that cannot be seen.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(one.answer().await, Some(true));
        assert_eq!(two.answer().await, None, "nobody answers");
        assert!(!approvals.answer(&asked[1].name, true), "too late");
        let held: Vec<_> = (0..MAX_PENDING).map(|_| approvals.put("more").expect("room")).collect();
        assert!(approvals.put("one too many").is_none());
        drop(held);
        assert!(approvals.put("again").is_some());
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let shown = question("files.write", Some("{\"a\":\"x\u{202e}y\"}"), "");
        assert_eq!(shown, "files.write {\"a\":\"x\\u{202e}y\"}");
        let long = question("t", Some(&"a".repeat(5_000)), "");
        assert!(long.ends_with("a … and 1000 more characters, which are not shown"));
    }
}
