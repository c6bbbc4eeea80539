//! Prints the JavaScript of the TypeScript on standard input.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "that is what it is for")]

use std::io::Read;

fn main() -> std::io::Result<()> {
    let mut source = String::new();
    std::io::stdin().read_to_string(&mut source)?;
    match cellblock_typescript::strip(&source) {
        Ok(edited) => {
            print!("{}", edited.text);
            for cellblock_typescript::Shift { line, column, original } in edited.shifts {
                eprintln!("{line}:{column} is {line}:{original}");
            }
        }
        Err(refusal) => eprintln!("{}:{}: {}", refusal.line, refusal.column, refusal.message),
    }
    Ok(())
}
