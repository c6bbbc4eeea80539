//! The language at its edges: V8's words, its depth, regular expressions and JSON, each
//! beside what the language says or what V8 answered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock::{
    CodeModeService, ContentItem, ExecuteRequest, Language, RuntimeResponse, SessionLimits,
};
use cellblock_tests::backends::Backends;
use cellblock_tests::repository;
use serde::Deserialize;

/// Runs a program to its end; what it printed, and its error.
async fn run(source: &str) -> (Vec<String>, Option<String>) {
    let service = CodeModeService::new(Backends::Wasm.session(SessionLimits::default()));
    let request = ExecuteRequest {
        yield_time_ms: Some(60_000),
        language: Language::Js,
        ..ExecuteRequest::new(source)
    };
    let response = service.execute(request).await.unwrap();
    let error = match &response {
        RuntimeResponse::Result { error_text, .. } => error_text.clone(),
        other => panic!("not ended: {other:?}"),
    };
    let texts = response.into_content().into_iter().map(|item| match item {
        ContentItem::InputText { text } => text,
        other => panic!("not text: {other:?}"),
    });
    (texts.collect(), error)
}

/// Asserts that a program prints this and ends well.
async fn prints(source: &str, expected: &[&str]) {
    let (texts, error) = run(source).await;
    assert_eq!((texts.as_slice(), error.as_deref()), (&expected.map_owned()[..], None), "{source}");
}

trait MapOwned {
    fn map_owned(&self) -> Vec<String>;
}

impl MapOwned for [&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|&text| text.to_owned()).collect()
    }
}

/// Functions that throw, and what V8 says then.
#[derive(Deserialize)]
struct Words {
    prelude: String,
    cases: Vec<(String, String)>,
}

#[tokio::test]
async fn errors_of_built_ins_have_v8s_words() {
    let text = std::fs::read_to_string(repository("tests/language/words.json")).unwrap();
    let words: Words = serde_json::from_str(&text).unwrap();
    let sources: Vec<_> = words.cases.iter().map(|(source, _)| source.as_str()).collect();
    let program = format!(
        "{}\nfor (const failing of [{}]) {{ try {{ failing(); text('nothing') }} \
         catch (e) {{ text(`${{e.name}}: ${{e.message}}`) }} }}",
        words.prelude,
        sources.join(",\n")
    );
    let (texts, error) = run(&program).await;
    assert_eq!(error, None);
    assert_eq!(texts.len(), words.cases.len());
    for ((source, expected), text) in words.cases.iter().zip(&texts) {
        assert_eq!(text, expected, "{source}");
    }
}

/// Recursions, and the depth that V8 reaches by default.
const RECURSIONS: [(&str, u32); 14] = [
    ("const f = () => { d++; return 1 + f() }; f()", 13_300),
    ("const f = async () => { d++; return 1 + await f() }; await f()", 11_600),
    ("function* f() { d++; yield* f() } [...f()]", 5_900),
    ("const f = () => { d++; [1, 2].sort(() => f()) }; f()", 1_900),
    ("const f = () => { d++; [1].map(() => f()) }; f()", 1_900),
    ("const f = () => { d++; 'a'.replace(/a/g, () => f()) }; f()", 1_900),
    ("const f = () => { d++; JSON.stringify({ toJSON() { return f() } }) }; f()", 1_900),
    ("const f = () => { d++; JSON.stringify([1], () => f(), 2) }; f()", 1_900),
    ("const f = () => { d++; JSON.parse('[1]', () => f()) }; f()", 1_900),
    ("const o = { get x() { d++; return this.x } }; o.x", 5_000),
    ("const p = new Proxy({}, { get(t, k, r) { d++; return r[k] } }); p.x", 5_000),
    ("const o = { toString() { d++; return `${o}` } }; `${o}`", 1_900),
    ("class A { x = (d++, new A()) } new A()", 3_000),
    ("globalThis.f = () => { d++; (0, eval)('f()') }; f()", 1_900),
];

