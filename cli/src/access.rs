//! Who may connect to `cellblock host` and to `cellblock mcp` over a network.

use anyhow::{Context, Result, bail, ensure};
use cellblock_remote::server::{Access, Listen};
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Bytes that a file of certificates, a key or tokens may have.
const FILE_BYTES: u64 = 4 << 20;

/// Arguments of `cellblock host` about its clients.
#[derive(Args)]
pub struct AccessArguments {
    /// The host's certificate chain, as PEM, for `grpcs://` and `wss://`.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key, as PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Certificates of authorities, as PEM: clients must have one that these have signed.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// Lines `TENANT TOKEN`: clients must send one of the tokens. Read again at SIGHUP.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Listen where other machines can connect, also without TLS, and without a token or a
    /// certificate of clients.
    #[arg(long)]
    insecure: bool,
}

impl AccessArguments {
    /// Who may connect there.
    pub fn access(&self, listen: &Listen) -> Result<Access> {
        let access = self.given()?;
        ensure!(
            !listen.is_encrypted() || self.tls_cert.is_some(),
            "{listen} needs --tls-cert and --tls-key"
        );
        let is_safe = listen.is_encrypted() && access.is_safe();
        if listen.is_reachable_from_elsewhere() && !is_safe && !self.insecure {
            bail!(
                "{listen} can be reached from other machines, and every client that reaches it may \
                 run programs here. Use grpcs:// or wss:// with --tls-cert, --tls-key and either \
                 --token-file or --client-ca, or listen on 127.0.0.1, or allow it with --insecure"
            );
        }
        Ok(access)
    }

    /// Who may connect over HTTP.
    pub fn for_http(&self, address: SocketAddr) -> Result<Access> {
        let access = self.given()?;
        if !address.ip().is_loopback() && !access.is_safe() && !self.insecure {
            bail!(
                "{address} can be reached from other machines, and every client that reaches it \
                 may call the tools of all servers. Use --tls-cert, --tls-key and either \
                 --token-file or --client-ca, or listen on 127.0.0.1, or allow it with --insecure"
            );
        }
        Ok(access)
    }

    fn given(&self) -> Result<Access> {
        let mut access = Access::default();
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let authorities = self.client_ca.as_deref().map(read).transpose()?;
            access = access.with_tls(&read(certificate)?, &read(key)?, authorities.as_deref())?;
        }
        if let Some(path) = &self.token_file {
            access = access.with_tokens(&read_tokens(path)?)?;
        }
        Ok(access)
    }

    /// Refuses to serve figures to other machines, unless that is allowed.
    pub fn check_metrics(&self, address: SocketAddr) -> Result<()> {
        ensure!(
            address.ip().is_loopback() || self.insecure,
            "--metrics {address} can be reached from other machines, and what it serves is not \
             encrypted: use 127.0.0.1, or allow it with --insecure"
        );
        Ok(())
    }

    /// Reads the tokens again at each SIGHUP. Returns only when signals cannot be received.
    pub async fn follow_tokens(&self, access: &Access) -> Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let Some(path) = &self.token_file else { return std::future::pending().await };
        let mut hung_up = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        while hung_up.recv().await.is_some() {
            let replaced = read_tokens(path).and_then(|tokens| Ok(access.replace_tokens(&tokens)?));
            if let Err(error) = replaced {
                crate::complain(&format!("the tokens stay as they were: {error:#}"));
            }
        }
        std::future::pending().await
    }
}

fn read_tokens(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).with_context(|| format!("{} is not UTF-8", path.display()))
}

/// A small file.
fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len() as u64 <= FILE_BYTES, "{} is too large", path.display());
    Ok(bytes)
}
