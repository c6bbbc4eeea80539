//! The contract, on every backend there is.

mod wasm {
    cellblock_tests::every_rule!(cellblock_tests::backends::Backends::Wasm);
}

/// The same, where every cell sleeps whenever it waits: nothing may tell the difference.
mod sleeping {
    cellblock_tests::every_rule!(cellblock_tests::backends::Backends::Sleeping);
}
