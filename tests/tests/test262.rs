//! The runner of test262, on tests of our own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use cellblock_tests::repository;
use cellblock_tests::test262::{Checkout, Count, run};
use std::sync::Arc;

#[tokio::test]
async fn tests_pass_fail_or_are_skipped() {
    let checkout = Arc::new(Checkout::new(&repository("tests/test262/sample")));
    let tests = checkout.tests("language").unwrap();
    assert_eq!(tests.len(), 8);
    let summary = run(checkout, tests).await.unwrap();
    let count = Count { passed: 4, ran: 7, skipped: 1 };
    assert_eq!(
        summary.folders.into_iter().collect::<Vec<_>>(),
        [("language/own".to_owned(), count)]
    );
    let failed: Vec<_> =
        summary.failed.iter().map(|(test, why)| (test.as_str(), why.as_str())).collect();
    let [(fails, why), (missing, no), (never, _)] = failed[..] else { panic!("{failed:?}") };
    assert_eq!((fails, why), ("language/own/fails.js", "Test262Error: mine"));
    assert_eq!((missing, no), ("language/own/negative-missing.js", "no TypeError"));
    assert_eq!(never, "language/own/never-done.js");
}
