//! The seven workloads, against native QuickJS of the same version, and one against V8.

use crate::figures::Figures;
use crate::host::Bench;
use anyhow::{Context as _, Result, ensure};
use cellblock::{ContentItem, SessionLimits};
use rquickjs::{Context, Runtime};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The workloads, as files of `tests/workloads`.
pub const NAMES: [&str; 7] =
    ["fib27", "json1mb", "loop5e6", "objects", "regex", "sort200k", "strbuild"];
/// Runs of each, interleaved; the fastest counts.
const RUNS: usize = 5;

/// Metered cells against native QuickJS.
pub fn workloads(figures: &mut Figures) -> Result<()> {
    let bench = Bench::new(0, SessionLimits::default())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut product = 1.0;
    for name in NAMES {
        let expression = &expression(name)?;
        let (mut ours, mut native) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..RUNS {
            let started = Instant::now();
            let response = runtime.block_on(bench.run(&format!("text({expression})")))?;
            ours = ours.min(started.elapsed().as_secs_f64() * 1e3);
            let started = Instant::now();
            let checksum = in_native(expression)?;
            native = native.min(started.elapsed().as_secs_f64() * 1e3);
            let expected = [ContentItem::InputText { text: checksum }];
            ensure!(response.content_items() == expected, "{name}: {response:?}");
        }
        product *= ours / native;
        figures.add(format!("{name}, metered"), ours, "ms", None);
        figures.add(format!("{name}, native QuickJS"), native, "ms", None);
    }
    let mean = f64::powf(product, 1.0 / 7.0);
    figures.add("workloads, metered / native, geometric mean", mean, "×", Some(1.45));
    Ok(())
}

/// `json1mb` against V8, which is Node's: `node` must be installed.
pub fn json(figures: &mut Figures) -> Result<()> {
    let bench = Bench::new(0, SessionLimits::default())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let expression = expression("json1mb")?;
    let (mut ours, mut v8) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..RUNS {
        let started = Instant::now();
        runtime.block_on(bench.run(&format!("text({expression})")))?;
        ours = ours.min(started.elapsed().as_secs_f64() * 1e3);
        // Its start does not count. Run once, as here, with nothing compiled before.
        let program = format!(
            "const t = performance.now(); ({expression}); console.log(performance.now() - t)"
        );
        let output = Command::new("node").args(["-e", &program]).output()?;
        let text = String::from_utf8(output.stdout)?;
        v8 = v8.min(text.trim().parse().with_context(|| format!("Node printed {text}"))?);
    }
    figures.add("json1mb, metered", ours, "ms", None);
    figures.add("json1mb, V8", v8, "ms", None);
    figures.add("json1mb, metered / V8", ours / v8, "×", Some(2.0));
    Ok(())
}

/// A workload's source: an expression whose value is a checksum.
pub fn expression(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/workloads/{name}.js"));
    let source = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(source.trim_end().trim_end_matches(';').to_owned())
}

fn in_native(expression: &str) -> Result<String> {
    let runtime = Runtime::new()?;
    let context = Context::full(&runtime)?;
    context.with(|ctx| Ok(ctx.eval::<String, _>(format!("String({expression})"))?))
}
