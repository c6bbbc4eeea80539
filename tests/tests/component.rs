//! What the prebuilt component asks of its host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock_tests::repository;
use wasmtime::component::Component;
use wasmtime::{Config, Engine};

#[test]
fn imports_are_ours_or_clocks_and_random() {
    let mut config = Config::new();
    config.concurrency_support(false);
    let engine = Engine::new(&config).unwrap();
    let component =
        Component::from_file(&engine, repository("guest/prebuilt/cellblock-guest.wasm")).unwrap();
    let component_type = component.component_type();
    let imports: Vec<_> =
        component_type.imports(&engine).map(|(name, _)| name.to_owned()).collect();
    assert!(!imports.is_empty());
    for name in &imports {
        let allowed = ["cellblock:code-mode/", "wasi:clocks/", "wasi:random/"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        assert!(allowed, "the guest imports {name}");
    }
    let exports: Vec<_> =
        component_type.exports(&engine).map(|(name, _)| name.to_owned()).collect();
    for name in ["execute", "wait"] {
        assert!(exports.iter().any(|export| export == name), "{name} is not exported: {exports:?}");
    }
}
