//! The contract of the seam, kept by the host in a child process.

use cellblock_tests::backends::Backends;
use cellblock_tests::differing::assert_differs;
use std::path::Path;

const HOST: &str = env!("CARGO_BIN_EXE_cellblock");

#[test]
fn framed_json_keeps_the_contract() {
    assert_differs(Backends::Framed(Path::new(HOST)), include_str!("differences-framed.toml"), &[]);
}

#[test]
fn grpc_keeps_the_contract() {
    assert_differs(Backends::Grpc(Path::new(HOST)), include_str!("differences-grpc.toml"), &[]);
}
