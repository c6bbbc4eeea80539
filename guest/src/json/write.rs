//! `JSON.stringify` in one pass.

use super::runs::quotable_run;
use super::{ARRAY, Fail, KEY_BYTES, KEYS, Key, MAX_DEPTH, OBJECT, Owned, free_keys};
use rquickjs::qjs;
use std::ffi::{c_char, c_int};

/// What a value is in, for `toJSON`.
#[derive(Clone, Copy)]
pub(super) enum Holder {
    Root,
    Member(qjs::JSAtom),
    Element(i64),
}

/// Writes a value as JSON.
pub(super) struct Writer {
    raw: *mut qjs::JSContext,
    to_json: qjs::JSAtom,
    out: Vec<u8>,
    /// Quoted keys, by their atoms; the texts are in `key_bytes`.
    keys: [Key; KEYS],
    key_bytes: Vec<u8>,
    /// Objects that are being written, outermost first.
    path: Vec<*mut std::ffi::c_void>,
}

impl Writer {
    pub(super) fn new(raw: *mut qjs::JSContext) -> Self {
        Self {
            raw,
            // SAFETY: the context is alive; the atom is given back with the writer.
            to_json: unsafe { qjs::JS_NewAtomLen(raw, c"toJSON".as_ptr(), 6) },
            out: Vec::new(),
            keys: [Key::default(); KEYS],
            key_bytes: Vec::new(),
            path: Vec::new(),
        }
    }

    /// What was written.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Writes a value; false when JSON has no word for it.
    pub(super) fn value(&mut self, value: qjs::JSValue, holder: Holder) -> Result<bool, Fail> {
        // SAFETY: only looks at the tag.
        let (is_object, is_big) = unsafe { (qjs::JS_IsObject(value), qjs::JS_IsBigInt(value)) };
        if !is_object && !is_big {
            return self.primitive(value);
        }
        if self.path.len() >= MAX_DEPTH {
            return self.by_engine(value);
        }
        // SAFETY: the value is alive.
        let method = unsafe { qjs::JS_GetProperty(self.raw, value, self.to_json) };
        let method = Owned::new(self.raw, method)?;
        // SAFETY: the method is alive.
        if !unsafe { qjs::JS_IsFunction(self.raw, method.value) } {
            return self.object(value);
        }
        let key = Owned::new(self.raw, self.key_value(holder))?;
        let mut arguments = [key.value];
        // SAFETY: all values are alive for the length of the call.
        let replaced =
            unsafe { qjs::JS_Call(self.raw, method.value, value, 1, arguments.as_mut_ptr()) };
        let replaced = Owned::new(self.raw, replaced)?;
        self.object(replaced.value)
    }

    /// Writes a value whose `toJSON` was seen to.
    fn object(&mut self, value: qjs::JSValue) -> Result<bool, Fail> {
        // SAFETY: looks at the tag and at a live object.
        unsafe {
            if !qjs::JS_IsObject(value) {
                return self.primitive(value);
            }
            if qjs::JS_IsFunction(self.raw, value) {
                return Ok(false);
            }
        }
        // SAFETY: a live object.
        let (class, address) = unsafe { (qjs::JS_GetClassID(value), qjs::JS_VALUE_GET_PTR(value)) };
        if class != OBJECT && class != ARRAY {
            return self.by_engine(value);
        }
        if self.path.contains(&address) {
            // SAFETY: the format has no directives.
            unsafe { qjs::JS_ThrowTypeError(self.raw, c"circular reference".as_ptr()) };
            return Err(Fail::Thrown);
        }
        self.path.push(address);
        let written = if class == ARRAY { self.array(value) } else { self.members(value) };
        self.path.pop();
        written.map(|()| true)
    }

