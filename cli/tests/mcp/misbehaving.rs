//! Servers that misbehave: each ends in a clear error, and the others go on.

use crate::raw::{Client, texts};
use crate::{configure, installed, wrong};
use serde_json::{Value, json};
use std::time::Duration;

/// A client of a server that misbehaves and of one that does not. `None` without Python.
fn with(mode: &str, settings: Value) -> Option<(tempfile::TempDir, Client)> {
    if !installed::has_python() {
        return None;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file").display().to_string();
    let mut bad = wrong(mode, &[&file]);
    bad["cellblock"] = settings;
    configure(dir.path(), &json!({ "mcpServers": { "bad": bad, "good": wrong("works", &[]) } }));
    let client = Client::start(dir.path(), &[], &json!({}));
    Some((dir, client))
}

/// Calls the bad server and the good one in one program, and returns what the bad one came to.
fn call_both(client: &mut Client) -> String {
    let printed = client.printed(
        "const [bad, good] = await Promise.allSettled([
             tools.bad?.call({}) ?? Promise.reject(new Error('no tools')), tools.good.call({})]);
         text(good.value.content[0].text); text(String(bad.reason ?? JSON.stringify(bad.value)))",
    );
    let (good, bad) = printed.split_once('\n').expect("two lines");
    assert_eq!(good, "works");
    bad.to_owned()
}

#[test]
fn a_server_that_prints_garbage_or_ends_is_named_with_the_reason() {
    for (mode, settings, said) in [
        ("garbage", json!({ "startTimeout": "2s" }), "it printed \"I am not a server\""),
        ("ends", json!({}), "no such database"),
        ("pages", json!({}), "its list of tools has more than 200 pages"),
    ] {
        let Some((_dir, mut client)) = with(mode, settings) else { return };
        assert_eq!(call_both(&mut client), "Error: no tools");
        let listed = client.request("tools/list", json!({}));
        let description = listed["tools"][0]["description"].as_str().expect("a text");
        let start = "The server bad could not be started: ";
        assert!(description.contains(start) && description.contains(said), "{description}");
        let failed = client.exec("await tools.bad.call({})");
        assert!(texts(&failed).contains(said), "{failed}");
    }
}

#[test]
fn a_server_that_dies_in_a_call_is_started_again() {
    let Some((_dir, mut client)) = with("dies", json!({})) else { return };
    for _ in 0..2 {
        let bad = call_both(&mut client);
        assert!(bad.contains("bad.call: the server has gone"), "{bad}");
        assert!(bad.contains("out of cheese") && bad.contains("may have taken effect"), "{bad}");
        assert_eq!(client.printed("text((await tools.bad.read({})).content[0].text)"), "read");
    }
}

#[test]
fn servers_start_when_they_are_needed_and_all_at_once() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let started = dir.path().join("started");
    std::fs::create_dir(&started).expect("a folder");
    // Each of them answers once all of them have been started.
    let server = wrong("together", &[&started.display().to_string(), "5"]);
    let servers = ["a", "b", "c", "d", "e"].map(|name| (name.to_owned(), server.clone()));
    let servers: serde_json::Map<_, _> = servers.into_iter().collect();
    configure(dir.path(), &json!({ "mcpServers": servers }));
    let mut client = Client::start(dir.path(), &[], &json!({}));
    client.request("ping", json!({}));
    assert_eq!(std::fs::read_dir(&started).expect("a list").count(), 0, "nobody needs one");
    let printed = client.printed(
        "const all = await Promise.all([...'abcde'].map((name) => tools[name].call({})));
         text(all.map(({ content }) => content[0].text).join())",
    );
    assert_eq!(printed, "together,together,together,together,together");
    assert_eq!(std::fs::read_dir(&started).expect("a list").count(), 5);
}

#[test]
fn a_server_that_goes_in_the_middle_of_a_word_is_started_again() {
    for mode in ["half", "closes"] {
        let Some((_dir, mut client)) = with(mode, json!({})) else { return };
        let bad = call_both(&mut client);
        assert!(bad.contains("bad.call: the server has gone"), "{mode}: {bad}");
        assert_eq!(client.printed("text((await tools.bad.read({})).content[0].text)"), "read");
    }
}

#[test]
fn a_server_that_reads_nothing_keeps_nobody_waiting() {
    let Some((_dir, mut client)) = with("deaf", json!({ "callTimeout": "1s" })) else { return };
    let printed = client.printed(
        "const input = { text: 'x'.repeat(1e6) };
         const all = await Promise.allSettled([1, 2, 3].map(() => tools.bad.call(input)));
         text(all.map(({ reason }) => reason.message).join());
         text((await tools.good.call({})).content[0].text)",
    );
    assert_eq!(printed.matches("did not answer within 1s").count(), 3, "{printed}");
    assert!(printed.ends_with("works"), "{printed}");
}