#[tokio::test]
async fn recursion_goes_as_deep_as_in_v8_and_ends_with_an_error_that_can_be_caught() {
    for (source, depth) in RECURSIONS {
        let program = format!(
            "let d = 0; try {{ {source} }} catch (e) {{ text(e instanceof RangeError) }} \
             text(d >= {depth} || d); const again = n => n && 1 + again(n - 1); text(again(5000))"
        );
        prints(&program, &["true", "true", "5000"]).await;
    }
}

/// A proxy's handler may define what its target then has, and a refused element changes nothing.
#[tokio::test]
async fn properties_are_defined_through_proxies_and_beyond_arrays() {
    let source = "
        const handler = { defineProperty(t, k, d) { return Reflect.defineProperty(t, k, d) } };
        const target = { f: 0 };
        const proxy = new Proxy(target, handler);
        text(Reflect.defineProperty(proxy, 'f', { value: 1, configurable: false }));
        text(Reflect.defineProperty(proxy, 'd', { value: 2, writable: true }));
        text(JSON.stringify(Object.getOwnPropertyDescriptors(target)));
        const lies = new Proxy(target, { defineProperty: () => true });
        try { Object.defineProperty(lies, 'd', { writable: false }) } catch (e) { text(e.name) }
        const closed = Object.preventExtensions([1]);
        text(Reflect.defineProperty(closed, 2, { get() {} })); text(Reflect.set(closed, '5', 1));
        text(closed.length);";
    let described = r#"{"f":{"value":1,"writable":true,"enumerable":true,"configurable":false},"d":{"value":2,"writable":true,"enumerable":false,"configurable":false}}"#;
    prints(source, &["true", "true", described, "TypeError", "false", "false", "1"]).await;
}

/// Pieces of source that nest: before, in the middle, behind.
const NESTED: [(&str, &str, &str); 14] = [
    ("(", "1", ")"),
    ("[", "", "]"),
    ("- ", "1", ""),
    ("1?", "1", ":1"),
    ("a=>", "1", ""),
    ("(function(){", "", "})"),
    ("(class{x=", "1", "})"),
    ("class A{static{", "", "}}"),
    ("(class extends ", "A", "{})"),
    ("`${", "1", "}`"),
    ("a[", "1", "]"),
    ("{", "", "}"),
    ("if(1)", ";", ""),
    ("try{", "", "}finally{}"),
];

#[tokio::test]
async fn source_that_nests_too_deep_is_an_error_that_can_be_caught() {
    for (before, middle, behind) in NESTED {
        let program = format!(
            "for (const n of [500, 200000]) {{ let end = 'compiled'; \
             try {{ new Function({before:?}.repeat(n) + {middle:?} + {behind:?}.repeat(n)) }} \
             catch (e) {{ end = e.name }} text(end) }}"
        );
        prints(&program, &["compiled", "RangeError"]).await;
    }
    // The parser has its own share of the stack, however deep the program is.
    prints(
        "const source = '('.repeat(3000) + '1' + ')'.repeat(3000); let d = 0, at = 0; \
         const f = () => { if (++d % 4000 === 0) { (0, eval)(source); at = d } f() }; \
         try { f() } catch (e) { text(e instanceof RangeError) } text(at >= 12000)",
        &["true", "true"],
    )
    .await;
    prints(
        "for (const part of ['(?:', '(?=', '[']) { let end = 'compiled'; \
         try { new RegExp(part.repeat(500000), part === '[' ? 'v' : '') } \
         catch (e) { end = e.name } text(end) }",
        &["SyntaxError", "SyntaxError", "SyntaxError"],
    )
    .await;
}

