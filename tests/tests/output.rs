//! The arithmetic of what a model reads of a cell's output, as properties.

use cellblock::model::{
    BYTES_PER_TOKEN, Notes, OutputOptions, approximate_tokens, show, truncate_items,
    truncate_middle,
};
use cellblock::{
    CallEnd, CallReport, CellReport, ContentItem, ImageDetail, LimitKind, RuntimeResponse,
};
use proptest::prelude::*;
use std::time::Duration;

fn text(text: impl Into<String>) -> ContentItem {
    ContentItem::InputText { text: text.into() }
}

fn text_of(item: &ContentItem) -> Option<&str> {
    match item {
        ContentItem::InputText { text } => Some(text),
        _ => None,
    }
}

fn image(detail: Option<ImageDetail>) -> ContentItem {
    ContentItem::InputImage { image_url: "data:image/png;base64,AAAA".to_owned(), detail }
}

fn texts(items: &[ContentItem]) -> Vec<&str> {
    items.iter().filter_map(text_of).collect()
}

/// What the upstream helpers answered.
#[test]
fn recorded_truncations_hold() {
    let letters = "abcdefghi";
    let crabs = "\u{1f980}".repeat(5);
    let crab = "\u{1f980}";
    for (input, tokens, expected) in [
        (letters, 0, "…3 tokens truncated…".to_owned()),
        (letters, 1, "ab…2 tokens truncated…hi".to_owned()),
        (letters, 2, "abcd…1 tokens truncated…fghi".to_owned()),
        (letters, 3, letters.to_owned()),
        (&crabs, 0, "…5 tokens truncated…".to_owned()),
        (&crabs, 1, "…4 tokens truncated…".to_owned()),
        (&crabs, 2, format!("{crab}…3 tokens truncated…{crab}")),
        (&crabs, 3, format!("{crab}…2 tokens truncated…{crab}")),
    ] {
        assert_eq!(truncate_middle(input, tokens), expected, "{input} to {tokens}");
    }
}

#[test]
fn mixed_items_share_one_budget() {
    let audio = |bytes: usize| ContentItem::InputAudio { audio_url: "x".repeat(bytes) };
    let items = vec![
        text("12345678"),
        image(None),
        text("abcdefghi"),
        audio(1),
        text("dropped"),
        image(None),
        text(""),
    ];
    let cut = truncate_items(items, 4);
    let expected = [
        text("12345678"),
        image(None),
        text("abcd…1 tokens truncated…fghi"),
        image(None),
        text("[omitted 2 text items ...]"),
        text("[omitted 1 audio items ...]"),
    ];
    assert_eq!(cut, expected);
    assert_eq!(truncate_items(vec![image(None), audio(2_048)], 2), [image(None), audio(2_048)]);
}

proptest! {
    #[test]
    fn a_cut_text_keeps_its_ends_and_counts_the_rest(input in ".{0,200}", tokens in 0_usize..60) {
        let cut = truncate_middle(&input, tokens);
        let budget = tokens * BYTES_PER_TOKEN;
        if input.len() <= budget {
            prop_assert_eq!(cut, input);
            return Ok(());
        }
        let mark = format!(
            "…{} tokens truncated…",
            (input.len() - budget).div_ceil(BYTES_PER_TOKEN)
        );
        let at = cut.find(&mark).expect("the mark");
        let (head, tail) = (&cut[..at], &cut[at + mark.len()..]);
        prop_assert!(input.starts_with(head) && input.ends_with(tail));
        prop_assert!(head.len() <= budget / 2 && tail.len() <= budget - budget / 2);
        // Nothing is lost but the rest of a character that does not fit.
        prop_assert!(head.len() + 3 >= budget / 2 && tail.len() + 3 >= budget - budget / 2);
    }

    #[test]
    fn text_items_are_kept_or_joined_within_the_budget(
        inputs in prop::collection::vec("[a-z\n]{0,40}", 0..12),
        tokens in 0_usize..80,
    ) {
        let items: Vec<_> = inputs.iter().map(text).collect();
        let joined = inputs.join("\n");
        let cut = truncate_items(items.clone(), tokens);
        if joined.len() <= tokens * BYTES_PER_TOKEN {
            prop_assert_eq!(cut, items);
        } else {
            let expected = format!(
                "Warning: truncated output (original token count: {})\nTotal output lines: {}\n\n{}",
                approximate_tokens(&joined),
                joined.lines().count(),
                truncate_middle(&joined, tokens),
            );
            prop_assert_eq!(cut, [text(expected)]);
        }
    }

    #[test]
    fn images_stay_and_texts_beside_them_share_the_budget(
        inputs in prop::collection::vec(prop::option::of("[a-z]{1,40}"), 1..12),
        tokens in 0_usize..40,
    ) {
        let item = |input: &Option<String>| input.as_ref().map_or(image(None), text);
        let mut items: Vec<_> = inputs.iter().map(item).collect();
        items.push(image(None));
        let images = items.len() - texts(&items).len();
        let cut = truncate_items(items.clone(), tokens);
        let kept = texts(&cut);
        prop_assert_eq!(cut.len() - kept.len(), images);
        let omitted = kept.last().and_then(|last| last.strip_prefix("[omitted "));
        let omitted: usize = omitted
            .and_then(|rest| rest.split(' ').next())
            .map_or(0, |count| count.parse().expect("a number"));
        let listed = usize::from(omitted > 0);
        prop_assert_eq!(kept.len() - listed + omitted, texts(&items).len());
        let whole = kept.iter().filter(|kept| !kept.contains('…') && !kept.starts_with('['));
        prop_assert!(whole.map(|kept| approximate_tokens(kept)).sum::<usize>() <= tokens);
    }
}

