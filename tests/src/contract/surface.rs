//! What a program finds, and what its helpers do.

use super::bench::{Bench, assert_completed, error_of, texts_of};
use crate::backends::Backends;
use cellblock::{ContentItem, ExecuteRequest, ImageDetail, ToolDefinition};

const PNG: &str = "data:image/png;base64,iVBORw0KGgo=";

/// The names that the global object may have.
const ALLOWED: &str = "AggregateError ALL_TOOLS Array ArrayBuffer AsyncDisposableStack BigInt \
    BigInt64Array BigUint64Array Boolean clearTimeout DataView Date DisposableStack Error EvalError \
    FinalizationRegistry Float16Array Float32Array Float64Array Function Infinity Int16Array \
    Int32Array Int8Array Intl Iterator JSON Map Math NaN Number Object Promise Proxy RangeError \
    ReferenceError Reflect RegExp Set String SuppressedError Symbol SyntaxError Temporal TypeError \
    URIError Uint16Array Uint32Array Uint8Array Uint8ClampedArray WeakMap WeakRef WeakSet decodeURI \
    decodeURIComponent encodeURI encodeURIComponent escape unescape eval globalThis isFinite isNaN \
    parseFloat parseInt undefined tools text image store load notify exit yield_control setTimeout \
    audio generatedImage";

fn image(url: &str, detail: ImageDetail) -> ContentItem {
    ContentItem::InputImage { image_url: url.to_owned(), detail: Some(detail) }
}

async fn content(backends: Backends, source: &str) -> Vec<ContentItem> {
    let response = Bench::new(backends).execute(source).await;
    assert_eq!(error_of(&response), None, "{source}");
    response.into_content()
}

/// What a helper throws for each call, as text.
async fn thrown(backends: Backends, calls: &[&str]) -> Vec<String> {
    let bench = Bench::new(backends);
    let mut thrown = Vec::new();
    for call in calls {
        let source =
            format!("try {{ {call}; text('nothing') }} catch (e) {{ text(typeof e + ' ' + e) }}");
        thrown.extend(bench.texts(&source).await);
    }
    thrown
}

/// `exit()` ends the script with what it has said.
pub async fn synchronous_exit_returns_successfully(backends: Backends) {
    let bench = Bench::new(backends);
    let response = bench.execute("text('before'); exit(); text('after')").await;
    assert_completed(&response, &["before"]);
}

/// `exit()` is not an exception that a script can see, wherever it is called.
pub async fn exit_cannot_be_caught_and_runs_no_finally(backends: Backends) {
    let bench = Bench::new(backends);
    for source in [
        "try { exit() } catch { text('caught') } finally { text('finally') } text('after')",
        "(async () => { exit() })(); text('after')",
        "setTimeout(() => exit(), 1); await new Promise(() => {}).finally(() => text('finally'))",
        "await Promise.resolve().then(exit).catch(() => text('caught')); text('after')",
        "new Promise(() => exit()); text('after'); while (true) {}",
        "[1].forEach(exit); text('after')",
        "JSON.stringify({ toJSON() { exit() } }); text('after')",
        "text({ get a() { exit() } }); text('after')",
        "function* g() { try { yield 1 } finally { text('finally') } } for (const _ of g()) exit()",
        "for await (const _ of (async function* () { try { yield 1 } finally { text('f') } })()) exit()",
        "await tools.echo({ toJSON() { exit() } }); text('after')",
        "[3, 1, 2].sort(() => exit()); text('after')",
        "'x'.replace(/x/, () => exit()); text('after')",
        "new Proxy({}, { get() { exit() } }).a; text('after')",
    ] {
        assert_completed(&bench.execute(source).await, &[]);
    }
}

/// There is no console.
pub async fn console_is_not_exposed_on_global_this(backends: Backends) {
    let texts = Bench::new(backends).texts("text(Object.hasOwn(globalThis, 'console'))").await;
    assert_eq!(texts, ["false"]);
}

