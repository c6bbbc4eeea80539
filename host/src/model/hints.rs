//! Remedies for errors that models make often and that have one.

/// The start or the middle of an error text, and what to do about it.
const HINTS: [(&str, &str); 12] = [
    ("console is not defined", "there is no console; print with text(value)"),
    ("print is not defined", "print with text(value)"),
    ("require is not defined", NO_MODULES),
    ("module is not defined", NO_MODULES),
    ("Unsupported import in exec", NO_MODULES),
    ("fetch is not defined", "there is no network; call a tool of `tools`, listed in ALL_TOOLS"),
    ("process is not defined", "there is no Node; call a tool of `tools`, listed in ALL_TOOLS"),
    ("Buffer is not defined", "there is no Node; use Uint8Array"),
    ("setInterval is not defined", "call setTimeout again from its callback, and await a promise"),
    (
        "Illegal return statement",
        "a program is a module; return from a function, or print with text(value)",
    ),
    (
        "Converting circular structure to JSON",
        "an object that contains itself cannot be printed, stored or passed; pick the fields",
    ),
    (
        "Do not know how to serialize a BigInt",
        "JSON has no BigInt; convert it with String(value) or Number(value)",
    ),
];

const NO_MODULES: &str = "nothing can be imported; what a program can use are the language's \
                          own globals and `tools`";

/// What to do about an error, when it is certain.
pub(super) fn hint(error: &str) -> Option<&'static str> {
    // The first line is the error; the others are frames.
    let first = error.lines().next().unwrap_or_default();
    HINTS.iter().find(|(part, _)| first.contains(part)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn a_hint_is_for_the_error_and_not_for_its_frames() {
        let error = "ReferenceError: console is not defined\n    at exec_main.mjs:1:1";
        assert_eq!(hint(error), Some("there is no console; print with text(value)"));
        assert_eq!(hint("Error: x\n    at console is not defined (exec_main.mjs:1:1)"), None);
        assert_eq!(hint(""), None);
    }
}
