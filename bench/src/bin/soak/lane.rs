//! One session after the other on a host, and whether each program's answer is its own.

use crate::programs::Honest;
use async_trait::async_trait;
use cellblock::{
    CellId, CodeModeError, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, ContentItem,
    ExecuteRequest, RuntimeResponse, ToolDefinition, ToolResult, WaitRequest,
};
use cellblock_remote::{HostProcess, ProcessBackend};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Programs of one session.
const PROGRAMS: u64 = 25;

/// How long a cell may take to its end, many times its limits: later, its answer is lost.
const PATIENCE: Duration = Duration::from_mins(1);

/// Problems that are kept in words.
const KEPT_PROBLEMS: usize = 20;

/// What went wrong, and how much ran.
#[derive(Default)]
pub struct Problems {
    texts: Mutex<Vec<String>>,
    honest: AtomicU64,
    hostile: AtomicU64,
    terminated: AtomicU64,
    abandoned: AtomicU64,
}

impl Problems {
    /// The problems, the first of them.
    pub fn texts(&self) -> Vec<String> {
        lock(&self.texts).clone()
    }

    fn add(&self, text: String) {
        let mut texts = lock(&self.texts);
        if texts.len() < KEPT_PROBLEMS {
            texts.push(text);
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} honest and {} hostile programs, {} terminated, {} waits abandoned, {} problems",
            count(&self.honest),
            count(&self.hostile),
            count(&self.terminated),
            count(&self.abandoned),
            lock(&self.texts).len()
        )
    }
}

/// The tools, and what the cells of a lane said to their host.
#[derive(Default)]
struct Tools {
    notifications: Mutex<Vec<String>>,
    closed: Mutex<HashSet<CellId>>,
    one_closed: Notify,
}

/// Notifications of one program that are kept: honest ones make three.
const KEPT_NOTIFICATIONS: usize = 16;

#[async_trait]
impl CodeModeTurnHost for Tools {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        match call.tool_name.name.as_str() {
            "giant" => Ok(json!(vec!["x".repeat(1000); 5_000]).into()),
            "large" => Ok(json!("x".repeat(1 << 20)).into()),
            "nested" => {
                Ok((0..10_000).fold(Value::Null, |inner, _| Value::Array(vec![inner])).into())
            }
            "forged" => Ok(json!({ "then": "function", "id": "tool-1" }).into()),
            name => {
                if name == "nap" {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(call.input.map_or_else(|| Value::Null.into(), ToolResult::from))
            }
        }
    }

    async fn notify(
        &self,
        _call_id: String,
        _cell_id: CellId,
        text: String,
        _cancellation: CancellationToken,
    ) -> Result<(), String> {
        let mut kept = lock(&self.notifications);
        if kept.len() < KEPT_NOTIFICATIONS {
            kept.push(text);
        }
        Ok(())
    }

    fn cell_closed(&self, cell_id: &CellId) {
        lock(&self.closed).insert(cell_id.clone());
        self.one_closed.notify_waiters();
    }
}

impl Tools {
    async fn has_closed(&self, cell: &CellId) {
        loop {
            let one_closed = self.one_closed.notified();
            if lock(&self.closed).contains(cell) {
                return;
            }
            one_closed.await;
        }
    }
}

/// Sessions on a host, one after the other.
pub struct Lane {
    host: HostProcess,
    hostile: Arc<[(String, String)]>,
    numbers: Arc<AtomicU64>,
    problems: Arc<Problems>,
}

/// How a program ended, and everything that it printed.
struct Ended {
    response: RuntimeResponse,
    output: String,
    terminated: bool,
}

impl Lane {
    /// A lane on a host; `numbers` are shared with other lanes.
    pub fn open(
        host: &HostProcess,
        hostile: &Arc<[(String, String)]>,
        numbers: &Arc<AtomicU64>,
        problems: &Arc<Problems>,
    ) -> Self {
        Self {
            host: host.clone(),
            hostile: Arc::clone(hostile),
            numbers: Arc::clone(numbers),
            problems: Arc::clone(problems),
        }
    }

    /// Runs programs until then.
    pub async fn run(self, until: Instant) {
        while Instant::now() < until {
            let service = CodeModeService::new(Arc::new(ProcessBackend::new(&self.host)));
            let tools = Arc::new(Tools::default());
            let worker = service.start_turn_worker(Arc::clone(&tools) as Arc<dyn CodeModeTurnHost>);
            let mut stored = None;
            for _ in 0..PROGRAMS {
                if Instant::now() >= until {
                    break;
                }
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                // Every third is hostile, each of them in turn.
                if number.is_multiple_of(3) {
                    self.hostile(&service, number).await;
                } else {
                    self.honest(&service, &tools, number, &mut stored).await;
                }
            }
            service.shutdown().await;
            drop(worker);
        }
    }

