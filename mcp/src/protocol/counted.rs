//! A bound on what a server may ask of this client: each request costs memory until its
//! answer is read, and a server need not read.

use cellblock::support::lock;
use rmcp::RoleClient;
use rmcp::model::ErrorData;
use rmcp::service::{NotificationContext, RequestContext, Service, ServiceRole};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Requests that a server may send in one minute; more end its connection.
pub(super) const MAX_REQUESTS: u32 = 1_000;
/// The minute.
const WINDOW: Duration = Duration::from_mins(1);

/// A service whose requests are counted.
pub(super) struct Counted<S> {
    service: S,
    /// When the minute began, and the requests since.
    window: Mutex<(Instant, u32)>,
    /// Is cancelled when there are too many.
    flooded: CancellationToken,
}

impl<S> Counted<S> {
    pub(super) fn new(service: S, flooded: CancellationToken) -> Self {
        Self { service, window: Mutex::new((Instant::now(), 0)), flooded }
    }

    fn count(&self) {
        let mut window = lock(&self.window);
        if window.0.elapsed() > WINDOW {
            *window = (Instant::now(), 0);
        }
        window.1 += 1;
        if window.1 > MAX_REQUESTS {
            self.flooded.cancel();
        }
    }
}

impl<S: Service<RoleClient>> Service<RoleClient> for Counted<S> {
    async fn handle_request(
        &self,
        request: <RoleClient as ServiceRole>::PeerReq,
        context: RequestContext<RoleClient>,
    ) -> Result<<RoleClient as ServiceRole>::Resp, ErrorData> {
        self.count();
        self.service.handle_request(request, context).await
    }

    async fn handle_notification(
        &self,
        notification: <RoleClient as ServiceRole>::PeerNot,
        context: NotificationContext<RoleClient>,
    ) -> Result<(), ErrorData> {
        self.service.handle_notification(notification, context).await
    }

    fn get_info(&self) -> <RoleClient as ServiceRole>::Info {
        self.service.get_info()
    }
}
