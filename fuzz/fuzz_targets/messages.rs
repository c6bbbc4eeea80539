//! Bytes from another process, to both decoders: frames and their messages, and gRPC's
//! messages with their conversions. What is decoded must encode to what decodes the same.

#![no_main]

use cellblock_remote::protocol::{ClientMessage, HostMessage, frame, grpc};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

fn json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(payload: &[u8]) {
    if let Ok(message) = frame::decode::<T>(payload) {
        let again = frame::encode(&message).expect("it came in a frame");
        let again = frame::unwrap(&again).expect("one frame");
        assert_eq!(frame::decode::<T>(&again).expect("it was one"), message);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let _ = frame::unwrap(&Bytes::copy_from_slice(bytes));
    let (mut decoder, mut rest) = (frame::decoder(), BytesMut::from(bytes));
    while let Ok(Some(payload)) = decoder.decode_eof(&mut rest) {
        json::<ClientMessage>(&payload);
        json::<HostMessage>(&payload);
    }
    // Most inputs are no frames; as payloads they get further.
    json::<ClientMessage>(bytes);
    json::<HostMessage>(bytes);
    if let Ok(outcome) = grpc::WaitResponse::decode(bytes) {
        let _ = cellblock::WaitOutcome::try_from(outcome);
    }
    if let Ok(request) = grpc::ExecuteRequest::decode(bytes) {
        for tool in request.enabled_tools {
            let _ = cellblock::ToolDefinition::try_from(tool);
        }
    }
    let _ = grpc::SessionEvent::decode(bytes);
    let _ = grpc::ToolCall::decode(bytes);
    let _ = grpc::CompleteToolCallRequest::decode(bytes);
});
