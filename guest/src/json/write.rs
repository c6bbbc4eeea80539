//! `JSON.stringify` in one pass.

use super::open::{Members, Open, circle};
use super::out::Out;
use super::style::Style;
use super::{
    ARRAY, BIG_INT, BOOLEAN, Fail, KEY_BYTES, KEYS, Key, NUMBER, OBJECT, Owned, RAW_JSON, STRING,
    free_keys,
};
use rquickjs::qjs;
use std::collections::BTreeSet;
use std::ffi::{c_char, c_int};

unsafe extern "C" {
    /// What is in an object that wraps a primitive, see `quickjs/stacks.h`.
    fn cellblock_unboxed(raw: *mut qjs::JSContext, object: qjs::JSValue) -> qjs::JSValue;
}

/// What a value is in, for `toJSON`.
#[derive(Clone, Copy)]
enum Holder {
    Root,
    Member(qjs::JSAtom),
    Element(i64),
}

/// Writes a value as JSON. Nesting is kept in a list and not on the stack, so that its
/// depth costs nothing but memory.
pub(super) struct Writer {
    raw: *mut qjs::JSContext,
    to_json: qjs::JSAtom,
    style: Style,
    /// Whether there is indentation.
    is_spaced: bool,
    /// Nesting that is written.
    max_depth: usize,
    /// What the outermost value is a member of, for a replacer.
    root: Option<Owned>,
    out: Out,
    /// Quoted keys, by their atoms; the texts are in `key_bytes`.
    keys: Box<[Key; KEYS]>,
    key_bytes: Vec<u8>,
    /// Objects that are being written, outermost first.
    path: Vec<Open>,
    /// Addresses of those from [`SCANNED`] on.
    deep: BTreeSet<usize>,
}

/// Depth up to which a circle is looked for in the path itself.
const SCANNED: usize = 32;

/// What became of a value.
#[derive(PartialEq, Eq)]
enum Begun {
    /// It is written.
    Written,
    /// JSON cannot express it.
    Absent,
    /// It is the last of the path now.
    Opened,
}

impl Writer {
    pub(super) fn new(raw: *mut qjs::JSContext, style: Style) -> Self {
        Self {
            raw,
            // SAFETY: the context is alive; the atom is given back with the writer.
            to_json: unsafe { qjs::JS_NewAtomLen(raw, c"toJSON".as_ptr(), 6) },
            max_depth: style.max_depth(),
            is_spaced: !style.gap.is_empty(),
            style,
            root: None,
            out: Out::new(raw),
            keys: Box::new([Key::default(); KEYS]),
            key_bytes: Vec::new(),
            path: Vec::new(),
            deep: BTreeSet::new(),
        }
    }

