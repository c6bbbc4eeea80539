//! Figures of `cellblock host`, for Prometheus.

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cellblock_remote::server::Server;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How often what was recorded is put into buckets, so that it does not pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of the buckets of times, in seconds.
const SECONDS: [f64; 12] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0, 600.0];

/// Bounds of the buckets of memory, in bytes.
const BYTES: [f64; 7] = [1e6, 4e6, 16e6, 64e6, 128e6, 256e6, 1e9];

/// The figures of this process, and where they are served.
pub struct Metrics {
    address: SocketAddr,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Collects figures from here on.
    pub fn install(address: SocketAddr) -> Result<Self> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)?
            .install_recorder()?;
        Ok(Self { address, handle })
    }

    /// Serves the figures. Returns only when that is not possible.
    pub async fn serve(self, server: Arc<Server>) -> Result<()> {
        let listener = TcpListener::bind(self.address)
            .await
            .with_context(|| format!("cannot listen on {} for metrics", self.address))?;
        crate::complain(&format!("figures are at http://{}/metrics", listener.local_addr()?));
        let (render, upkeep) = (self.handle.clone(), self.handle);
        let ready = move || async move {
            if server.is_draining() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
        };
        let router = Router::new()
            .route("/metrics", get(move || async move { render.render() }))
            .route("/healthz", get(|| async { StatusCode::OK }))
            .route("/readyz", get(ready));
        let keeping_up = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                upkeep.run_upkeep();
            }
        };
        tokio::select! {
            served = axum::serve(listener, router) => served.context("metrics are not served"),
            () = keeping_up => Ok(()),
        }
    }
}
