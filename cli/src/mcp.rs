//! `cellblock mcp`: programs over the tools of MCP servers, for MCP clients.

use crate::Exit;
use crate::access::AccessArguments;
use crate::limits::LimitArguments;
use crate::sandbox::{Sandbox, SandboxArguments};
use crate::terminal::print;
use anyhow::{Context, Result, bail, ensure};
use cellblock::{CellLimits, CodeModeError, EngineConfig, SessionLimits};
use cellblock_inspect::{InspectError, Inspector, Token};
use cellblock_mcp::config::{self, Config, Transport, add_server};
use cellblock_mcp::{
    Disclosure, Gateway, HTTP_PATH, HttpAccess, MakeBackend, Options, SERVER_MARK, serve_http,
    serve_inspector, serve_stdio, waits,
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Cells that may be active at one time, in all sessions.
const MAX_CELLS: u32 = 1_000;
/// The variable with the token of the page's URL.
const INSPECT_TOKEN: &str = "CELLBLOCK_INSPECT_TOKEN";
/// How long servers and programs have to end.
const CLOSE: Duration = Duration::from_secs(15);

/// Arguments of `cellblock mcp`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Add a server to the configuration.
    Add(Add),
    /// List the servers of the configuration, without starting them.
    List(ConfigArguments),
    /// Start every server, and list its tools and what is done about calls of them.
    Check(ConfigArguments),
}

#[derive(Args)]
struct ConfigArguments {
    /// The configuration, in the form `mcpServers` that MCP clients share; `.mcp.json` here,
    /// or else `cellblock/mcp.json` in the user's configuration, when not given.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct Serve {
    #[command(flatten)]
    config: ConfigArguments,
    /// How much the model reads of the tools before it looks for them.
    #[arg(long, value_enum, default_value_t = How::Auto)]
    disclosure: How,
    /// The most that `exec` and `wait` wait: a little less than the client's patience.
    #[arg(long, value_name = "TIME", default_value = "50s")]
    wait_max: humantime::Duration,
    /// The most that the first answers wait for servers that are still starting. A program that
    /// names a server waits longer for that one, up to --wait-max.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    start_wait: humantime::Duration,
    /// Keep stored values in this folder, so that sessions outlive the process.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Serve streamable HTTP at this address instead of standard input and output; port 0
    /// takes a free one.
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// Show what programs do on a page at this address of this machine, where calls can be
    /// approved, too; port 0 takes a free one. The URL is printed to standard error. Its token
    /// is random, or else what `CELLBLOCK_INSPECT_TOKEN` says.
    #[arg(long, value_name = "IP:PORT")]
    inspect: Option<SocketAddr>,
    /// A name by which clients may address the server over HTTP; those of this machine itself
    /// always may. May be given more than once.
    #[arg(long = "allow-host", value_name = "NAME", requires = "http")]
    hosts: Vec<String>,
    /// An origin of web pages that may use the server over HTTP; none may when none is given.
    #[arg(long = "allow-origin", value_name = "ORIGIN", requires = "http")]
    origins: Vec<String>,
    #[command(flatten)]
    access: AccessArguments,
    #[command(flatten)]
    sandbox: SandboxArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum How {
    /// Every declaration is in the description of `exec`.
    Catalog,
    /// The names are; `search_tools` and `describe_tools` show the rest.
    Search,
    /// As much as fits into 10,000 tokens.
    Auto,
}

#[derive(Args)]
struct Add {
    /// The server's name.
    name: String,
    /// A URL for streamable HTTP, or a command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    target: Vec<String>,
    /// A variable of the command's environment, as NAME=VALUE; may be given more than once.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A header of requests, as `NAME: VALUE`; may be given more than once.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Put it in the place of a server of this name.
    #[arg(long)]
    force: bool,
    /// Write to the user's configuration, not to that of this folder.
    #[arg(long, conflicts_with = "config")]
    user: bool,
    #[command(flatten)]
    config: ConfigArguments,
}

/// Serves, or looks after the configuration.
pub fn main(arguments: Arguments) -> Exit {
    let done = match arguments.command {
        None => serve(&arguments.serve),
        Some(Command::Add(add)) => self::add(&add),
        Some(Command::List(config)) => list(&config),
        Some(Command::Check(config)) => check(&config),
    };
    done.unwrap_or_else(|error| {
        crate::complain(&format!("{error:#}"));
        Exit::Usage
    })
}

impl ConfigArguments {
    fn path(&self) -> Result<PathBuf> {
        self.config.clone().or_else(config::find).with_context(|| {
            let user = config::user_file().unwrap_or_default();
            format!(
                "there is no {} here and no {}: add a server with `cellblock mcp add`, or name a \
                 configuration with --config",
                config::PROJECT_FILE,
                user.display()
            )
        })
    }

