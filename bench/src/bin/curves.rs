//! `cargo xtask plots`: how cost grows, as committed pictures.
//!
//! Each curve is measured here and now; `docs/performance.md` shows them.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use anyhow::{Context, Result};
use async_trait::async_trait;
use cellblock::{
    CodeModeNestedToolCall, CodeModeService, CodeModeTurnHost, Engine, ExecuteRequest,
    SessionLimits, ToolDefinition, ToolResult, WasmBackend,
};
use plotters::prelude::*;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Cells whose middle time is a point.
const SAMPLES: usize = 300;

/// A host whose one tool returns a text of the length it is asked for.
struct Host;

#[async_trait]
impl CodeModeTurnHost for Host {
    async fn invoke_tool(
        &self,
        call: CodeModeNestedToolCall,
        _cancellation: CancellationToken,
    ) -> Result<ToolResult, String> {
        let length = call.input.and_then(|input| input.into_value().as_u64()).unwrap_or_default();
        Ok(Value::String("x".repeat(usize::try_from(length).unwrap_or_default())).into())
    }
}

fn main() -> Result<()> {
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/plots");
    std::fs::create_dir_all(&out)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let curve = parked().await?;
        plot(
            &out.join("parked.svg"),
            "cold cell beside parked cells, p50",
            "parked cells",
            &curve,
        )?;
        let curve = tools().await?;
        plot(&out.join("tools.svg"), "cold cell with enabled tools, p50", "tools", &curve)?;
        let curve = results().await?;
        plot(&out.join("results.svg"), "awaited call of a tool, p50", "bytes of result", &curve)?;
        let curve = concurrent().await?;
        plot(&out.join("concurrent.svg"), "time for each of N cells at one time", "cells", &curve)
    })
}

fn session(cells: usize) -> Result<CodeModeService> {
    let limits = SessionLimits { cells, ..SessionLimits::default() };
    Ok(CodeModeService::new(Arc::new(WasmBackend::with_limits(&Engine::shared()?, limits))))
}

fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// Middle time of trivial cells, one after the other, asked for by a task of the runtime.
async fn cold(service: &CodeModeService, tools: &Arc<[ToolDefinition]>) -> Result<f64> {
    let (service, tools) = (service.clone(), Arc::clone(tools));
    let task = tokio::spawn(async move {
        let mut times = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let request = ExecuteRequest {
                enabled_tools: Arc::clone(&tools),
                ..ExecuteRequest::new("text(1+1)")
            };
            let started = Instant::now();
            service.execute(request).await?;
            times.push(started.elapsed());
        }
        anyhow::Ok(middle(times))
    });
    task.await?
}

async fn parked() -> Result<Vec<(f64, f64)>> {
    let service = session(10_001)?;
    let none: Arc<[ToolDefinition]> = [].into();
    cold(&service, &none).await?;
    let mut curve = vec![(0.0, cold(&service, &none).await?)];
    let mut count = 0;
    for total in [1_000, 2_500, 5_000, 7_500, 10_000] {
        while count < total {
            let source = "yield_control(); await new Promise((r) => setTimeout(r, 3e6))";
            service.execute(ExecuteRequest::new(source)).await?;
            count += 1;
        }
        curve.push((f64::from(total), cold(&service, &none).await?));
    }
    service.shutdown().await;
    Ok(curve)
}

async fn tools() -> Result<Vec<(f64, f64)>> {
    let service = session(8)?;
    let mut curve = Vec::new();
    for count in [0, 16, 32, 64, 128, 192, 256] {
        let tool = |number| ToolDefinition::function(format!("tool_number_{number}"), "A tool.");
        let tools: Arc<[ToolDefinition]> = (0..count).map(tool).collect();
        cold(&service, &tools).await?;
        curve.push((f64::from(count), cold(&service, &tools).await?));
    }
    Ok(curve)
}

async fn results() -> Result<Vec<(f64, f64)>> {
    const CALLS: u32 = 50;
    let service = session(8)?;
    let _worker = service.start_turn_worker(Arc::new(Host));
    let mut curve = Vec::new();
    for length in [0, 50_000, 100_000, 200_000, 400_000] {
        let source = format!("for (let i = 0; i < {CALLS}; i++) await tools.make({length})");
        let mut times = Vec::new();
        for _ in 0..7 {
            let request = ExecuteRequest {
                enabled_tools: [ToolDefinition::function("make", "")].into(),
                ..ExecuteRequest::new(source.clone())
            };
            let started = Instant::now();
            service.execute(request).await?;
            times.push(started.elapsed() / CALLS);
        }
        curve.push((f64::from(length), middle(times)));
    }
    Ok(curve)
}

async fn concurrent() -> Result<Vec<(f64, f64)>> {
    let service = session(1_024)?;
    let mut curve = Vec::new();
    for count in [1_u32, 2, 4, 8, 16, 32, 64] {
        let mut times = Vec::new();
        for _ in 0..30 {
            let started = Instant::now();
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..count {
                let service = service.clone();
                tasks.spawn(async move { service.execute(ExecuteRequest::new("text(1+1)")).await });
            }
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            times.push(started.elapsed() / count);
        }
        curve.push((f64::from(count), middle(times)));
    }
    Ok(curve)
}

/// Draws a curve of microseconds.
fn plot(path: &Path, title: &str, what: &str, curve: &[(f64, f64)]) -> Result<()> {
    let right = curve.iter().fold(0.0_f64, |most, (x, _)| most.max(*x));
    let top = curve.iter().fold(0.0_f64, |most, (_, y)| most.max(*y)) * 1.2;
    let area = SVGBackend::new(path, (560, 320)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart.configure_mesh().x_desc(what).y_desc("µs").x_labels(6).y_labels(6).draw()?;
    chart.draw_series(LineSeries::new(curve.iter().copied(), BLUE.stroke_width(2)))?;
    chart.draw_series(curve.iter().map(|point| Circle::new(*point, 3, BLUE.filled())))?;
    area.present().with_context(|| format!("cannot write {}", path.display()))?;
    println!("{title}: {curve:.1?}");
    Ok(())
}
