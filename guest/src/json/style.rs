//! What the second and third arguments of `JSON.stringify` ask for.

use super::write::is_array;
use super::{Fail, NUMBER, Owned, STRING};
use rquickjs::qjs;
use std::collections::BTreeSet;

/// Characters of indentation for each level, at most.
const MAX_GAP: usize = 10;

/// How a value is written.
#[derive(Default)]
pub(super) struct Style {
    /// A function whose result takes the place of every member.
    pub(super) replacer: Option<Owned>,
    /// Names of the members that are written, of every object.
    pub(super) names: Option<Names>,
    /// Indentation for each level; nothing for one line.
    pub(super) gap: String,
}

/// Names of members, as the engine lists those of an object.
pub(super) struct Names {
    raw: *mut qjs::JSContext,
    pub(super) table: Vec<qjs::JSPropertyEnum>,
}

impl Style {
    /// Reads the arguments, in the order of the language.
    pub(super) fn new(
        raw: *mut qjs::JSContext,
        replacer: Option<qjs::JSValue>,
        space: Option<qjs::JSValue>,
    ) -> Result<Self, Fail> {
        let mut style = Self::default();
        if let Some(replacer) = replacer {
            // SAFETY: the value is alive.
            unsafe {
                if qjs::JS_IsFunction(raw, replacer) {
                    style.replacer = Some(Owned::new(raw, qjs::JS_DupValue(raw, replacer))?);
                } else if qjs::JS_IsObject(replacer) && is_array(raw, replacer)? {
                    style.names = Some(Names::new(raw, replacer)?);
                }
            }
        }
        if let Some(space) = space {
            style.gap = gap(raw, space)?;
        }
        Ok(style)
    }

    /// Nesting that is written. V8 gives up at some depth as well; a structure that makes
    /// itself as it is read is refused well before it takes a tenth of a second, or
    /// before its indentation fills the memory.
    pub(super) fn max_depth(&self) -> usize {
        match self.gap.len() {
            0 if self.replacer.is_some() => 15_000,
            0 => 50_000,
            gap => (16_000 / gap).min(4_000),
        }
    }
}

impl Names {
    /// The strings and numbers in an array, each once.
    fn new(raw: *mut qjs::JSContext, array: qjs::JSValue) -> Result<Self, Fail> {
        let mut names = Self { raw, table: Vec::new() };
        let (mut length, mut known) = (0, BTreeSet::new());
        // SAFETY: the array is alive; the engine writes one number.
        if unsafe { qjs::JS_GetLength(raw, array, &raw mut length) } < 0 {
            return Err(Fail::Thrown);
        }
        for at in 0..length {
            // SAFETY: the array and the item are alive; an atom is given back with the table.
            unsafe {
                let item = Owned::new(raw, qjs::JS_GetPropertyInt64(raw, array, at))?;
                let class = qjs::JS_GetClassID(item.value);
                let is_name = qjs::JS_IsString(item.value)
                    || qjs::JS_IsNumber(item.value)
                    || (qjs::JS_IsObject(item.value) && (class == STRING || class == NUMBER));
                if !is_name {
                    continue;
                }
                let text = Owned::new(raw, qjs::JS_ToString(raw, item.value))?;
                let atom = qjs::JS_ValueToAtom(raw, text.value);
                if atom == 0 {
                    return Err(Fail::Thrown);
                }
                if known.insert(atom) {
                    names.table.push(qjs::JSPropertyEnum { is_enumerable: true, atom });
                } else {
                    qjs::JS_FreeAtom(raw, atom);
                }
            }
        }
        Ok(names)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.table {
            // SAFETY: the table's own reference.
            unsafe { qjs::JS_FreeAtom(self.raw, name.atom) }
        }
    }
}

/// The indentation of one level.
fn gap(raw: *mut qjs::JSContext, space: qjs::JSValue) -> Result<String, Fail> {
    // SAFETY: the value is alive; each conversion gives one reference, a number, `length`
    // bytes or an exception.
    unsafe {
        let class = if qjs::JS_IsObject(space) { qjs::JS_GetClassID(space) } else { 0 };
        if qjs::JS_IsNumber(space) || class == NUMBER {
            let mut number = 0.0;
            if qjs::JS_ToFloat64(raw, &raw mut number, space) < 0 {
                return Err(Fail::Thrown);
            }
            return Ok(" ".repeat(number.clamp(0.0, MAX_GAP as f64) as usize));
        }
        if !qjs::JS_IsString(space) && class != STRING {
            return Ok(String::new());
        }
        let text = Owned::new(raw, qjs::JS_ToString(raw, space))?;
        let mut length = 0;
        let start = qjs::JS_ToCStringLen2(raw, &raw mut length, text.value, false);
        if start.is_null() {
            return Err(Fail::Thrown);
        }
        let bytes = std::slice::from_raw_parts(start.cast::<u8>(), length as usize);
        let head = &bytes[..bytes.len().min(4 * MAX_GAP)];
        let mut units = 0;
        let gap = String::from_utf8_lossy(head)
            .chars()
            .take_while(|character| {
                units += character.len_utf16();
                units <= MAX_GAP
            })
            .collect();
        qjs::JS_FreeCString(raw, start);
        Ok(gap)
    }
}
