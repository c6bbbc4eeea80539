//! `cellblock host --min-wait`: waits last while there is nothing new.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cellblock::{CodeModeService, ContentItem, ExecuteRequest, RuntimeResponse, WaitRequest};
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostCommand, HostProcess, ProcessBackend};
use std::process::Command;
use std::sync::Arc;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cellblock");

/// A model that asks every millisecond is answered when there is something to say.
#[tokio::test]
async fn a_least_time_to_wait_saves_answers_with_nothing_new() {
    let command =
        HostCommand::new(PROGRAM).args(["host", "--listen", "stdio", "--min-wait", "50s"]);
    let host = HostProcess::new(HostAddress::child(Protocol::Framed, command));
    let service = CodeModeService::new(Arc::new(ProcessBackend::new(&host)));
    let source = "await new Promise((r) => setTimeout(r, 1500)); text('end')";
    let request = ExecuteRequest { yield_time_ms: Some(0), ..ExecuteRequest::new(source) };
    let RuntimeResponse::Yielded { cell_id, .. } = service.execute(request).await.unwrap() else {
        panic!("it ended at once");
    };
    let wait = WaitRequest { cell_id, yield_time_ms: 1 };
    let response = RuntimeResponse::from(service.wait(wait).await.unwrap());
    assert_eq!(response.content_items(), [ContentItem::InputText { text: "end".to_owned() }]);
    service.shutdown().await;
}

#[test]
fn a_least_time_that_clients_would_not_wait_for_is_refused() {
    let output = Command::new(PROGRAM).args(["host", "--min-wait", "2m"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("at most 55s"));
}