    fn array(&mut self, array: qjs::JSValue) -> Result<(), Fail> {
        let mut length = 0;
        // SAFETY: the array is alive; the engine writes one number.
        if unsafe { qjs::JS_GetLength(self.raw, array, &raw mut length) } < 0 {
            return Err(Fail::Thrown);
        }
        self.put(b"[")?;
        for at in 0..length {
            if at > 0 {
                self.put(b",")?;
            }
            // SAFETY: the array is alive.
            let element = unsafe { qjs::JS_GetPropertyInt64(self.raw, array, at) };
            let element = Owned::new(self.raw, element)?;
            if !self.value(element.value, Holder::Element(at))? {
                self.put(b"null")?;
            }
        }
        self.put(b"]")
    }

    fn members(&mut self, object: qjs::JSValue) -> Result<(), Fail> {
        let (mut table, mut count) = (std::ptr::null_mut(), 0);
        let flags = (qjs::JS_GPN_STRING_MASK | qjs::JS_GPN_ENUM_ONLY) as c_int;
        // SAFETY: the object is alive; the engine gives a table, or none and an exception.
        let listed = unsafe {
            qjs::JS_GetOwnPropertyNames(self.raw, &raw mut table, &raw mut count, object, flags)
        };
        if listed < 0 {
            return Err(Fail::Thrown);
        }
        let written = self.each_member(object, table, count);
        // SAFETY: the table came from the engine, and is not used again.
        unsafe { qjs::JS_FreePropertyEnum(self.raw, table, count) };
        written
    }

    fn each_member(
        &mut self,
        object: qjs::JSValue,
        table: *const qjs::JSPropertyEnum,
        count: u32,
    ) -> Result<(), Fail> {
        self.put(b"{")?;
        let empty = self.out.len();
        for at in 0..count as usize {
            // SAFETY: the table has `count` entries, and the object is alive.
            let (key, member) = unsafe {
                let key = (*table.add(at)).atom;
                (key, qjs::JS_GetProperty(self.raw, object, key))
            };
            let member = Owned::new(self.raw, member)?;
            let before = self.out.len();
            if before > empty {
                self.put(b",")?;
            }
            self.key(key)?;
            if !self.value(member.value, Holder::Member(key))? {
                self.out.truncate(before);
            }
        }
        self.put(b"}")
    }

    /// Writes a key and its colon, as it was written the last time where it was.
    fn key(&mut self, atom: qjs::JSAtom) -> Result<(), Fail> {
        let slot = atom as usize % KEYS;
        let known = self.keys[slot];
        if known.atom == atom {
            self.reserve(known.length)?;
            let quoted = &self.key_bytes[known.start..known.start + known.length];
            self.out.extend_from_slice(quoted);
            return Ok(());
        }
        let (start, mut length) = (self.out.len(), 0);
        // SAFETY: the atom is alive; the engine gives `length` bytes or null.
        unsafe {
            let text = qjs::JS_AtomToCStringLen(self.raw, &raw mut length, atom);
            if text.is_null() {
                return Err(Fail::Thrown);
            }
            let quoted = self.quote(std::slice::from_raw_parts(text.cast(), length as usize));
            qjs::JS_FreeCString(self.raw, text);
            quoted?;
        }
        self.put(b":")?;
        let quoted = start..self.out.len();
        if self.key_bytes.len() + quoted.len() <= KEY_BYTES {
            let length = quoted.len();
            let start = self.key_bytes.len();
            self.key_bytes.extend_from_slice(&self.out[quoted]);
            // SAFETY: the table's reference to an atom replaces another.
            unsafe {
                if known.atom != 0 {
                    qjs::JS_FreeAtom(self.raw, known.atom);
                }
                let atom = qjs::JS_DupAtom(self.raw, atom);
                self.keys[slot] = Key { start, length, atom };
            }
        }
        Ok(())
    }

