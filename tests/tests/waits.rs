//! Waits that cost no turns: conversations on a paused clock.

use async_trait::async_trait;
use cellblock::model::{CellActivity, CellWaiter, WaitPolicy, Waited};
use cellblock::{
    CellId, CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, CodeModeTurnWorker,
    ContentItem, Engine, ExecuteRequest, RuntimeResponse, SessionLimits, ToolDefinition, ToolInput,
    ToolResult, WaitOutcome, WaitRequest, WasmBackend,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a model asks `wait` for, again and again.
const ASKED_MS: u64 = 10_000;

/// A tool that takes as many seconds as its input says.
struct Slow {
    activity: CellActivity,
}

#[async_trait]
impl CodeModeTurnHost for Slow {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let input = call.input.map(ToolInput::into_value).unwrap_or_default();
        let question = input["approve"].as_str();
        let asked = question.map(|question| self.activity.ask_approval(&call.cell_id, question));
        let seconds = input["seconds"].as_u64().ok_or("how many seconds?")?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        drop(asked);
        Ok(serde_json::json!("done").into())
    }
}

struct Session {
    service: CodeModeService,
    waiter: CellWaiter,
    _worker: CodeModeTurnWorker,
}

fn session(policy: WaitPolicy) -> Session {
    let engine = Engine::shared().expect("an engine");
    let backend = WasmBackend::with_limits(&engine, SessionLimits::default());
    let service = CodeModeService::new(Arc::new(backend));
    let activity = CellActivity::default();
    let host = activity.watch(Arc::new(Slow { activity: activity.clone() }));
    let worker = service.start_turn_worker(host);
    let waiter = CellWaiter::new(service.clone(), policy, activity);
    Session { service, waiter, _worker: worker }
}

fn request(source: &str) -> ExecuteRequest {
    let enabled_tools = [ToolDefinition::namespaced("ci", "run", "Runs a build.")].into();
    ExecuteRequest { enabled_tools, ..ExecuteRequest::new(source) }
}

impl Session {
    async fn start(&self, source: &str) -> (CellId, Waited) {
        let cell_id = self.service.allocate_cell_id().expect("an id");
        let first = self.waiter.execute(cell_id.clone(), request(source)).await.expect("a cell");
        (cell_id, first)
    }

    async fn wait(&self, cell_id: &CellId) -> Waited {
        self.waiter.wait(cell_id.clone(), Some(ASKED_MS)).await.expect("an answer")
    }
}

fn runs(outcome: &WaitOutcome) -> bool {
    matches!(outcome, WaitOutcome::LiveCell(RuntimeResponse::Yielded { .. }))
}

fn output(waited: Waited) -> Vec<String> {
    let text = |item| match item {
        ContentItem::InputText { text } => text,
        other => format!("{other:?}"),
    };
    RuntimeResponse::from(waited.outcome).into_content().into_iter().map(text).collect()
}

const NINETY_SECONDS: &str = "text(await tools.ci__run({ seconds: 90 }))";

#[tokio::test(start_paused = true)]
async fn a_tool_that_takes_ninety_seconds_costs_two_turns() {
    let session = session(WaitPolicy::default());
    for ask_early in [false, true] {
        // A model that asks `exec` for ten seconds, too.
        let pragma = if ask_early { Some(ASKED_MS) } else { None };
        let cell_id = session.service.allocate_cell_id().expect("an id");
        let request = ExecuteRequest { yield_time_ms: pragma, ..request(NINETY_SECONDS) };
        let mut turns = 1;
        let mut answer = session.waiter.execute(cell_id.clone(), request).await.expect("a cell");
        while runs(&answer.outcome) {
            turns += 1;
            answer = session.wait(&cell_id).await;
        }
        assert_eq!(output(answer), ["done"]);
        assert_eq!(turns, 2);
    }
}

