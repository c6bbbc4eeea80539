//! Why a request is refused. Both protocols carry it as a text of the contract: each is
//! made here and read here, and nowhere else.

use super::frame::FrameError;
use super::grpc::Malformed;
use super::{
    LIMITS_CAPABILITY, MAX_IDENTIFIER_BYTES, MAX_STORED_BYTES, MAX_TOOL_BYTES, SEAM_CAPABILITY,
};
use cellblock::{CellId, CodeModeError, ParkError};
use tonic::{Code, Status};

/// A text of the contract, in front of what is wrong with an execute request.
const INVALID_EXECUTE: &str = "invalid code-mode execute request: ";

/// Why a host did not carry out a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The client cancelled it.
    #[error("code-mode request cancelled")]
    Cancelled,
    /// The connection has no such session.
    #[error("unknown code-mode session {0}")]
    UnknownSession(String),
    /// The session exists.
    #[error("code-mode session ID `{0}` is already open")]
    SessionOpen(String),
    /// The session existed.
    #[error("code-mode session ID `{0}` was reused")]
    SessionReused(String),
    /// An identifier has no characters but blanks.
    #[error("{0} is blank")]
    Blank(&'static str),
    /// An identifier is too long.
    #[error("{0} is {1} bytes long, and the limit is {MAX_IDENTIFIER_BYTES}")]
    LongIdentifier(&'static str, usize),
    /// An execution or a wait of the session had the same identifier.
    #[error("the id {0} was used before")]
    IdUsed(String),
    /// The connection has as many requests in flight as it may.
    #[error("code-mode host has too many in-flight requests")]
    TooManyRequests,
    /// The connection has as many sessions as it may.
    #[error("code-mode host has too many open sessions")]
    TooManySessions,
    /// The host has as many cells as it may.
    #[error("code-mode host has too many active cells")]
    TooManyCells,
    /// The session has as many cells as it may.
    #[error(
        "code-mode session has too many active cells (limit {0}); wait for one or terminate it"
    )]
    TooManySessionCells(usize),
    /// The host has as many connections as it may.
    #[error("code-mode host has too many connections")]
    TooManyConnections,
    /// The session has as many subscriptions as it may.
    #[error("the session has too many subscriptions (limit {0})")]
    TooManySubscriptions(usize),
    /// A subscription names more tools than it may.
    #[error("a subscription names at most {0} tools")]
    TooManyFilters(usize),
    /// Limits were sent without the capability.
    #[error(
        "cellExecutionLimits needs the capability {LIMITS_CAPABILITY}, which was not asked for"
    )]
    LimitsNotGranted,
    /// Something was sent that needs the capability.
    #[error("the request needs the capability {SEAM_CAPABILITY}, which was not asked for")]
    SeamNotGranted,
    /// The session's stored values are too large together.
    #[error("{INVALID_EXECUTE}the stored values are larger than {MAX_STORED_BYTES} bytes")]
    LongStoredValues,
    /// A stored value is not valid JSON.
    #[error("{INVALID_EXECUTE}the stored value {0:?} is not valid JSON")]
    InvalidStoredValue(String),
    /// A change of the session's stored values was refused before.
    #[error(
        "{INVALID_EXECUTE}a change of the session's stored values was refused; open another session"
    )]
    StoredValuesRefused,
    /// What is said of the tools is too long.
    #[error(
        "{INVALID_EXECUTE}the descriptions of its tools are {0} bytes long, and the limit is {MAX_TOOL_BYTES}"
    )]
    LongTools(usize),
    /// The request lacks something, or carries something that is not known here.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// No nested call with this identifier awaits its result.
    #[error("no nested call {0} awaits its result")]
    UnknownCall(String),
    /// The response does not fit into a message.
    #[error("code-mode response is too large: {0}")]
    TooLarge(FrameError),
    /// The limits of a session cannot be kept; the text says why.
    #[error("{0}")]
    InvalidLimits(String),
    /// The backend refused it.
    #[error(transparent)]
    Backend(#[from] CodeModeError),
}

