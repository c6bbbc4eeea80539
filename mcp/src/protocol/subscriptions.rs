//! `subscriptions/listen`: what clients want to be notified of.
//!
//! `rmcp` 3.11 drops the member `taskIds` of such a request and sends no notification of
//! tasks for it. So the request gets a method of its own where it comes in, and `rmcp` hands
//! it on as it is. Everything about that is in this file.

use super::server::{Handler, ListChanges, detailed, follows_tasks, principal};
use super::surrogates::replace_lone_surrogates;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rmcp::model::{
    CustomNotification, CustomRequest, CustomResult, ErrorData, NotificationMetaObject, RequestId,
    ServerNotification, SubscriptionsListenResult, TaskStatusNotification,
    TaskStatusNotificationParams,
};
use rmcp::service::{RequestContext, RoleServer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The method as clients send it.
const METHOD: &str = "subscriptions/listen";
/// The method as this server handles it.
pub(super) const OWN_METHOD: &str = "cellblock/subscriptions/listen";
/// Bytes that such a request may have; a longer one is left as it is.
const MAX_BYTES: usize = 256 << 10;
/// Tasks that one subscription follows; others are not accepted.
const MAX_TASKS: usize = 1_000;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What a client asks for, and what it gets.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tools_list_changed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    task_ids: Vec<String>,
}

/// A message whose method is this server's own; `None` when it is another message.
pub(super) fn renamed(message: &[u8]) -> Option<Vec<u8>> {
    let is_named = || message.windows(METHOD.len()).any(|part| part == METHOD.as_bytes());
    if message.len() > MAX_BYTES || !is_named() {
        return None;
    }
    let mut request: Value = serde_json::from_slice(message).ok()?;
    let method = request.get_mut("method").filter(|method| *method == METHOD)?;
    *method = OWN_METHOD.into();
    Some(request.to_string().into_bytes())
}

/// Passes on lines, each with the method that this server handles and without halves of
/// characters.
pub(super) async fn rename_lines(
    mut source: impl AsyncRead + Unpin,
    mut sink: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    // The line that is being read, as far as it was not passed on.
    let mut line = Vec::new();
    let mut is_long = false;
    loop {
        let length = source.read(&mut chunk).await?;
        if length == 0 {
            sink.write_all(&line).await?;
            return sink.shutdown().await;
        }
        for piece in chunk[..length].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            let is_whole = piece.ends_with(b"\n");
            if is_whole
                && !is_long
                && let Some(mut renamed) = renamed(&line)
            {
                renamed.push(b'\n');
                line = renamed;
            }
            is_long = !is_whole && (is_long || line.len() > MAX_BYTES);
            if is_whole || is_long {
                let done = replace_lone_surrogates(&mut line);
                // The rest of an escape may follow, and no line ends in one.
                let done = if is_whole { line.len() } else { done };
                sink.write_all(&line[..done]).await?;
                line.drain(..done);
            }
        }
    }
}

/// Serves a subscription until it is cancelled.
pub(super) async fn listen(
    handler: &Handler,
    request: CustomRequest,
    context: RequestContext<RoleServer>,
) -> Result<CustomResult, ErrorData> {
    let wrong = |error: String| ErrorData::invalid_params(error, None);
    let mut params = request.params.unwrap_or_default();
    let mut filter: Filter = serde_json::from_value(params["notifications"].take())
        .map_err(|error| wrong(format!("notifications: {error}")))?;
    if !follows_tasks(&context) {
        filter.task_ids.clear();
    }
    let gateway = &handler.gateway;
    let principal = principal(&context);
    let mut followed = Vec::new();
    for name in std::mem::take(&mut filter.task_ids) {
        if followed.len() < MAX_TASKS
            && let Some(changes) = gateway.0.tasks.follow(&name, &principal)
        {
            filter.task_ids.push(name.clone());
            followed.push((name, changes));
        }
    }
    let meta = subscription(&context.id);
    let accepted = json!({ "notifications": filter, "_meta": meta });
    let method = "notifications/subscriptions/acknowledged";
    let accepted = CustomNotification::new(method, Some(accepted));
    send(&context, ServerNotification::CustomNotification(accepted)).await?;

    let mut changes = FuturesUnordered::new();
    for (name, mut receiver) in followed {
        // How the task stands is news at first.
        receiver.mark_changed();
        changes.push(changed(name, receiver));
    }
    let mut lists = ListChanges::new(gateway.clone());
    loop {
        tokio::select! {
            () = context.ct.cancelled() => break,
            () = lists.next(), if filter.tools_list_changed => {
                let method = "notifications/tools/list_changed";
                let params = json!({ "_meta": meta });
                let notification = CustomNotification::new(method, Some(params));
                send(&context, ServerNotification::CustomNotification(notification)).await?;
            }
            Some((name, receiver)) = changes.next(), if !changes.is_empty() => {
                // One that has ended and made room for others is not followed any more.
                let Some(now) = gateway.0.tasks.now(&name, &principal) else { continue };
                let has_ended = now.state.is_end();
                let params = TaskStatusNotificationParams::new(detailed(&name, now)?)
                    .with_meta(meta.clone());
                let notification = TaskStatusNotification::new(params);
                send(&context, ServerNotification::TaskStatusNotification(notification)).await?;
                if !has_ended && let Some(receiver) = receiver {
                    changes.push(changed(name, receiver));
                }
            }
        }
    }
    let result = SubscriptionsListenResult::complete(context.id.clone());
    let result = serde_json::to_value(result);
    result.map(CustomResult).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

type Receiver = tokio::sync::watch::Receiver<()>;

/// Returns when a task stands otherwise; without the receiver when it was forgotten.
async fn changed(name: String, mut receiver: Receiver) -> (String, Option<Receiver>) {
    let is_known = receiver.changed().await.is_ok();
    (name, is_known.then_some(receiver))
}

fn subscription(id: &RequestId) -> NotificationMetaObject {
    let mut meta = NotificationMetaObject::new();
    meta.set_subscription_id(id.clone());
    meta
}

async fn send(
    context: &RequestContext<RoleServer>,
    notification: ServerNotification,
) -> Result<(), ErrorData> {
    let sent = context.peer.send_notification(notification).await;
    sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_this_request_is_renamed() {
        let listen = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}"#;
        let renamed = listen.replace("subscriptions/listen", OWN_METHOD);
        let other = r#"{"method":"tools/call","params":{"code":"subscriptions/listen"}}"#;
        let long =
            format!(r#"{{"method":"subscriptions/listen","x":"{}"}}"#, "x".repeat(MAX_BYTES));
        let source = [listen, other, &long, "garbage", listen].join("\n");
        let mut sink = Vec::new();
        rename_lines(source.as_bytes(), &mut sink).await.expect("memory");
        let expected = [renamed.as_str(), other, &long, "garbage", listen].join("\n");
        // The last line was never ended.
        assert!(sink == expected.as_bytes(), "{}", String::from_utf8_lossy(&sink));
    }
}
