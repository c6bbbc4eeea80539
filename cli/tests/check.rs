//! `cellblock check` and `cellblock run --check-types`, with the real compiler.

#![allow(clippy::unwrap_used, reason = "panicking is how a test fails")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::{PROGRAM, typescript};
use tempfile::TempDir;

/// The tools of the programs here.
fn tools() -> Value {
    let read = json!({
        "name": "read_file",
        "description": "Reads a file.",
        "input_schema": {
            "type": "object",
            "properties": {
                "path": { "type": "string" },
                "encoding": { "enum": ["utf8", "base64"] },
            },
            "required": ["path"],
            "additionalProperties": false,
        },
        "output_schema": {
            "type": "object",
            "properties": { "text": { "type": "string" }, "mode": { "type": ["string", "null"] } },
            "required": ["text"],
        },
        "command": ["cat", "result.json"],
    });
    let now = json!({ "name": "now", "description": "", "input_schema": { "type": "object" },
        "command": ["date"] });
    json!({ "tools": [read, now] })
}

/// What checks: the folder with the compiler and the tools.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        typescript(folder.path())?;
        std::fs::write(folder.path().join("tools.json"), tools().to_string()).unwrap();
        std::fs::write(folder.path().join("result.json"), r#"{"text":"abc"}"#).unwrap();
        Some(Self { folder })
    }

    fn run(&self, command: &str, script: &str, source: &str, more: &[&str]) -> Output {
        std::fs::write(self.folder.path().join(script), source).unwrap();
        let mut program = Command::new(PROGRAM);
        program.args([command, script, "--tools", "tools.json"]).args(more);
        program.current_dir(self.folder.path()).output().unwrap()
    }

    /// What `check` prints as JSON.
    fn check(&self, script: &str, source: &str) -> Checked {
        let output = self.run("check", script, source, &["--json"]);
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let codes = |kind: &str| -> Vec<u64> {
            let problems = report[kind].as_array().unwrap();
            problems.iter().map(|problem| problem["code"].as_u64().unwrap()).collect()
        };
        let checked =
            Checked { proofs: codes("proofs"), notes: codes("notes"), report: report.clone() };
        assert_eq!(output.status.code(), Some(i32::from(!checked.proofs.is_empty())), "{report}");
        checked
    }
}

struct Checked {
    proofs: Vec<u64>,
    notes: Vec<u64>,
    report: Value,
}

#[test]
fn what_is_proof_blocks_and_the_rest_is_noted() {
    let Some(place) = Place::new() else { return };
    for (script, source, proofs) in [
        // Programs that run well, whatever a strict compiler thinks of them.
        ("a.js", "const r = await tools.read_file({ path: 'a' }); text(r.text.length)", vec![]),
        ("a.js", "const o = {}; o.added = 1; o.added += 1; text(o)", vec![]),
        ("a.js", "const names = { one: 1 }; names.ones = 2; text(names)", vec![]),
        ("a.js", "text(await tools.now()); text(await tools.now({}))", vec![]),
        ("a.js", "const r = await tools.read_file({ path: 'a' }); text(r.mode.length)", vec![]),
        ("a.js", "const r = await tools.read_file({ path: 'a' }); return r.text", vec![]),
        ("a.js", "const a = JSON.parse('{}'); await tools.read_file(a)", vec![]),
        (
            "a.js",
            "// @exec: {\"yield_time_ms\": 1}\ntext(ALL_TOOLS.length); store('a', load('b'))",
            vec![],
        ),
        (
            "a.js",
            "const a = { b: 1, b: 2 }; text(a); for (const x of [1, 'a']) text(x * 2)",
            vec![],
        ),
        ("a.ts", "interface A { a: number }\nconst a: A = { b: 1 } as any; text(a)", vec![]),
        ("a.ts", "const a: { a: number } = { b: 1 }; text(a)", vec![]),
        ("a.ts", "enum E { A } const e: E = E.A; text(e satisfies number)", vec![]),
        // Types in a file that may be either.
        ("a.js", "let n: number = 1; text(n)", vec![]),
        // Mistakes.
        ("a.js", "text(", vec![1005]),
        ("a.js", "const a = ;", vec![1109]),
        ("a.ts", "let n: = 1", vec![1110]),
        ("a.js", "await tools.reed_file({ path: 'a' })", vec![2551]),
        ("a.js", "text([1, 2].lenght)", vec![2551]),
        ("a.js", "const count = 1; text(cuont)", vec![2552]),
        ("a.js", "await tools.read_file()", vec![2554]),
        ("a.js", "await tools.read_file({})", vec![2741]),
        ("a.js", "const a = {}; await tools.read_file(a)", vec![2741]),
        ("a.js", "await tools.read_file({ pathh: 'a' })", vec![2561]),
        ("a.ts", "await tools.read_file({ path: 'a', whole: true })", vec![2353]),
        ("a.js", "let n: number = 1; await tools.read_file({ path: 'a', whole: n })", vec![2353]),
    ] {
        let checked = place.check(script, source);
        assert_eq!(checked.proofs, proofs, "{source}: {}", checked.report);
    }
    let checked = place.check("a.ts", "const n: number = 'a';\nawait tools.read_file({ path: n })");
    assert_eq!((checked.proofs, checked.notes), (vec![], vec![2322, 2322]));
    let note = &checked.report["notes"][1];
    assert_eq!((&note["line"], &note["column"]), (&json!(2), &json!(25)), "{note}");
}

