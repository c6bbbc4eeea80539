//! Cells as tasks, for clients that follow those.

use crate::raw::{Client, texts};
use crate::{configure, installed, wrong};
use serde_json::{Value, json};
use std::time::Duration;

fn follows_tasks() -> Value {
    json!({ "elicitation": {}, "extensions": { "io.modelcontextprotocol/tasks": {} } })
}

/// Asks for a task until it stands otherwise than this.
fn until_not(client: &mut Client, task: &Value, status: &str) -> Value {
    for _ in 0..600 {
        let now = client.request("tasks/get", json!({ "taskId": task }));
        if now["status"] != status {
            return now;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the task is {status} for a minute");
}

#[test]
fn a_long_program_becomes_a_task_with_its_whole_output_at_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": {} }));
    let mut client = Client::modern(dir.path(), &[], &follows_tasks());
    let listed = client.request("tools/list", json!({}));
    assert_eq!(listed["tools"].as_array().map(Vec::len), Some(1), "no `wait`: {listed}");

    let short = client.exec("text('short')");
    assert_eq!(short["structuredContent"]["status"], "completed", "{short}");

    let code = "text('one'); await new Promise((r) => setTimeout(r, 1500)); text('two')";
    let made = client.call("exec", json!({ "code": code, "yield_time_ms": 100 }));
    assert_eq!((&made["resultType"], &made["status"]), (&json!("task"), &json!("working")));
    let ended = until_not(&mut client, &made["taskId"], "working");
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["result"]["structuredContent"]["output"], "one\ntwo", "{ended}");
    let again = client.request("tasks/get", json!({ "taskId": made["taskId"] }));
    assert_eq!(again["result"], ended["result"], "it is kept");

    let endless = "for (;;) await new Promise((r) => setTimeout(r, 50))";
    let made = client.call("exec", json!({ "code": endless, "yield_time_ms": 100 }));
    client.request("tasks/cancel", json!({ "taskId": made["taskId"] }));
    let ended = until_not(&mut client, &made["taskId"], "working");
    assert_eq!(ended["status"], "cancelled", "{ended}");

    let id = client.begin("tasks/get", json!({ "taskId": "no.1" }));
    let unknown = client.response(id);
    assert_eq!(unknown["error"]["message"], "there is no such task", "{unknown}");
}

#[test]
fn a_task_asks_for_approval() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("erased").display().to_string();
    configure(dir.path(), &json!({ "mcpServers": { "s": wrong("works", &[&file]) } }));
    let mut client = Client::modern(dir.path(), &[], &follows_tasks());
    let code = "await new Promise((r) => setTimeout(r, 500)); await tools.s.erase({ what: 'a' })";
    let made = client.call("exec", json!({ "code": code, "yield_time_ms": 100 }));
    let asked = until_not(&mut client, &made["taskId"], "working");
    assert_eq!(asked["status"], "input_required", "{asked}");
    let (name, _) =
        asked["inputRequests"].as_object().and_then(|all| all.iter().next()).expect("a question");
    assert!(!std::path::Path::new(&file).exists());
    let responses = json!({ name: { "action": "accept", "content": { "approve": true } } });
    let update = json!({ "taskId": made["taskId"], "inputResponses": responses });
    client.request("tasks/update", update);
    for _ in 0..100 {
        let now = until_not(&mut client, &made["taskId"], "working");
        if now["status"] == "completed" {
            assert_eq!(now["result"]["isError"], false, "{}", texts(&now["result"]));
            assert_eq!(std::fs::read_to_string(&file).expect("erased"), "a\n");
            return;
        }
    }
    panic!("the task does not go on");
}

#[test]
fn who_subscribes_to_a_task_is_notified_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    configure(dir.path(), &json!({ "mcpServers": {} }));
    let mut client = Client::modern(dir.path(), &[], &follows_tasks());
    let code = "text('one'); await new Promise((r) => setTimeout(r, 1500)); text('two')";
    let made = client.call("exec", json!({ "code": code, "yield_time_ms": 100 }));
    let task = &made["taskId"];
    let filter = json!({ "taskIds": [task, "unknown.1"], "toolsListChanged": true });
    let id = client.begin("subscriptions/listen", json!({ "notifications": filter }));
    let accepted = client.notification("notifications/subscriptions/acknowledged");
    let filter = json!({ "taskIds": [task], "toolsListChanged": true });
    assert_eq!(accepted["params"]["notifications"], filter, "{accepted}");
    let mut statuses = Vec::new();
    let last = loop {
        let notified = client.notification("notifications/tasks");
        let params = &notified["params"];
        assert_eq!(&params["taskId"], task, "{notified}");
        assert_eq!(params["_meta"]["io.modelcontextprotocol/subscriptionId"], id, "{notified}");
        statuses.push(params["status"].as_str().expect("a status").to_owned());
        if params["status"] != "working" {
            break notified;
        }
    };
    assert_eq!(statuses.first().map(String::as_str), Some("working"), "{statuses:?}");
    let result = &last["params"]["result"];
    assert_eq!(result["structuredContent"]["output"], "one\ntwo", "{last}");

    client.send(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }));
    assert_eq!(client.printed("text('goes on')"), "goes on");
}
