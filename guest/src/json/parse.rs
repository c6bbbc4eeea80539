//! `JSON.parse` in one pass.

use super::runs::{plain_run, slot_of};
use super::{Fail, KEYS, Key, MAX_DEPTH, free_keys};
use rquickjs::qjs;
use std::ffi::c_int;

/// Reads a JSON text.
pub(super) struct Parser<'a> {
    raw: *mut qjs::JSContext,
    text: &'a [u8],
    at: usize,
    keys: [Key; KEYS],
    /// Elements of the arrays that are being read, innermost last.
    elements: Vec<qjs::JSValue>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(raw: *mut qjs::JSContext, text: &'a [u8]) -> Self {
        Self { raw, text, at: 0, keys: [Key::default(); KEYS], elements: Vec::new() }
    }

    pub(super) fn document(&mut self) -> Result<qjs::JSValue, Fail> {
        let value = self.value(0)?;
        self.skip_space();
        if self.at == self.text.len() {
            return Ok(value);
        }
        self.free(value);
        Err(Fail::Rejected)
    }

    fn peek(&self) -> u8 {
        // No JSON has a NUL outside its strings.
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fail> {
        if self.peek() != byte {
            return Err(Fail::Rejected);
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8], value: qjs::JSValue) -> Result<qjs::JSValue, Fail> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Fail::Rejected);
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<qjs::JSValue, Fail> {
        self.skip_space();
        match self.peek() {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true", qjs::JS_TRUE),
            b'f' => self.word(b"false", qjs::JS_FALSE),
            b'n' => self.word(b"null", qjs::JS_NULL),
            _ => Err(Fail::Rejected),
        }
    }

    fn object(&mut self, depth: usize) -> Result<qjs::JSValue, Fail> {
        if depth == MAX_DEPTH {
            return Err(Fail::Rejected);
        }
        self.at += 1;
        // SAFETY: the context is alive.
        let object = self.made(unsafe { qjs::JS_NewObject(self.raw) })?;
        match self.members(object, depth) {
            Ok(()) => Ok(object),
            Err(fail) => {
                self.free(object);
                Err(fail)
            }
        }
    }

    fn members(&mut self, object: qjs::JSValue, depth: usize) -> Result<(), Fail> {
        self.skip_space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            let key = self.key()?;
            let value = self.member(depth);
            // SAFETY: the definition takes the value over; the key is ours to give back.
            let defined = unsafe {
                let defined = value.map(|value| {
                    let flags = qjs::JS_PROP_C_W_E as c_int;
                    qjs::JS_DefinePropertyValue(self.raw, object, key, value, flags)
                });
                qjs::JS_FreeAtom(self.raw, key);
                defined?
            };
            if defined < 0 {
                return Err(Fail::Thrown);
            }
            self.skip_space();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Fail::Rejected),
            }
        }
    }

    fn member(&mut self, depth: usize) -> Result<qjs::JSValue, Fail> {
        self.skip_space();
        self.expect(b':')?;
        self.value(depth + 1)
    }

    fn array(&mut self, depth: usize) -> Result<qjs::JSValue, Fail> {
        if depth == MAX_DEPTH {
            return Err(Fail::Rejected);
        }
        self.at += 1;
        let first = self.elements.len();
        self.skip_space();
        if self.peek() == b']' {
            self.at += 1;
        } else {
            loop {
                let element = self.value(depth + 1)?;
                self.elements.push(element);
                self.skip_space();
                match self.peek() {
                    b',' => self.at += 1,
                    b']' => {
                        self.at += 1;
                        break;
                    }
                    _ => return Err(Fail::Rejected),
                }
            }
        }
        let elements = &self.elements[first..];
        // SAFETY: the engine copies the elements, and takes each over or frees it.
        let array =
            unsafe { qjs::JS_NewArrayFrom(self.raw, elements.len() as c_int, elements.as_ptr()) };
        self.elements.truncate(first);
        self.made(array)
    }

    /// A key, as one reference to its atom.
    fn key(&mut self) -> Result<qjs::JSAtom, Fail> {
        self.expect(b'"')?;
        let start = self.at;
        let length = plain_run(&self.text[start..]);
        if self.text.get(start + length) != Some(&b'"') {
            // An escape, or no string: rare in keys.
            self.at = start - 1;
            let string = self.string()?;
            // SAFETY: the value is alive until it is freed here.
            let atom = unsafe { qjs::JS_ValueToAtom(self.raw, string) };
            self.free(string);
            return if atom == 0 { Err(Fail::Thrown) } else { Ok(atom) };
        }
        self.at = start + length + 1;
        let text = &self.text[start..start + length];
        let slot = slot_of(text);
        let known = self.keys[slot];
        if known.atom != 0 && self.text[known.start..known.start + known.length] == *text {
            // SAFETY: the table holds a reference, so the atom is alive.
            return Ok(unsafe { qjs::JS_DupAtom(self.raw, known.atom) });
        }
        // SAFETY: the engine copies the text; the table's reference replaces another.
        unsafe {
            let atom = qjs::JS_NewAtomLen(self.raw, text.as_ptr().cast(), length as _);
            if atom == 0 {
                return Err(Fail::Thrown);
            }
            if known.atom != 0 {
                qjs::JS_FreeAtom(self.raw, known.atom);
            }
            self.keys[slot] = Key { start, length, atom: qjs::JS_DupAtom(self.raw, atom) };
            Ok(atom)
        }
    }

    fn string(&mut self) -> Result<qjs::JSValue, Fail> {
        self.expect(b'"')?;
        let start = self.at;
        self.at += plain_run(&self.text[start..]);
        if self.peek() == b'"' {
            let text = &self.text[start..self.at];
            self.at += 1;
            return self.new_string(text);
        }
        let mut text = self.text[start..self.at].to_vec();
        loop {
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return self.new_string(&text);
                }
                b'\\' => {
                    self.at += 1;
                    self.escape(&mut text)?;
                }
                // A control character, or the end.
                _ => return Err(Fail::Rejected),
            }
            let run = plain_run(&self.text[self.at..]);
            text.extend_from_slice(&self.text[self.at..self.at + run]);
            self.at += run;
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), Fail> {
        let byte = match self.peek() {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.at += 1;
                let mut unit = self.hex()?;
                if (0xD800..0xDC00).contains(&unit) && self.text[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.hex()?;
                    if (0xDC00..0xE000).contains(&low) {
                        unit = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                    }
                }
                // A surrogate without its other half is the engine's to keep.
                let c = char::from_u32(unit).ok_or(Fail::Rejected)?;
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(Fail::Rejected),
        };
        text.push(byte);
        self.at += 1;
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, Fail> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Fail::Rejected)?;
        let mut unit = 0;
        for digit in digits {
            let digit = char::from(*digit).to_digit(16).ok_or(Fail::Rejected)?;
            unit = unit * 16 + digit;
        }
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Result<qjs::JSValue, Fail> {
        let start = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let first = self.at;
        let mut integer = 0_i32;
        while let digit @ b'0'..=b'9' = self.peek() {
            integer = integer.wrapping_mul(10).wrapping_add(i32::from(digit - b'0'));
            self.at += 1;
        }
        let digits = self.at - first;
        if digits == 0 || (digits > 1 && self.text[first] == b'0') {
            return Err(Fail::Rejected);
        }
        if !matches!(self.peek(), b'.' | b'e' | b'E') && digits < 10 && !(negative && integer == 0)
        {
            let integer = if negative { -integer } else { integer };
            return Ok(qjs::JS_MKVAL(qjs::JS_TAG_INT, integer));
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            self.digits()?;
        }
        let text = std::str::from_utf8(&self.text[start..self.at]).map_err(|_| Fail::Rejected)?;
        // Both round to nearest, ties to even.
        let number: f64 = text.parse().map_err(|_| Fail::Rejected)?;
        Ok(qjs::JS_NewFloat64(number))
    }

    fn digits(&mut self) -> Result<(), Fail> {
        let first = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == first { Err(Fail::Rejected) } else { Ok(()) }
    }

    fn new_string(&self, text: &[u8]) -> Result<qjs::JSValue, Fail> {
        // SAFETY: the engine copies the text, which is UTF-8.
        let string =
            unsafe { qjs::JS_NewStringLen(self.raw, text.as_ptr().cast(), text.len() as _) };
        self.made(string)
    }

    fn made(&self, value: qjs::JSValue) -> Result<qjs::JSValue, Fail> {
        // SAFETY: only looks at the tag.
        if unsafe { qjs::JS_IsException(value) } { Err(Fail::Thrown) } else { Ok(value) }
    }

    fn free(&self, value: qjs::JSValue) {
        // SAFETY: the reference is the caller's, who gives it up.
        unsafe { qjs::JS_FreeValue(self.raw, value) }
    }
}

impl Drop for Parser<'_> {
    fn drop(&mut self) {
        for element in std::mem::take(&mut self.elements) {
            self.free(element);
        }
        free_keys(self.raw, &self.keys);
    }
}
