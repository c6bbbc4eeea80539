//! What the prebuilt component asks of its host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock_tests::repository;
use wasmparser::{Operator, Parser, Payload};
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
    let ours: Vec<_> = ["types", "tools", "output", "stored-values", "clock", "watch", "park"]
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

/// A cell is parked as the memory above its guest's stack: nothing else of a guest may differ
/// between two that rest.
#[test]
fn memory_is_all_that_a_guest_at_rest_keeps() {
    let bytes = std::fs::read(repository("guest/prebuilt/cellblock-guest.wasm")).unwrap();
    let (mut memories, mut mutable, mut writes) = (0, 0, Vec::new());
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::MemorySection(section) => memories += section.count(),
            Payload::GlobalSection(section) => {
                let is_mutable = |global: &wasmparser::Result<wasmparser::Global>| {
                    global.as_ref().is_ok_and(|global| global.ty.mutable)
                };
                mutable += section.into_iter().filter(is_mutable).count();
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table.unwrap().ty;
                    assert_eq!(Some(table.initial), table.maximum, "a table that grows");
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().unwrap() {
                    let operator = operator.unwrap();
                    if matches!(
                        operator,
                        Operator::TableSet { .. }
                            | Operator::TableGrow { .. }
                            | Operator::TableFill { .. }
                            | Operator::TableCopy { .. }
                            | Operator::TableInit { .. }
                            | Operator::MemoryInit { .. }
                            | Operator::DataDrop { .. }
                    ) {
                        writes.push(format!("{operator:?}"));
                    }
                }
            }
            _ => {}
        }
    }
    // The one global is the stack's pointer, which at rest is where it was.
    assert_eq!((memories, mutable), (1, 1));
    assert!(writes.is_empty(), "{writes:?}");
}
