//! `store` and `load`: values that cells leave for later cells.
//!
//! Writes stay here, in the order of the first write of each key, until the
//! program ends; the host decides whether they are kept. Reads see the cell's
//! own writes first, then the host's snapshot of the cell's start.

use crate::bindings::cellblock::code_mode::{
    stored_values,
    types::{Limit, StoredValue},
};
use crate::engine::{self, Thrown};
use crate::globals::{Args, Returned};
use crate::state;
use crate::text::json_text;
use rquickjs::{Ctx, Value};

/// What the program wrote, within its limits.
#[derive(Default)]
pub(crate) struct Stored {
    writes: Vec<StoredValue>,
    index: std::collections::BTreeMap<String, usize>,
    bytes: u64,
    max_bytes: u64,
    max_keys: u32,
}

impl Stored {
    pub(crate) fn set_limits(&mut self, bytes: u64, keys: u32) {
        self.max_bytes = bytes;
        self.max_keys = keys;
    }

    fn get(&self, key: &str) -> Option<&str> {
        let at = *self.index.get(key)?;
        self.writes.get(at).map(|write| write.value.as_str())
    }

    pub(crate) fn set(&mut self, key: String, value: String) -> Result<(), Limit> {
        let known = self.index.get(&key).copied();
        let replaced = known.map_or(0, |at| self.writes[at].value.len());
        let added = value.len() + if known.is_some() { 0 } else { key.len() };
        let bytes = self.bytes - replaced as u64 + added as u64;
        if bytes > self.max_bytes {
            return Err(Limit::StoredBytes);
        }
        if known.is_none() && self.writes.len() >= self.max_keys as usize {
            return Err(Limit::StoredKeys);
        }
        self.bytes = bytes;
        if let Some(at) = known {
            self.writes[at].value = value;
        } else {
            self.index.insert(key.clone(), self.writes.len());
            self.writes.push(StoredValue { key, value });
        }
        Ok(())
    }

    /// Hands the writes over when the program has ended.
    pub(crate) fn take(&mut self) -> Vec<StoredValue> {
        self.index.clear();
        std::mem::take(&mut self.writes)
    }
}

/// `store(key, value)`
pub(crate) fn store<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let key = key_of(ctx, args, "store key must be a string")?;
    let value = args.get(1);
    let json = match value {
        Some(value) if !value.is_undefined() => json_text(ctx, value)?,
        _ => {
            return Err(Thrown::text(format!(
                "Unable to store {key:?}. Only plain serializable objects can be stored."
            )));
        }
    };
    state::with(|state| state.stored.set(key, json)).map_err(Thrown::Limit)?;
    state::note_said();
    Ok(Value::new_undefined(ctx.clone()))
}

/// `load(key)`
pub(crate) fn load<'js>(ctx: &Ctx<'js>, args: Args<'_, 'js>) -> Returned<'js> {
    let key = key_of(ctx, args, "load key must be a string")?;
    let own = state::with(|state| state.stored.get(&key).map(str::to_owned));
    match own.or_else(|| stored_values::get(&key)) {
        Some(json) => engine::parse_json(ctx, json),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

/// The first argument as a string, or the helper's own complaint.
fn key_of<'js>(
    ctx: &Ctx<'js>,
    args: Args<'_, 'js>,
    complaint: &str,
) -> Result<String, Thrown<'js>> {
    match args.first() {
        None => Ok("undefined".to_owned()),
        Some(key) => engine::string_of(ctx, key).map_err(|thrown| thrown.or_text(complaint)),
    }
}