    /// What was written.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out.bytes)
    }

    /// Writes a value; false when JSON cannot express it.
    pub(super) fn value(&mut self, value: qjs::JSValue) -> Result<bool, Fail> {
        if self.style.replacer.is_some() {
            // SAFETY: the value is alive; the definition takes one reference of it.
            unsafe {
                let root = Owned::new(self.raw, qjs::JS_NewObject(self.raw))?;
                let value = qjs::JS_DupValue(self.raw, value);
                let flags = qjs::JS_PROP_C_W_E as c_int;
                let name = c"".as_ptr();
                if qjs::JS_DefinePropertyValueStr(self.raw, root.value, name, value, flags) < 0 {
                    return Err(Fail::Thrown);
                }
                self.root = Some(root);
            }
        }
        let begun = self.begin(value, Holder::Root)?;
        while !self.path.is_empty() {
            self.step()?;
        }
        Ok(begun != Begun::Absent)
    }

    /// Writes members of the innermost object up to one that is opened, or all of them
    /// and the end.
    fn step(&mut self) -> Result<(), Fail> {
        let Some(level) = self.path.len().checked_sub(1) else { return Ok(()) };
        let object = self.path[level].object.value;
        match self.path[level].members {
            Members::Elements(length) => {
                for at in self.path[level].at..length {
                    self.path[level].at = at + 1;
                    if at > 0 {
                        self.out.put(b",")?;
                    }
                    if self.is_spaced {
                        self.line(level + 1)?;
                    }
                    // SAFETY: the array is alive.
                    let element = unsafe { qjs::JS_GetPropertyInt64(self.raw, object, at) };
                    let element = Owned::new(self.raw, element)?;
                    match self.begin(element.value, Holder::Element(at))? {
                        Begun::Written => {}
                        Begun::Absent => self.out.put(b"null")?,
                        Begun::Opened => return Ok(()),
                    }
                }
                self.close(b"]", length > 0)
            }
            Members::Named { table, count, empty, .. } => {
                for at in self.path[level].at..i64::from(count) {
                    self.path[level].at = at + 1;
                    // SAFETY: the table has `count` entries, and the object is alive.
                    let (key, member) = unsafe {
                        let key = (*table.add(at as usize)).atom;
                        (key, qjs::JS_GetProperty(self.raw, object, key))
                    };
                    let member = Owned::new(self.raw, member)?;
                    let before = self.out.bytes.len();
                    if before > empty {
                        self.out.put(b",")?;
                    }
                    if self.is_spaced {
                        self.line(level + 1)?;
                    }
                    self.key(key)?;
                    if self.is_spaced {
                        self.out.put(b" ")?;
                    }
                    match self.begin(member.value, Holder::Member(key))? {
                        Begun::Written => {}
                        Begun::Absent => self.out.bytes.truncate(before),
                        Begun::Opened => return Ok(()),
                    }
                }
                let has_members = self.out.bytes.len() > empty;
                self.close(b"}", has_members)
            }
        }
    }

    /// Begins a line at a depth.
    fn line(&mut self, depth: usize) -> Result<(), Fail> {
        self.out.reserve(1 + depth * self.style.gap.len())?;
        self.out.bytes.push(b'\n');
        for _ in 0..depth {
            self.out.bytes.extend_from_slice(self.style.gap.as_bytes());
        }
        Ok(())
    }

    fn close(&mut self, bracket: &[u8], has_members: bool) -> Result<(), Fail> {
        if let Some(open) = self.path.pop() {
            if self.path.len() >= SCANNED {
                self.deep.remove(&open.address());
            }
            open.members.free(self.raw);
        }
        if has_members && self.is_spaced {
            self.line(self.path.len())?;
        }
        self.out.put(bracket)
    }

    /// Writes a value, or opens it. `toJSON` is asked once, here, and then the replacer.
    fn begin(&mut self, value: qjs::JSValue, holder: Holder) -> Result<Begun, Fail> {
        if let Some(replacer) = &self.style.replacer {
            let replacer = replacer.value;
            let own = self.ask_to_json(value, holder)?;
            let value = own.as_ref().map_or(value, |own| own.value);
            let replaced = self.replace(replacer, value, holder)?;
            return self.object(replaced.value);
        }
        // SAFETY: only looks at the tag.
        if unsafe { !qjs::JS_IsObject(value) && !qjs::JS_IsBigInt(value) } {
            return self.primitive(value);
        }
        match self.ask_to_json(value, holder)? {
            Some(own) => self.object(own.value),
            None => self.object(value),
        }
    }

    /// What `toJSON` gives for a value, if it has that.
    fn ask_to_json(&self, value: qjs::JSValue, holder: Holder) -> Result<Option<Owned>, Fail> {
        // SAFETY: only looks at the tag.
        if unsafe { !qjs::JS_IsObject(value) && !qjs::JS_IsBigInt(value) } {
            return Ok(None);
        }
        // SAFETY: the value is alive.
        let method = unsafe { qjs::JS_GetProperty(self.raw, value, self.to_json) };
        let method = Owned::new(self.raw, method)?;
        // SAFETY: the method is alive.
        if !unsafe { qjs::JS_IsFunction(self.raw, method.value) } {
            return Ok(None);
        }
        let key = Owned::new(self.raw, self.key_value(holder))?;
        let mut arguments = [key.value];
        // SAFETY: all values are alive for the length of the call.
        let own = unsafe { qjs::JS_Call(self.raw, method.value, value, 1, arguments.as_mut_ptr()) };
        Owned::new(self.raw, own).map(Some)
    }

    /// What a replacer gives for a member of the innermost object.
    fn replace(
        &self,
        replacer: qjs::JSValue,
        value: qjs::JSValue,
        holder: Holder,
    ) -> Result<Owned, Fail> {
        let object = self.path.last().map(|open| &open.object).or(self.root.as_ref());
        let object = object.map_or(qjs::JS_UNDEFINED, |object| object.value);
        let key = Owned::new(self.raw, self.key_value(holder))?;
        let mut arguments = [key.value, value];
        // SAFETY: all values are alive for the length of the call.
        let replaced =
            unsafe { qjs::JS_Call(self.raw, replacer, object, 2, arguments.as_mut_ptr()) };
        Owned::new(self.raw, replaced)
    }

    /// Writes or opens a value whose `toJSON` has been asked.
    fn object(&mut self, value: qjs::JSValue) -> Result<Begun, Fail> {
        // SAFETY: looks at the tag and at a live object.
        let class = unsafe {
            if !qjs::JS_IsObject(value) {
                return self.primitive(value);
            }
            if qjs::JS_IsFunction(self.raw, value) {
                return Ok(Begun::Absent);
            }
            qjs::JS_GetClassID(value)
        };
        let plain = class == OBJECT || class == ARRAY;
        if !plain && matches!(class, NUMBER | STRING | BOOLEAN | BIG_INT) {
            return self.boxed(value, class);
        }
        if class == RAW_JSON {
            // SAFETY: the value is alive, and has the text as a member that cannot change.
            let raw = unsafe { qjs::JS_GetPropertyStr(self.raw, value, c"rawJSON".as_ptr()) };
            let raw = Owned::new(self.raw, raw)?;
            self.out.with_text(raw.value, Out::put)?;
            return Ok(Begun::Written);
        }
        if self.path.len() >= self.max_depth {
            // SAFETY: the format has no directives.
            unsafe {
                qjs::JS_ThrowRangeError(self.raw, c"Maximum call stack size exceeded".as_ptr())
            };
            return Err(Fail::Thrown);
        }
        self.refuse_circle(value)?;
        let is_array = class == ARRAY || (!plain && is_array(self.raw, value)?);
        let members = if is_array { self.elements(value)? } else { self.named(value)? };
        // SAFETY: the object is alive; the reference is the path's.
        let object = Owned { raw: self.raw, value: unsafe { qjs::JS_DupValue(self.raw, value) } };
        let open = Open { object, at: 0, members };
        if self.path.len() >= SCANNED {
            self.deep.insert(open.address());
        }
        self.path.push(open);
        Ok(Begun::Opened)
    }

    fn elements(&mut self, array: qjs::JSValue) -> Result<Members, Fail> {
        let mut length = 0;
        // SAFETY: the array is alive; the engine writes one number.
        if unsafe { qjs::JS_GetLength(self.raw, array, &raw mut length) } < 0 {
            return Err(Fail::Thrown);
        }
        self.out.put(b"[")?;
        Ok(Members::Elements(length))
    }

    fn named(&mut self, object: qjs::JSValue) -> Result<Members, Fail> {
        if let Some(names) = &mut self.style.names {
            let (table, count) = (names.table.as_mut_ptr(), names.table.len() as u32);
            self.out.put(b"{")?;
            return Ok(Members::Named { table, count, empty: self.out.bytes.len(), is_own: false });
        }
        let (mut table, mut count) = (std::ptr::null_mut(), 0);
        let flags = (qjs::JS_GPN_STRING_MASK | qjs::JS_GPN_ENUM_ONLY) as c_int;
        // SAFETY: the object is alive; the engine gives a table, or none and an exception.
        let listed = unsafe {
            qjs::JS_GetOwnPropertyNames(self.raw, &raw mut table, &raw mut count, object, flags)
        };
        if listed < 0 {
            return Err(Fail::Thrown);
        }
        let members =
            Members::Named { table, count, empty: self.out.bytes.len() + 1, is_own: true };
        if self.out.put(b"{").is_err() {
            members.free(self.raw);
            return Err(Fail::Thrown);
        }
        Ok(members)
    }

    /// Writes what is in an object that wraps a primitive.
    fn boxed(&mut self, value: qjs::JSValue, class: qjs::JSClassID) -> Result<Begun, Fail> {
        // SAFETY: the value is alive; each conversion gives one reference or an exception.
        let inner = unsafe {
            match class {
                NUMBER => {
                    let mut number = 0.0;
                    if qjs::JS_ToFloat64(self.raw, &raw mut number, value) < 0 {
                        return Err(Fail::Thrown);
                    }
                    qjs::JS_NewFloat64(number)
                }
                STRING => qjs::JS_ToString(self.raw, value),
                _ => cellblock_unboxed(self.raw, value),
            }
        };
        let inner = Owned::new(self.raw, inner)?;
        self.primitive(inner.value)
    }

    /// Throws when an object is in its own path.
    fn refuse_circle(&mut self, value: qjs::JSValue) -> Result<(), Fail> {
        // SAFETY: the value is an object.
        let address = unsafe { qjs::JS_VALUE_GET_PTR(value) } as usize;
        let scanned = &self.path[..self.path.len().min(SCANNED)];
        let found = scanned.iter().any(|open| open.address() == address);
        if !found && (self.path.len() <= SCANNED || !self.deep.contains(&address)) {
            return Ok(());
        }
        let text = circle(self.raw, &self.path, address);
        // SAFETY: the format takes one C string.
        unsafe { qjs::JS_ThrowTypeError(self.raw, c"%s".as_ptr(), text.as_ptr()) };
        Err(Fail::Thrown)
    }

    /// Writes a key and its colon, as it was written the last time where it was.
    fn key(&mut self, atom: qjs::JSAtom) -> Result<(), Fail> {
        let slot = atom as usize % KEYS;
        let known = self.keys[slot];
        if known.atom == atom {
            self.out.reserve(known.length)?;
            let quoted = &self.key_bytes[known.start..known.start + known.length];
            self.out.bytes.extend_from_slice(quoted);
            return Ok(());
        }
        let (start, mut length) = (self.out.bytes.len(), 0);
        // SAFETY: the atom is alive; the engine gives `length` bytes or null.
        unsafe {
            let text = qjs::JS_AtomToCStringLen(self.raw, &raw mut length, atom);
            if text.is_null() {
                return Err(Fail::Thrown);
            }
            let quoted = self.out.quote(std::slice::from_raw_parts(text.cast(), length as usize));
            qjs::JS_FreeCString(self.raw, text);
            quoted?;
        }
        self.out.put(b":")?;
        let quoted = start..self.out.bytes.len();
        if self.key_bytes.len() + quoted.len() <= KEY_BYTES {
            let length = quoted.len();
            let start = self.key_bytes.len();
            self.key_bytes.extend_from_slice(&self.out.bytes[quoted]);
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

    fn primitive(&mut self, value: qjs::JSValue) -> Result<Begun, Fail> {
        // SAFETY: looks at the tag, and reads what the tag says is there.
        unsafe {
            match qjs::JS_VALUE_GET_NORM_TAG(value) {
                qjs::JS_TAG_INT => {
                    let mut digits = itoa::Buffer::new();
                    self.out.put(digits.format(qjs::JS_VALUE_GET_INT(value)).as_bytes())?;
                }
                qjs::JS_TAG_BOOL if qjs::JS_VALUE_GET_BOOL(value) => self.out.put(b"true")?,
                qjs::JS_TAG_BOOL => self.out.put(b"false")?,
                qjs::JS_TAG_NULL => self.out.put(b"null")?,
                qjs::JS_TAG_FLOAT64 if !qjs::JS_VALUE_GET_FLOAT64(value).is_finite() => {
                    self.out.put(b"null")?;
                }
                qjs::JS_TAG_FLOAT64 => self.out.with_text(value, Out::put)?,
                _ if qjs::JS_IsString(value) => self.out.with_text(value, Out::quote)?,
                _ if qjs::JS_IsBigInt(value) => {
                    let text = c"Do not know how to serialize a BigInt";
                    qjs::JS_ThrowTypeError(self.raw, text.as_ptr());
                    return Err(Fail::Thrown);
                }
                _ => return Ok(Begun::Absent),
            }
        }
        Ok(Begun::Written)
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
}

impl Drop for Writer {
    fn drop(&mut self) {
        for open in std::mem::take(&mut self.path) {
            open.members.free(self.raw);
        }
        free_keys(self.raw, self.keys.as_slice());
        // SAFETY: the writer's own reference.
        unsafe { qjs::JS_FreeAtom(self.raw, self.to_json) };
    }
}

/// `Array.isArray`: of a proxy, whether its target is an array.
pub(super) fn is_array(raw: *mut qjs::JSContext, value: qjs::JSValue) -> Result<bool, Fail> {
    // SAFETY: the value is alive, and each target is held while it is looked at.
    unsafe {
        let mut object = Owned { raw, value: qjs::JS_DupValue(raw, value) };
        while qjs::JS_IsProxy(object.value) {
            let target = qjs::JS_GetProxyTarget(raw, object.value);
            if qjs::JS_IsException(target) {
                return Err(Fail::Thrown);
            }
            object = Owned { raw, value: target };
        }
        Ok(qjs::JS_IsArray(object.value))
    }
}
