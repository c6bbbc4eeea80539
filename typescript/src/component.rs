//! The component's export.

#[allow(
    missing_docs,
    unsafe_op_in_unsafe_fn,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    reason = "generated from wit/typescript/typescript.wit, which documents every item"
)]
mod bindings {
    wit_bindgen::generate!({ path: "../wit/typescript", world: "typescript" });
    export!(Component with_types_in self);
    use super::Component;
}

struct Component;

/// Memory that is there when an instance starts: what a program of some pages takes. To
/// grow costs a call of the system each time.
const READY_BYTES: usize = 2 << 20;

impl bindings::Guest for Component {
    fn initialize() {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(READY_BYTES)));
        // What is made at first use is made now.
        let _ = std::hint::black_box(crate::strip("enum E { A } const a: E = E.A"));
    }

    fn strip(source: String) -> Result<bindings::Program, bindings::Refusal> {
        match crate::strip(&source) {
            Ok(edited) => Ok(bindings::Program {
                text: edited.text,
                shifts: edited
                    .shifts
                    .into_iter()
                    .map(|crate::Shift { line, column, original }| bindings::Shift {
                        line,
                        column,
                        original,
                    })
                    .collect(),
            }),
            Err(crate::Refusal { message, line, column }) => {
                Err(bindings::Refusal { message, line, column })
            }
        }
    }
}
