//! `JSON.parse` and `JSON.stringify` of a cell against those of native QuickJS, which
//! are the engine's own, and of Node where it is installed: the same made-up texts and
//! values, the same answers.

#![allow(clippy::print_stdout, reason = "a part that cannot be run says so")]

use cellblock::{CodeModeService, ContentItem, ExecuteRequest, WasmBackend};
use rquickjs::{Context, Runtime};
use std::fmt::Write;
use std::process::Command;
use std::sync::Arc;

/// Cases of a run, in programs of this many.
const PROGRAMS: u64 = 40;
const CASES: usize = 100;

/// Made-up cases, the same on every run: xorshift64.
struct Maker(u64);

impl Maker {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn string(&mut self) -> String {
        let mut text = String::from("\"");
        for _ in 0..self.below(6) {
            text.push_str(self.of(&[
                "a",
                "key",
                "some longer text than sixteen bytes",
                "é",
                "🦀",
                "\u{2028}",
                "\u{7f}",
                "\\n",
                "\\\"",
                "\\\\",
                "\\/",
                "\\u0000",
                "\\u001f",
                "\\ud83e\\udd80",
                "\\ud800",
                "\\udc00",
                "\\uD83E",
                "\\u00e9",
                "0",
                "7",
                "-1",
                "__proto__",
                "toJSON",
                "length",
            ]));
        }
        text + "\""
    }