#[test]
fn a_run_is_checked_before_and_annotated_after() {
    let Some(place) = Place::new() else { return };
    let run = |source: &str| {
        let output = place.run("run", "a.js", source, &["--check-types"]);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, error) = run("text('begun'); await tools.read_file({ pathh: 'a' })");
    assert_eq!((code, out.as_str()), (1, ""), "{error}");
    assert!(error.contains("The program was not run") && error.contains("1:40: "), "{error}");
    assert!(error.contains("Did you mean to write 'path'? (TS2561)"), "{error}");
    let (code, out, error) = run("const r = await tools.read_file({ path: 'a' }); text(r.mode.x)");
    assert_eq!((code, out.as_str()), (1, ""), "{error}");
    assert!(error.contains("noted, before the program ran:\n1:54: "), "{error}");
    let (code, out, error) =
        run("const r = await tools.read_file({ path: 'a' }); text(r.mode ?? 1)");
    assert_eq!((code, out.trim(), error.as_str()), (0, "1", ""));
}

/// Nothing of a file reaches what a program's author reads.
#[test]
fn a_program_has_no_file_read() {
    let Some(place) = Place::new() else { return };
    let secret = place.folder.path().join("secret");
    for ending in ["json", "ts", "d.ts", "js"] {
        std::fs::write(secret.with_extension(ending), "export const key = 'hunter2'").unwrap();
    }
    let secret = secret.display();
    for source in [
        format!("import {{ key }} from '{secret}';\nconst k: 1 = key;"),
        format!("import k from '{secret}.json';\nconst a: 1 = k;"),
        format!("/// <reference path=\"{secret}.d.ts\" />\nconst k: 1 = key;"),
        format!("const k: 1 = (await import('{secret}.js')).key"),
        format!("type K = typeof import('{secret}').key;\nconst k: K = 1"),
        format!("import k = require('{secret}');\nconst a: 1 = k.key"),
    ] {
        let checked = place.check("a.ts", &source);
        assert!(!checked.report.to_string().contains("hunter2"), "{}", checked.report);
    }
}

#[test]
fn a_compiler_that_is_missing_or_broken_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("a.js");
    std::fs::write(&script, "text(1)").unwrap();
    let check = |tsc: Option<&Path>| {
        let mut program = Command::new(PROGRAM);
        program.arg("check").arg(&script).current_dir(folder.path()).env("PATH", "/bin:/usr/bin");
        let began = Instant::now();
        let output =
            program.args(tsc.map(|tsc| format!("--tsc={}", tsc.display()))).output().unwrap();
        assert!(began.elapsed() < Duration::from_mins(1));
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let is_installed = ["/bin/tsc", "/usr/bin/tsc"].iter().any(|tsc| Path::new(tsc).exists());
    if !is_installed {
        assert!(check(None).contains("npm install --save-dev typescript"));
    }
    assert!(check(Some(Path::new("/nowhere/tsc"))).contains("cannot be started"));
    for broken in ["/bin/true", "/bin/cat", "/bin/yes"] {
        let said = check(Some(Path::new(broken)));
        assert!(said.contains("7.0 or newer"), "{broken}: {said}");
    }
}

/// A program whose types have no end costs the compiler's time and no more.
#[test]
fn a_check_has_an_end() {
    let Some(place) = Place::new() else { return };
    let source = "type Deep<N extends number, A extends 0[] = []> = A['length'] extends N ? A
        : [Deep<N, [...A, 0]>, Deep<N, [0, ...A]>, Deep<N, [...A, 0, 0]>]['length'];
        type Wide = `${D}${D}${D}${D}`; type D = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
        const a: Wide = '00000'; const b: Deep<900> = 1;";
    let began = Instant::now();
    place.run("check", "a.ts", source, &[]);
    assert!(began.elapsed() < Duration::from_mins(2));
}
