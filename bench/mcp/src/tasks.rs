//! The tasks, and what a model says to do each, in both ways.

use crate::measure::Way;
use crate::workload::Workload;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

/// Which server a call is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    Files,
    Memory,
}

/// The calls of one turn of a model that calls tools directly: at one time, where none needs
/// the result of another.
type Turn = Vec<(Server, &'static str, Value)>;

/// A task.
pub struct Task {
    /// What is to be done, for the table.
    pub name: &'static str,
    /// What is to be found.
    pub answer: &'static str,
    /// What a model calls directly, turn by turn. Its arguments are those that it reads in the
    /// turns before.
    turns: fn(notes: &str) -> Vec<Turn>,
    /// What it makes of the results: the answer.
    conclude: fn(results: &[String]) -> String,
    /// The program that it writes instead.
    program: &'static str,
}

impl Task {
    /// Does the task by direct calls.
    pub fn directly(&self, workload: &Workload) -> Result<Way> {
        let (mut files, mut memory) = (workload.files()?, workload.memory()?);
        let tools = [files.tools()?, memory.tools()?].concat();
        let mut way = Way::with(&tools);
        let mut results = Vec::new();
        for turn in (self.turns)(&workload.notes()) {
            let started = Instant::now();
            let mut passed = Vec::new();
            for (server, tool, arguments) in turn {
                let client = if server == Server::Files { &mut files } else { &mut memory };
                let result = text_of(&client.call(tool, &arguments)?);
                passed.push(
                    workload.shown(&json!({ "name": tool, "arguments": arguments }).to_string()),
                );
                passed.push(workload.shown(&result));
                results.push(result);
            }
            way.turn(&passed, started.elapsed());
        }
        way.answer = (self.conclude)(&results);
        Ok(way)
    }

    /// Does the task by a program.
    pub fn in_programs(&self, workload: &Workload, cellblock: &Path) -> Result<Way> {
        let mut client = workload.gateway(cellblock)?;
        let tools = client.tools()?;
        let mut way = Way::with(&tools);
        let code = self.program.replace("NOTES", &workload.notes());
        let arguments = json!({ "code": code });
        let started = Instant::now();
        let result = client.call("exec", &arguments)?;
        let time = started.elapsed();
        let shown = settled(&text_of(&result));
        let call = json!({ "name": "exec", "arguments": arguments }).to_string();
        way.turn(&[workload.shown(&call), workload.shown(&shown)], time);
        let output = result["structuredContent"]["output"].as_str();
        output.context("a program that prints its answer")?.clone_into(&mut way.answer);
        Ok(way)
    }
}

/// The text of a result, as clients put it into the context.
fn text_of(result: &Value) -> String {
    let blocks = result["content"].as_array().into_iter().flatten();
    blocks.filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
}

/// A text without the time in it, which would make the count of tokens differ.
fn settled(text: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("Wall time ") {
            "Wall time 0.1 seconds".to_owned()
        } else {
            line.to_owned()
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn read(notes: &str, name: &str) -> (Server, &'static str, Value) {
    (Server::Files, "read_text_file", json!({ "path": format!("{notes}/{name}") }))
}

/// All tasks.
pub fn all() -> Vec<Task> {
    vec![
        Task {
            name: "read one short file",
            answer: "20",
            turns: |notes| vec![vec![read(notes, "people.csv")]],
            conclude: |results| results[0].trim().lines().count().to_string(),
            program: r#"const { content } = await tools.files.read_text_file({ path: "NOTES/people.csv" });
text(content.trim().split("\n").length);"#,
        },
        Task {
            name: "count TODOs in 40 notes",
            answer: "42",
            turns: |notes| {
                let list = (Server::Files, "list_directory", json!({ "path": notes }));
                let all = (0..40).map(|n| read(notes, &format!("note-{n:02}.md"))).collect();
                vec![vec![list], all]
            },
            conclude: |results| {
                results[1..]
                    .iter()
                    .map(|note| note.matches("TODO").count())
                    .sum::<usize>()
                    .to_string()
            },
            program: r#"const { content: list } = await tools.files.list_directory({ path: "NOTES" });
const names = list.match(/note-\d+\.md/g);
const notes = await Promise.all(names.map((name) => tools.files.read_text_file({ path: `NOTES/${name}` })));
text(notes.map(({ content }) => content.split("TODO").length - 1).reduce((a, b) => a + b));"#,
        },
        Task {
            name: "find the slowest error in a log of 3,000 lines",
            answer: "request 1257 took 93 ms",
            turns: |notes| vec![vec![read(notes, "server.log")]],
            conclude: |results| {
                let errors = results[0].lines().filter_map(|line| line.split_once(" ERROR "));
                let time =
                    |entry: &str| entry.split(' ').nth(3).and_then(|ms| ms.parse::<u64>().ok());
                errors
                    .map(|(_, entry)| entry)
                    .max_by_key(|entry| time(entry))
                    .unwrap_or_default()
                    .to_owned()
            },
            program: r#"const { content } = await tools.files.read_text_file({ path: "NOTES/server.log" });
const errors = content.split("\n").filter((line) => line.includes(" ERROR ")).map((line) => line.split(" ERROR ")[1]);
text(errors.sort((a, b) => parseInt(b.split(" ")[3]) - parseInt(a.split(" ")[3]))[0]);"#,
        },
        Task {
            name: "enter 20 people of a file into the memory, and count a team",
            answer: "5",
            turns: |notes| {
                let people = || (0..20).map(|n| (format!("person{n}"), format!("team{}", n % 4)));
                let entities: Vec<_> = people()
                    .map(|(name, team)| json!({ "name": name, "entityType": "person", "observations": [team] }))
                    .collect();
                let relations: Vec<_> = people()
                    .map(
                        |(name, team)| json!({ "from": name, "to": team, "relationType": "is in" }),
                    )
                    .collect();
                vec![
                    vec![read(notes, "people.csv")],
                    vec![
                        (Server::Memory, "create_entities", json!({ "entities": entities })),
                        (Server::Memory, "create_relations", json!({ "relations": relations })),
                    ],
                    vec![(Server::Memory, "read_graph", json!({}))],
                ]
            },
            conclude: |results| {
                let graph: Value = results
                    .last()
                    .and_then(|text| serde_json::from_str(text).ok())
                    .unwrap_or_default();
                let relations = graph["relations"].as_array().into_iter().flatten();
                relations.filter(|relation| relation["to"] == "team3").count().to_string()
            },
            program: r#"const { content } = await tools.files.read_text_file({ path: "NOTES/people.csv" });
const people = content.trim().split("\n").map((line) => line.split(","));
await tools.memory.create_entities({ entities: people.map(([name, team]) => ({ name, entityType: "person", observations: [team] })) });
await tools.memory.create_relations({ relations: people.map(([from, to]) => ({ from, to, relationType: "is in" })) });
const graph = await tools.memory.read_graph({});
text(graph.relations.filter(({ to }) => to === "team3").length);"#,
        },
    ]
}
