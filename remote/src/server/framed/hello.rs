//! How a framed connection begins.

use super::super::admission::Arrival;
use super::super::error::ServeError;
use super::{Outbox, Result};
use crate::protocol::{
    ClientMessage, HostMessage, LIMITS_CAPABILITY, RejectionReason, SEAM_CAPABILITY, VERSION, frame,
};
use futures_util::{Stream, StreamExt};
use std::collections::HashSet;
use tokio_util::bytes::Bytes;

/// Names that a client may list in its hello.
const HELLO_ITEMS: usize = 1_024;

/// The capabilities that a client asked for and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// [`LIMITS_CAPABILITY`].
    pub(super) limits: bool,
    /// [`SEAM_CAPABILITY`].
    pub(super) seam: bool,
}

/// Receives the hello; `None` when it was rejected, or did not come, and the connection
/// ends. Else, what the client was granted.
pub(super) async fn hello<I>(
    frames: &mut I,
    outbox: &Outbox,
    arrival: &Arrival,
) -> Result<Option<Granted>>
where
    I: Stream<Item = Result<Bytes>> + Unpin,
{
    let Some(payload) = frames.next().await else { return Ok(None) };
    let message: ClientMessage = frame::decode(&payload?)?;
    let ClientMessage::Hello { supported_versions, required_capabilities, optional_capabilities } =
        message
    else {
        return Err(ServeError::NoHello);
    };
    let known = |each: &String| each == LIMITS_CAPABILITY || each == SEAM_CAPABILITY;
    let missing = required_capabilities.iter().find(|each| !known(each));
    let reason = if let Some(message) =
        broken_rule(&supported_versions, &required_capabilities, &optional_capabilities)
    {
        Some(RejectionReason::InvalidHello { message })
    } else if !supported_versions.contains(&VERSION) {
        Some(RejectionReason::NoCompatibleVersion { supported_versions: vec![VERSION] })
    } else {
        missing.map(|capability| RejectionReason::MissingRequiredCapability {
            capability: capability.clone(),
        })
    };
    if let Some(reason) = reason {
        outbox.send(HostMessage::Rejected { reason }).await;
        return Ok(None);
    }
    arrival.admit().await?;
    let asked = required_capabilities.into_iter().chain(optional_capabilities);
    let capabilities: Vec<_> = asked.filter(known).collect();
    let has = |name: &str| capabilities.iter().any(|each| each == name);
    let granted = Granted { limits: has(LIMITS_CAPABILITY), seam: has(SEAM_CAPABILITY) };
    outbox
        .send(HostMessage::Ready {
            selected_version: VERSION,
            capabilities,
            bulk_connection_token: None,
        })
        .await;
    Ok(Some(granted))
}

/// The rule of a hello that is broken, if one is: there is a version, none is 0, no item
/// is blank or listed twice, and no capability is both required and optional.
fn broken_rule(versions: &[u32], required: &[String], optional: &[String]) -> Option<String> {
    if versions.is_empty() {
        return Some("supportedVersions is empty".to_owned());
    }
    if versions.contains(&0) {
        return Some("supportedVersions must be at least 1".to_owned());
    }
    if versions.len() + required.len() + optional.len() > HELLO_ITEMS {
        return Some("there are too many versions and capabilities".to_owned());
    }
    if versions.iter().collect::<HashSet<_>>().len() < versions.len() {
        return Some("supportedVersions has a duplicate".to_owned());
    }
    let mut seen = HashSet::new();
    for capability in required.iter().chain(optional) {
        if capability.trim().is_empty() {
            return Some("a capability is blank".to_owned());
        }
        if !seen.insert(capability) {
            return Some(format!("the capability `{capability}` is listed twice"));
        }
    }
    None
}
