//! `JSON.parse` and `JSON.stringify`: what programs spend most of their time with.
//!
//! The engine's own build a string for every key and a token for every value. Here
//! text becomes values and values become text in one pass, with keys looked up by
//! what they were the last time. What is rare is left to the engine, which then
//! decides, word for word: text that is no JSON, revivers, replacers, indentation,
//! exotic objects, and nesting beyond [`MAX_DEPTH`].

use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use core::arch::wasm32::{
    i8x16_bitmask, i8x16_eq, i8x16_splat, u8x16_lt, u8x16_splat, v128, v128_load, v128_or,
};
use rquickjs::{Ctx, Function, Persistent, Value, qjs};
use std::cell::RefCell;
use std::ffi::{c_char, c_int};

/// Nesting that is handled here, so that no input can exhaust this code's stack.
const MAX_DEPTH: usize = 400;

/// Keys that are remembered, a power of two.
const KEYS: usize = 256;

/// Bytes of quoted keys that are remembered while one value is written.
const KEY_BYTES: usize = 64 << 10;

/// Classes of ordinary objects and of arrays, as the engine numbers them.
const OBJECT: qjs::JSClassID = 1;
const ARRAY: qjs::JSClassID = 2;

thread_local! {
    /// The engine's own `JSON.parse`, for revivers.
    static PARSE: RefCell<Option<Persistent<Function<'static>>>> = const { RefCell::new(None) };
}

/// Keeps the engine's own `JSON.parse`.
pub(crate) fn keep<'js>(ctx: &Ctx<'js>, parse: Function<'js>) {
    PARSE.set(Some(Persistent::save(ctx, parse)));
}

/// `JSON.parse(text, reviver)`
pub(crate) fn parse<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let plain = args.get(1).is_none_or(|reviver| !reviver.is_function());
    match args.first() {
        Some(text) if text.is_string() && plain => engine::with_utf8(ctx, text, |text, value| {
            parse_text(ctx, text).unwrap_or_else(|| engine::parse_json_slowly(ctx, value))
        })?,
        _ => {
            let original = PARSE.with_borrow(Clone::clone);
            let original = original.and_then(|original| original.restore(ctx).ok());
            let original = original.ok_or_else(|| Thrown::text("JSON.parse is not there"))?;
            engine::call_with(ctx, &original, args.this, args.values)
        }
    }
}

/// `JSON.stringify(value, replacer, space)`
pub(crate) fn stringify<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let undefined = Value::new_undefined(ctx.clone());
    let given = |at: usize| args.get(at).filter(|value| !value.is_undefined());
    let value = args.first().unwrap_or(&undefined);
    if given(1).is_some() || given(2).is_some() {
        let or_undefined = |at| given(at).unwrap_or(&undefined);
        return engine::stringify_json_slowly(ctx, value, or_undefined(1), or_undefined(2));
    }
    match to_text(ctx, value)? {
        Some(text) => engine::new_string(ctx, &text),
        None => Ok(undefined),
    }
}

/// The value of a JSON text; `None` when it is none, or the engine had better look.
pub(crate) fn parse_text<'js>(ctx: &Ctx<'js>, text: &str) -> Option<Returned<'js>> {
    let keys = [Key::default(); KEYS];
    let raw = ctx.as_raw().as_ptr();
    let mut parser = Parser { raw, text: text.as_bytes(), at: 0, keys, elements: Vec::new() };
    let value = parser.document();
    drop(parser);
    match value {
        // SAFETY: the parser gives up its reference.
        Ok(value) => Some(Ok(unsafe { Value::from_raw(ctx.clone(), value) })),
        Err(Fail::Thrown) => Some(Err(Thrown::caught(ctx))),
        Err(Fail::Rejected) => None,
    }
}

/// A value as JSON text; `None` where that is `undefined`.
pub(crate) fn to_text<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
) -> Result<Option<String>, Thrown<'js>> {
    let raw = ctx.as_raw().as_ptr();
    let mut writer = Writer {
        raw,
        // SAFETY: the context is alive; the atom is given back with the writer.
        to_json: unsafe { qjs::JS_NewAtomLen(raw, c"toJSON".as_ptr(), 6) },
        out: Vec::new(),
        keys: [Key::default(); KEYS],
        key_bytes: Vec::new(),
        path: Vec::new(),
    };
    let written = writer.value(value.as_raw(), Holder::Root);
    let out = std::mem::take(&mut writer.out);
    drop(writer);
    match written {
        // What is written is UTF-8: surrogates are escaped.
        Ok(true) => Ok(Some(String::from_utf8(out).unwrap_or_default())),
        Ok(false) => Ok(None),
        Err(Fail::Rejected | Fail::Thrown) => Err(Thrown::caught(ctx)),
    }
}

