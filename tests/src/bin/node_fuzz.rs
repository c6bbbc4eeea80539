//! `cargo xtask json-fuzz` and `cargo xtask object-fuzz`: compare what cases made from seeds
//! give here with what they give in Node, for a given time.
//!
//! A folder of `tests` has a `program.js`, which defines `cases(seed, count)`: it makes so many
//! cases and returns a line for each.

#![allow(clippy::print_stdout, reason = "a report")]

use cellblock::{CodeModeService, ExecuteRequest, SessionLimits};
use cellblock_tests::backends::Backends;
use cellblock_tests::repository;
use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Cases of one seed.
const CASES: usize = 300;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder of tests?")?;
    let seconds = arguments.next().map_or(Ok(60), |text| text.parse())?;
    let mut seed: u32 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let program = std::fs::read_to_string(repository(&format!("tests/{folder}/program.js")))?;
    let service = CodeModeService::new(Backends::Wasm.session(SessionLimits::default()));
    let (began, mut compared) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        let call = format!("cases({seed}, {CASES})");
        let request = ExecuteRequest {
            yield_time_ms: Some(120_000),
            ..ExecuteRequest::new(format!("{program}\ntext({call})"))
        };
        let response = service.execute(request).await?;
        let ours = serde_json::json!(response.content_items());
        let Some(ours) = ours[0]["text"].as_str() else {
            return Err(format!("seed {seed}: {response:?}").into());
        };
        let node = Command::new("node")
            .args(["-e", &format!("'use strict';{program}\nprocess.stdout.write({call})")])
            .output()?;
        if !node.status.success() {
            return Err(String::from_utf8_lossy(&node.stderr).into_owned().into());
        }
        let theirs = String::from_utf8(node.stdout)?;
        for (at, (own, other)) in ours.lines().zip(theirs.lines()).enumerate() {
            if own != other {
                println!("seed {seed}, case {at}\n  here {own}\n  Node {other}");
                return Ok(ExitCode::FAILURE);
            }
        }
        if ours.lines().count() != theirs.lines().count() {
            return Err(format!("seed {seed}: other numbers of cases").into());
        }
        compared += CASES;
        seed = seed.wrapping_add(1);
    }
    println!("{compared} cases, none differs; the next seed is {seed}");
    Ok(ExitCode::SUCCESS)
}
