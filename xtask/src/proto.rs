//! `cargo xtask proto`: Rust from the gRPC protocol's definition, without protoc.

use crate::root;
use anyhow::{Context, Result, bail};

const PROTO: &str = "remote/src/protocol/code_mode.proto";
const RUST: &str = "remote/src/protocol/generated.rs";

/// Generates the code; `check` only compares it with what is committed.
pub fn proto(check: bool) -> Result<()> {
    let (proto, rust) = (root().join(PROTO), root().join(RUST));
    let includes = proto.parent().context("the protocol's folder")?;
    let descriptors = protox::compile([&proto], [includes])?;
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .out_dir(out.path())
        .compile_fds(descriptors)?;
    let generated = std::fs::read_to_string(out.path().join("codex.code_mode.v1.rs"))?;
    if check {
        if std::fs::read_to_string(&rust)? != generated {
            bail!("{RUST} is not what {PROTO} makes: run `cargo xtask proto`");
        }
        println!("{RUST} is what {PROTO} makes");
        return Ok(());
    }
    std::fs::write(&rust, generated)?;
    println!("wrote {RUST}");
    Ok(())
}