    fn read(&self) -> Result<Config> {
        let config = Config::read(&self.path()?)?;
        for (name, why) in &config.left_out {
            tracing::info!("the server {name} is left out: {why}");
        }
        Ok(config)
    }
}

fn serve(arguments: &Serve) -> Result<Exit> {
    if std::env::var_os(SERVER_MARK).is_some() {
        bail!("this was started by another `cellblock mcp`, which would go on without end");
    }
    let config = arguments.config.read()?;
    let limits = arguments.limits.cell()?;
    let inspector = arguments.inspect.map(|_| Inspector::new());
    let options = Options {
        limits: limits.clone(),
        inspector: inspector.clone(),
        disclosure: match arguments.disclosure {
            How::Catalog => Disclosure::Catalog,
            How::Search => Disclosure::Search,
            How::Auto => Disclosure::Auto,
        },
        waits: waits(arguments.wait_max.into()),
        start_wait: arguments.start_wait.into(),
        state: arguments.state.clone(),
        ..Options::new(backends(limits, arguments.sandbox.clone()))
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the event loop")?;
    let exit = runtime.block_on(async {
        // The sandbox is ready by the time the first program comes.
        tokio::task::spawn_blocking({
            let make = Arc::clone(&options.backend);
            move || make().map(|_| ())
        });
        let page = match arguments.inspect.zip(inspector) {
            Some((address, inspector)) => Some(inspect(address, &inspector).await?),
            None => None,
        };
        let gateway = Gateway::new(&config, options).context("cannot use the folder of --state")?;
        let mut signals = crate::run::Signals::listen()?;
        let serving = async {
            match arguments.http {
                Some(address) => over_http(&gateway, address, arguments).await,
                None => serve_stdio(&gateway).await.map_err(anyhow::Error::msg),
            }
        };
        let showing = async {
            match page {
                Some((listener, router)) => serve_inspector(listener, router).await,
                None => std::future::pending().await,
            }
        };
        let serving = async {
            tokio::select! {
                served = serving => served,
                shown = showing => shown.context("the page of --inspect is not served"),
            }
        };
        let exit = tokio::select! {
            served = serving => match served {
                Ok(()) => Exit::Completed,
                Err(error) => {
                    crate::complain(&format!("{error:#}"));
                    Exit::Failed
                }
            },
            signal = signals.received() => signal,
        };
        // A second signal ends the command at once.
        let _ = tokio::time::timeout(CLOSE, gateway.close()).await;
        anyhow::Ok(exit)
    });
    // Standard input may still be read, which nothing can interrupt.
    runtime.shutdown_background();
    exit
}

/// Listens for the page of `--inspect`, and says where it is.
async fn inspect(
    address: SocketAddr,
    inspector: &Inspector,
) -> Result<(tokio::net::TcpListener, axum::Router)> {
    ensure!(address.ip().is_loopback(), InspectError::NotLoopback(address));
    let token = match std::env::var_os(INSPECT_TOKEN) {
        Some(token) => Token::given(&token.to_string_lossy()).context(INSPECT_TOKEN)?,
        None => Token::random()?,
    };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for --inspect"))?;
    let (router, url) = inspector.router(listener.local_addr()?, &token)?;
    crate::complain(&format!("programs are shown at {url}"));
    Ok((listener, router))
}

/// Serves over HTTP. Returns only when that is not possible.
async fn over_http(gateway: &Gateway, address: SocketAddr, arguments: &Serve) -> Result<()> {
    let access = arguments.access.for_http(address)?;
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    let scheme = if access.tls().is_some() { "https" } else { "http" };
    print(&format!("{scheme}://{address}{HTTP_PATH}\n"))?;
    let mut hosts = arguments.hosts.clone();
    if !address.ip().is_unspecified() {
        hosts.push(address.ip().to_string());
    }
    let tokens = access.clone();
    let http = HttpAccess {
        tls: access.tls().cloned(),
        authenticate: access
            .asks_for_tokens()
            .then(|| Arc::new(move |token: &str| tokens.tenant(token)) as _),
        hosts,
        origins: arguments.origins.clone(),
    };
    tokio::select! {
        served = serve_http(gateway, listener, http) => served.context("HTTP is not served"),
        followed = arguments.access.follow_tokens(&access) => followed,
    }
}

/// Makes backends with these limits, over one sandbox that is set up when it is first needed.
fn backends(limits: CellLimits, arguments: SandboxArguments) -> MakeBackend {
    let sandbox: OnceLock<Result<Sandbox, String>> = OnceLock::new();
    Arc::new(move || {
        let make = || {
            let mut config = EngineConfig::default();
            config.max_cells = MAX_CELLS;
            arguments.open(&config).map_err(|error| format!("{error:#}"))
        };
        let sandbox = sandbox.get_or_init(make).as_ref();
        let sandbox = sandbox.map_err(|error| CodeModeError::Unavailable(error.clone()))?;
        let session = SessionLimits { cell: limits.clone(), ..SessionLimits::default() };
        Ok(sandbox.session(session, None, None))
    })
}

fn add(add: &Add) -> Result<Exit> {
    let path = match &add.config.config {
        Some(path) => path.clone(),
        None if add.user => config::user_file().context("this user has no home")?,
        None => PathBuf::from(config::PROJECT_FILE),
    };
    let pairs = |texts: &[String], separator: char, form: &str| -> Result<Value> {
        let pair = |text: &String| {
            let (name, value) = text
                .split_once(separator)
                .with_context(|| format!("{text} must have the form {form}"))?;
            Ok((name.trim().to_owned(), value.trim_start().to_owned()))
        };
        Ok(json!(texts.iter().map(pair).collect::<Result<BTreeMap<_, _>>>()?))
    };
    let env = pairs(&add.env, '=', "NAME=VALUE")?;
    let headers = pairs(&add.headers, ':', "NAME: VALUE")?;
    let first = add.target.first().map(String::as_str).unwrap_or_default();
    let is_url = first.starts_with("http://") || first.starts_with("https://");
    let mut server = if is_url {
        if add.target.len() > 1 || !add.env.is_empty() {
            bail!("a server with a URL has no arguments and no environment");
        }
        json!({ "type": "http", "url": first })
    } else {
        if !add.headers.is_empty() {
            bail!("a server that is a command has no headers");
        }
        json!({ "command": first, "args": add.target[1..] })
    };
    for (key, value, given) in
        [("env", env, !add.env.is_empty()), ("headers", headers, !add.headers.is_empty())]
    {
        if given {
            server[key] = value;
        }
    }
    add_server(&path, &add.name, &server, add.force)?;
    print(&format!("{} is in {} now.\n", add.name, path.display()))?;
    Ok(Exit::Completed)
}

fn list(arguments: &ConfigArguments) -> Result<Exit> {
    let path = arguments.path()?;
    let config = Config::read(&path)?;
    let mut lines = vec![path.display().to_string()];
    for server in &config.servers {
        let how = match &server.transport {
            Transport::Stdio { command, args, .. } => {
                [std::slice::from_ref(command), args.as_slice()].concat().join(" ")
            }
            Transport::Http { url, .. } => url.clone(),
            Transport::Unusable(why) => why.clone(),
        };
        lines.push(format!("  {}  {how}", server.name));
    }
    for (name, why) in &config.left_out {
        lines.push(format!("  {name}  left out: {why}"));
    }
    print(&(lines.join("\n") + "\n"))?;
    Ok(Exit::Completed)
}

fn check(arguments: &ConfigArguments) -> Result<Exit> {
    let config = arguments.read()?;
    let options = Options::new(backends(CellLimits::default(), SandboxArguments::default()));
    let runtime = tokio::runtime::Runtime::new().context("cannot start the event loop")?;
    let checked = runtime.block_on(async {
        let gateway = Gateway::new(&config, options)?;
        let checked = gateway.check().await;
        gateway.close().await;
        std::io::Result::Ok(checked)
    })?;
    let mut lines = Vec::new();
    let mut failed = false;
    for server in checked.servers {
        let revision = server.revision.map_or_else(String::new, |of| format!(", protocol {of}"));
        lines.push(format!("{}: {} tools{revision}", server.server, server.tools.len()));
        for tool in server.tools {
            lines.push(format!("  {tool}"));
        }
        if let Some(problem) = server.problem {
            failed = true;
            lines.push(format!("  {problem}"));
        }
    }
    for (name, why) in &config.left_out {
        lines.push(format!("{name}: left out, {why}"));
    }
    for left_out in checked.left_out {
        failed = true;
        lines.push(left_out);
    }
    lines.extend(checked.idle_rules);
    print(&(lines.join("\n") + "\n"))?;
    Ok(if failed { Exit::Failed } else { Exit::Completed })
}
