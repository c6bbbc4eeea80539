//! What is known of each server, for people.

use crate::gateway::Gateway;
use std::sync::Arc;

/// What is known of each server, for people.
#[derive(Clone, Debug)]
pub struct Checked {
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
    /// Starts every server and says what is known of it, and of tools that are left out.
    pub async fn check(&self) -> (Vec<Checked>, Vec<String>) {
        let longest = self.0.upstreams.servers.iter().map(|each| each.config.start_timeout).max();
        // A start has two parts, each with this time: the connection, and the list of tools.
        self.0.upstreams.ready(longest.unwrap_or_default() * 3).await;
        let catalog = self.catalog();
        let mut checked = Vec::new();
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
            checked.push(Checked {
                server: server.config.name.clone(),
                revision,
                tools: tools.collect(),
                problem: known.problem.map(|problem| problem.to_string()),
            });
        }
        (checked, catalog.skipped().collect())
    }
}
