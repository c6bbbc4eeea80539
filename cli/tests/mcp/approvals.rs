//! Calls that need the approval of a person.

use crate::raw::{Client, texts};
use crate::{configure, installed, wrong};
use serde_json::{Value, json};
use std::path::Path;

/// A server whose tool `erase` writes into a file, with these rules and settings.
fn prepared(policy: Value, settings: Value) -> Option<tempfile::TempDir> {
    if !installed::has_python() {
        return None;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("erased").display().to_string();
    let mut server = wrong("works", &[&file]);
    server["cellblock"] = settings;
    let config = json!({ "mcpServers": { "s": server }, "cellblock": { "policy": policy } });
    configure(dir.path(), &config);
    Some(dir)
}

fn erased(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("erased")).unwrap_or_default()
}

const ERASE: &str = "text('before'); await tools.s.erase({ what: 'a' }); text('after')";

#[test]
fn without_anybody_to_ask_the_call_is_refused_in_words() {
    let Some(dir) = prepared(json!([]), json!({})) else { return };
    let mut client = Client::start(dir.path(), &[], &json!({}));
    let failed = client.exec(ERASE);
    assert!(texts(&failed).contains("s.erase needs the approval of a person"), "{failed}");
    assert_eq!(failed["structuredContent"]["status"], "failed");
    assert_eq!(erased(dir.path()), "");
    // That call alone.
    assert_eq!(client.printed("text((await tools.s.read({})).content[0].text)"), "read");
}

#[test]
fn rules_allow_and_deny() {
    let Some(dir) = prepared(json!([{ "action": "allow", "tool": "erase" }]), json!({})) else {
        return;
    };
    let mut client = Client::start(dir.path(), &[], &json!({}));
    assert_eq!(client.printed(ERASE), "before\nafter");
    assert_eq!(erased(dir.path()), "a\n");

    let rules = json!([{ "action": "deny", "server": "s", "tool": "read" }]);
    let Some(dir) = prepared(rules, json!({})) else { return };
    let mut client = Client::start(dir.path(), &[], &json!({ "elicitation": {} }));
    let failed = client.exec("await tools.s.read({})");
    assert!(texts(&failed).contains("the policy of this server refuses s.read"), "{failed}");
}

#[test]
fn a_call_that_is_sent_again_goes_on_and_never_starts_again() {
    let Some(dir) = prepared(json!([]), json!({})) else { return };
    let mut client = Client::modern(dir.path(), &[], &json!({ "elicitation": {} }));
    let arguments = json!({ "code": format!("{ERASE}; store('runs', (load('runs') ?? 0) + 1)") });
    let asked = client.call("exec", arguments.clone());
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    assert_eq!(erased(dir.path()), "", "nothing is called before its answer");
    let requests = asked["inputRequests"].as_object().expect("requests");
    let (name, request) = requests.iter().next().expect("a question");
    assert_eq!(request["method"], "elicitation/create");
    let message = request["params"]["message"].as_str().expect("a text");
    assert!(message.contains("s.erase {\"what\":\"a\"}"), "{message}");

    let again = |state: &Value, content: Value| {
        json!({ "name": "exec", "arguments": arguments, "requestState": state,
            "inputResponses": { name: { "action": "accept", "content": content } } })
    };
    let forged = again(&"0".repeat(32).into(), json!({ "approve": true }));
    let refused = client.request("tools/call", forged);
    assert!(texts(&refused).contains("not started again"), "{refused}");
    assert_eq!(erased(dir.path()), "");

    let approved = again(&asked["requestState"], json!({ "approve": true }));
    let ran = client.request("tools/call", approved.clone());
    assert_eq!(ran["structuredContent"]["output"], "before\nafter", "{ran}");
    assert_eq!(erased(dir.path()), "a\n");
    let twice = client.request("tools/call", approved);
    assert!(texts(&twice).contains("not started again"), "{twice}");
    assert_eq!(erased(dir.path()), "a\n", "once");
    assert_eq!(client.printed("text(load('runs'))"), "1");
}

#[test]
fn what_is_not_plainly_approved_is_refused() {
    for response in [
        json!({ "action": "decline" }),
        json!({ "action": "cancel" }),
        json!({ "action": "accept" }),
        json!({ "action": "accept", "content": { "approve": "true" } }),
        json!(null),
    ] {
        let Some(dir) = prepared(json!([]), json!({})) else { return };
        let mut client = Client::modern(dir.path(), &[], &json!({ "elicitation": {} }));
        let asked = client.call("exec", json!({ "code": ERASE }));
        let params = json!({ "name": "exec", "arguments": { "code": ERASE },
            "requestState": asked["requestState"], "inputResponses": { "call_1": response } });
        let ran = client.request("tools/call", params);
        assert!(texts(&ran).contains("the user refused s.erase"), "{ran}");
        assert_eq!(erased(dir.path()), "");
    }
}

#[test]
fn after_untrusted_text_a_sink_needs_approval_whatever_is_allowed() {
    let settings = json!({ "untrusted": ["read"], "sink": ["call"] });
    let allow = json!([{ "action": "allow" }]);
    let Some(dir) = prepared(allow, settings) else { return };
    let mut client = Client::start(dir.path(), &[], &json!({}));
    let call = "text((await tools.s.call({})).content[0].text)";
    assert_eq!(client.printed(call), "works");
    // The program has read, and so have those that start with what it stored.
    let read = "const said = await tools.s.read({});";
    let failed = client.exec(&format!("{read} {call}"));
    assert!(texts(&failed).contains("has read text of an untrusted source"), "{failed}");
    assert_eq!(client.printed(call), "works", "another program has not");
    client.printed(&format!("{read} store('said', said)"));
    let failed = client.exec(call);
    assert!(texts(&failed).contains("has read text of an untrusted source"), "{failed}");

    // With somebody to ask, they are asked.
    let mut client = Client::start(dir.path(), &[], &json!({ "elicitation": {} }));
    client.answer = Box::new(|method, params| {
        assert_eq!(method, "elicitation/create");
        assert!(params["message"].as_str().is_some_and(|text| text.contains("untrusted")));
        json!({ "action": "accept", "content": { "call_1": true } })
    });
    assert_eq!(client.printed(&format!("{read} {call}")), "works");
}
