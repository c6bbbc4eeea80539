//! The text of a JSON document that is being written.

use super::Fail;
use super::runs::quotable_run;
use rquickjs::qjs;

/// What was written so far.
pub(super) struct Out {
    raw: *mut qjs::JSContext,
    /// The text, in UTF-8.
    pub(super) bytes: Vec<u8>,
}

impl Out {
    pub(super) fn new(raw: *mut qjs::JSContext) -> Self {
        Self { raw, bytes: Vec::new() }
    }

    /// Hands the text of a number or string to a method.
    pub(super) fn with_text(
        &mut self,
        value: qjs::JSValue,
        write: impl FnOnce(&mut Self, &[u8]) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        let mut length = 0;
        // SAFETY: the value is alive; the engine gives `length` bytes or null.
        unsafe {
            let text = qjs::JS_ToCStringLen2(self.raw, &raw mut length, value, false);
            if text.is_null() {
                return Err(Fail::Thrown);
            }
            let bytes = std::slice::from_raw_parts(text.cast::<u8>(), length as usize);
            let written = write(self, bytes);
            qjs::JS_FreeCString(self.raw, text);
            written
        }
    }

    /// Writes a string with its quotes. The engine's UTF-8 has lone surrogates as
    /// three bytes from `ED A0` on.
    pub(super) fn quote(&mut self, mut text: &[u8]) -> Result<(), Fail> {
        self.reserve(text.len() + 2)?;
        self.bytes.push(b'"');
        loop {
            let run = quotable_run(text);
            self.bytes.extend_from_slice(&text[..run]);
            text = &text[run..];
            let [byte, rest @ ..] = text else { break };
            text = rest;
            self.reserve(text.len() + 8)?;
            match *byte {
                b'"' => self.bytes.extend_from_slice(b"\\\""),
                b'\\' => self.bytes.extend_from_slice(b"\\\\"),
                8 => self.bytes.extend_from_slice(b"\\b"),
                9 => self.bytes.extend_from_slice(b"\\t"),
                10 => self.bytes.extend_from_slice(b"\\n"),
                12 => self.bytes.extend_from_slice(b"\\f"),
                13 => self.bytes.extend_from_slice(b"\\r"),
                0xED => match *rest {
                    [high, low, ..] if high >= 0xA0 => {
                        let unit = 0xD000 | (u16::from(high & 0x3F) << 6) | u16::from(low & 0x3F);
                        self.escape(unit);
                        text = &rest[2..];
                    }
                    _ => self.bytes.push(0xED),
                },
                control => self.escape(u16::from(control)),
            }
        }
        self.bytes.push(b'"');
        Ok(())
    }

    fn escape(&mut self, unit: u16) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.bytes.extend_from_slice(b"\\u");
        self.bytes.extend([12, 8, 4, 0].map(|shift| HEX[usize::from(unit >> shift) & 15]));
    }

    pub(super) fn put(&mut self, text: &[u8]) -> Result<(), Fail> {
        self.reserve(text.len())?;
        self.bytes.extend_from_slice(text);
        Ok(())
    }

    /// Makes room. Without memory the program ends, as the engine has it.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), Fail> {
        if self.bytes.try_reserve(bytes).is_ok() {
            return Ok(());
        }
        self.bytes = Vec::new();
        // SAFETY: the context is alive.
        unsafe { qjs::JS_ThrowOutOfMemory(self.raw) };
        Err(Fail::Thrown)
    }
}
