//! Files that a run reads and writes: scripts, tools files, media.

use crate::{Run, cellblock, err, out};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Stdio;

#[test]
fn media_is_written_and_named() {
    let run = Run::new();
    let script = "image('data:image/png;base64,aGk='); audio('data:audio/wav;base64,aGk=')";
    let output = run.script(script, &["--out-dir", "media"]);
    assert_eq!(
        out(&output),
        "[media/output-1.png: image/png, 2 bytes]\n[media/output-2.wav: audio/wav, 2 bytes]\n"
    );
    assert_eq!(std::fs::read(run.folder.path().join("media/output-1.png")).unwrap(), b"hi");
    let unkept = run.script(script, &[]);
    assert!(out(&unkept).contains("use --out-dir"), "{}", out(&unkept));
}

#[test]
fn a_script_may_be_typescript() {
    let run = Run::new();
    let source = "enum E { A = 'a' }\nconst n: E = E.A; text(n); (null as any).x;";
    let script = run.file("script.ts", source);
    for arguments in [&[][..], &["--language", "auto"], &["--language", "ts"]] {
        let output = cellblock().arg("run").arg(&script).args(arguments).output().unwrap();
        assert_eq!((out(&output).as_str(), output.status.code()), ("a\n", Some(1)));
        assert!(err(&output).contains("exec_main.mjs:2:42"), "{}", err(&output));
    }
    let output = cellblock().arg("run").arg(&script).args(["--language", "js"]).output().unwrap();
    assert_eq!((out(&output).as_str(), output.status.code()), ("", Some(1)));
    // The name of the file says that it is read as TypeScript.
    let generic = "const f = (x: any) => 5, a = 2; text((f as any)<number>(3))";
    let script = run.file("generic.ts", generic);
    let output = cellblock().arg("run").arg(script).output().unwrap();
    assert_eq!(out(&output), "5\n", "{}", err(&output));
    let output = cellblock().args(["run", "-", "--language", "rust"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn media_are_never_written_through_a_link_or_over_a_file() {
    let run = Run::new();
    std::fs::create_dir(run.folder.path().join("media")).unwrap();
    let victim = run.file("victim", "precious");
    symlink("../victim", run.folder.path().join("media/output-1.png")).unwrap();
    symlink("../made", run.folder.path().join("media/output-2.png")).unwrap();
    run.file("media/output-3.png", "earlier");
    let output = run.script("image('data:image/png;base64,aGk=')", &["--out-dir", "media"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "[media/output-4.png: image/png, 2 bytes]\n");
    assert_eq!(std::fs::read(victim).unwrap(), b"precious");
    assert!(!run.folder.path().join("made").exists());
    assert_eq!(std::fs::read(run.folder.path().join("media/output-3.png")).unwrap(), b"earlier");
}

#[test]
fn a_script_cannot_choose_an_extension_that_something_runs() {
    let run = Run::new();
    let kinds = ["text/html", "image/svg+xml", "image/desktop", "audio/sh", "image/../../x", ""];
    let script = format!("for (const kind of {kinds:?}) image(`data:${{kind}};base64,aGk=`)");
    let output = run.script(&script, &["--out-dir", "media"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let mut names: Vec<_> = std::fs::read_dir(run.folder.path().join("media"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected: Vec<_> = (1..=kinds.len()).map(|n| format!("output-{n}.bin")).collect();
    assert_eq!(names, expected);
}

#[test]
fn the_number_of_media_files_is_bounded() {
    let run = Run::new();
    let script = "for (let i = 0; i < 1003; i++) image('data:image/png;base64,aGk=')";
    let output = run.script(script, &["--out-dir", "media"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("1000 files were written before"), "{}", err(&output));
    assert_eq!(std::fs::read_dir(run.folder.path().join("media")).unwrap().count(), 1000);
}

/// More is never read, so that it costs no memory: the pipe closes early.
#[test]
fn a_script_on_standard_input_is_read_up_to_its_limit() {
    let mut child = cellblock()
        .args(["run", "-", "--limit", "source_bytes=1MiB"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let block = vec![b' '; 1 << 20];
    let refused = (0..64).map(|_| stdin.write_all(&block)).find(Result::is_err);
    assert!(refused.is_some(), "64 MiB were read");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("has more than 1048576 bytes"), "{}", err(&output));
}

#[test]
fn scripts_and_tools_files_that_are_no_files_are_refused() {
    let run = Run::new();
    let output = cellblock().arg("run").arg(run.folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("cannot read the script"), "{}", err(&output));
    let output = run.script("1", &["--tools", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("it has more than 67108864 bytes"), "{}", err(&output));
}

/// `cellblock run <(...)`: a FIFO is as good as a file.
#[test]
fn a_script_may_come_from_a_fifo() {
    let run = Run::new();
    let path = run.fifo("script");
    let child = cellblock().arg("run").arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    std::fs::write(&path, "text('from a fifo')").unwrap();
    assert_eq!(out(&child.wait_with_output().unwrap()), "from a fifo\n");
}