/// Why there is no value.
enum Fail {
    /// The engine is to look at it.
    Rejected,
    /// The engine holds an exception.
    Thrown,
}

/// A key that was seen: where its text is, and the engine's name for it.
#[derive(Clone, Copy, Default)]
struct Key {
    start: usize,
    length: usize,
    /// Zero is the engine's atom for nothing.
    atom: qjs::JSAtom,
}

/// Reads a JSON text.
struct Parser<'a> {
    raw: *mut qjs::JSContext,
    text: &'a [u8],
    at: usize,
    keys: [Key; KEYS],
    /// Elements of the arrays that are being read, innermost last.
    elements: Vec<qjs::JSValue>,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<qjs::JSValue, Fail> {
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

/// What a value is in, for `toJSON`.
#[derive(Clone, Copy)]
enum Holder {
    Root,
    Member(qjs::JSAtom),
    Element(i64),
}

/// Writes a value as JSON.
struct Writer {
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
    /// Writes a value; false when JSON has no word for it.
    fn value(&mut self, value: qjs::JSValue, holder: Holder) -> Result<bool, Fail> {
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

/// One reference to a value, given back in the end.
struct Owned {
    raw: *mut qjs::JSContext,
    value: qjs::JSValue,
}

impl Owned {
    fn new(raw: *mut qjs::JSContext, value: qjs::JSValue) -> Result<Self, Fail> {
        // SAFETY: only looks at the tag.
        if unsafe { qjs::JS_IsException(value) } {
            return Err(Fail::Thrown);
        }
        Ok(Self { raw, value })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { qjs::JS_FreeValue(self.raw, self.value) }
    }
}

fn free_keys(raw: *mut qjs::JSContext, keys: &[Key; KEYS]) {
    for key in keys.iter().filter(|key| key.atom != 0) {
        // SAFETY: the table's own reference.
        unsafe { qjs::JS_FreeAtom(raw, key.atom) }
    }
}

/// Where a key is remembered.
fn slot_of(key: &[u8]) -> usize {
    let at = |index: usize| key.get(index).copied().map_or(0, usize::from);
    let mixed = at(0) + at(key.len() / 2) * 7 + at(key.len().wrapping_sub(1)) * 31 + key.len() * 3;
    mixed % KEYS
}

/// Bytes up to the first that ends a run within a JSON string: a quote, a backslash
/// or a control character.
fn plain_run(text: &[u8]) -> usize {
    run(text, |bytes| common_ends(bytes), |byte| byte < 0x20 || byte == b'"' || byte == b'\\')
}

/// Bytes up to the first that may need an escape: those, or one that may begin a
/// surrogate.
fn quotable_run(text: &[u8]) -> usize {
    let ends = |bytes| v128_or(common_ends(bytes), i8x16_eq(bytes, i8x16_splat(0xED_u8 as i8)));
    run(text, ends, |byte| byte < 0x20 || byte == b'"' || byte == b'\\' || byte == 0xED)
}

fn common_ends(bytes: v128) -> v128 {
    let quotes = i8x16_eq(bytes, i8x16_splat(b'"' as i8));
    let slashes = i8x16_eq(bytes, i8x16_splat(b'\\' as i8));
    let controls = u8x16_lt(bytes, u8x16_splat(0x20));
    v128_or(v128_or(quotes, slashes), controls)
}

/// Bytes up to the first that ends a run, sixteen at a time.
fn run(text: &[u8], ends: impl Fn(v128) -> v128, is_end: impl Fn(u8) -> bool) -> usize {
    let mut at = 0;
    while let Some(bytes) = text.get(at..at + 16) {
        // SAFETY: sixteen bytes are there; the load needs no alignment.
        let found = i8x16_bitmask(ends(unsafe { v128_load(bytes.as_ptr().cast()) }));
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 16;
    }
    let rest = &text[at..];
    at + rest.iter().position(|byte| is_end(*byte)).unwrap_or(rest.len())
}
