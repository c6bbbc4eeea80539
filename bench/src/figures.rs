//! Figures as they are gathered, and as they are printed.

use std::fmt::Write;
use std::time::Duration;

/// A figure: what was measured, how much, and what we aim for.
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    target: Option<f64>,
}

/// The figures of a run, in the order they were taken.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a figure; a target is the most that it should be, or for a rate the least.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        target: Option<f64>,
    ) {
        self.0.push(Figure { name: name.into(), value, unit, target });
    }

    /// Adds p50 and p99 of some times, in microseconds.
    pub fn add_times(&mut self, name: &str, times: &mut [Duration], targets: [Option<f64>; 2]) {
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
        self.add(format!("{name} p50"), at(50), "µs", targets[0]);
        self.add(format!("{name} p99"), at(99), "µs", targets[1]);
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut table = "| what | figure | target |\n|---|---|---|\n".to_owned();
        for Figure { name, value, unit, target } in &self.0 {
            let target = target.map_or_else(String::new, |target| format!("{target} {unit}"));
            // Writing to a string cannot fail.
            let _ = writeln!(table, "| {name} | {value:.2} {unit} | {target} |");
        }
        table
    }

    /// One JSON object: figure, unit and target by name.
    pub fn json(&self) -> String {
        let figure = |figure: &Figure| {
            let Figure { name, value, unit, target } = figure;
            (name.clone(), serde_json::json!({ "value": value, "unit": unit, "target": target }))
        };
        serde_json::Value::Object(self.0.iter().map(figure).collect()).to_string()
    }
}
