//! What a host counts, through the facade of the `metrics` crate: nothing is kept unless the
//! program installs a recorder.

use cellblock::RuntimeResponse;
use metrics::{counter, gauge, histogram};
use std::time::{Duration, Instant};

/// A cell that counts as active until it is dropped.
pub(super) struct ActiveCell {
    admitted: Instant,
    /// Its last response was counted.
    ended: bool,
}

impl ActiveCell {
    /// A cell that was admitted now.
    pub(super) fn admitted() -> Self {
        counter!("cellblock_cells_started_total").increment(1);
        gauge!("cellblock_cells_active").increment(1.0);
        Self { admitted: Instant::now(), ended: false }
    }

    /// Counts the cell's last response, once.
    pub(super) fn ended(&mut self, response: &RuntimeResponse) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let report = response.report();
        let cause = match (response, report.limit) {
            (_, Some(limit)) => format!("limit: {limit}"),
            (RuntimeResponse::Terminated { .. }, _) => "terminated".to_owned(),
            (RuntimeResponse::Result { error_text: Some(_), .. }, _) => "failed".to_owned(),
            _ => "completed".to_owned(),
        };
        counter!("cellblock_cells_ended_total", "cause" => cause).increment(1);
        counter!("cellblock_fuel_total").increment(report.usage.fuel);
        counter!("cellblock_calls_total").increment(report.usage.calls);
        histogram!("cellblock_cell_seconds").record(self.admitted.elapsed().as_secs_f64());
        histogram!("cellblock_cell_running_seconds")
            .record(report.usage.running_time.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a histogram's buckets are coarse")]
        histogram!("cellblock_cell_peak_memory_bytes")
            .record(report.usage.peak_memory_bytes as f64);
    }
}

impl Drop for ActiveCell {
    fn drop(&mut self) {
        gauge!("cellblock_cells_active").decrement(1.0);
        if !self.ended {
            counter!("cellblock_cells_ended_total", "cause" => "not fetched").increment(1);
        }
    }
}

/// A program was not admitted.
pub(super) fn refused() {
    counter!("cellblock_cells_refused_total").increment(1);
}

/// The time from a program's arrival to its first response.
pub(super) fn first_response(time: Duration) {
    histogram!("cellblock_first_response_seconds").record(time.as_secs_f64());
}

/// A nested call that its client serves; dropped when it has ended.
pub(super) struct RunningCall(Instant);

impl RunningCall {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        histogram!("cellblock_call_seconds").record(self.0.elapsed().as_secs_f64());
    }
}

/// A client's connection; dropped when it has ended.
pub(super) struct OpenConnection(());

impl OpenConnection {
    pub(super) fn new() -> Self {
        gauge!("cellblock_connections").increment(1.0);
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!("cellblock_connections").decrement(1.0);
    }
}