#[tokio::test]
async fn a_regular_expression_has_as_many_groups_as_in_v8() {
    prints("text(new RegExp('(a)?'.repeat(300)).exec('aaa').length)", &["301"]).await;
    prints("text(new RegExp('()'.repeat(65534)).exec('').length)", &["65535"]).await;
    prints(
        "try { new RegExp('()'.repeat(65535)) } catch (e) { text(e.message.slice(-17)) }",
        &["Too many captures"],
    )
    .await;
    prints(
        "const r = new RegExp('(x)'.repeat(299) + '(b)c\\\\300'); \
         text(r.test('x'.repeat(299) + 'bcb')); text(r.test('x'.repeat(299) + 'bcx'))",
        &["true", "false"],
    )
    .await;
    prints(
        "const r = new RegExp('(?:' + '(a)?'.repeat(300) + '(b))+'); \
         const m = r.exec('aaabab'); text([m[1], m[2], m[301]]); text(m[0])",
        &["[\"a\",null,\"b\"]", "aaabab"],
    )
    .await;
    prints(
        "const r = new RegExp('(?:' + '(a)?'.repeat(280) + '){2,3}?c'); text(r.exec('aaaac')[0])",
        &["aaaac"],
    )
    .await;
    prints(
        "const r = new RegExp('(?<=' + '(a)?'.repeat(280) + '(b))c'); text(r.exec('aabc')[281])",
        &["b"],
    )
    .await;
    prints(
        "const names = Array.from({ length: 400 }, (_, i) => `(?<y>k${i}_)`).join('|'); \
         const r = new RegExp(`(?:${names})\\\\k<y>`); const m = r.exec('k399_k399_'); \
         text(m.groups.y); text(m[400])",
        &["k399_", "k399_"],
    )
    .await;
}

#[tokio::test]
async fn long_lists_are_spread() {
    prints(
        "const a = Array.from({ length: 200000 }, (_, i) => i); const b = []; b.push(...a); \
         text(b.length); text(Math.max(...a)); text(new Array(...a).length); \
         text(String.fromCharCode(...a.fill(65)).length); text(((...r) => r.length)(...a)); \
         text((function () { return arguments.length })(...a)); \
         text((async (...r) => r)(...a) instanceof Promise); \
         text((() => 1).bind(null, 1)(...a)); text(Reflect.construct(Array, a).length)",
        &["200000", "199999", "200000", "200000", "200000", "200000", "true", "1", "200000"],
    )
    .await;
    prints(
        "for (const f of [() => Math.max.apply(null, { length: 2 ** 31 }), \
         () => Math.max(...Array(2 ** 21))]) { try { f() } catch (e) { text(e.name) } }",
        &["RangeError", "RangeError"],
    )
    .await;
}

/// Replacements by a global expression, each made in one pass and, for comparison, match
/// by match by an expression whose `exec` is the program's.
#[tokio::test]
async fn replace_with_a_global_expression_gives_what_the_language_says() {
    prints(
        r#"
        class Slow extends RegExp { exec(s) { return super.exec(s) } }
        const subjects = ["", "abc", "a1b22c333", "aaa", "héllo wörld", "😀a😀", "x".repeat(50), "\ud83d x \ude00"];
        const patterns = [["a", "g"], ["", "g"], ["", "gu"], ["(\\d)(\\d)?", "g"], ["(?<first>[a-z])(?<second>\\d)?", "g"],
          ["\\b", "g"], ["a", "gy"], [".", "gu"], [".", "gv"], ["(?:)", "gy"], ["(?<=a)", "g"], ["$", "gm"], ["(?<k>a)|(?<k>b)", "g"], ["[^]", "g"]];
        const texts = ["", "-", "$&$&", "[$1|$2|$3]", "$<first>$<none>", "$$", "$`", "$'", "$0 $10", "$<", "$"];
        const functions = [(...a) => JSON.stringify(a), () => undefined, m => m.toUpperCase(), () => ({ toString: () => "o" })];
        let compared = 0;
        for (const s of subjects) for (const [p, f] of patterns) for (const by of [...texts, ...functions]) {
          const plain = new RegExp(p, f), slow = new Slow(p, f);
          plain.lastIndex = slow.lastIndex = 7;
          const [got, expected] = [s.replace(plain, by), s.replace(slow, by)];
          if (got !== expected || plain.lastIndex !== slow.lastIndex) text([s, p, f, String(by), got, expected]);
          if (s.replaceAll(plain, by) !== expected) text(["all", s, p]);
          compared++;
        }
        text(compared);
        "#,
        &["1680"],
    )
    .await;
    prints(
        "const r = /a/g; const seen = []; \
         text('aXa'.replace(r, () => { seen.push(r.lastIndex); r.compile('X', 'g'); r.lastIndex = 5; return 'b' })); \
         text(seen); text(r.lastIndex)",
        &["bXb", "[0,5]", "5"],
    )
    .await;
    prints(
        "try { 'aaa'.replace(/a/g, () => { throw new Error('mine') }) } catch (e) { text(e.message) } \
         try { 'aaa'.replace(Object.freeze(/a/g), 'b') } catch (e) { text(e.name) }",
        &["mine", "TypeError"],
    )
    .await;
    // 0.9 million matches, in the memory that the result takes.
    prints(
        "const s = 'a b  c\\n'.repeat(300000); text(s.replace(/\\s+/g, ' ').length); \
         text(s.replace(/\\s+/g, m => m[0]).length)",
        &["1800000", "1800000"],
    )
    .await;
}

