//! This server, as clients see it.

use super::subscriptions;
use crate::answer::{Answer, Output};
use crate::approval::{PATIENCE, Question};
use crate::catalog::{cut, millis};
use crate::gateway::{Answers, Asking, Caller, Gateway};
use crate::session::Principal;
use crate::tasks::{POLL, TaskNow, TaskState};
use crate::tools;
use crate::upstream::{Progress, ProgressSink};
use cellblock::support::lock;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CreateTaskResult,
    CustomRequest, CustomResult, DetailedTask, ElicitRequest, ElicitRequestParams,
    ElicitationAction, ErrorCode, ErrorData, GetTaskParams, GetTaskResult, Implementation,
    InputRequest, InputRequiredResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProgressToken, ProtocolVersion,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource,
    ResourceContents, ServerCapabilities, ServerConfig, Task, TaskPayload, TaskStatus,
    UpdateTaskParams,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, RoleServer};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ServerHandler, serve_server};
use serde_json::{Value, json};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How often a client that follows the progress of a call hears of it at least, so that its
/// own patience does not end.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The least time between two reports of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that one message of a client may have.
const MAX_REQUEST_BYTES: usize = 16 << 20;
/// Bytes of standard input that are read ahead.
const INPUT_BYTES: usize = 64 << 10;
/// Characters that are shown of a method that does not exist.
const METHOD_CHARS: usize = 100;

/// Serves one client on standard input and output, until it closes them.
///
/// # Errors
/// When the client does not keep to the protocol from the start.
pub async fn serve_stdio(gateway: &Gateway) -> Result<(), String> {
    let listed = Arc::default();
    let handler = Handler { gateway: gateway.clone(), implicit_session: true, listed };
    let (lines, input) = tokio::io::duplex(INPUT_BYTES);
    // It ends with the input, or with the process.
    tokio::spawn(subscriptions::rename_lines(tokio::io::stdin(), input));
    let transport = AsyncRwTransport::new_server(lines, tokio::io::stdout())
        .with_max_line_length(MAX_REQUEST_BYTES);
    let service = match serve_server(handler, transport).await {
        Ok(service) => service,
        // A client that goes away before it has said anything is as well.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    service.waiting().await.map(|_| ()).map_err(|error| error.to_string())
}

/// Answers a client's requests.
#[derive(Clone)]
pub(super) struct Handler {
    pub(super) gateway: Gateway,
    /// Calls that name no session share one.
    pub(super) implicit_session: bool,
    /// What was listed last, where one client is served.
    pub(super) listed: Arc<Mutex<Option<u64>>>,
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_tasks()
            .build();
        let name = Implementation::new("cellblock", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities)
            .with_server_info(name)
            .with_instructions(tools::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let catalog = self.gateway.ready_catalog().await;
        *lock(&self.listed) = Some(digest(&self.gateway));
        let listed = tools::list(&self.gateway, &catalog, follows_tasks(&context));
        let listed: Result<_, _> = listed.into_iter().map(serde_json::from_value).collect();
        let tools = listed.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(ListToolsResult { tools, ..ListToolsResult::default() })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let caller = self.caller(&context);
        let reads_one = reads_structured_content_alone(&context);
        let answer = match &request.request_state {
            Some(state) => {
                let answers = answers(request.input_responses.unwrap_or_default());
                self.gateway.resume(state, &answers, &caller).await
            }
            None => tools::call(&self.gateway, &request.name, &arguments, &caller)
                .await
                .ok_or_else(|| {
                    ErrorData::invalid_params(format!("there is no tool {:?}", request.name), None)
                })?,
        };
        match answer {
            Answer::Done(mut output) => {
                if reads_one && output.has_media() {
                    output.structured = None;
                }
                Ok(result(output)?.into())
            }
            Answer::InputRequired { questions, state } => {
                Ok(InputRequiredResult::new(Some(requests(questions)?), Some(state)).into())
            }
            Answer::Task { name, created } => {
                Ok(CreateTaskResult::new(task(&name, TaskStatus::Working, created)).into())
            }
        }
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let found = self.gateway.0.tasks.now(&request.task_id, &principal(&context));
        let found = found.ok_or_else(no_task)?;
        Ok(GetTaskResult::new(detailed(&request.task_id, found)?))
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let answers = answers(request.input_responses);
        let found = self.gateway.answer_task(&request.task_id, &answers, &self.caller(&context));
        found.then_some(()).ok_or_else(no_task)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let found = self.gateway.cancel_task(&request.task_id, &self.caller(&context)).await;
        found.then_some(()).ok_or_else(no_task)
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let skill = Resource::new(tools::SKILL_URI, "cellblock")
            .with_description("How to write programs for `exec`.")
            .with_mime_type("text/markdown");
        Ok(ListResourcesResult { resources: vec![skill], ..ListResourcesResult::default() })
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != tools::SKILL_URI {
            let data = json!({ "uri": request.uri });
            return Err(ErrorData::resource_not_found("there is no such resource", Some(data)));
        }
        let text =
            ResourceContents::text(tools::SKILL, tools::SKILL_URI).with_mime_type("text/markdown");
        Ok(ReadResourceResult::new(vec![text]).into())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let gateway = self.gateway.clone();
        let listed = Arc::clone(&self.listed);
        tokio::spawn(async move {
            let mut changes = gateway.changes();
            while !context.peer.is_transport_closed() && changes.changed().await.is_ok() {
                let now = digest(&gateway);
                // A client that has listed nothing has nothing to list again.
                let news = lock(&listed)
                    .as_mut()
                    .is_some_and(|listed| std::mem::replace(listed, now) != now);
                if news && context.peer.notify_tool_list_changed().await.is_err() {
                    return;
                }
            }
        });
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if request.method == subscriptions::OWN_METHOD {
            return subscriptions::listen(self, request, context).await;
        }
        let message = format!("there is no method {:?}", cut(&request.method, METHOD_CHARS));
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None))
    }
}

