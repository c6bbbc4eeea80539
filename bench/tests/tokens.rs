//! What a description costs a model. Apart from the tests of the command, because the
//! tokenizer's dependencies would make `cargo test` compile wasmtime a second time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// Three hundred tools, most of them deferred, cost less than six thousand tokens.
#[test]
fn three_hundred_deferred_tools_take_less_than_six_thousand_tokens() {
    let snapshot = include_str!("../../cli/tests/snapshots/tools__deferred.snap");
    // A snapshot is its head, between two lines of dashes, and then the text.
    let (_, text) = snapshot.strip_prefix("---").unwrap().split_once("\n---\n").unwrap();
    assert!(text.contains("create_issue") && text.len() > 10_000, "it is not the description");
    let tokens = tiktoken_rs::o200k_base().unwrap().encode_ordinary(text).len();
    assert!(tokens < 6_000, "{tokens} tokens");
}
