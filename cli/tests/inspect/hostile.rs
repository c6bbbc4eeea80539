//! Texts of programs, tools and models that would be markup, code, or a mess.

use crate::browser::{Browser, Page};
use crate::legible::WIDTHS;
use async_trait::async_trait;
use cellblock::{
    CellLimits, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, Engine, EngineConfig,
    ExecuteRequest, RuntimeResponse, SessionLimits, ToolDefinition, ToolResult, WasmBackend,
};
use cellblock_inspect::{About, Recording};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Texts that would run, load, or turn the page around if they were taken for more than text.
const HOSTILE: [&str; 9] = [
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'><svg onload=window.pwned=1>",
    "</style><style>body { display: none }</style><base href='https://example.com'>",
    "<!--<script>\u{2028}window.pwned = 1\u{2029}//",
    "javascript:window.pwned=1",
    "]]>&lt;img src=x onerror=window.pwned=1&gt;&#60;script&#62;",
    "${window.pwned = 1}{{constructor.constructor('window.pwned=1')()}}",
    "\u{202e}desrever si siht\u{2066} and \u{200f}this\u{feff}\u{0}\u{1b}[31m",
    "Z\u{351}\u{36b}\u{343}\u{369}\u{36d}\u{342}a\u{30d}\u{342}\u{300}\u{33e}lgo",
];

/// Answers with what it is given; every seventh call fails with it.
struct Echo;

#[async_trait]
impl CodeModeTurnHost for Echo {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let input = call.input.ok_or("no input")?;
        if call.runtime_tool_call_id.ends_with('7') {
            return Err(input.into_json().map_err(|error| error.to_string())?);
        }
        Ok(input.into())
    }
}

/// Records a program that runs in the sandbox.
async fn record(source: String) -> Recording {
    let limits = CellLimits { output_items: 1_000_000, ..CellLimits::default() };
    let about =
        About { title: HOSTILE[1].to_owned(), source: source.clone(), limits: limits.clone() };
    let recording = Recording::new(about);
    let limits = SessionLimits { cell: limits, ..SessionLimits::default() };
    let engine = Engine::new(&EngineConfig::default()).expect("an engine");
    let service = CodeModeService::new(Arc::new(WasmBackend::with_limits(&engine, limits)));
    let _turn = service.start_turn_worker(Arc::new(Echo));
    let tools = ["echo", "<b onclick=window.pwned=1>", "a\u{202e}b"];
    let request = ExecuteRequest {
        enabled_tools: tools.map(|name| ToolDefinition::function(name, name)).into(),
        yield_time_ms: Some(600_000),
        monitor: recording.monitor(),
        ..ExecuteRequest::new(source)
    };
    let response = service.execute(request).await.expect("it is admitted");
    assert!(matches!(response, RuntimeResponse::Result { .. }), "{response:?}");
    recording
}

/// Asserts that a page's own policy lets no text become markup or code, and loads nothing,
/// even if its script tried to.
pub fn assert_strict(page: &mut Page) {
    for attempt in [
        "document.body.innerHTML = '<img src=x onerror=window.pwned=1>'",
        "document.write('<script>window.pwned=1</script>')",
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.pwned=1' }))",
        "document.createElement('iframe').srcdoc = '<script>parent.pwned=1</script>'",
        "setTimeout('window.pwned=1')",
        "new DOMParser().parseFromString('<b>x</b>', 'text/html')",
    ] {
        let name = page.evaluate(&format!(
            "(() => {{ try {{ {attempt}; return 'done' }} catch (error) {{ return error.name }} }})()"
        ));
        assert_eq!(name, "TypeError", "{attempt}");
    }
    page.evaluate(
        "window.violated = []; document.addEventListener('securitypolicyviolation', (event) => \
         window.violated.push(event.effectiveDirective))",
    );
    page.evaluate("fetch('https://example.com/').catch(() => 0); new Image().src = 'https://example.com/x.png'");
    page.until("['connect-src', 'img-src'].every((each) => window.violated.includes(each))");
    assert_eq!(page.evaluate("window.pwned === undefined"), true);
}