impl Handler {
    /// Who sends this request, and how they can be reached.
    fn caller(&self, context: &RequestContext<RoleServer>) -> Caller {
        let progress = context.meta.get_progress_token();
        let progress = progress.map(|token| report(context.peer.clone(), token));
        let asks = context
            .client_capabilities()
            .and_then(|capabilities| capabilities.elicitation)
            // A client that says nothing of modes has forms.
            .is_some_and(|modes| modes.form.is_some() || modes.url.is_none());
        let modern = context
            .protocol_version()
            .is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str());
        let asking = match (asks, modern) {
            (false, _) => Asking::Nobody,
            (true, true) => Asking::ByAnswer,
            (true, false) => {
                let peer = context.peer.clone();
                Asking::During(Box::new(move |questions| {
                    let peer = peer.clone();
                    Box::pin(async move { elicit(&peer, &questions).await })
                }))
            }
        };
        Caller {
            principal: principal(context),
            implicit_session: self.implicit_session,
            asking,
            tasks: follows_tasks(context),
            progress,
            cancelled: context.ct.clone(),
        }
    }
}

/// Codex (0.169) shows its model nothing of the content blocks of a result that has structured
/// content, and so no image. It gets such results without.
fn reads_structured_content_alone(context: &RequestContext<RoleServer>) -> bool {
    let info = context.client_info();
    info.is_some_and(|client| client.name.starts_with("codex"))
}

pub(super) fn follows_tasks(context: &RequestContext<RoleServer>) -> bool {
    context.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks())
}

fn no_task() -> ErrorData {
    ErrorData::invalid_params("there is no such task", None)
}

/// A task as the protocol has it.
pub(super) fn detailed(name: &str, now: TaskNow) -> Result<DetailedTask, ErrorData> {
    let payload = match now.state {
        TaskState::Working => TaskPayload::Working,
        TaskState::Cancelled => TaskPayload::Cancelled,
        TaskState::InputRequired(questions) => {
            TaskPayload::InputRequired { input_requests: requests(questions)? }
        }
        TaskState::Completed(output) => match serde_json::to_value(result(output)?) {
            Ok(Value::Object(result)) => TaskPayload::Completed { result },
            _ => return Err(ErrorData::internal_error("a result is not an object", None)),
        },
    };
    let mut task = task(name, payload.status(), now.created);
    task.status_message = now.message;
    Ok(DetailedTask::new(task, payload))
}

fn task(name: &str, status: TaskStatus, created: SystemTime) -> Task {
    let time = |time| humantime::format_rfc3339_seconds(time).to_string();
    Task::new(name, status, time(created), time(SystemTime::now()))
        .with_poll_interval_ms(millis(POLL))
}

/// Questions as the protocol asks them, each in a form of its own.
fn requests(questions: Vec<Question>) -> Result<rmcp::model::InputRequests, ErrorData> {
    let mut requests = rmcp::model::InputRequests::new();
    for question in questions {
        let request = ElicitRequest::new(form(&[&question], &["approve"])?);
        requests.insert(question.name, InputRequest::Elicitation(request));
    }
    Ok(requests)
}