    /// A JSON text.
    fn json(&mut self, depth: usize) -> String {
        match self.below(if depth > 3 { 4 } else { 7 }) {
            0 => self.string(),
            1 => self.of(&["null", "true", "false", "0", "-0", "-0.0"]).to_owned(),
            2 => self
                .of(&[
                    "1",
                    "-1",
                    "2147483647",
                    "2147483648",
                    "-2147483648",
                    "999999999",
                    "1000000000",
                    "9007199254740993",
                    "123456789012345678901234567890",
                    "0.1",
                    "1.5e300",
                    "1e400",
                    "-1E-400",
                    "5e-324",
                    "2.2250738585072011e-308",
                    "1e21",
                    "1E+2",
                    "0e5",
                ])
                .to_owned(),
            3 => format!("{}.{}", self.below(1_000_000), self.below(1_000_000)),
            4 => {
                let items: Vec<_> = (0..self.below(5)).map(|_| self.json(depth + 1)).collect();
                let between = self.of(&[",", " , ", "\n,\t"]);
                format!("[{}]", items.join(between))
            }
            _ => {
                let key = |maker: &mut Self| match maker.below(3) {
                    0 => maker.string(),
                    _ => format!("\"{}\"", maker.of(&["id", "name", "2", "10", "01", "__proto__"])),
                };
                let members: Vec<_> = (0..self.below(5))
                    .map(|_| format!("{}:{}", key(self), self.json(depth + 1)))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    /// A JSON text, or one that was damaged.
    fn text(&mut self) -> String {
        let mut text = self.json(0);
        if self.below(3) == 0 {
            let at = (0..=text.len()).nth(self.below(text.len() + 1)).unwrap_or_default();
            if text.is_char_boundary(at) {
                let damage = self.of(&["", ",", "]", "}", "\"", "\\", "x", "\u{1}", "1", ".", " "]);
                text.insert_str(at, damage);
                if self.below(2) == 0 {
                    text.truncate(at);
                }
            }
        }
        text
    }

    /// An expression whose value is to be written.
    fn value(&mut self, depth: usize) -> String {
        match self.below(if depth > 3 { 3 } else { 6 }) {
            0 => format!("JSON.parse({})", serde_json::Value::from(self.json(2))),
            1 => self
                .of(&[
                    "undefined",
                    "null",
                    "NaN",
                    "-Infinity",
                    "-0",
                    "1.25",
                    "1e21",
                    "'\\ud800x\\udc00'",
                    "Symbol()",
                    "() => 1",
                    "new Date(0)",
                    "new Map([[1, 2]])",
                    "Object(1)",
                    "Object('s')",
                    "Object(true)",
                    "new Uint8Array(2)",
                    "/x/",
                    "new Error('e')",
                    "[, 1, , 2]",
                    "Object.create({ inherited: 1 })",
                    "new (class A { x = 1 })()",
                    "Object.assign([1, 2], { extra: 1 })",
                    "(function () { return arguments })(1, 2)",
                    "new Proxy({ a: 1 }, {})",
                    "new Proxy([1, 2], {})",
                    "Object.create(null)",
                    "{ toJSON(key) { return 'key ' + key } }",
                    "{ toJSON: 1 }",
                    "{ toJSON() { return { toJSON() { return 'no' } } } }",
                    "{ get a() { return 'got' } }",
                    "Object.defineProperty({ a: 1 }, 'hidden', { value: 2 })",
                    "{ [Symbol()]: 1, b: 2 }",
                ])
                .to_owned(),
            2 => self.string().replace("\\/", "/").replace("\u{2028}", "\\u2028"),
            3 => {
                let items: Vec<_> =
                    (0..self.below(4)).map(|_| format!("({})", self.value(depth + 1))).collect();
                format!("[{}]", items.join(","))
            }
            _ => {
                let mut object = String::from("{");
                for _ in 0..self.below(4) {
                    let key = self.of(&["id", "'a b'", "3", "1", "'\\ud83e'", "é", "toString"]);
                    // Writing to a string cannot fail.
                    let _ = write!(object, "{key}: ({}),", self.value(depth + 1));
                }
                object + "}"
            }
        }
    }
}

/// A program whose value is the answers to some cases, a line each.
fn program(seed: u64) -> String {
    let mut maker = Maker(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut lines = String::new();
    for case in 0..CASES {
        let line = if case % 2 == 0 {
            let text = serde_json::Value::from(maker.text());
            format!("() => walk(JSON.parse({text})),\n")
        } else {
            format!("() => JSON.stringify({}),\n", maker.value(0))
        };
        lines.push_str(&line);
    }
    // Values are compared by what they are, not by what is written of them.
    format!(
        "(() => {{
            const units = (s) => Array.from({{ length: s.length }}, (_, i) => s.charCodeAt(i)).join();
            const walk = (v) => typeof v === 'string' ? 's' + units(v)
                : Object.is(v, -0) ? '-0' : v === null || typeof v !== 'object' ? String(v)
                : Array.isArray(v) ? '[' + v.map(walk).join(';') + ']'
                : '{{' + Reflect.ownKeys(v).map((k) => units(k) + ':' + walk(v[k])).join(';') + '}}';
            const one = (f) => {{
                try {{ return String(f()) }} catch (e) {{ return 'threw ' + e.name }}
            }};
            return [{lines}].map(one).map((s) => escape(s)).join('\\n');
        }})()"
    )
}

fn native(program: &str) -> String {
    let runtime = Runtime::new().expect("a runtime");
    let context = Context::full(&runtime).expect("a context");
    context.with(|ctx| ctx.eval::<String, _>(program).expect("it runs"))
}

fn node(program: &str) -> Option<String> {
    let program = format!("process.stdout.write({program})");
    let output = Command::new("node").args(["-e", &program]).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).ok()
}

fn compare(program: &str, ours: &str, theirs: &str, whose: &str) {
    let cases = program.lines().filter(|line| line.contains("JSON."));
    for (case, (our, their)) in cases.zip(ours.lines().zip(theirs.lines())) {
        assert_eq!(our, their, "{whose} answers otherwise: {case}");
    }
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{whose}");
}

#[tokio::test(flavor = "current_thread")]
async fn json_is_what_the_engine_and_node_make_of_it() {
    let service = CodeModeService::new(Arc::new(WasmBackend::new().expect("a backend")));
    let mut with_node = true;
    for seed in 1..=PROGRAMS {
        let program = program(seed);
        let request = ExecuteRequest::new(format!("text({program})"));
        let response = service.execute(request).await.expect("it is admitted");
        let [ContentItem::InputText { text: ours }] = response.content_items() else {
            panic!("{response:?}")
        };
        compare(&program, ours, &native(&program), "native QuickJS");
        if with_node {
            match node(&program) {
                Some(theirs) => compare(&program, ours, &theirs, "Node"),
                None => with_node = false,
            }
        }
    }
    if !with_node {
        println!("NOTICE: node is not installed, so it was not asked");
    }
}
