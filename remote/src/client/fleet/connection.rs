//! This process's connection to NATS, and the framed connection of one cell over its link.

use super::values::SessionValues;
use crate::client::cell::CellHandle;
use crate::client::connection::{
    Answer, ConnectError, ConnectionError, Failure, HostConnection, HostResponse, Lifeline,
    Program, Wait, WaitId, Waiting,
};
use crate::client::framed::FramedConnection;
use crate::client::session::RemoteSession;
use crate::nats::{
    Feed, INBOX, LinkEnd, NatsAddress, NatsConnection, NatsError, Subjects, dismiss, header,
    random_id,
};
use crate::protocol::ExecutionLimits;
use async_nats::{Client, Message, Subscriber};
use cellblock::support::lock;
use cellblock::{CellId, CellLimits, CodeModeError};
use futures_util::{FutureExt, StreamExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The links of this process, by their names in its inbox.
pub(super) type Links = Arc<Mutex<HashMap<String, Feed>>>;

/// The connection to NATS.
pub(super) struct FleetConnection {
    pub(super) nats: NatsConnection,
    /// Where messages for this process come, each link under a name of its own.
    pub(super) inbox: String,
    pub(super) links: Links,
    /// Ends the task that receives them.
    _receiving: DropGuard,
}

impl FleetConnection {
    pub(super) async fn open(address: &NatsAddress) -> Result<Self, NatsError> {
        let nats = address.connect("cellblock client", INBOX).await?;
        // Nobody can guess it, so nobody else can send there.
        let inbox = format!("{INBOX}.{}", random_id());
        let messages = nats
            .client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| NatsError::Failed(error.to_string()))?;
        let (links, ended) = (Links::default(), CancellationToken::new());
        let client = nats.client.clone();
        tokio::spawn(receive(client, messages, Arc::clone(&links), ended.clone()));
        Ok(Self { nats, inbox, links, _receiving: ended.drop_guard() })
    }
}

/// Moves messages to the queues of their links.
async fn receive(client: Client, mut messages: Subscriber, links: Links, ended: CancellationToken) {
    loop {
        let message = tokio::select! {
            biased;
            () = ended.cancelled() => None,
            message = messages.next() => message,
        };
        let Some(message) = message else { break };
        let Some((_, token)) = message.subject.rsplit_once('.') else { continue };
        let token = token.to_owned();
        let feed = lock(&links).get(&token).cloned();
        match feed {
            Some(feed) => {
                if feed.push(message).is_err() {
                    lock(&links).remove(&token);
                }
            }
            None => {
                if let Some(link) = unended(&message) {
                    dismiss(&client, link).await;
                }
            }
        }
    }
    // Dropped feeds end their links.
    lock(&links).clear();
}

/// Where a worker is told that its link has ended, if it does not know: a message that told it was
/// lost.
fn unended(message: &Message) -> Option<String> {
    let headers = message.headers.as_ref()?;
    let link = headers.get(header::LINK).filter(|_| headers.get(header::END).is_none())?;
    Subjects::of_link(link.as_str())
}

impl From<LinkEnd> for ConnectionError {
    fn from(end: LinkEnd) -> Self {
        match end {
            LinkEnd::Left => Self::Dropped,
            LinkEnd::Closed(why) if why.is_empty() => {
                Self::WorkerLost("the worker has closed it".to_owned())
            }
            LinkEnd::Closed(why) => Self::WorkerLost(format!("the worker has closed it: {why}")),
            LinkEnd::NoWorker(why) => Self::NoWorker(why),
            LinkEnd::Lost(why) => Self::WorkerLost(why),
        }
    }
}

/// A framed connection over the link of one cell. Nothing waits for the answer to the session's
/// opening: the program follows it at once.
pub(super) struct CellConnection {
    framed: FramedConnection,
    /// The answer to the session's opening, until the program was sent.
    opening: Mutex<Option<Answer<()>>>,
    /// The session's values, where NATS keeps them, and the cell's name there.
    values: Option<(Arc<SessionValues>, String)>,
}