/// Nothing is in the global scope that is not on the list.
pub async fn global_scope_contains_only_allowed_items(backends: Backends) {
    let source = "text(Reflect.ownKeys(globalThis).map(String).join('\\n'))";
    let texts = Bench::new(backends).texts(source).await;
    let allowed: Vec<_> = ALLOWED.split_whitespace().collect();
    for name in texts[0].lines() {
        assert!(allowed.contains(&name) || name == "Symbol(Symbol.toStringTag)", "{name}");
    }
    let source = "for (const n of ['text', 'tools', 'setTimeout']) {
        const p = Object.getOwnPropertyDescriptor(globalThis, n);
        text([p.writable, p.enumerable, p.configurable, globalThis[n].name, globalThis[n].length].join()) }";
    let texts = Bench::new(backends).texts(source).await;
    assert_eq!(texts, ["true,true,true,,0", "true,true,true,,", "true,true,true,,0"]);
}

/// Helpers return undefined and speak in order.
pub async fn output_helpers_return_undefined(backends: Backends) {
    let source = format!(
        "const all = [text('a'), image('{PNG}'), audio('data:audio/wav;base64,aGk='), notify('n')];
         text(all.every((r) => r === undefined))"
    );
    let content = content(backends, &source).await;
    assert_eq!(content.len(), 4);
    assert_eq!(content[0], ContentItem::InputText { text: "a".to_owned() });
    assert_eq!(content[3], ContentItem::InputText { text: "true".to_owned() });
}

/// Objects are shown as JSON.
pub async fn text_helper_serializes_objects(backends: Backends) {
    assert_eq!(Bench::new(backends).texts("text({ json: true })").await, ["{\"json\":true}"]);
}

/// What cannot be shown fails the script, in V8's words.
pub async fn text_helper_surfaces_stringify_errors(backends: Backends) {
    let response = Bench::new(backends).execute("const o = {}; o.o = o; text(o)").await;
    let error = error_of(&response).expect("it fails");
    assert!(error.contains("Converting circular structure to JSON"), "{error}");
    assert!(texts_of(&response).is_empty());
}

/// An MCP block may ask for its original detail.
pub async fn image_helper_accepts_raw_mcp_image_block_with_original_detail(backends: Backends) {
    let source = "image({ type: 'image', data: 'aGk=', mimeType: 'image/png',
        _meta: { 'codex/imageDetail': 'original' } })";
    let expected = image("data:image/png;base64,aGk=", ImageDetail::Original);
    assert_eq!(content(backends, source).await, [expected]);
}

/// The second argument counts more than the object's own detail.
pub async fn image_helper_second_arg_overrides_explicit_object_detail(backends: Backends) {
    let source = format!("image({{ image_url: '{PNG}', detail: 'low' }}, 'auto')");
    assert_eq!(content(backends, &source).await, [image(PNG, ImageDetail::Auto)]);
}

/// The second argument counts more than the block's own detail.
pub async fn image_helper_second_arg_overrides_raw_mcp_image_detail(backends: Backends) {
    let source = "image({ type: 'image', data: 'aGk=', mimeType: 'image/png',
        _meta: { 'codex/imageDetail': 'original' } }, 'low')";
    let expected = image("data:image/png;base64,aGk=", ImageDetail::Low);
    assert_eq!(content(backends, source).await, [expected]);
}

/// A whole tool result is not an image.
pub async fn image_helper_rejects_raw_mcp_result_container(backends: Backends) {
    let call = "image({ content: [{ type: 'image', data: 'aGk=', mimeType: 'image/png' }] })";
    let expected = "string image expects a non-empty image URL string, an object with image_url and \
                    optional detail, or a raw MCP image block";
    assert_eq!(thrown(backends, &[call]).await, [expected]);
}

/// Low detail is a detail.
pub async fn image_helper_accepts_low_detail(backends: Backends) {
    let source = format!("image('{PNG}', 'low')");
    assert_eq!(content(backends, &source).await, [image(PNG, ImageDetail::Low)]);
}

/// Medium is none.
pub async fn image_helper_rejects_unsupported_detail(backends: Backends) {
    let call = format!("image('{PNG}', 'medium')");
    let expected = "string image detail must be one of: auto, low, high, original";
    assert_eq!(thrown(backends, &[&call]).await, [expected]);
}