/// What the policy is compared with: waits of ten seconds, and a second of grace.
#[tokio::test(start_paused = true)]
async fn without_a_policy_it_costs_nine() {
    let session = session(WaitPolicy::default());
    let mut turns = 1;
    let mut response = session.service.execute(request(NINETY_SECONDS)).await.expect("a cell");
    while let RuntimeResponse::Yielded { cell_id, .. } = response {
        turns += 1;
        let wait = WaitRequest { cell_id, yield_time_ms: ASKED_MS };
        response = session.service.wait(wait).await.expect("an answer").into();
    }
    assert_eq!(turns, 9);
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_what_the_cell_waits_for() {
    let session = session(WaitPolicy::default());
    let (cell_id, first) = session.start("await tools.ci__run({ seconds: 1000 })").await;
    assert_eq!(first.activity.as_deref(), Some("waiting for tools.ci__run, 31 s; nothing new"));
    let began = Instant::now();
    let second = session.wait(&cell_id).await;
    assert_eq!(began.elapsed().as_secs(), 90);
    assert_eq!(second.activity.as_deref(), Some("waiting for tools.ci__run, 121 s; nothing new"));
}

#[tokio::test(start_paused = true)]
async fn new_output_is_answered_after_a_quiet_moment() {
    let session = session(WaitPolicy::default());
    let source = "yield_control(); await tools.ci__run({ seconds: 20 }); text('a');
                  await tools.ci__run({ seconds: 1 }); text('b');
                  await tools.ci__run({ seconds: 500 });";
    let (cell_id, _) = session.start(source).await;
    let began = Instant::now();
    let waited = session.waiter.wait(cell_id, Some(60_000)).await.expect("an answer");
    assert_eq!(output(waited), ["a", "b"]);
    assert!((22..=24).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn output_that_never_pauses_is_answered_in_the_time_asked_for() {
    let session = session(WaitPolicy::default());
    let source = "yield_control();
                  for (;;) { text('tick'); await new Promise((r) => setTimeout(r, 400)); }";
    let (cell_id, _) = session.start(source).await;
    let began = Instant::now();
    let waited = session.wait(&cell_id).await;
    assert_eq!(began.elapsed().as_secs(), ASKED_MS / 1_000);
    assert!(output(waited).len() > 20);
    session.waiter.terminate(cell_id).await.expect("an end");
}

#[tokio::test(start_paused = true)]
async fn a_question_for_approval_is_answered_at_once_and_once() {
    let session = session(WaitPolicy::default());
    let source = "await tools.ci__run({ seconds: 200, approve: 'deploy' })";
    let began = Instant::now();
    let (cell_id, first) = session.start(source).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    let activity = "waiting for approval: deploy; tools.ci__run, 0 s; nothing new";
    assert_eq!(first.activity.as_deref(), Some(activity));
    assert!(runs(&session.wait(&cell_id).await.outcome));
    assert_eq!(began.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_loses_no_output() {
    let session = session(WaitPolicy::default());
    let source = "yield_control();
                  for (let n = 0; n < 10; n++) { text(n); await tools.ci__run({ seconds: 1 }); }
                  await tools.ci__run({ seconds: 500 });";
    let (cell_id, first) = session.start(source).await;
    let mut all = output(first);
    for _ in 0..5 {
        let left = tokio::time::timeout(Duration::from_millis(1_700), session.wait(&cell_id)).await;
        assert!(left.is_err());
    }
    all.extend(output(session.wait(&cell_id).await));
    let expected: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(all, expected);
    // What was fetched for nobody is in the answer to a termination, too.
    let (cell_id, first) = session.start(source).await;
    let mut all = output(first);
    let left = tokio::time::timeout(Duration::from_millis(5_500), session.wait(&cell_id)).await;
    assert!(left.is_err());
    let outcome = session.waiter.terminate(cell_id).await.expect("an end");
    all.extend(output(Waited { outcome, activity: None }));
    assert_eq!(all, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_wait_is_refused_and_the_first_is_not_disturbed() {
    let session = session(WaitPolicy::default());
    let (cell_id, _) = session.start("await tools.ci__run({ seconds: 60 }); text('end')").await;
    let (first, second) = tokio::join!(session.wait(&cell_id), async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        session.waiter.wait(cell_id.clone(), None).await
    });
    assert_eq!(output(first), ["end"]);
    let refused = second.expect_err("the first waits").to_string();
    assert_eq!(refused, "exec cell 1 already has an active observer");
    // Now the cell is gone.
    let gone = session.wait(&cell_id).await.outcome;
    assert!(matches!(gone, WaitOutcome::MissingCell(_)));
}