impl CellConnection {
    pub(super) fn new(
        framed: FramedConnection,
        values: Option<Arc<SessionValues>>,
        cell: &str,
    ) -> Self {
        let values = values.map(|values| (values, cell.to_owned()));
        Self { framed, opening: Mutex::new(None), values }
    }

    /// Says why the link is about to end.
    pub(super) fn ends_for(&self, reason: ConnectionError) {
        self.framed.ends_for(reason);
    }

    /// Commits what a cell wrote before its last response is delivered.
    fn committed(&self, answer: Answer<HostResponse>) -> Answer<HostResponse> {
        let Some((values, cell)) = self.values.clone() else { return answer };
        Box::pin(async move {
            let response = answer.await?;
            if response.stored.is_empty() {
                return Ok(response);
            }
            match values.commit(&cell, response.stored.clone()).await {
                Ok(()) => Ok(response),
                Err(error) => {
                    let why = format!(
                        "the program has ended, and it is not known whether what it stored was \
                         kept: {error}"
                    );
                    Err(Failure::Refused(CodeModeError::Host(why)))
                }
            }
        })
    }

    /// Sends the session's opening.
    pub(super) fn begin(
        &self,
        session: &Arc<RemoteSession>,
        limits: ExecutionLimits,
        cell: Option<CellLimits>,
    ) -> Result<(), Failure> {
        let mut opening = self.framed.open(Arc::clone(session), limits, cell);
        if let Some(opened) = (&mut opening).now_or_never() {
            return opened;
        }
        *lock(&self.opening) = Some(opening);
        Ok(())
    }
}

impl HostConnection for CellConnection {
    fn lifeline(&self) -> &Lifeline {
        self.framed.lifeline()
    }

    fn fail(&self, reason: ConnectionError) {
        self.framed.fail(reason);
    }

    fn parks(&self, session: &RemoteSession) -> bool {
        self.framed.parks(session)
    }

    fn open(
        &self,
        session: Arc<RemoteSession>,
        limits: ExecutionLimits,
        cell: Option<CellLimits>,
    ) -> Answer<()> {
        self.framed.open(session, limits, cell)
    }

    fn execute(
        &self,
        session: Arc<RemoteSession>,
        cell: CellHandle,
        program: Program,
    ) -> Answer<HostResponse> {
        let opening = lock(&self.opening).take();
        let executing = self.framed.execute(session, cell, program);
        let answer: Answer<HostResponse> = Box::pin(async move {
            let opened = async {
                match opening {
                    Some(opening) => opening.await,
                    None => Ok(()),
                }
            };
            // The host answers in order, so the first failure is the one that counts.
            let (opened, executed) = tokio::join!(opened, executing);
            opened.and(executed).map_err(|failure| match failure {
                Failure::Lost(ConnectionError::NoWorker(_)) => {
                    let Failure::Lost(reason) = failure else { return failure };
                    Failure::Unavailable(ConnectError::Fleet(reason.to_string()))
                }
                // It was told to end before the program came to it.
                Failure::Refused(error @ CodeModeError::ShuttingDown) => {
                    Failure::Unavailable(ConnectError::Fleet(error.to_string()))
                }
                other => other,
            })
        });
        self.committed(answer)
    }

    fn wait(&self, session: &RemoteSession, cell_id: CellId, wait: Wait) -> Waiting {
        let Waiting { id, answer } = self.framed.wait(session, cell_id, wait);
        Waiting { id, answer: self.committed(answer) }
    }

    fn cancel_wait(&self, session: &RemoteSession, wait: WaitId) {
        self.framed.cancel_wait(session, wait);
    }

    fn terminate(&self, session: &RemoteSession, cell_id: CellId) -> Answer<HostResponse> {
        self.committed(self.framed.terminate(session, cell_id))
    }

    fn close(&self, session: &RemoteSession) -> Answer<()> {
        self.framed.close(session)
    }
}