impl Refusal {
    /// Checks an identifier that a client chose: not blank, and not over
    /// [`MAX_IDENTIFIER_BYTES`].
    ///
    /// # Errors
    /// [`Refusal::Blank`], [`Refusal::LongIdentifier`].
    pub fn check_identifier(field: &'static str, id: &str) -> Result<(), Self> {
        // In this order: what is long is not looked through.
        if id.len() > MAX_IDENTIFIER_BYTES {
            Err(Self::LongIdentifier(field, id.len()))
        } else if id.trim().is_empty() {
            Err(Self::Blank(field))
        } else {
            Ok(())
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Cancelled => Code::Cancelled,
            Self::UnknownSession(_) | Self::UnknownCall(_) => Code::NotFound,
            Self::SessionOpen(_) | Self::SessionReused(_) | Self::IdUsed(_) => Code::AlreadyExists,
            Self::Blank(_)
            | Self::LongIdentifier(..)
            | Self::TooManyFilters(_)
            | Self::LimitsNotGranted
            | Self::SeamNotGranted
            | Self::LongStoredValues
            | Self::StoredValuesRefused
            | Self::InvalidStoredValue(_)
            | Self::LongTools(_)
            | Self::Malformed(_)
            | Self::InvalidLimits(_) => Code::InvalidArgument,
            Self::TooManyRequests
            | Self::TooManySessions
            | Self::TooManyCells
            | Self::TooManySessionCells(_)
            | Self::TooManyConnections
            | Self::TooManySubscriptions(_) => Code::ResourceExhausted,
            Self::Backend(CodeModeError::EndedUnexpectedly) => Code::Aborted,
            Self::TooLarge(_) | Self::Backend(_) => Code::FailedPrecondition,
        }
    }

    /// The refusal that a text is, as far as a client acts on it. `cell` is the cell that
    /// the request was for: its id on the host, and the id that the caller knows.
    pub fn read(text: &str, cell: Option<(&CellId, &CellId)>) -> Self {
        if text == Self::Cancelled.to_string() {
            return Self::Cancelled;
        }
        if text == CodeModeError::ShuttingDown.to_string() {
            return CodeModeError::ShuttingDown.into();
        }
        if let Some(why) = text.strip_prefix(INVALID_EXECUTE) {
            return CodeModeError::InvalidRequest(why.to_owned()).into();
        }
        for error in [
            ParkError::NotParked,
            ParkError::OtherGuest,
            ParkError::OtherKey,
            ParkError::Damaged,
            ParkError::ForkForbidden,
            ParkError::NotKept,
        ] {
            if error.to_string() == text {
                return CodeModeError::from(error).into();
            }
        }
        if let Some((on_host, here)) = cell {
            for error in [ParkError::Ended, ParkError::AlreadyParking] {
                if error(on_host.clone()).to_string() == text {
                    return CodeModeError::from(error(here.clone())).into();
                }
            }
            for error in [CodeModeError::AlreadyObserved, CodeModeError::AlreadyTerminating] {
                if error(on_host.clone()).to_string() == text {
                    return error(here.clone()).into();
                }
            }
        }
        CodeModeError::Host(text.to_owned()).into()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

impl From<Refusal> for CodeModeError {
    /// A refusal as a backend's error.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Backend(error) => error,
            other => Self::Host(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_acts_on_is_read_as_it_was_made() {
        let (on_host, here) = (CellId::from("1"), CellId::from("g2:1"));
        let cell = Some((&on_host, &here));
        let read = |refusal: &Refusal| Refusal::read(&refusal.to_string(), cell);
        assert!(matches!(read(&Refusal::Cancelled), Refusal::Cancelled));
        for (made, error) in [
            (CodeModeError::ShuttingDown, CodeModeError::ShuttingDown),
            (
                CodeModeError::AlreadyObserved(on_host.clone()),
                CodeModeError::AlreadyObserved(here.clone()),
            ),
            (
                CodeModeError::AlreadyTerminating(on_host.clone()),
                CodeModeError::AlreadyTerminating(here.clone()),
            ),
            (CodeModeError::InvalidRequest("x".into()), CodeModeError::InvalidRequest("x".into())),
            (
                CodeModeError::EndedUnexpectedly,
                CodeModeError::Host(CodeModeError::EndedUnexpectedly.to_string()),
            ),
        ] {
            assert_eq!(CodeModeError::from(read(&made.into())), error);
        }
    }

    #[test]
    fn identifiers_are_neither_blank_nor_long() {
        let long = "x".repeat(MAX_IDENTIFIER_BYTES + 1);
        assert!(Refusal::check_identifier("session_id", &long[1..]).is_ok());
        for (id, text) in [
            (" \t", "session_id is blank"),
            (&long, "session_id is 257 bytes long, and the limit is 256"),
        ] {
            assert_eq!(Refusal::check_identifier("session_id", id).unwrap_err().to_string(), text);
        }
    }
}