    /// Runs a hostile program, which has to end.
    async fn hostile(&self, service: &CodeModeService, number: u64) {
        let index = usize::try_from(number / 3).unwrap_or_default() % self.hostile.len();
        let (name, source) = &self.hostile[index];
        match timeout(PATIENCE, self.to_the_end(service, source, number, false)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.problems.add(format!("hostile {name}: {error}")),
            Err(_) => self.problems.add(format!("hostile {name}: no answer after {PATIENCE:?}")),
        }
        self.problems.hostile.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs an honest program and compares its answer. A hostile program before it may have
    /// stored under its key, so what it finds there is only compared while nothing has.
    async fn honest(
        &self,
        service: &CodeModeService,
        tools: &Tools,
        number: u64,
        stored: &mut Option<u64>,
    ) {
        let expected = Honest::numbered(number, *stored);
        lock(&tools.notifications).clear();
        let given_up = number.is_multiple_of(11);
        let running = self.to_the_end(service, &expected.source, number, given_up);
        let problem = match timeout(PATIENCE, running).await {
            Ok(Ok(ended)) => {
                if timeout(PATIENCE, tools.has_closed(ended.response.cell_id())).await.is_err() {
                    Some("its end was not announced".to_owned())
                } else {
                    let notified = std::mem::take(&mut *lock(&tools.notifications));
                    if Honest::stores(number) && !ended.terminated {
                        *stored = Some(number);
                    }
                    differs(&expected, &ended, &notified)
                }
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer after {PATIENCE:?}")),
        };
        if let Some(problem) = problem {
            self.problems.add(format!("program {number}: {problem}"));
        }
        self.problems.honest.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs a program to its end, or terminates it at its first answer. Some waits are
    /// abandoned before they are answered, which must lose nothing.
    async fn to_the_end(
        &self,
        service: &CodeModeService,
        source: &str,
        number: u64,
        give_up: bool,
    ) -> Result<Ended, CodeModeError> {
        let names = ["echo", "nap", "giant", "large", "nested", "forged"];
        let request = ExecuteRequest {
            enabled_tools: names.map(|name| ToolDefinition::function(name, "")).into(),
            // Short ones are answered before the program ends.
            yield_time_ms: Some(number % 13),
            ..ExecuteRequest::new(source)
        };
        let mut response = service.execute(request).await?;
        let mut output = String::new();
        loop {
            for item in response.content_items() {
                if let ContentItem::InputText { text } = item {
                    output.push_str(text);
                }
            }
            let RuntimeResponse::Yielded { cell_id, .. } = response else {
                // One that had ended by itself before it was terminated has its own result.
                let terminated = matches!(response, RuntimeResponse::Terminated { .. });
                return Ok(Ended { response, output, terminated });
            };
            response = if give_up {
                self.problems.terminated.fetch_add(1, Ordering::Relaxed);
                service.terminate(cell_id).await?.into()
            } else {
                if number.is_multiple_of(5) {
                    let wait = WaitRequest { cell_id: cell_id.clone(), yield_time_ms: 500 };
                    let patience = Duration::from_millis(number % 7);
                    if let Ok(answer) = timeout(patience, service.wait(wait)).await {
                        response = answer?.into();
                        continue;
                    }
                    self.problems.abandoned.fetch_add(1, Ordering::Relaxed);
                }
                service.wait(WaitRequest { cell_id, yield_time_ms: 500 }).await?.into()
            };
        }
    }
}

/// What differs between the answer that a program must give and the one that came.
fn differs(expected: &Honest, ended: &Ended, notified: &[String]) -> Option<String> {
    let output_is_right = if ended.terminated {
        expected.output.starts_with(&ended.output)
    } else {
        expected.output == ended.output
    };
    if !output_is_right {
        return Some(format!(
            "printed {:?} instead of {:?}",
            shown(&ended.output),
            shown(&expected.output)
        ));
    }
    if ended.terminated {
        return (!expected.notifications.starts_with(notified))
            .then(|| format!("notified {notified:?}"));
    }
    if expected.notifications != notified {
        return Some(format!("notified {notified:?}, not {:?}", expected.notifications));
    }
    let RuntimeResponse::Result { error_text, .. } = &ended.response else {
        return Some(format!("answered {:?}", ended.response));
    };
    let first_line = error_text.as_deref().and_then(|text| text.lines().next());
    (first_line != expected.error.as_deref()).then(|| format!("failed with {error_text:?}"))
}

/// The beginning of a text, and its length.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(40).collect();
    if beginning.len() == text.len() { beginning } else { format!("{beginning}… {}", text.len()) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