fn result(
    content_items: Vec<ContentItem>,
    error: Option<&str>,
    report: CellReport,
) -> RuntimeResponse {
    let error_text = error.map(str::to_owned);
    RuntimeResponse::Result { cell_id: "7".into(), content_items, error_text, report }
}

#[test]
fn each_status_has_its_header() {
    let (cell_id, content_items) = ("7".into(), vec![]);
    let report = CellReport::default();
    let plain = OutputOptions { notes: Notes::None, ..OutputOptions::default() };
    let running = RuntimeResponse::Yielded { cell_id, content_items, report };
    let (cell_id, content_items) = ("7".into(), vec![]);
    let report = CellReport::default();
    let terminated = RuntimeResponse::Terminated { cell_id, content_items, report };
    let completed = result(vec![], None, CellReport::default());
    for (response, status) in [
        (running, "Script running with cell ID 7"),
        (terminated, "Script terminated"),
        (completed, "Script completed"),
    ] {
        let output = show(response, Duration::from_millis(1_960), None, &plain);
        assert!(output.success);
        let header = format!("{status}\nWall time 2.0 seconds\nOutput:\n");
        assert_eq!(output.to_openai(), header);
    }
}

#[test]
fn a_failure_lists_the_calls_and_which_had_not_ended() {
    let call = |number: u32, end| CallReport {
        runtime_tool_call_id: format!("tool-{number}"),
        tool: "deploy".to_owned(),
        end,
    };
    let calls =
        vec![call(1, CallEnd::Succeeded), call(2, CallEnd::Failed), call(3, CallEnd::Cancelled)];
    let report = CellReport { calls, ..CellReport::default() };
    let failed = || result(vec![text("before")], Some("Error: x"), report.clone());
    let options = OutputOptions::default();
    let output = show(failed(), Duration::ZERO, None, &options);
    assert!(!output.success);
    let expected = [
        "Script failed\nWall time 0.0 seconds\nOutput:\n",
        "before",
        "Script error:\nError: x",
        "Nested calls:\n    tool-1 deploy succeeded\n    tool-2 deploy failed\n    tool-3 deploy had \
         not ended and was cancelled; it may have taken effect",
    ];
    assert_eq!(texts(&output.items), expected);
    // Codex shows no list, and the text of a limit has one already.
    let plain = OutputOptions { notes: Notes::None, ..OutputOptions::default() };
    assert_eq!(show(failed(), Duration::ZERO, None, &plain).items.len(), 3);
    let limited = CellReport { limit: Some(LimitKind::Fuel), ..report.clone() };
    let limited = result(vec![], Some("cell stopped"), limited);
    assert_eq!(show(limited, Duration::ZERO, None, &options).items.len(), 2);
}

#[test]
fn a_program_that_printed_nothing_is_answered_with_words() {
    let options = OutputOptions::default();
    let output = show(result(vec![], None, CellReport::default()), Duration::ZERO, None, &options);
    assert!(texts(&output.items)[1].starts_with("The program printed nothing."));
}

#[test]
fn details_of_images_are_those_a_model_can_use() {
    let images =
        vec![image(None), image(Some(ImageDetail::Low)), image(Some(ImageDetail::Original))];
    let details = |original_images| {
        let options = OutputOptions { original_images, ..OutputOptions::default() };
        let response = result(images.clone(), None, CellReport::default());
        let items = show(response, Duration::ZERO, None, &options).items;
        let detail = |item: &ContentItem| match item {
            ContentItem::InputImage { detail, .. } => *detail,
            _ => None,
        };
        items.iter().filter_map(detail).collect::<Vec<_>>()
    };
    assert_eq!(details(false), [ImageDetail::High, ImageDetail::Low, ImageDetail::High]);
    assert_eq!(details(true), [ImageDetail::High, ImageDetail::Low, ImageDetail::Original]);
}

#[test]
fn other_interfaces_get_their_own_blocks() {
    let audio = ContentItem::InputAudio { audio_url: "data:audio/wav;base64,BBBB".to_owned() };
    let items = vec![text(""), image(None), audio];
    let response = result(items, None, CellReport::default());
    let output = show(response, Duration::ZERO, None, &OutputOptions::default());
    let anthropic = output.to_anthropic();
    assert_eq!(anthropic.as_array().map(Vec::len), Some(3));
    assert_eq!(anthropic[1]["source"]["media_type"], "image/png");
    assert_eq!(anthropic[2]["text"], "[audio of type audio/wav, which cannot be shown here]");
    let mcp = output.to_mcp();
    assert_eq!(mcp["isError"], false);
    assert_eq!(mcp["content"][2]["mimeType"], "image/png");
    assert_eq!(mcp["content"][3]["data"], "BBBB");
}
