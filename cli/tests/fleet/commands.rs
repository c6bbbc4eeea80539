//! The program's commands whose cells run on a fleet.

use crate::cells::{Tools, text};
use crate::cluster::{Cluster, PROGRAM, reports, workers};
use crate::mcp_client::Client;
use cellblock::CodeModeService;
use cellblock_remote::protocol::Protocol;
use cellblock_remote::{HostAddress, HostCommand, HostProcess, ProcessBackend};
use serde_json::json;
use std::process::Command;
use std::sync::Arc;

/// A worker, and what a command needs to reach it.
async fn fleet(cluster: &Cluster) -> (String, crate::cluster::Worker, [String; 4]) {
    let (class, mut workers) = workers(cluster, 1, &[]).await;
    let place = ["--nats".to_owned(), cluster.url("t1"), "--class".to_owned(), class.clone()];
    (class, workers.remove(0), place)
}

/// Cells that the fleet has run.
async fn started(cluster: &Cluster, class: &str) -> u64 {
    reports(cluster, class).await.iter().map(|report| report.started).sum()
}

#[tokio::test]
async fn run_runs_a_script_and_its_tools() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _worker, place) = fleet(cluster).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        std::fs::write(dir.path().join(name), text).unwrap();
    };
    file("script.js", "text('said: ' + (await tools.say({ word: 'far' })).word)".to_owned());
    let tools = json!({ "tools": [{ "name": "say", "description": "repeats", "command": ["cat"],
        "input_schema": { "type": "object" } }] });
    file("tools.json", tools.to_string());
    let output = Command::new(PROGRAM)
        .args(["run", "script.js", "--tools", "tools.json"])
        .args(&place)
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "said: far\n");
    assert_eq!(started(cluster, &class).await, 1);
}

#[tokio::test]
async fn a_host_passes_cells_on() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _worker, place) = fleet(cluster).await;
    let command = HostCommand::new(PROGRAM).args(["host", "--listen", "stdio"]).args(&place);
    let process = HostProcess::new(HostAddress::child(Protocol::Framed, command));
    let service = CodeModeService::new(Arc::new(ProcessBackend::new(&process)));
    let _turn = service.start_turn_worker(Arc::new(Tools::default()));
    let source = "store('kept', await tools.echo('far')); text('stored')";
    assert_eq!(text(&service, source).await, "stored");
    assert_eq!(text(&service, "text(load('kept'))").await, "far");
    assert_eq!(started(cluster, &class).await, 2);
}

#[tokio::test]
async fn a_server_of_mcp_passes_cells_on() {
    let Some(cluster) = Cluster::shared() else { return };
    let (class, _worker, place) = fleet(cluster).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(".mcp.json"), r#"{ "mcpServers": {} }"#).unwrap();
    let place = place.each_ref().map(String::as_str);
    let mut client = Client::start(dir.path(), &place, &json!({}));
    assert_eq!(client.printed("text('from ' + 'afar')"), "from afar");
    assert!(client.close().success());
    assert_eq!(started(cluster, &class).await, 1);
}