#[tokio::test]
async fn the_last_match_can_be_read_from_regexp() {
    prints(
        "text([RegExp.$1, RegExp.lastMatch, RegExp.input]); /(\\d+)-(\\d+)/.test('x 10-20 y'); \
         text([RegExp.$1, RegExp.$2, RegExp.$3, RegExp.lastMatch, RegExp['$&'], RegExp.lastParen, \
               RegExp['$+'], RegExp.leftContext, RegExp['$`'], RegExp.rightContext, RegExp[\"$'\"], \
               RegExp.input, RegExp.$_]); \
         /nothing/.test('zzz'); text(RegExp.$1); \
         RegExp.$1 = 'mine'; RegExp.input = 5; text([RegExp.$1, RegExp.input]); \
         /b(c)?/.exec('abd'); text([RegExp.$1, RegExp.lastParen, RegExp.input]); \
         'aXbX'.replace(/(X)/g, () => { text([RegExp.$1, RegExp.leftContext]); /(q)/.test('q'); return 'y' }); \
         text(RegExp.$1); 'kXk'.split(/(X)/); text(RegExp.leftContext); \
         text(Object.getOwnPropertyNames(RegExp).join()); \
         const d = Object.getOwnPropertyDescriptor(RegExp, '$1'); text([d.enumerable, d.configurable])",
        &[
            r#"["","",""]"#,
            r#"["10","20","","10-20","10-20","20","20","x ","x "," y"," y","x 10-20 y","x 10-20 y"]"#,
            "10",
            r#"["10","5"]"#,
            r#"["","","abd"]"#,
            r#"["X","aXb"]"#,
            r#"["q",""]"#,
            "q",
            "k",
            "length,name,prototype,input,$_,lastMatch,$&,lastParen,$+,leftContext,$`,rightContext,$',$1,$2,$3,$4,$5,$6,$7,$8,$9,escape",
            "[false,true]",
        ],
    )
    .await;
}

#[tokio::test]
async fn json_is_written_with_replacers_and_indentation() {
    prints(
        r#"
        const v = { a: [1, [], {}, [2]], b: undefined, c: { d: "x", toJSON(k) { return { k } } }, 1: true };
        text(JSON.stringify(v, null, 2));
        text(JSON.stringify(v, ["c", "a", "k", 1, "c", {}, new String("b")], "--"));
        const seen = [];
        text(JSON.stringify({ x: { y: [5] } }, function (k, v) { seen.push([k, typeof v, Object.keys(this).length]); return k === "0" ? v + 1 : v }));
        text(seen);
        text([JSON.stringify([1], null, 20).length, JSON.stringify([1], null, "0123456789abc").length, JSON.stringify([1], null, -1), JSON.stringify([1], null, new Number(1)), JSON.stringify([], null, 3), JSON.stringify({ a() {} }, null, 3)]);
        text(String(JSON.stringify(1, () => undefined)));
        "#,
        &[
            "{\n  \"1\": true,\n  \"a\": [\n    1,\n    [],\n    {},\n    [\n      2\n    ]\n  ],\n  \"c\": {\n    \"k\": \"c\"\n  }\n}",
            "{\n--\"c\": {\n----\"k\": \"c\"\n--},\n--\"a\": [\n----1,\n----[],\n----{},\n----[\n------2\n----]\n--],\n--\"1\": true\n}",
            r#"{"x":{"y":[6]}}"#,
            r#"[["","object",1],["x","object",1],["y","object",1],["0","number",1]]"#,
            r#"[15,15,"[1]","[\n 1\n]","[]","{}"]"#,
            "undefined",
        ],
    )
    .await;
}

