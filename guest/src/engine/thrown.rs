//! What a helper throws, and how it reaches the script.

use super::values::new_string;
use crate::bindings::cellblock::code_mode::types::Limit;
use crate::error_text::exception_text;
use crate::state::{self, Stop};
use rquickjs::{Ctx, Value, qjs};

/// What a helper throws instead of returning.
#[derive(Debug)]
pub(crate) enum Thrown<'js> {
    /// A primitive string, as the contract's helpers throw.
    Text(String),
    /// A value thrown by JavaScript that the helper called.
    Value(Value<'js>),
    /// An exception that no script may catch, on its way out.
    Uncatchable(Value<'js>),
    /// The program ran into a limit and must end.
    Limit(Limit),
    /// The program asked to end.
    Exit,
}

impl<'js> Thrown<'js> {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Takes the exception that the engine holds.
    pub(crate) fn caught(ctx: &Ctx<'js>) -> Self {
        let exception = ctx.catch();
        if exception.is_uncatchable_error() {
            Self::Uncatchable(exception)
        } else {
            Self::Value(exception)
        }
    }

    /// What a script threw, as the string that helpers throw.
    pub(crate) fn as_text(ctx: &Ctx<'js>, exception: &Value<'js>) -> Self {
        exception_text(ctx, exception).map_or_else(|stopped| stopped, Self::Text)
    }

    /// Passes over what a script threw. What must end the program stays an error.
    pub(crate) fn passed_over<T>(result: Result<T, Self>) -> Result<Option<T>, Self> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Self::Value(_) | Self::Text(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Replaces what a script threw by a text of the helper's own.
    pub(crate) fn or_text(self, text: &str) -> Self {
        match self {
            Self::Value(_) => Self::text(text),
            other => other,
        }
    }
}

pub(super) fn throw<'js>(ctx: &Ctx<'js>, thrown: Thrown<'js>) {
    let value = match thrown {
        Thrown::Text(text) => match new_string(ctx, &text) {
            Ok(text) => text,
            // Out of memory: that exception is the one to throw.
            Err(Thrown::Value(value) | Thrown::Uncatchable(value)) => value,
            Err(_) => Value::new_null(ctx.clone()),
        },
        Thrown::Value(value) | Thrown::Uncatchable(value) => value,
        Thrown::Limit(limit) => {
            state::stop(Stop::Limit(limit));
            uncatchable(ctx)
        }
        Thrown::Exit => {
            state::stop(Stop::Exit);
            uncatchable(ctx)
        }
    };
    ctx.throw(value);
}

/// An error, with the stack of the moment, that unwinds through every `catch` and `finally`.
fn uncatchable<'js>(ctx: &Ctx<'js>) -> Value<'js> {
    // SAFETY: the format has no directives; the engine owns the exception until it is caught.
    unsafe {
        qjs::JS_ThrowInternalError(ctx.as_raw().as_ptr(), c"stopped".as_ptr());
        let exception = ctx.catch();
        qjs::JS_SetUncatchableError(ctx.as_raw().as_ptr(), exception.as_raw());
        exception
    }
}
