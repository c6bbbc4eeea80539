//! Bindings generated from `wit/code-mode.wit`, which documents every item.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "cell",
    exports: { default: async },
});
