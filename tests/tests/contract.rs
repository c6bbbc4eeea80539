//! The contract, on every backend there is.

mod wasm {
    cellblock_tests::every_rule!(cellblock_tests::backends::Backends::Wasm);
}