    fn primitive(&mut self, value: qjs::JSValue) -> Result<bool, Fail> {
        // SAFETY: looks at the tag, and reads what the tag says is there.
        unsafe {
            match qjs::JS_VALUE_GET_NORM_TAG(value) {
                qjs::JS_TAG_INT => {
                    let mut digits = itoa::Buffer::new();
                    self.put(digits.format(qjs::JS_VALUE_GET_INT(value)).as_bytes())?;
                }
                qjs::JS_TAG_BOOL if qjs::JS_VALUE_GET_BOOL(value) => self.put(b"true")?,
                qjs::JS_TAG_BOOL => self.put(b"false")?,
                qjs::JS_TAG_NULL => self.put(b"null")?,
                qjs::JS_TAG_FLOAT64 if !qjs::JS_VALUE_GET_FLOAT64(value).is_finite() => {
                    self.put(b"null")?;
                }
                qjs::JS_TAG_FLOAT64 => self.with_text(value, Self::put)?,
                _ if qjs::JS_IsString(value) => self.with_text(value, Self::quote)?,
                _ if qjs::JS_IsBigInt(value) => return self.by_engine(value),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Hands the text of a number or string to a method.
    fn with_text(
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

    /// Writes what the engine makes of a value.
    fn by_engine(&mut self, value: qjs::JSValue) -> Result<bool, Fail> {
        let undefined = qjs::JS_UNDEFINED;
        // SAFETY: the value is alive.
        let text = unsafe { qjs::JS_JSONStringify(self.raw, value, undefined, undefined) };
        let text = Owned::new(self.raw, text)?;
        // SAFETY: only looks at the tag.
        if unsafe { qjs::JS_IsUndefined(text.value) } {
            return Ok(false);
        }
        self.with_text(text.value, Self::put)?;
        Ok(true)
    }

    fn key_value(&self, holder: Holder) -> qjs::JSValue {
        let mut digits = itoa::Buffer::new();
        let text = match holder {
            Holder::Root => "",
            // SAFETY: the atom is alive.
            Holder::Member(atom) => return unsafe { qjs::JS_AtomToString(self.raw, atom) },
            Holder::Element(at) => digits.format(at),
        };
        // SAFETY: the engine copies the text.
        unsafe { qjs::JS_NewStringLen(self.raw, text.as_ptr().cast::<c_char>(), text.len() as _) }
    }

    /// Writes a string with its quotes. The engine's UTF-8 has lone surrogates as
    /// three bytes from `ED A0` on.
    fn quote(&mut self, mut text: &[u8]) -> Result<(), Fail> {
        self.reserve(text.len() + 2)?;
        self.out.push(b'"');
        loop {
            let run = quotable_run(text);
            self.out.extend_from_slice(&text[..run]);
            text = &text[run..];
            let [byte, rest @ ..] = text else { break };
            text = rest;
            self.reserve(text.len() + 8)?;
            match *byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                8 => self.out.extend_from_slice(b"\\b"),
                9 => self.out.extend_from_slice(b"\\t"),
                10 => self.out.extend_from_slice(b"\\n"),
                12 => self.out.extend_from_slice(b"\\f"),
                13 => self.out.extend_from_slice(b"\\r"),
                0xED => match *rest {
                    [high, low, ..] if high >= 0xA0 => {
                        let unit = 0xD000 | (u16::from(high & 0x3F) << 6) | u16::from(low & 0x3F);
                        self.escape(unit);
                        text = &rest[2..];
                    }
                    _ => self.out.push(0xED),
                },
                control => self.escape(u16::from(control)),
            }
        }
        self.out.push(b'"');
        Ok(())
    }

    fn escape(&mut self, unit: u16) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.out.extend_from_slice(b"\\u");
        self.out.extend([12, 8, 4, 0].map(|shift| HEX[usize::from(unit >> shift) & 15]));
    }

    fn put(&mut self, text: &[u8]) -> Result<(), Fail> {
        self.reserve(text.len())?;
        self.out.extend_from_slice(text);
        Ok(())
    }

    /// Makes room. Without memory the program ends, as the engine has it.
    fn reserve(&mut self, bytes: usize) -> Result<(), Fail> {
        if self.out.try_reserve(bytes).is_ok() {
            return Ok(());
        }
        self.out = Vec::new();
        // SAFETY: the context is alive.
        unsafe { qjs::JS_ThrowOutOfMemory(self.raw) };
        Err(Fail::Thrown)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        free_keys(self.raw, &self.keys);
        // SAFETY: the writer's own reference.
        unsafe { qjs::JS_FreeAtom(self.raw, self.to_json) };
    }
}
