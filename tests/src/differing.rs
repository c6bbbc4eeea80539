//! The contract's rules against a backend in another process.
//!
//! Time there cannot be paused, so rules wait for real, many at once. A rule that
//! fails in company is tried again alone: two busy cores are no difference.

use crate::backends::Backends;
use crate::contract::{Rule, rules};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Rules that are tried at one time.
const AT_ONCE: usize = 12;

/// Times that a rule is tried alone when it failed.
const ALONE: usize = 2;

/// A rule that takes longer is named in the test's output.
const SLOW: Duration = Duration::from_secs(5);

/// A rule that takes longer does not hold.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether a rule holds.
fn holds(rule: Rule, backends: Backends) -> bool {
    let began = Instant::now();
    let tried = std::thread::Builder::new().name(rule.name.to_owned()).spawn(move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(async { timeout(PATIENCE, (rule.run)(backends)).await.expect("it ends") });
    });
    let holds = tried.expect("a thread").join().is_ok();
    if began.elapsed() > SLOW {
        #[expect(clippy::print_stdout, reason = "tests print")]
        {
            println!("{} took {:.0?}", rule.name, began.elapsed());
        }
    }
    holds
}

/// Names of the rules among these that a backend does not keep. Those that are
/// expected to fail are believed when they do.
///
/// # Panics
/// When there are no threads to be had.
pub fn differing(
    backends: Backends,
    rules: &[Rule],
    expected: &BTreeMap<String, String>,
) -> BTreeSet<&'static str> {
    let waiting = Mutex::new(rules.iter().copied().collect::<VecDeque<_>>());
    let failed = Mutex::new(Vec::new());
    let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(rule) = take() {
                    if !holds(rule, backends) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let still = failed.into_iter().filter(|rule| {
        expected.contains_key(rule.name) || !(0..ALONE).any(|_| holds(*rule, backends))
    });
    still.map(|rule| rule.name).collect()
}

/// Asserts that a backend differs in just what a list says, a TOML table of the
/// rules and the reasons. Rules of the parts in `without` are not asked.
///
/// # Panics
/// When it differs in more or in less, or the list names something that is not a rule.
pub fn assert_differs(backends: Backends, list: &str, without: &[&str]) {
    let mut rules = rules();
    rules.retain(|rule| !without.contains(&rule.part));
    let listed: BTreeMap<String, String> = toml::from_str(list).expect("a list of differences");
    let names: BTreeSet<_> = rules.iter().map(|rule| rule.name).collect();
    let unknown: Vec<_> = listed.keys().filter(|name| !names.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "no such rules: {unknown:?}");
    let differing = differing(backends, &rules, &listed);
    let more: Vec<_> = differing.iter().filter(|name| !listed.contains_key(**name)).collect();
    let fewer: Vec<_> = listed.keys().filter(|name| !differing.contains(name.as_str())).collect();
    assert!(more.is_empty(), "rules that do not hold: {more:#?}");
    assert!(fewer.is_empty(), "rules that hold, though they are listed: {fewer:#?}");
}
