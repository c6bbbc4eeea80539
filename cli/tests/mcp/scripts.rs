//! Saved scripts.

use crate::raw::{Client, texts};
use crate::{configure, installed, wrong};
use serde_json::json;

#[test]
fn a_script_runs_by_its_name_and_calls_tools() {
    if !installed::has_python() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("erased").display().to_string();
    std::fs::write(
        dir.path().join("first.js"),
        "const read = await tools.s.read({});
         store('result', { read: read.content[0].text, of: load('input').who })",
    )
    .expect("a file");
    std::fs::write(
        dir.path().join("second.ts"),
        "const x: number = 1; await tools.s.erase({ what: 'x' })",
    )
    .expect("a file");
    std::fs::write(dir.path().join("third.js"), "await tools.s.call({})").expect("a file");
    let script = |file: &str| json!({ "file": file, "description": format!("What {file} does.") });
    let mut server = wrong("fails", &[&file]);
    server["cellblock"] = json!({ "untrusted": ["read"], "sink": ["structured"] });
    let scripts = json!({ "the-first": script("first.js"), "second": script("second.ts"),
        "third": script("third.js") });
    let config = json!({ "mcpServers": { "s": server }, "cellblock": { "scripts": scripts } });
    configure(dir.path(), &config);
    let mut client = Client::start(dir.path(), &[], &json!({}));
    let listed = client.request("tools/list", json!({}));
    let exec = &listed["tools"][0];
    assert!(exec["description"].as_str().is_some_and(|text| text.contains("What first.js does.")));
    assert_eq!(exec["inputSchema"]["properties"]["script"]["type"], "string", "{exec}");

    let ran = client.call("exec", json!({ "script": "the-first", "input": { "who": "me" } }));
    assert_eq!(ran["structuredContent"]["output"], "{\"read\":\"read\",\"of\":\"me\"}", "{ran}");
    for call in ["scripts.the_first", "tools.scripts.the_first", "tools.scripts__the_first"] {
        assert_eq!(client.printed(&format!("text((await {call}({{ who: 2 }})).of)")), "2");
    }
    // A script's calls are authorised as those of the program that called it.
    let refused = client.call("exec", json!({ "script": "second" }));
    assert!(texts(&refused).contains("s.erase needs the approval of a person"), "{refused}");
    assert!(!std::path::Path::new(&file).exists());
    let flows = client.exec("await scripts.the_first({ who: 1 }); await tools.s.structured({})");
    assert!(texts(&flows).contains("has read text of an untrusted source"), "{flows}");
    let failed = client.exec("try { await scripts.third() } catch (error) { text(`${error instanceof Error} ${error.message}`) }");
    let said = texts(&failed);
    assert!(
        said.contains("true script third failed: Error: s.call reported an error: fails"),
        "{said}"
    );
    assert!(said.contains("exec_main.mjs:1:15"), "places are those of the script: {said}");

    for (arguments, said) in [
        (json!({ "script": "fourth" }), "there are: second, the-first, third"),
        (json!({ "script": "second", "code": "1" }), "exec takes either `code` or `script`"),
        (json!({ "input": 1, "code": "1" }), "`input` is that of a saved script"),
        (json!({}), "exec takes either `code` or `script`"),
    ] {
        let refused = client.call("exec", arguments);
        assert!(texts(&refused).contains(said), "{refused}");
    }
}
