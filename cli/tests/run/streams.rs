//! Standard output and standard error: terminals, and readers that close them, do not
//! read, or are full.

use crate::signals::{send, send_when_blocked};
use crate::{Run, cellblock, out, tool};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a command writes to a terminal of its own until it ends.
struct Terminal {
    stream: File,
    command_side: File,
}

impl Terminal {
    fn open() -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let stream = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&stream).unwrap();
        unlockpt(&stream).unwrap();
        tcsetwinsize(&stream, size).unwrap();
        let name = ptsname(&stream, Vec::new()).unwrap();
        let command_side =
            rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        Self { stream: stream.into(), command_side: command_side.into() }
    }

    fn stdio(&self) -> Stdio {
        self.command_side.try_clone().unwrap().into()
    }

    /// Reads all, once the command has been started and has dropped its own copies.
    fn read(self) -> String {
        drop(self.command_side);
        let mut stream = self.stream;
        let mut bytes = Vec::new();
        // A terminal whose other side is closed gives an error, not an end.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }
}

/// Characters that a terminal would obey, and how they are shown.
const CONTROLS: [(&str, &str); 5] = [
    ("\u{1b}]52;c;aGk=\u{7}", "\\u001b]52;c;aGk=\\u0007"),
    ("\u{1b}[2J", "\\u001b[2J"),
    ("\u{9b}31m", "\\u009b31m"),
    ("\u{202e}exe", "\\u202eexe"),
    ("a\rb\u{8}\u{7f}", "a\\u000db\\u0008\\u007f"),
];

/// A script that says them in every way there is, but for output of `text`.
fn says(controls: &str) -> String {
    let literal = serde_json::to_string(controls).unwrap();
    format!(
        "notify({literal});
         await tools.fails().catch(notify);
         throw new Error({literal}) // {}",
        controls.replace('\r', "")
    )
}

#[test]
fn a_terminal_shows_control_characters_and_does_not_obey_them() {
    for (controls, shown) in CONTROLS {
        let run = Run::new();
        let fails = format!("printf '%s' '{controls}' >&2; exit 1");
        let tools = run.tools(&serde_json::json!([tool("fails", &["sh", "-c", &fails])]));
        let literal = serde_json::to_string(controls).unwrap();
        let script = run.file(
            "s.js",
            format!(
                "text({literal}); image('data:' + {literal} + ';base64,aGk=');{}",
                says(controls)
            ),
        );
        let (output, error) = (Terminal::open(), Terminal::open());
        let mut child = command(&script, &["--tools", tools.to_str().unwrap()])
            .stdout(output.stdio())
            .stderr(error.stdio())
            // Without a status line, which is made of controls that are meant.
            .env("TERM", "dumb")
            .spawn()
            .unwrap();
        let (output, error) = (read_in_background(output), read_in_background(error));
        child.wait().unwrap();
        let (output, error) = (output.recv().unwrap(), error.recv().unwrap());
        assert!(output.contains(shown), "{output:?}");
        // By `notify`, by the tool's error, by the script's, and in the line it points at.
        assert!(error.matches(shown).count() >= 3, "{error:?}");
        for text in [output, error] {
            // The terminal itself makes `\r\n` of `\n`.
            let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.replace("\r\n", "\n").contains(obeyed), "{text:?}");
        }
    }
}

#[test]
fn raw_and_pipes_pass_control_characters() {
    let run = Run::new();
    let controls = "\u{1b}[31m\u{9b}\u{202e}";
    let script = run.file("s.js", format!("text('{controls}'); notify('{controls}')"));
    let terminal = Terminal::open();
    let mut child = command(&script, &["--raw"])
        .stdout(terminal.stdio())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = read_in_background(terminal);
    child.wait().unwrap();
    assert!(output.recv().unwrap().contains(controls));
    // Standard error is a terminal here, and standard output is not.
    let terminal = Terminal::open();
    let child =
        command(&script, &[]).stdout(Stdio::piped()).stderr(terminal.stdio()).spawn().unwrap();
    let error = read_in_background(terminal);
    assert_eq!(out(&child.wait_with_output().unwrap()), format!("{controls}\n"));
    assert!(error.recv().unwrap().contains("notify: \\u001b[31m\\u009b\\u202e"));
}

