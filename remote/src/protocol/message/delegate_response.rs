//! How a client's message is read: a tool's result in it stays text.

use super::{ClientMessage, DelegateValue, Outcome};
use serde::de::{Deserializer, Error, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The type of a message, whatever else is in it.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for ClientMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let message = <&RawValue>::deserialize(deserializer)?;
        let read = || {
            let head: Head<'_> = serde_json::from_str(message.get())?;
            if head.kind == "delegate/response" {
                let response: DelegateResponse<'_> = serde_json::from_str(message.get())?;
                let result = response.result()?;
                return Ok(Self::DelegateResponse { id: response.id, result });
            }
            Self::deserialize(&mut serde_json::Deserializer::from_str(message.get()))
        };
        read().map_err(|error: serde_json::Error| D::Error::custom(error))
    }
}

impl Serialize for ClientMessage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// A `delegate/response`, read without looking into the tool's result.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegateResponse<'a> {
    #[serde(rename = "type")]
    _kind: IgnoredAny,
    id: i64,
    #[serde(borrow)]
    result: &'a RawValue,
}

/// Its result, whichever of the two it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegateOutcome<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(default)]
    message: Option<String>,
}

/// The value of a success, of whichever type.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelegateSuccess<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
}

/// A field that is there, be it `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl DelegateResponse<'_> {
    fn result(&self) -> Result<Outcome<DelegateValue>, serde_json::Error> {
        let outcome: DelegateOutcome<'_> = serde_json::from_str(self.result.get())?;
        let value = match (&*outcome.status, outcome.value, outcome.message) {
            ("ok", Some(value), None) => value,
            ("error", None, Some(message)) => return Ok(Outcome::Error { message }),
            _ => return Err(Error::custom("the result is neither a success nor a failure")),
        };
        let success: DelegateSuccess<'_> = serde_json::from_str(value.get())?;
        let value = match (&*success.kind, success.result) {
            ("tool/result", Some(result)) => {
                DelegateValue::ToolResult { result: result.to_owned() }
            }
            ("notification/delivered", None) => DelegateValue::NotificationDelivered {},
            (kind, _) => return Err(Error::custom(format!("the value `{kind}` is not known"))),
        };
        Ok(Outcome::Ok { value })
    }
}