/// Remote images are refused by `image` and `generatedImage`.
pub async fn image_helpers_reject_remote_urls(backends: Backends) {
    let expected = "string Tool call failed: remote image URLs are not supported in tool outputs. \
                    Pass a base64 data URI instead";
    let calls = [
        "image('http://x.test/a.png')",
        "image('HTTPS://x.test/a.png')",
        "generatedImage({ image_url: 'https://x.test/a.png' })",
    ];
    assert_eq!(thrown(backends, &calls).await, [expected; 3]);
}

/// Prose is not an image.
pub async fn image_helpers_reject_invalid_image_outputs(backends: Backends) {
    let expected = "string Tool call failed: invalid image output. Pass a base64 data URI instead";
    let calls =
        ["image('a picture')", "generatedImage({ image_url: 'a picture' })", "image('ftp://x')"];
    assert_eq!(thrown(backends, &calls).await, [expected; 3]);
}

/// The values that the real helpers were seen to give.
pub async fn image_helper_gives_the_oracle_values(backends: Backends) {
    let source = "image('data:garbage'); image('DATA:image/png;base64,invalid');
        image(Object.create({ image_url: 'data:image/png;base64,a' }));
        image({ image_url: undefined, type: 'image', data: 'a' });
        image({ type: 'image', data: 'a', mimeType: 7, mime_type: 'image/png' });
        image({ toJSON() { return { type: 'image', data: 'a' } } });
        image({ image_url: 'data:a', detail: 'ORIGINAL' });
        image({ type: 'image', data: 'a', _meta: { 'codex/imageDetail': 'ORIGINAL' } })";
    let octets = "data:application/octet-stream;base64,a";
    let high = ImageDetail::High;
    let expected = [
        image("data:garbage", high),
        image("DATA:image/png;base64,invalid", high),
        image("data:image/png;base64,a", high),
        image(octets, high),
        image(octets, high),
        image(octets, high),
        image("data:a", ImageDetail::Original),
        image(octets, high),
    ];
    assert_eq!(content(backends, source).await, expected);
}

/// A generated image comes with its hint; a bad hint emits nothing.
pub async fn generated_image_helper_appends_image_and_output_hint(backends: Backends) {
    let source = format!(
        "generatedImage({{ image_url: '{PNG}', output_hint: 'a hint' }});
         try {{ generatedImage({{ image_url: '{PNG}', output_hint: 5 }}) }} catch (e) {{ text(e) }}"
    );
    let text = |text: &str| ContentItem::InputText { text: text.to_owned() };
    let expected = [
        image(PNG, ImageDetail::High),
        text("a hint"),
        text("generatedImage output_hint must be a string when provided"),
    ];
    assert_eq!(content(backends, &source).await, expected);
}

/// Audio takes the same three shapes.
pub async fn audio_helper_accepts_audio_url_object_and_raw_mcp_audio_block(backends: Backends) {
    let source =
        "audio('data:audio/wav;base64,aGk='); audio({ audio_url: 'data:audio/wav;base64,aGk=' });
        audio({ type: 'audio', data: 'aGk=', mimeType: 'audio/wav' })";
    let item = ContentItem::InputAudio { audio_url: "data:audio/wav;base64,aGk=".to_owned() };
    assert_eq!(content(backends, source).await, [item.clone(), item.clone(), item]);
}

/// Audio is data and nothing else.
pub async fn audio_helper_rejects_non_data_urls(backends: Backends) {
    let expected = "string Tool call failed: invalid audio output. Pass a base64 data URI instead";
    let calls = ["audio('https://x.test/a.wav')", "audio('prose')"];
    assert_eq!(thrown(backends, &calls).await, [expected; 2]);
}

