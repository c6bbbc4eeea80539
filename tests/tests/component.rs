//! What the prebuilt component asks of its host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock_tests::repository;
use wasmtime::component::Component;
use wasmtime::{Config, Engine};

#[test]
fn imports_are_our_interfaces_and_nothing_else() {
    let mut config = Config::new();
    config.concurrency_support(false);
    let engine = Engine::new(&config).unwrap();
    let component =
        Component::from_file(&engine, repository("guest/prebuilt/cellblock-guest.wasm")).unwrap();
    let component_type = component.component_type();
    let imports: Vec<_> =
        component_type.imports(&engine).map(|(name, _)| name.to_owned()).collect();
    let ours: Vec<_> = ["types", "tools", "output", "stored-values", "clock", "watch"]
        .map(|interface| format!("cellblock:code-mode/{interface}@0.1.0"))
        .into();
    let strangers: Vec<_> = imports.iter().filter(|name| !ours.contains(name)).collect();
    assert!(!imports.is_empty() && strangers.is_empty(), "the guest imports {strangers:?}");
    let exports: Vec<_> =
        component_type.exports(&engine).map(|(name, _)| name.to_owned()).collect();
    for name in ["execute", "wait"] {
        assert!(exports.iter().any(|export| export == name), "{name} is not exported: {exports:?}");
    }
}
