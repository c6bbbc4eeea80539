//! Answers to clients that open a session again: which of its cells are kept.

use super::Worker;
use super::tenant_store::TenantStore;
use crate::nats::listing::{CELLS, Listing, QUESTION, Question};
use crate::nats::{Subjects, is_token};
use async_nats::Message;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Questions that are answered at one time; the others are dropped, and asked again.
pub(super) const AT_ONCE: usize = 8;

impl Worker {
    /// Answers a question, unless there are too many or it is something else.
    pub(super) fn list(self: &Arc<Self>, message: Message) {
        let Some(Subjects { tenant, .. }) = Subjects::read(&message.subject) else { return };
        let (Some(reply), Some(store)) = (message.reply, &self.store) else { return };
        let Ok(permit) = Arc::clone(&self.lists).try_acquire_owned() else { return };
        if message.payload.len() > QUESTION {
            return;
        }
        let Ok(question) = serde_json::from_slice::<Question>(&message.payload) else { return };
        let (store, client) =
            (TenantStore::new(store, &tenant, CancellationToken::new()), self.nats.client.clone());
        self.tasks.spawn(async move {
            let _permit = permit;
            match listing(&store, &question).await {
                Ok(listing) => {
                    let json = serde_json::to_vec(&listing).unwrap_or_default();
                    // A client that receives nothing asks again.
                    let _ = client.publish(reply, json.into()).await;
                }
                Err(error) => tracing::warn!("the cells of a session were not listed: {error}"),
            }
        });
    }
}

async fn listing(store: &TenantStore, question: &Question) -> Result<Listing, String> {
    let Question { session, after } = question;
    if !is_token(session) {
        return Ok(Listing::default());
    }
    let mut names = store.names(session).await?;
    names.sort();
    let first = after.as_ref().map_or(0, |after| names.partition_point(|name| name <= after));
    let mut listing = Listing { cells: Vec::new(), has_more: names.len() - first > CELLS };
    for name in names.into_iter().skip(first).take(CELLS) {
        listing.cells.extend(store.kept(session, name).await?);
    }
    Ok(listing)
}
