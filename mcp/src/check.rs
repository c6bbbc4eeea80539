//! What is known of each server, for people.

use crate::gateway::Gateway;
use std::sync::Arc;

/// What is known of a configuration once its servers have started, for people.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The servers, in the order of the configuration.
    pub servers: Vec<CheckedServer>,
    /// Tools that programs cannot call, each with the reason.
    pub left_out: Vec<String>,
    /// Rules that are for none of the tools. They may be wrong, or for tools to come.
    pub idle_rules: Vec<String>,
}

/// What is known of one server, for people.
#[derive(Clone, Debug)]
pub struct CheckedServer {
    /// The server, by its name in the configuration.
    pub server: String,
    /// The revision of the protocol that it speaks, when it has started.
    pub revision: Option<String>,
    /// Its tools, each with what is done about calls of it and whether it is marked.
    pub tools: Vec<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl Gateway {
    /// Starts every server and says what is known of it.
    pub async fn check(&self) -> Checked {
        let longest = self.0.upstreams.servers.iter().map(|each| each.config.start_timeout).max();
        // A start has two parts, each with this time: the connection, and the list of tools.
        self.0.upstreams.ready(longest.unwrap_or_default() * 3, |_| true).await;
        let catalog = self.catalog();
        let mut servers = Vec::new();
        for server in &self.0.upstreams.servers {
            let known = server.known();
            let revision = match server.connection().await {
                Ok(connection) => connection.revision(),
                Err(_) => None,
            };
            let tools = catalog.tools().iter().filter_map(|tool| {
                let target = catalog.target(&tool.definition.tool_name)?;
                let own = Arc::ptr_eq(&target.server, server);
                own.then(|| format!("{}  {}", tool.global_name, target.described()))
            });
            servers.push(CheckedServer {
                server: server.config.name.clone(),
                revision,
                tools: tools.collect(),
                problem: known.problem.map(|problem| problem.to_string()),
            });
        }
        let idle = self.0.rules.iter().enumerate().filter(|(_, rule)| {
            let mut servers = self.0.upstreams.servers.iter();
            !servers.any(|server| {
                let name = &server.config.name;
                let tools = server.known().tools;
                tools.iter().any(|tool| rule.matches(name, &tool.name, tool.annotations))
            })
        });
        let idle = idle.map(|(index, _)| format!("cellblock.policy[{index}] is for no tool"));
        let (idle_rules, left_out) = (idle.collect(), catalog.skipped().collect());
        Checked { servers, left_out, idle_rules }
    }
}
