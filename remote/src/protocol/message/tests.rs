//! Messages as they are on the wire.

use super::*;
use cellblock::RuntimeResponse;
use serde_json::{Value, json};

fn same<T: Serialize + serde::de::DeserializeOwned>(json: &Value) -> T {
    let message: T = serde_json::from_str(&json.to_string()).unwrap();
    assert_eq!(&serde_json::to_value(&message).unwrap(), json);
    message
}

/// Messages as a client and a host of 0.169 exchanged them.
#[test]
fn messages_have_the_recorded_shape() {
    for message in [
        json!({ "type": "connection/hello", "supportedVersions": [1],
                "requiredCapabilities": [], "optionalCapabilities": ["x"] }),
        json!({ "type": "operation/request", "id": 14, "request": {
                "method": "session/open", "sessionId": "t",
                "cellExecutionLimits": { "maxYieldTimeMs": 5 } } }),
        json!({ "type": "operation/request", "id": 3, "request": {
                "method": "session/execute", "sessionId": "s", "request": {
                    "tool_call_id": "c", "enabled_tools": [{
                        "name": "echo", "tool_name": { "name": "echo", "namespace": null },
                        "description": "echo", "kind": "function",
                        "input_schema": null, "output_schema": null }],
                    "source": "text(1)", "yield_time_ms": null, "max_output_tokens": null } } }),
        json!({ "type": "operation/request", "id": 5, "request": {
                "method": "session/wait", "sessionId": "s",
                "request": { "cell_id": "2", "yield_time_ms": 10 } } }),
        json!({ "type": "operation/request", "id": 8, "request": {
                "method": "session/terminate", "sessionId": "s", "cellId": "3" } }),
        json!({ "type": "operation/cancel", "id": 10 }),
        json!({ "type": "delegate/response", "id": 2, "result": {
                "status": "ok", "value": { "type": "tool/result", "result": { "a": 1 } } } }),
        json!({ "type": "delegate/response", "id": 1, "result": {
                "status": "ok", "value": { "type": "notification/delivered" } } }),
        json!({ "type": "delegate/response", "id": 1, "result": {
                "status": "error", "message": "no" } }),
    ] {
        same::<ClientMessage>(&message);
    }
    for message in [
        json!({ "type": "connection/ready", "selectedVersion": 1, "capabilities": [] }),
        json!({ "type": "connection/rejected", "reason": {
                "type": "noCompatibleVersion", "supportedVersions": [1] } }),
        json!({ "type": "operation/response", "id": 3, "result": { "status": "ok", "value": {
                "type": "execution/started", "cellId": "1" } } }),
        json!({ "type": "delegate/request", "id": 1, "sessionId": "s", "request": {
                "type": "notification/send", "callId": "c", "cellId": "1", "text": "n" } }),
        json!({ "type": "delegate/request", "id": 2, "sessionId": "s", "request": {
                "type": "tool/invoke", "invocation": {
                    "cell_id": "1", "runtime_tool_call_id": "tool-1",
                    "tool_name": { "name": "echo", "namespace": null },
                    "tool_kind": "function", "input": { "a": 1 } } } }),
        json!({ "type": "execute/initialResponse", "id": 3, "result": { "status": "ok",
                "value": { "Result": { "cell_id": "1",
                    "content_items": [{ "type": "input_text", "text": "1" }],
                    "error_text": null, "result_buffered_for_ns": 0,
                    "code_mode_host_duration_ns": 34_643_519 } } } }),
        json!({ "type": "operation/response", "id": 8, "result": { "status": "ok", "value": {
                "type": "wait/completed", "outcome": { "LiveCell": { "Terminated": {
                    "cell_id": "3", "content_items": [],
                    "code_mode_host_duration_ns": 938_713 } } } } } }),
        json!({ "type": "operation/response", "id": 2, "result": { "status": "error",
                "message": "code-mode session ID `s` is already open" } }),
        json!({ "type": "delegate/cancel", "id": 4 }),
        json!({ "type": "cell/closed", "sessionId": "s", "cellId": "4" }),
    ] {
        same::<HostMessage>(&message);
    }
}

#[test]
fn times_are_optional() {
    let response: TimedResponse = same(&json!({
        "Result": { "cell_id": "1", "content_items": [], "error_text": null },
    }));
    assert_eq!(RuntimeResponse::from(response).cell_id(), &CellId::from("1"));
}

#[test]
fn unknown_fields_are_refused() {
    for message in [
        json!({ "type": "operation/cancel", "id": 1, "x": 1 }),
        json!({ "type": "operation/request", "id": 1, "request": {
                "method": "session/shutdown", "sessionId": "s", "x": 1 } }),
        json!({ "type": "operation/request", "id": 1, "request": {
                "method": "session/open", "sessionId": "s",
                "cellExecutionLimits": { "x": 1 } } }),
        json!({ "type": "delegate/response", "id": 1, "result": {
                "status": "ok", "value": { "type": "notification/delivered", "x": 1 } } }),
        json!({ "type": "delegate/response", "id": 1, "result": {
                "status": "ok", "value": { "type": "notification/delivered" }, "x": 1 } }),
        json!({ "type": "operation/yield", "id": 1 }),
    ] {
        assert!(serde_json::from_str::<ClientMessage>(&message.to_string()).is_err(), "{message}");
    }
}

#[test]
fn a_tools_result_stays_text_at_any_depth() {
    for result in
        ["null".to_owned(), "1e999".to_owned(), "[".repeat(100_000) + &"]".repeat(100_000)]
    {
        let message = format!(
            r#"{{"type":"delegate/response","id":1,"result":{{"status":"ok","value":{{"type":"tool/result","result":{result}}}}}}}"#
        );
        let read: ClientMessage = serde_json::from_str(&message).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), message);
    }
}