#[tokio::test]
async fn json_may_have_lone_surrogates() {
    prints(
        "for (const s of ['\\ud83d', 'a\\ude00b', '\\ude00\\ud83d']) { \
         text(JSON.parse(`\"${s}\"`) === s); text(JSON.parse(`{\"${s}\":[1]}`)[s][0]); \
         text(JSON.parse(`[\"${s}\"]`, (k, v) => v)[0] === s) }",
        &["true", "1", "true", "true", "1", "true", "true", "1", "true"],
    )
    .await;
}

#[tokio::test]
async fn raw_json_is_written_as_it_is() {
    prints(
        "text(JSON.stringify({ a: JSON.rawJSON('1e1000'), b: [JSON.rawJSON('\"x\"')] })); \
         text(JSON.rawJSON('12345678901234567890'))",
        &["{\"a\":1e1000,\"b\":[\"x\"]}", "12345678901234567890"],
    )
    .await;
}

/// Structures that make themselves as they are read are refused in good time.
#[tokio::test]
async fn endless_structures_are_an_error_that_can_be_caught() {
    for source in [
        "const o = { a: 1 }; o.self = o; JSON.stringify(o, (k, v) => v && typeof v === 'object' ? { ...v } : v)",
        "const g = () => ({ get a() { return g() } }); JSON.stringify(g(), null, 2)",
        "const g = () => ({ get a() { return g() } }); JSON.stringify(g(), null, '0123456789')",
        "const g = () => ({ get a() { return g() } }); JSON.stringify(g(), ['a'])",
        "JSON.stringify([], (k, v) => [v])",
        "const g = () => ({ toJSON() { return [g()] } }); text(g())",
    ] {
        let began = std::time::Instant::now();
        let program = format!(
            "try {{ {source} }} catch (e) {{ text(/^(RangeError: )?Maximum call/.test(e.message ?? e)) }}"
        );
        prints(&program, &["true"]).await;
        assert!(began.elapsed() < std::time::Duration::from_millis(1500), "{source}");
    }
}

#[tokio::test]
async fn json_that_is_cut_off_is_a_syntax_error_at_any_depth() {
    prints(
        "try { JSON.parse('['.repeat(200000)) } catch (e) { text(e.message) } \
         text(JSON.parse('['.repeat(30000) + ']'.repeat(30000)).length); \
         try { JSON.parse('['.repeat(2000000) + ']'.repeat(2000000)) } catch (e) { text(e.name) }",
        &["Unexpected end of JSON input", "1", "RangeError"],
    )
    .await;
}

#[tokio::test]
async fn what_prepare_stack_trace_throws_is_thrown_to_the_reader_of_the_stack() {
    prints(
        "Error.prepareStackTrace = () => { throw new TypeError('mine') }; \
         const e = new Error('x'); try { e.stack; text('nothing') } catch (thrown) { text(thrown.message) } \
         text(e.message); Error.prepareStackTrace = (e, sites) => sites.length; text(new Error('y').stack)",
        &["mine", "x", "1"],
    )
    .await;
}

#[tokio::test]
async fn dates_name_their_time_zone() {
    prints(
        "text(String(new Date(0))); text(new Date(0).toTimeString()); text(String(new Date(-8.64e15)))",
        &[
            "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)",
            "00:00:00 GMT+0000 (Coordinated Universal Time)",
            "Tue Apr 20 -271821 00:00:00 GMT+0000 (Coordinated Universal Time)",
        ],
    )
    .await;
}

