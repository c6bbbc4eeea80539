//! Frames: a little-endian length of four bytes, then that much JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::{self, Write};
use tokio_util::bytes::{BufMut, Bytes, BytesMut};
use tokio_util::codec::LengthDelimitedCodec;

/// Longest payload of a frame in bytes, 64 MiB.
pub const MAX_BYTES: usize = 64 << 20;

/// Bytes of a frame before its payload: the payload's length.
pub const HEADER: usize = 4;

/// Splits a stream of bytes into payloads. A length over the limit is an error
/// before anything is allocated for it, and so is an end within a frame.
pub fn decoder() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .little_endian()
        .length_field_length(HEADER)
        .max_frame_length(MAX_BYTES)
        .new_codec()
}

/// Why a message was not made into a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Its JSON is longer than a frame may be.
    #[error("the message exceeds the IPC frame limit of {MAX_BYTES} bytes")]
    TooLong,
    /// It cannot be written as JSON.
    #[error("failed to encode code-mode IPC frame: {0}")]
    Encode(serde_json::Error),
    /// What was received is not a message.
    #[error("failed to decode code-mode IPC frame: {0}")]
    Decode(serde_json::Error),
    /// A message of a message-based transport is not exactly one frame.
    #[error("a message must be one frame: its length says {says} bytes, and {came} came")]
    Length {
        /// What the first four bytes say, as far as they came.
        says: usize,
        /// Bytes that came after them.
        came: usize,
    },
}

/// A message as a whole frame, length included.
///
/// # Errors
/// [`FrameError::TooLong`], found before more than that was written.
pub fn encode(message: &impl Serialize) -> Result<Bytes, FrameError> {
    let mut frame = Bounded { bytes: BytesMut::with_capacity(256), full: false };
    frame.bytes.put_u32_le(0);
    if let Err(error) = serde_json::to_writer(&mut frame, message) {
        return Err(if frame.full { FrameError::TooLong } else { FrameError::Encode(error) });
    }
    let length = u32::try_from(frame.bytes.len() - HEADER).map_err(|_| FrameError::TooLong)?;
    frame.bytes[..HEADER].copy_from_slice(&length.to_le_bytes());
    Ok(frame.bytes.freeze())
}

/// A frame's payload as a message.
///
/// # Errors
/// [`FrameError::Decode`] with what was expected and where.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(FrameError::Decode)
}

/// The payload of a message that holds one whole frame, as WebSocket has it.
///
/// # Errors
/// [`FrameError::Length`] when its length is another, [`FrameError::TooLong`].
pub fn unwrap(message: &Bytes) -> Result<Bytes, FrameError> {
    let mut length = [0; HEADER];
    let header = message.len().min(HEADER);
    length[..header].copy_from_slice(&message[..header]);
    let (says, came) = (u32::from_le_bytes(length) as usize, message.len() - header);
    if says > MAX_BYTES {
        return Err(FrameError::TooLong);
    }
    if header < HEADER || says != came {
        return Err(FrameError::Length { says, came });
    }
    Ok(message.slice(HEADER..))
}

/// A buffer that takes bytes until the limit.
struct Bounded {
    bytes: BytesMut,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() - HEADER + bytes.len() > MAX_BYTES {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.put_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("len", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::codec::Decoder;

    #[test]
    fn a_frame_is_its_length_and_its_json() {
        let frame = encode(&serde_json::json!({ "a": 1 })).unwrap();
        assert_eq!(&frame[..], b"\x07\0\0\0{\"a\":1}");
        let payload = decoder().decode(&mut BytesMut::from(&frame[..])).unwrap().unwrap();
        assert_eq!(&payload[..], b"{\"a\":1}");
        assert_eq!(&unwrap(&frame).unwrap()[..], b"{\"a\":1}");
    }

    #[test]
    fn a_message_that_is_too_long_is_refused() {
        assert!(encode(&"x".repeat(MAX_BYTES - 2)).is_ok());
        assert!(matches!(encode(&"x".repeat(MAX_BYTES - 1)), Err(FrameError::TooLong)));
    }

    #[test]
    fn a_long_length_is_refused_before_its_bytes_come() {
        let mut bytes = BytesMut::from(&(u32::try_from(MAX_BYTES).unwrap() + 1).to_le_bytes()[..]);
        assert!(decoder().decode(&mut bytes).is_err());
    }

    #[test]
    fn an_end_within_a_frame_is_an_error() {
        for part in [&b"\x07\0"[..], b"\x07\0\0\0{\"a"] {
            assert!(decoder().decode_eof(&mut BytesMut::from(part)).is_err(), "{part:?}");
        }
        assert!(decoder().decode_eof(&mut BytesMut::new()).unwrap().is_none());
    }

    #[test]
    fn a_message_that_is_not_one_frame_is_refused() {
        for message in [&b""[..], b"\x01\0", b"\x01\0\0\0", b"\x01\0\0\0ab", b"\xff\xff\xff\xffx"] {
            assert!(unwrap(&Bytes::from_static(message)).is_err(), "{message:?}");
        }
    }
}