#[test]
fn a_server_that_does_not_want_to_end_is_ended() {
    let Some((dir, mut client)) = with("stubborn", json!({})) else { return };
    let arguments = json!({ "code": "await tools.bad.call({})" });
    client.begin("tools/call", json!({ "name": "exec", "arguments": arguments }));
    let until = |what: &str, done: &mut dyn FnMut() -> bool| {
        let started = std::time::Instant::now();
        while !done() {
            assert!(started.elapsed() < crate::raw::PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut id = String::new();
    until("it is called", &mut || {
        id = std::fs::read_to_string(dir.path().join("file")).unwrap_or_default();
        id.ends_with('\n')
    });
    assert!(client.close().success(), "the gateway ends");
    let stat = format!("/proc/{}/stat", id.trim());
    // What was killed and nobody has looked after yet is there, as a zombie.
    until("it is ended", &mut || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn a_call_that_hangs_ends_at_its_deadline() {
    let Some((_dir, mut client)) = with("hangs", json!({ "callTimeout": "1s" })) else { return };
    let bad = call_both(&mut client);
    assert!(bad.contains("did not answer within 1s"), "{bad}");
}

#[test]
fn an_answer_that_is_too_long_ends_its_call_alone() {
    let Some((_dir, mut client)) = with("huge", json!({})) else { return };
    let bad = call_both(&mut client);
    assert!(bad.contains("the answer has more than 16777216 bytes"), "{bad}");
    let fits =
        client.printed("text((await tools.bad.call({ bytes: 1e6 })).content[0].text.length)");
    assert_eq!(fits, "1000000");
    assert!(client.peak_mib() < 400, "{} MiB for an answer of 100 MB", client.peak_mib());
}

#[test]
fn a_flood_of_notifications_keeps_nothing_else_waiting() {
    let Some((_dir, mut client)) = with("floods", json!({})) else { return };
    assert!(call_both(&mut client).contains("floods"));
}

#[test]
fn a_server_that_asks_for_too_much_is_ended() {
    let Some((_dir, mut client)) = with("asks-much", json!({})) else { return };
    let bad = call_both(&mut client);
    assert!(bad.contains("sent more than 1000 requests in a minute"), "{bad}");
    assert!(client.peak_mib() < 400, "{} MiB", client.peak_mib());
    assert_eq!(client.printed("text((await tools.bad.read({})).content[0].text)"), "read");
}

#[test]
fn of_two_tools_of_one_name_the_first_is_called() {
    let Some((dir, mut client)) = with("twins", json!({})) else { return };
    assert_eq!(client.printed("text((await tools.bad.same({})).content[0].text)"), "twins");
    let described = client.call("describe_tools", json!({ "names": ["bad__same"] }));
    assert!(texts(&described).starts_with("### bad__same\nThe first."), "{described}");
    let checked = std::process::Command::new(crate::raw::PROGRAM)
        .args(["mcp", "check"])
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.contains("`bad__same` is left out"), "{said}");
}

#[test]
fn a_changed_list_reaches_the_next_program_and_the_client() {
    let Some((_dir, mut client)) = with("changes", json!({})) else { return };
    client.request("tools/list", json!({}));
    assert_eq!(client.printed("text(typeof tools.bad.before, typeof tools.bad.after)"), "function");
    let _ = client.printed("await tools.bad.before({})");
    client.notification("notifications/tools/list_changed");
    assert_eq!(client.printed("text(typeof tools.bad.after)"), "function");
}

#[test]
fn a_server_that_asks_questions_itself_is_refused() {
    let Some((_dir, mut client)) = with("asks", json!({})) else { return };
    let bad = call_both(&mut client);
    assert!(bad.contains("questions to the user are not passed on"), "{bad}");
}

#[test]
fn old_and_chatty_servers_work() {
    for mode in ["old", "chatty"] {
        let Some((_dir, mut client)) = with(mode, json!({})) else { return };
        assert!(call_both(&mut client).contains(mode));
    }
}

#[test]
fn results_are_unwrapped_and_errors_are_thrown() {
    let Some((_dir, mut client)) = with("fails", json!({})) else { return };
    let printed = client.printed(
        "text(await tools.bad.structured({}));
         try { await tools.bad.call({}) } catch (error) {
             text([error instanceof Error, error.message, error.result.isError].join()) }
         try { await tools.bad.call('text') } catch (error) { text(error.message) }",
    );
    assert_eq!(
        printed,
        "{\"n\":7}\ntrue,bad.call reported an error: fails,true\n\
         a tool takes one object, as its declaration says"
    );
    let failed = client.exec("\nconst x = 1; await tools.bad.call({})");
    let error = failed["structuredContent"]["error"].as_str().expect("a text");
    assert!(error.contains("at exec_main.mjs:2:") && !error.contains(":1:"), "{error}");
    assert_eq!(failed["structuredContent"]["calls"][0]["status"], "failed");
}

#[test]
fn progress_and_cancellation_are_passed_through() {
    let Some((_dir, mut client)) = with("slow", json!({})) else { return };
    let arguments = json!({ "code": "await tools.bad.call({}); notify('said')" });
    let params = json!({ "name": "exec", "arguments": arguments, "_meta": { "progressToken": 7 } });
    client.request("tools/call", params);
    let messages: Vec<_> = client
        .others
        .iter()
        .filter(|other| other["params"]["progressToken"] == 7)
        .map(|other| other["params"]["message"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(messages.iter().any(|message| message.starts_with("bad.call: step")), "{messages:?}");

    let Some((_dir, mut client)) = with("hangs", json!({})) else { return };
    let params = json!({ "name": "exec", "arguments": { "code": "await tools.bad.call({})" } });
    let id = client.begin("tools/call", params);
    assert!(client.next(Duration::from_secs(3)).is_none(), "it waits");
    client.send(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }));
    assert_eq!(client.printed("text((await tools.good.call({})).content[0].text)"), "works");
}

#[test]
fn a_program_that_waits_for_nothing_ends_at_once() {
    let Some((_dir, mut client)) = with("works", json!({})) else { return };
    let failed = client.exec("text('before');\nawait new Promise(() => {})");
    let error = failed["structuredContent"]["error"].as_str().expect("a text");
    assert!(error.starts_with("Unsettled top-level await"), "{error}");
}