#[test]
fn the_status_line_is_gone_before_anything_else_is_printed() {
    let run = Run::new();
    let tools = run.tools(&serde_json::json!([tool("nap-1", &["sleep", "0.5"])]));
    let script = run.file("s.js", "await tools.nap_1(); notify('done')");
    let terminal = Terminal::open();
    let mut child = command(&script, &["--tools", tools.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(terminal.stdio())
        .env("TERM", "xterm")
        .spawn()
        .unwrap();
    let error = read_in_background(terminal);
    assert!(child.wait().unwrap().success());
    let error = error.recv().unwrap();
    assert!(error.contains(" nap_1 × 1"), "{error:?}");
    assert!(error.ends_with("\r\u{1b}[Knotify: done\r\n"), "{error:?}");
}

#[test]
fn a_reader_that_does_not_read_holds_up_no_time_limit() {
    let run = Run::new();
    let script = run.file("s.js", "text('x'.repeat(1 << 20)); for (;;);");
    let started = Instant::now();
    let mut child = command(&script, &["--timeout", "500ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let error = rest(child.stderr.take().unwrap());
    assert!(error.contains("time limit of 500 ms"), "{error}");
    assert!(error.contains("standard output is incomplete: its reader does not read"), "{error}");
}

#[test]
fn a_reader_that_does_not_read_holds_up_no_signal() {
    let run = Run::new();
    let script = run.file("s.js", "text('x'.repeat(1 << 20)); for (;;);");
    for signal in [("INT", 130), ("TERM", 143)] {
        let mut child =
            command(&script, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        send_when_blocked(&mut child, signal.0);
        let started = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(signal.1));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

/// Both streams, and a reader that is stopped rather than gone.
#[test]
fn a_stopped_reader_of_both_streams_holds_up_no_signal() {
    let run = Run::new();
    let script = run.file(
        "s.js",
        "for (let i = 0; i < 100; i++) { text('x'.repeat(9999)); notify('y'.repeat(9999)) } for (;;);",
    );
    let mut reader =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    send("STOP", reader.id());
    let pipe = std::os::fd::OwnedFd::from(reader.stdin.take().unwrap());
    let mut child = command(&script, &["--timeout", "500ms"])
        .stdout(pipe.try_clone().unwrap())
        .stderr(pipe)
        .spawn()
        .unwrap();
    let started = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    reader.kill().unwrap();
    reader.wait().unwrap();
}

/// A program that ended by itself waits for its reader, however slow.
#[test]
fn a_slow_reader_gets_everything() {
    let run = Run::new();
    let script = run.file("s.js", "for (let i = 0; i < 1000; i++) text('x'.repeat(999))");
    let child = command(&script, &[]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 1_000_000));
}

#[test]
fn streams_that_are_closed_or_full_lose_no_stored_value_and_panic_nowhere() {
    let run = Run::new();
    let script = run.file(
        "s.js",
        "for (let i = 0; i < 2000; i++) { text('x'.repeat(99)); } notify('n'); store('k', 1)",
    );
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let store = run.folder.path().join("s.json");
    let stores = |mut command: Command, code: i32| -> String {
        let mut child = command.arg("--store").arg(&store).spawn().unwrap();
        let error = child.stderr.take().map(rest).unwrap_or_default();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{error}");
        assert!(!error.contains("panicked"), "{error}");
        assert!(std::fs::read_to_string(&store).unwrap().contains("\"k\": 1"));
        std::fs::remove_file(&store).unwrap();
        error
    };
    let run_with = |stdout: Stdio, stderr: Stdio| {
        let mut run = command(&script, &["--stats"]);
        run.stdout(stdout).stderr(stderr);
        run
    };
    // A reader that has enough closes the pipe, which is not an error.
    stores(run_with(closed(), Stdio::piped()), 0);
    let error = stores(run_with(full(), Stdio::piped()), 1);
    assert!(error.contains("standard output is incomplete: No space left"), "{error}");
    stores(run_with(Stdio::null(), closed()), 0);
    stores(run_with(Stdio::null(), full()), 0);
    stores(run_with(closed(), closed()), 0);
}

#[test]
fn bad_usage_and_help_need_no_stream() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for (arguments, code) in [
        (&["run", "missing.js"][..], 2),
        (&["run", "--nonsense"][..], 2),
        (&["nonsense"][..], 2),
        (&["--help"][..], 0),
        (&["--version"][..], 0),
    ] {
        let status = cellblock().args(arguments).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

fn command(script: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = cellblock();
    command.arg("run").arg(script).args(arguments).stdin(Stdio::null());
    command
}

fn read_in_background(terminal: Terminal) -> mpsc::Receiver<String> {
    let (text_in, text) = mpsc::channel();
    std::thread::spawn(move || text_in.send(terminal.read()));
    text
}

fn rest(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
