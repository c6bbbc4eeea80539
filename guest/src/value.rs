//! The value of a program, for a host that asked for it.

use crate::bindings::cellblock::code_mode::types::{ProgramValue, ValueRequest};
use crate::engine::{self, Thrown};
use crate::state;
use crate::text::json_text;
use rquickjs::{Ctx, Value};

/// The value as the host takes it; `None` when it is `undefined`.
pub(crate) fn taken<'js>(
    ctx: &Ctx<'js>,
    value: &Value<'js>,
    request: ValueRequest,
) -> Option<ProgramValue> {
    if value.is_undefined() {
        return None;
    }
    state::note_said();
    if value.is_function() || value.is_symbol() {
        return Some(ProgramValue::Refused("JSON has no functions and no symbols".to_owned()));
    }
    let json = match json_text(ctx, value) {
        Ok(json) => json,
        Err(Thrown::Text(why)) => return Some(ProgramValue::Refused(why)),
        Err(thrown) => {
            engine::note_stack(ctx, &thrown);
            return None;
        }
    };
    let bytes = json.len() as u64;
    let room = state::with(|state| request.max_bytes.saturating_sub(state.printed));
    if bytes <= room {
        return Some(ProgramValue::Json(json));
    }
    Some(match state::with(|state| state.stored.set(request.key, json)) {
        Ok(()) => ProgramValue::Stored(bytes),
        Err(_) => ProgramValue::Refused(format!(
            "its {bytes} bytes of JSON are more than the output takes and than may be stored"
        )),
    })
}