/// Iterators whose `return` takes a while, is missing, or fails itself.
const CLOSING: [(&str, &[&str]); 9] = [
    (
        "try { for await (const x of it()) throw new Error('body') } catch (e) { text(e.message) }",
        &["next", "return", "waited", "body"],
    ),
    ("for await (const x of it()) { if (x) break }", &["next", "return", "waited"]),
    (
        "const f = async () => { for await (const x of it()) return x }; text(await f())",
        &["next", "return", "waited", "1"],
    ),
    (
        "try { for await (const { a: { b } } of it()) {} } catch (e) { text(e.name) }",
        &["next", "return", "waited", "TypeError"],
    ),
    ("out: for (;;) for await (const x of it()) break out", &["next", "return", "waited"]),
    (
        "try { for await (const x of it({ fails: 'next' })) {} } catch (e) { text(e.message) }",
        &["next", "next"],
    ),
    (
        "try { for await (const x of it({ fails: 'return' })) throw new Error('body') } \
         catch (e) { text(e.message) }",
        &["next", "return", "waited", "body"],
    ),
    (
        "const o = it(); delete o.return; \
         try { for await (const x of o) throw new Error('body') } catch (e) { text(e.message) }",
        &["next", "body"],
    ),
    (
        "function* g() { try { yield Promise.reject(new Error('value')) } finally { text('closed') } } \
         try { for await (const x of g()) {} } catch (e) { text(e.message) }",
        &["closed", "value"],
    ),
];

#[tokio::test]
async fn for_await_waits_for_the_iterator_that_it_closes() {
    for (source, expected) in CLOSING {
        let program = format!(
            "const later = () => new Promise(resolve => setTimeout(resolve, 1)); \
             const it = ({{ fails }} = {{}}) => ({{ [Symbol.asyncIterator]() {{ return this }}, \
               async next() {{ text('next'); if (fails === 'next') throw new Error('next'); \
                 return {{ value: 1, done: false }} }}, \
               async return() {{ text('return'); await later(); text('waited'); \
                 if (fails === 'return') throw new Error('return'); return {{}} }} }}); {source}"
        );
        prints(&program, expected).await;
    }
    // Each iteration has variables of its own, and generators wait in the middle of a loop.
    prints(
        "async function* g() { try { for await (const x of [1, 2, 3]) yield () => x } \
         finally { text('left') } } const fs = []; \
         for await (const f of g()) { fs.push(f); if (fs.length === 2) break } \
         text(fs.map(f => f()))",
        &["left", "[1,2]"],
    )
    .await;
}

#[tokio::test]
async fn operands_are_evaluated_in_the_order_of_the_language() {
    let key = "const log = []; const say = (what, value) => (log.push(what), value); \
               const key = name => ({ toString() { log.push(`key ${name}`); return name } });";
    for (source, expected) in [
        (
            "say('target', {})[say('member', key('a'))] = say('value', 1)",
            "target,member,value,key a",
        ),
        ("[say('target', {})[key('a')]] = say('value', [1])", "value,target,key a"),
        (
            "({ [say('first', key('a'))]: say('value', 1), b: say('second') })",
            "first,key a,value,second",
        ),
        (
            "({ [key('a')]: say('target', {})[key('b')] } = say('value', { a: 1 }))",
            "value,key a,target,key b",
        ),
        ("const o = { a: 1 }; o[key('a')] += say('value', 1)", "key a,value"),
        ("class A { m() { super[key('a')] = say('value', 1) } } new A().m()", "value,key a"),
    ] {
        prints(&format!("{key} {source}; text(log.join())"), &[expected]).await;
    }
}

#[tokio::test]
async fn a_pattern_is_assigned_to_only_where_an_assignment_may_stand() {
    for source in ["1 + {} = 0", "-[] = []", "'a' in {} = 0", "x || [a] = [1]", "await {} = {}"] {
        let program = format!(
            "try {{ new Function('x', 'a', {source:?}); text('compiled') }} \
             catch (e) {{ text(e.name) }}"
        );
        prints(&program, &["SyntaxError"]).await;
    }
    prints(
        "let a, b; [a, b = a] = [1]; ({ a } = { a: 2 }); [a, [b]] = [b, [a]]; text([a, b]); \
         const f = (x = [a] = [7]) => x; text([f(), a]); text((1, [a] = [8], a)); \
         text(a ? [b] = [9] : 0); const g = ({ c } = {}, [d] = []) => [c, d]; text(g()); \
         class A { get\n*c() {} } text('get' in new A())",
        &["[1,2]", "[[7],7]", "8", "[9]", "[null,null]", "true"],
    )
    .await;
}
