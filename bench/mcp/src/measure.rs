//! Counting what a model reads and writes.

use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// One way to do a task, as it was measured.
#[derive(Debug, Default)]
pub struct Way {
    /// Tokens of the tools' definitions, which every turn has.
    pub tools: usize,
    /// Bytes of calls and results.
    pub bytes: usize,
    /// Tokens of calls and results, each once.
    pub tokens: usize,
    /// Tokens that the model reads over all turns: each has the definitions and all that came
    /// before.
    pub read: usize,
    /// Turns of the model, the last one with its answer.
    pub turns: usize,
    /// How long the calls took.
    pub time: Duration,
    /// What was found.
    pub answer: String,
}

impl Way {
    /// A way whose model has these tools.
    pub fn with(tools: &[Value]) -> Self {
        let definition = |tool: &Value| {
            format!(
                "{}\n{}\n{}",
                text(&tool["name"]),
                text(&tool["description"]),
                tool["inputSchema"]
            )
        };
        let all: Vec<_> = tools.iter().map(definition).collect();
        let tools = tokens(&all.join("\n"));
        // The first turn.
        Self { tools, turns: 1, read: tools, ..Self::default() }
    }

    /// The model made calls in one turn, and reads what they returned in the next.
    pub fn turn(&mut self, passed: &[String], time: Duration) {
        self.bytes += passed.iter().map(String::len).sum::<usize>();
        self.tokens += passed.iter().map(|text| tokens(text)).sum::<usize>();
        self.read += self.tools + self.tokens;
        self.turns += 1;
        self.time += time;
    }
}

/// A task, both ways.
pub struct Measured {
    /// What it is.
    pub task: &'static str,
    /// Every tool called directly.
    pub direct: Way,
    /// Tools called in programs.
    pub programs: Way,
}

/// Tokens as models of `OpenAI` since GPT-4o count them.
fn tokens(text: &str) -> usize {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(text).len()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The figures as a table of Markdown. The times are last, for they differ from run to run.
pub fn table(measured: &[Measured]) -> String {
    let mut lines = String::from(
        "| task | way | tools in context, tokens | calls and results, bytes | calls and results, tokens | turns | read over all turns, tokens | time of the calls |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for Measured { task, direct, programs } in measured {
        for (way, name) in [(direct, "direct"), (programs, "program")] {
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines,
                "| {task} | {name} | {} | {} | {} | {} | {} | {} ms |",
                way.tools,
                way.bytes,
                way.tokens,
                way.turns,
                way.read,
                way.time.as_millis()
            );
        }
    }
    lines
}