/// Helpers throw strings, for every kind of bad argument.
pub async fn helpers_throw_primitive_strings(backends: Backends) {
    let calls = [
        "notify(' ')",
        "setTimeout('x')",
        "clearTimeout(1n)",
        "store(Symbol(), 1)",
        "load(Symbol())",
        "store('k')",
        "tools.echo(Symbol())",
        "text({ get a() { throw 'from a getter' } })",
        "store({ toString() { throw 1 } }, 1)",
        "image({ get image_url() { throw new RangeError('r') } })",
    ];
    let expected = [
        "string notify expects non-empty text",
        "string setTimeout expects a function callback",
        "string clearTimeout expects a numeric timeout id",
        "string store key must be a string",
        "string load key must be a string",
        "string Unable to store \"k\". Only plain serializable objects can be stored.",
        "string failed to serialize JavaScript value: expected value at line 1 column 1",
        "string from a getter",
        "string store key must be a string",
    ];
    let thrown = thrown(backends, &calls).await;
    assert_eq!(thrown[..9], expected);
    assert!(thrown[9].starts_with("string RangeError: r\n    at "), "{}", thrown[9]);
}

/// Helpers do not go through what a script can replace.
pub async fn helpers_are_untouched_by_what_a_script_does_to_built_ins(backends: Backends) {
    let source = "
        const bad = () => { throw 'tampered' };
        JSON.stringify = JSON.parse = bad;
        Array.prototype.map = Array.prototype.push = Array.prototype.join = bad;
        Promise.prototype.then = bad; globalThis.Promise = bad;
        String.prototype.trim = Object.keys = Object.defineProperty = bad;
        Object.prototype.toString = Function.prototype.call = Function.prototype.apply = bad;
        for (const name of ['get', 'set', 'value'])
            Object.prototype[name] = undefined;
        text({ a: [1, { b: 2 }] }); store('k', [1]); text(load('k'));
        text(ALL_TOOLS.length); text(await tools.echo({ x: [1] })); notify('n');
        setTimeout(() => text('timer'), 1); await tools.nap({ ms: 20 });";
    let texts = Bench::new(backends).texts(source).await;
    assert_eq!(texts, ["{\"a\":[1,{\"b\":2}]}", "[1]", "10", "{\"x\":[1]}", "timer"]);
}

/// What the host's parser would refuse is refused where it is called.
pub async fn lone_surrogates_and_deep_nesting_are_refused_as_input(backends: Backends) {
    let calls = [
        "tools.echo('\\ud800')",
        "tools.echo({ a: '\\udc00' })",
        "let a = 1; for (let i = 0; i < 128; i++) a = [a]; tools.echo(a)",
        "store('k', '\\ud83d')",
    ];
    for text in thrown(backends, &calls).await {
        assert!(text.starts_with("string failed to serialize JavaScript value: "), "{text}");
    }
    let fine = "text('\\ud800|'); let a = 1; for (let i = 0; i < 127; i++) a = [a];
        await tools.echo(a); await tools.echo('\\\\ud800 \\ud83e\\udd80'); text(await tools.echo('🦀'))";
    assert_eq!(Bench::new(backends).texts(fine).await, ["\u{FFFD}|", "🦀"]);
}

/// Two tools with one name: the later is called, both are listed.
pub async fn tools_with_one_name_after_normalising_are_both_listed(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "text(Object.keys(tools).join()); text(ALL_TOOLS.map((t) => t.name + t.description).join());
        await tools.a_b()";
    let tools = [ToolDefinition::function("a-b", "1"), ToolDefinition::function("a_b", "2")];
    let request = ExecuteRequest { enabled_tools: tools.into(), ..Bench::request(source) };
    let response = bench.service.execute(request).await.expect("admitted");
    assert_completed(&response, &["a_b", "a_b1,a_b2"]);
    assert_eq!(bench.host.calls()[0].tool_name.name, "a_b");
}

/// `ALL_TOOLS` can be read, changed and replaced.
pub async fn all_tools_is_an_ordinary_array(backends: Backends) {
    let bench = Bench::new(backends);
    let source = "text(Array.isArray(ALL_TOOLS)); text(Object.keys(ALL_TOOLS[0]).join());
        ALL_TOOLS.length = 1; text(ALL_TOOLS.length); ALL_TOOLS = 5; text(ALL_TOOLS);";
    assert_eq!(bench.texts(source).await, ["true", "name,description", "1", "5"]);
    assert_eq!(bench.texts("ALL_TOOLS = 'mine'; text(globalThis.ALL_TOOLS)").await, ["mine"]);
}
