//! What a recording keeps of a cell, and what it does not.

use crate::recording::{About, Recording};
use cellblock::{
    CellEvent, CellId, CellReport, CellUsage, CodeModeNestedToolCall, ContentItem, RuntimeResponse,
    ToolInput, ToolKind, ToolName,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::advance;

fn recording() -> Recording {
    let source = "// one\n\nawait tools.fs.read({});\n".to_owned();
    Recording::new(About { title: "a cell".to_owned(), source, ..About::default() })
}

fn shown(recording: &Recording, since: u64) -> Value {
    serde_json::from_str(&recording.since(since)).expect("JSON")
}

fn call(id: &str, input: &str) -> CodeModeNestedToolCall {
    CodeModeNestedToolCall {
        cell_id: CellId::from("1"),
        runtime_tool_call_id: id.to_owned(),
        tool_name: ToolName { name: "fs-read".to_owned(), namespace: None },
        tool_kind: ToolKind::Function,
        input: Some(ToolInput::from_json(input).expect("JSON")),
    }
}

fn ended(error_text: Option<&str>) -> RuntimeResponse {
    let usage = CellUsage { fuel: 7, calls: 2, ..CellUsage::default() };
    RuntimeResponse::Result {
        cell_id: CellId::from("1"),
        content_items: Vec::new(),
        error_text: error_text.map(str::to_owned),
        report: CellReport { usage, ..CellReport::default() },
    }
}

#[tokio::test(start_paused = true)]
async fn a_cell_is_recorded_from_its_start_to_its_end() {
    let recording = recording();
    let mut monitor = recording.monitor();
    let usage = CellUsage::default();
    advance(Duration::from_millis(1)).await;
    monitor.send(CellEvent::CallStarted(&call("tool-1", "{\"a\":1}")));
    monitor.send(CellEvent::CallStarted(&call("tool-2", "2")));
    monitor.send(CellEvent::Waiting { place: Some("exec_main.mjs:3:1"), usage: &usage });
    let waiting = shown(&recording, 0);
    assert_eq!(waiting["waiting"], json!({ "place": { "line": 3, "column": 1 }, "since": 1_000 }));
    assert_eq!(serde_json::to_value(recording.summary()).expect("JSON")["state"], "waiting");
    let version = waiting["version"].as_u64().expect("a number");

    advance(Duration::from_millis(2)).await;
    let result = CellEvent::CallEnded { runtime_tool_call_id: "tool-1", result: Ok("[]") };
    monitor.send(result);
    monitor.send(result);
    monitor.send(CellEvent::Resumed);
    monitor.send(CellEvent::Output(&ContentItem::InputText { text: "hello".to_owned() }));
    let news = shown(&recording, version);
    let numbers: Vec<_> = news["entries"].as_array().expect("a list").iter().collect();
    assert_eq!(numbers.len(), 3, "the call, the wait and the output: {news}");
    assert_eq!(news["source"], Value::Null, "it was sent before");

    advance(Duration::from_millis(3)).await;
    monitor.send(CellEvent::Ended(&ended(Some("Error: no\n    at exec_main.mjs:3:7"))));
    let all = shown(&recording, 0);
    assert_eq!(
        all["entries"][0],
        json!({ "number": 0, "at": 1_000, "until": 3_000,
        "type": "call", "tool": "fs_read", "input": { "text": "{\"a\":1}" },
        "end": { "how": "succeeded", "result": { "text": "[]" } } })
    );
    assert_eq!(all["entries"][1]["end"], json!({ "how": "cancelled" }));
    assert_eq!(all["entries"][1]["until"], 6_000);
    assert_eq!(all["entries"][2]["until"], 3_000, "the wait");
    assert_eq!(all["tools"][0][1]["calls"], 2);
    assert_eq!(all["lines"], json!({ "3": { "waits": 1, "time": 2_000 } }));
    assert_eq!(all["end"]["how"], "failed");
    assert_eq!(all["end"]["place"], json!({ "line": 3, "column": 7 }));
    assert_eq!(all["usage"]["fuel"], 7);

    // Who knows more corrects it, and the time stays.
    advance(Duration::from_millis(100)).await;
    recording.end(&ended(None));
    drop(monitor);
    let all = shown(&recording, 0);
    assert_eq!((&all["end"]["how"], &all["lasted"]), (&json!("completed"), &json!(6_000)));
}

#[tokio::test(start_paused = true)]
async fn a_cell_without_a_last_response_is_lost() {
    let recording = recording();
    let mut monitor = recording.monitor();
    monitor.send(CellEvent::CallStarted(&call("tool-1", "1")));
    let clone = monitor.clone();
    drop(monitor);
    assert!(!recording.has_ended());
    drop(clone);
    let all = shown(&recording, 0);
    assert_eq!(all["end"]["how"], "lost");
    assert_eq!(all["entries"][0]["end"]["how"], "cancelled");
    recording.refuse("there were too many");
    assert_eq!(shown(&recording, 0)["end"]["error"]["text"], "there were too many");
}

#[tokio::test(start_paused = true)]
async fn a_question_waits_until_it_is_answered_or_taken_back() {
    let recording = recording();
    let (sender, answers) = std::sync::mpsc::channel();
    let ask = |text: &str| {
        let sender = sender.clone();
        recording.ask(text, move |approved| sender.send(approved).is_ok())
    };
    let (one, other) = (ask("may it?"), ask("and that?"));
    let summary = serde_json::to_value(recording.summary()).expect("JSON");
    assert_eq!(summary["state"], "asking");
    assert_eq!(summary["questions"][0]["number"], 1);
    assert!(recording.answer(1, true));
    assert!(!recording.answer(3, true), "there is none");
    assert_eq!(answers.try_recv(), Ok(true));
    one.answered(true);
    drop(other);
    assert!(!recording.answer(1, true) && !recording.answer(2, true), "too late");
    let all = shown(&recording, 0);
    assert_eq!(all["entries"][0]["approved"], true);
    assert_eq!(all["entries"][1].get("approved"), None);
}

#[tokio::test(start_paused = true)]
async fn a_recording_is_bounded_whatever_the_program_does() {
    let recording = recording();
    let mut monitor = recording.monitor();
    let usage = CellUsage::default();
    let long = "<\u{202e}>".repeat(2_000);
    let image = ContentItem::InputImage {
        image_url: format!("data:image/png;base64,{}", "A".repeat(200_000)),
        detail: None,
    };
    for number in 0..20_000 {
        let id = format!("tool-{number}");
        monitor.send(CellEvent::CallStarted(&call(&id, &json!(long).to_string())));
        monitor.send(CellEvent::Waiting { place: Some("exec_main.mjs:9:9"), usage: &usage });
        let error = CellEvent::CallEnded { runtime_tool_call_id: &id, result: Err(&long) };
        monitor.send(error);
        monitor.send(CellEvent::Resumed);
        monitor.send(CellEvent::Notification(&long));
        if number % 100 == 0 {
            monitor.send(CellEvent::Output(&image));
        }
    }
    for number in 0..100_000 {
        let text = format!("item {number}");
        monitor.send(CellEvent::Output(&ContentItem::InputText { text }));
    }
    let page = recording.page();
    assert!(page.len() < 8 << 20, "{}", page.len());
    let all = shown(&recording, 0);
    let entries = all["entries"].as_array().expect("a list");
    assert!(entries.len() <= crate::entries::MAX_ENTRIES);
    assert_eq!(entries.last().expect("one")["text"]["text"], "item 99999");
    assert_eq!(all["tools"][0][1]["calls"], 20_000);
    assert_eq!(all["lines"]["9"]["waits"], 20_000);
    assert!(all["dropped"]["calls"].as_u64() > Some(19_000), "{}", all["dropped"]);
}

#[test]
fn media_are_kept_where_they_are_small_and_harmless() {
    let kept = |url: String| {
        let what = super::printed(&ContentItem::InputImage { image_url: url, detail: None });
        serde_json::to_value(what).expect("JSON")
    };
    assert_eq!(kept("data:image/png;base64,AA==".to_owned())["kind"], "image/png");
    assert!(kept("data:image/png;base64,AA==".to_owned())["url"].is_string());
    assert!(kept("data:image/svg+xml,<svg onload=x>".to_owned())["url"].is_null());
    assert!(kept("https://example.com/x.png".to_owned())["url"].is_null());
    let large = format!("data:image/png;base64,{}", "A".repeat(super::IMAGE_BYTES));
    assert!(kept(large)["url"].is_null());
}