/// Who has shown over HTTP who they are.
#[derive(Clone, Debug)]
pub(super) struct Authenticated(pub(super) Arc<str>);

pub(super) fn principal(context: &RequestContext<RoleServer>) -> Principal {
    let parts = context.extensions.get::<http::request::Parts>()?;
    parts.extensions.get::<Authenticated>().map(|Authenticated(name)| Arc::clone(name))
}

/// Asks all questions in one form.
async fn elicit(peer: &Peer<RoleServer>, questions: &[Question]) -> Answers {
    let names: Vec<_> = questions.iter().map(|question| question.name.as_str()).collect();
    let all: Vec<_> = questions.iter().collect();
    let Ok(form) = form(&all, &names) else { return Answers::new() };
    match tokio::time::timeout(PATIENCE, peer.create_elicitation(form)).await {
        Ok(Ok(result)) if result.action == ElicitationAction::Accept => {
            let content = result.content.unwrap_or_default();
            let approved = |name: &&str| ((*name).to_owned(), content[*name] == true);
            names.iter().map(approved).collect()
        }
        Ok(Ok(_)) | Err(_) => Answers::new(),
        Ok(Err(error)) => {
            tracing::warn!("the client could not ask: {error}");
            Answers::new()
        }
    }
}

/// A form with a box to be ticked for each question.
fn form(questions: &[&Question], fields: &[&str]) -> Result<ElicitRequestParams, ErrorData> {
    let lines: Vec<_> = questions.iter().map(|question| format!("- {}", question.text)).collect();
    let properties: serde_json::Map<_, _> = questions
        .iter()
        .zip(fields)
        .map(|(question, field)| {
            let title = format!("Allow {}", crate::catalog::cut(&question.text, 100));
            let field_schema = json!({ "type": "boolean", "title": title, "default": false });
            ((*field).to_owned(), field_schema)
        })
        .collect();
    let form = json!({
        "mode": "form",
        "message": format!("A program wants to make these calls:\n{}", lines.join("\n")),
        "requestedSchema": { "type": "object", "properties": properties, "required": fields },
    });
    serde_json::from_value(form).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// The answers of a client that sends a call again: what is not plainly approved is refused.
fn answers(responses: rmcp::model::InputResponses) -> Answers {
    let approved =
        |response: &Value| response["action"] == "accept" && response["content"]["approve"] == true;
    responses.into_iter().map(|(name, response)| (name, approved(&response))).collect()
}

fn result(output: Output) -> Result<CallToolResult, ErrorData> {
    let mut result = json!({ "content": output.content, "isError": output.is_error });
    if let Some(structured) = output.structured {
        result["structuredContent"] = structured;
    }
    let mut result: CallToolResult = serde_json::from_value(result)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    result.result_type = Some(rmcp::model::ResultType::COMPLETE);
    Ok(result)
}

/// Reports progress to a client: the newest of what there is, and now and then that the call
/// goes on. It ends when the call has ended, and with it what is returned.
fn report(peer: Peer<RoleServer>, token: ProgressToken) -> ProgressSink {
    let (sender, mut newest) = watch::channel(None::<String>);
    tokio::spawn(async move {
        let mut count = 0.0;
        loop {
            if let Ok(Err(_)) = tokio::time::timeout(HEARTBEAT, newest.changed()).await {
                return;
            }
            count += 1.0;
            let mut params = ProgressNotificationParam::new(token.clone(), count);
            params.message.clone_from(&newest.borrow_and_update());
            if peer.notify_progress(params).await.is_err() {
                return;
            }
            tokio::time::sleep(PROGRESS_PAUSE).await;
        }
    });
    Arc::new(move |progress: Progress| {
        sender.send_replace(progress.message);
    })
}

/// Changes of the tools that a client lists.
pub(super) struct ListChanges {
    gateway: Gateway,
    changes: watch::Receiver<u64>,
    seen: u64,
}

impl ListChanges {
    pub(super) fn new(gateway: Gateway) -> Self {
        let changes = gateway.changes();
        let seen = digest(&gateway);
        Self { gateway, changes, seen }
    }

    /// Returns when the tools are listed differently than before.
    pub(super) async fn next(&mut self) {
        while self.changes.changed().await.is_ok() {
            let now = digest(&self.gateway);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

fn digest(gateway: &Gateway) -> u64 {
    let catalog = gateway.catalog();
    *catalog.digest.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        for tool in tools::list(gateway, &catalog, false) {
            tool.to_string().hash(&mut hasher);
        }
        hasher.finish()
    })
}
