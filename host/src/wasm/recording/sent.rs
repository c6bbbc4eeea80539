//! All that a guest sends in one step, as a hash: what a replay is compared by.

use super::super::imports::GuestOutput;
use super::super::sandbox::{Finished, Step};
use crate::backend::ContentItem;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What a guest sends in one step, and what it asks for: counted and hashed.
#[derive(Debug, Default)]
pub(super) struct Sent {
    hash: Sha256,
    /// Calls and outputs.
    requests: u64,
    /// Questions whether to end.
    polls: u64,
}

impl Sent {
    /// The number of the next call or output.
    pub(super) fn requested(&mut self) -> u64 {
        self.requests += 1;
        self.requests - 1
    }

    /// The number of the next question whether to end.
    pub(super) fn polled(&mut self) -> u64 {
        self.polls += 1;
        self.polls - 1
    }

    /// A text, so that no two lists of texts are hashed as the same bytes.
    fn text(&mut self, text: &str) {
        self.hash.update((text.len() as u64).to_le_bytes());
        self.hash.update(text);
    }

    /// Something was sent.
    pub(super) fn output(&mut self, output: &GuestOutput) {
        match output {
            GuestOutput::Item(item, _) => {
                self.text("item");
                match item {
                    ContentItem::InputText { text } => self.text(text),
                    ContentItem::InputImage { image_url, detail } => {
                        self.text(image_url);
                        self.text(&format!("{detail:?}"));
                    }
                    ContentItem::InputAudio { audio_url } => self.text(audio_url),
                }
            }
            GuestOutput::Notification(text, _) => {
                self.text("notification");
                self.text(text);
            }
            GuestOutput::Yield => self.text("yield"),
            GuestOutput::Call { id, tool, input, .. } => {
                self.text("call");
                self.hash.update(id.to_le_bytes());
                self.hash.update((*tool as u64).to_le_bytes());
                self.text(input.as_deref().unwrap_or("undefined"));
            }
        }
    }

    /// The step has ended.
    pub(super) fn reached(&mut self, step: &Step) {
        let Step::Finished(finished) = step else { return };
        let (kind, error, stored) = match finished {
            Finished::Completed { stored, .. } => ("completed", None, stored.as_slice()),
            Finished::Failed { error_text, stored, .. } => {
                ("failed", Some(error_text), stored.as_slice())
            }
            Finished::Unparsed { error_text, .. } => ("unparsed", Some(error_text), &[][..]),
            Finished::Limited { stack, .. } => ("limited", Some(stack), &[][..]),
            Finished::Broken => ("broken", None, &[][..]),
        };
        self.text(kind);
        self.text(error.map_or("", |text| text));
        for (key, value) in stored {
            self.text(key);
            self.text(value);
        }
        if let Finished::Completed { value: Some(value), .. } = finished {
            self.text(&format!("{value:?}"));
        }
        if let Finished::Limited { limit, .. } = finished {
            self.text(&limit.to_string());
        }
    }

    /// SHA-256 of all of it, in hexadecimal digits.
    pub(super) fn finish(self) -> String {
        hex(&self.hash.finalize().into())
    }
}

/// Hexadecimal digits of a hash.
pub(in super::super) fn hex(hash: &[u8; 32]) -> String {
    let mut digits = String::with_capacity(2 * hash.len());
    for byte in hash {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