/// Asserts that nothing of a recording runs or loads anything, at any width, and that the
/// page has its place on a screen.
fn assert_harmless(browser: &Browser, recording: &Recording, name: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("page.html");
    std::fs::write(&path, recording.page()).expect("a file");
    let url = format!("file://{}", path.display());
    let mut page = browser.open(&url, WIDTHS[0]);
    page.until("document.querySelector('.code') !== null");
    let text = page.text();
    page.picture(&format!("{name}-{}", WIDTHS[0]));
    page.resize(WIDTHS[1]);
    page.picture(&format!("{name}-{}", WIDTHS[1]));
    // What can be opened is opened.
    page.evaluate(
        "(async () => { for (const each of document.querySelectorAll('details, button')) { \
         each.open = true; each.click(); } })()",
    );
    page.evaluate("new Promise((done) => setTimeout(done, 300))");
    for width in WIDTHS {
        page.resize(width);
        page.evaluate("new Promise((done) => requestAnimationFrame(() => done()))");
        let wide = page.evaluate("document.documentElement.scrollWidth");
        assert!(wide.as_u64() <= Some(width.into()), "{name}: {wide} wide on {width}");
    }
    assert_eq!(page.evaluate("window.pwned === undefined"), true, "{name}: it ran");
    let inert = "document.querySelectorAll('#page script, #page style, #page svg [onload], \
        iframe, object, embed, base, form, [onclick], [onerror]').length";
    assert_eq!(page.evaluate(inert), 0, "{name}");
    let requests = page.events(&["Network.requestWillBeSent"]);
    let loaded: Vec<_> = requests.iter().map(|event| &event["params"]["request"]["url"]).collect();
    let own = |loaded: &&serde_json::Value| {
        loaded.as_str().is_some_and(|loaded| loaded == url || loaded.starts_with("data:image/png"))
    };
    assert!(loaded.iter().all(own), "{name}: {loaded:?}");
    let troubles = page.events(&[
        "Runtime.exceptionThrown",
        "Log.entryAdded",
        "Page.javascriptDialogOpening",
        "Page.windowOpen",
    ]);
    assert!(troubles.is_empty(), "{name}: {troubles:?}");
    assert_strict(&mut page);
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_stay_texts_everywhere() {
    let Some(browser) = Browser::start() else { return };
    let texts = json!(HOSTILE);
    let source = format!(
        "// {} {}\nconst hostile = {texts}; hostile.push('\\ud800', '\\udc00<\\ud83d\\ude00>');\n\
         for (const each of hostile) {{ text(each); notify(each); }}\n\
         const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';\n\
         image(`data:image/png;base64,${{png}}`);\n\
         image(`data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9IndpbmRvdy5wd25lZD0xIi8+`);\n\
         for (const name of Object.keys(tools)) \
         for (const each of hostile) try {{ await tools[name](each) }} catch (error) {{ text(error) }}\n\
         /* {} */\n\
         throw new Error(hostile.join('\\n'))",
        HOSTILE[6],
        HOSTILE[0],
        "x".repeat(100_000),
    );
    let recording = record(source).await;
    let text = assert_harmless(&browser, &recording, "hostile");
    assert!(text.contains("</script><script>window.pwned = 1</script>"), "{text}");
    assert!(text.contains("⟨U+202E⟩desrever si siht⟨U+2066⟩"), "{text}");
    assert!(text.contains("⟨U+0000⟩⟨U+001B⟩[31m"), "{text}");
    assert!(!text.contains(['\u{202e}', '\u{2066}', '\u{200f}', '\u{feff}']), "{text}");
    assert!(text.contains("more characters"), "a long line is cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_a_page_like_others() {
    let Some(browser) = Browser::start() else { return };
    let source = "
        for (let i = 0; i < 100_000; i++) text(`item ${i}`);
        for (let i = 0; i < 100; i++) {
            const some = Array.from({ length: 100 }, (_, j) => tools.echo({ i, j }).catch(() => 0));
            await Promise.all(some);
        }
        text('y'.repeat(1_000_000));
        text('the end');"
        .to_owned()
        + &"\n".repeat(20_000);
    let recording = record(source).await;
    let text = assert_harmless(&browser, &recording, "flood");
    assert!(text.contains("It made 10,000 calls of echo, of which 1,000 failed."), "{text}");
    assert!(text.contains("were counted and not kept"), "{text}");
    assert!(text.contains("item 0"), "{text}");
    // Neither is the page large, nor does it show everything at once.
    assert!(recording.page().len() < 8 << 20, "{}", recording.page().len());
    assert!(text.lines().count() < 3_000, "{}", text.lines().count());
}
