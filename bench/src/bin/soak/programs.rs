//! The programs of the soak: honest ones whose every answer is known beforehand, and
//! hostile ones that only have to end.

use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;

/// A program whose answer is known.
pub struct Honest {
    /// Its source.
    pub source: String,
    /// Its whole output, joined.
    pub output: String,
    /// The first line of its error.
    pub error: Option<String>,
    /// What it says to its host at once, in order.
    pub notifications: Vec<String>,
}

/// Kinds of honest programs.
const KINDS: u64 = 7;

impl Honest {
    /// The program of a number, which occurs in everything that it prints, so that an
    /// answer that belongs to another program is seen. `stored` is what the program
    /// before it in the same session stored.
    pub fn numbered(number: u64, stored: Option<u64>) -> Self {
        let silent = |source: String, output: String| Self {
            source,
            output,
            error: None,
            notifications: Vec::new(),
        };
        match number % KINDS {
            0 => silent(format!("text({number} + 1)"), (number + 1).to_string()),
            1 => silent(
                format!(
                    "const r = await Promise.all([0, 1, 2, 3].map((i) => tools.echo({{ n: {number}, i }}))); \
                     for (const {{ n, i }} of r) text(`${{n}}/${{i}} `)"
                ),
                [0, 1, 2, 3].map(|i| format!("{number}/{i} ")).concat(),
            ),
            2 => silent(
                format!(
                    "text('{number}a '); yield_control(); \
                     await new Promise((r) => setTimeout(r, 20)); text('{number}b')"
                ),
                format!("{number}a {number}b"),
            ),
            3 => Self {
                notifications: (0..3).map(|i| format!("{number}-{i}")).collect(),
                ..silent(
                    format!(
                        "for (let i = 0; i < 3; i++) {{ notify(`{number}-${{i}}`); \
                         text((await tools.nap(`{number}.${{i}} `))) }}"
                    ),
                    [0, 1, 2].map(|i| format!("{number}.{i} ")).concat(),
                )
            },
            4 => silent(
                format!("text(`${{load('last')}} {number}`); store('last', {number})"),
                format!("{} {number}", stored.map_or("undefined".to_owned(), |n| n.to_string())),
            ),
            5 => silent(
                format!("text('{number}' + 'x'.repeat(1e6))"),
                format!("{number}{}", "x".repeat(1_000_000)),
            ),
            _ => Self {
                error: Some(format!("Error: {number}")),
                ..silent(
                    format!("text('{number}'); await tools.echo(1); throw new Error('{number}')"),
                    number.to_string(),
                )
            },
        }
    }

    /// Whether the program of a number stores it.
    pub fn stores(number: u64) -> bool {
        number % KINDS == 4
    }
}

/// The hostile programs of the tests, by name.
pub fn hostile() -> Result<Vec<(String, String)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hostile/programs.json");
    let programs: BTreeMap<String, String> = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    Ok(programs.into_iter().collect())
}
