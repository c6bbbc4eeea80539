//! A real browser, over its debugging protocol: headless Chromium, as Debian packages it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

/// Names a Chromium to use.
const VARIABLE: &str = "CELLBLOCK_CHROMIUM";
/// What is installed where none is there.
const PACKAGES: [&str; 2] = ["chromium", "fonts-dejavu-core"];
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often something is looked for that is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// A browser, ended with the test.
pub struct Browser {
    child: Child,
    port: u16,
    /// What it remembers, until it has ended.
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; where there is none and none can be installed, says so.
    pub fn start() -> Option<Self> {
        let program = program()?;
        let profile = tempfile::tempdir().expect("a folder");
        let child = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .args(["--remote-debugging-port=0", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut browser = Self { child, port: 0, profile };
        let file = browser.profile.path().join("DevToolsActivePort");
        browser.port = until("the browser's port", || {
            let text = std::fs::read_to_string(&file).ok()?;
            text.lines().next()?.parse().ok()
        });
        Some(browser)
    }

    /// A new page at a URL, so many pixels wide.
    pub fn open(&self, url: &str, width: u32) -> Page {
        let target = self.new_target();
        let socket = target["webSocketDebuggerUrl"].as_str().expect("a URL");
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (socket, _) = client(socket, stream).expect("it speaks WebSocket");
        let mut page = Page { socket, last: 0, events: Vec::new() };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.send(&format!("{domain}.enable"), json!({}));
        }
        page.resize(width);
        page.send("Page.navigate", json!({ "url": url }));
        page.until("document.readyState === 'complete' && !document.querySelector('noscript')");
        page
    }

    /// The browser answers over HTTP before it has pages.
    fn new_target(&self) -> Value {
        until("a page", || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            let host = format!("127.0.0.1:{}", self.port);
            write!(stream, "PUT /json/new HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
                .ok()?;
            // It leaves the connection open, so the end of the answer is that of its JSON.
            let mut response = Vec::new();
            loop {
                let mut some = [0; 4096];
                let read = stream.read(&mut some).ok().filter(|read| *read > 0)?;
                response.extend_from_slice(&some[..read]);
                let text = String::from_utf8_lossy(&response);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                if let Some(target) = body.and_then(|body| serde_json::from_str(body).ok()) {
                    return Some(target);
                }
            }
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page in a browser.
pub struct Page {
    socket: WebSocket<TcpStream>,
    last: u64,
    /// What happened, as the browser reports it.
    events: Vec<Value>,
}

impl Page {
    fn send(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let request = json!({ "id": self.last, "method": method, "params": params });
        self.socket.send(Message::text(request.to_string())).expect("it reads");
        loop {
            let message = self.socket.read().expect("an answer");
            let Message::Text(text) = message else { continue };
            let mut message: Value = serde_json::from_str(&text).expect("JSON");
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }

    /// The value of an expression.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.send("Runtime.evaluate", params);
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        let started = Instant::now();
        while self.evaluate(expression) != true {
            let text = "document.body?.innerText.slice(0, 2000)";
            assert!(started.elapsed() < PATIENCE, "{expression}: {}", self.evaluate(text));
            std::thread::sleep(LOOK);
        }
    }

    /// The text that a person reads.
    pub fn text(&mut self) -> String {
        self.evaluate("document.body.innerText").as_str().expect("a text").to_owned()
    }

    /// Clicks in the middle of the element, as a person does.
    pub fn click(&mut self, element: &str) {
        let middle = self.evaluate(&format!(
            "(() => {{ const e = {element}; e.scrollIntoView({{ block: 'center' }}); \
             const r = e.getBoundingClientRect(); \
             return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({ "type": kind, "x": middle[0], "y": middle[1],
                "button": "left", "clickCount": 1 });
            self.send("Input.dispatchMouseEvent", params);
        }
    }

    /// Makes the page so wide.
    pub fn resize(&mut self, width: u32) {
        let params = json!({ "width": width, "height": 900, "deviceScaleFactor": 1,
            "mobile": width < 600 });
        self.send("Emulation.setDeviceMetricsOverride", params);
    }

    /// Shows the page as in a dark or a light room.
    pub fn scheme(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.send("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// A picture of the whole page, kept as a file for people who want to look.
    pub fn picture(&mut self, name: &str) -> Vec<u8> {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let result = self.send("Page.captureScreenshot", params);
        let png = STANDARD.decode(result["data"].as_str().expect("a picture")).expect("base64");
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("inspect");
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join(format!("{name}.png")), &png).expect("a file");
        png
    }

    /// Events whose method is one of these.
    pub fn events(&mut self, methods: &[&str]) -> Vec<Value> {
        // Whatever happened before is reported before this is answered.
        self.evaluate("0");
        let mut found = self.events.clone();
        found.retain(|event| methods.contains(&event["method"].as_str().unwrap_or_default()));
        found
    }
}

/// Waits for something.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(LOOK);
    }
}

/// The browser: the one that is named, or Debian's, which is installed where that is possible.
fn program() -> Option<PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            if let Some(named) = std::env::var_os(VARIABLE) {
                return Some(named.into());
            }
            let runs = || {
                let version = Command::new("chromium").arg("--version").output();
                version.is_ok_and(|output| output.status.success())
            };
            let install = || {
                let apt = |arguments: &[&str]| {
                    let mut command = Command::new("timeout");
                    command.args(["600", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]);
                    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
                    command.output().is_ok_and(|output| output.status.success())
                };
                let install = [&["install", "-y", "--no-install-recommends"], &PACKAGES[..]];
                apt(&["update"]) && apt(&install.concat())
            };
            if runs() || (install() && runs()) {
                return Some("chromium".into());
            }
            println!(
                "NOTICE: there is no Chromium here and Debian's could not be installed, so the \
                 page was not tested in a browser; {VARIABLE} may name one"
            );
            None
        })
        .clone()
}
