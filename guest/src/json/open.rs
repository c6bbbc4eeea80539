//! Objects that are being written, and what V8 says of a circle among them.

use super::Owned;
use rquickjs::qjs;
use std::ffi::CString;

unsafe extern "C" {
    /// The first UTF-16 units of a string, see `quickjs/bounded-text.h`.
    fn cellblock_head(raw: *mut qjs::JSContext, string: qjs::JSValue, length: u32) -> qjs::JSValue;

    /// The name of an object's constructor, see `quickjs/stacks.h`.
    fn cellblock_constructor(raw: *mut qjs::JSContext, object: qjs::JSValue) -> qjs::JSValue;
}

/// An object of which some members have been written.
pub(super) struct Open {
    pub(super) object: Owned,
    /// Members that have been begun.
    pub(super) at: i64,
    pub(super) members: Members,
}

pub(super) enum Members {
    /// Of an array: how many.
    Elements(i64),
    /// Of an object: their keys, the length of the output before the first, and whether
    /// the table is the object's own and not one for all.
    Named { table: *mut qjs::JSPropertyEnum, count: u32, empty: usize, is_own: bool },
}

impl Open {
    pub(super) fn address(&self) -> usize {
        // SAFETY: only objects are opened.
        unsafe { qjs::JS_VALUE_GET_PTR(self.object.value) as usize }
    }
}

impl Members {
    pub(super) fn free(&self, raw: *mut qjs::JSContext) {
        if let Self::Named { table, count, is_own: true, .. } = *self {
            // SAFETY: the table came from the engine, and is not used again.
            unsafe { qjs::JS_FreePropertyEnum(raw, table, count) };
        }
    }
}

/// V8's message for a circle that closes at an object of the path.
pub(super) fn circle(raw: *mut qjs::JSContext, path: &[Open], address: usize) -> CString {
    let start = path.iter().position(|open| open.address() == address).unwrap_or(0);
    let path = &path[start..];
    let mut text = format!(
        "Converting circular structure to JSON\n    --> starting at object with constructor '{}'",
        constructor(raw, path[0].object.value)
    );
    let links = path.len() - 1;
    for (at, open) in path[..links].iter().enumerate() {
        if links > 3 && at == 2 {
            text.push_str("\n    |     ...");
        }
        if links > 3 && at >= 2 && at + 1 < links {
            continue;
        }
        let name = constructor(raw, path[at + 1].object.value);
        text.push_str(&format!(
            "\n    |     {} -> object with constructor '{name}'",
            link(raw, open)
        ));
    }
    text.push_str(&format!("\n    --- {} closes the circle", link(raw, &path[links])));
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

/// The member of an object that is being written.
fn link(raw: *mut qjs::JSContext, open: &Open) -> String {
    let at = open.at - 1;
    match open.members {
        Members::Elements(_) => format!("index {at}"),
        Members::Named { table, .. } => {
            // SAFETY: the member has been begun, so it is in the table.
            let key = unsafe { qjs::JS_AtomToString(raw, (*table.add(at as usize)).atom) };
            format!("property '{}'", short(raw, key))
        }
    }
}

/// The name of an object's constructor, read as plain data.
fn constructor(raw: *mut qjs::JSContext, object: qjs::JSValue) -> String {
    // SAFETY: the object is alive; the engine gives one reference.
    let name = short(raw, unsafe { cellblock_constructor(raw, object) });
    if name.is_empty() { "Object".to_owned() } else { name }
}

/// The beginning of a string, which is freed.
fn short(raw: *mut qjs::JSContext, string: qjs::JSValue) -> String {
    // SAFETY: the string is alive until it is freed; the engine gives one reference.
    let head = unsafe {
        let head = cellblock_head(raw, string, 40);
        qjs::JS_FreeValue(raw, string);
        Owned { raw, value: head }
    };
    // SAFETY: only looks at the tag.
    if !unsafe { qjs::JS_IsString(head.value) } {
        return String::new();
    }
    let mut length = 0;
    // SAFETY: the value is alive; the engine gives `length` bytes or null.
    unsafe {
        let text = qjs::JS_ToCStringLen2(raw, &raw mut length, head.value, false);
        if text.is_null() {
            return String::new();
        }
        let bytes = std::slice::from_raw_parts(text.cast::<u8>(), length as usize);
        let short = String::from_utf8_lossy(bytes).into_owned();
        qjs::JS_FreeCString(raw, text);
        short
    }
}
