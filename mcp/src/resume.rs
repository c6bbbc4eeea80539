//! Calls that were answered with questions, and are sent again with the answers.
//!
//! A client gets an opaque name for what it has to send again. What the name stands for is
//! kept here: it can be neither read nor changed by the client, works once, and expires.

use crate::approval::PATIENCE;
use crate::session::{Principal, SessionError, handle};
use cellblock::CellId;
use cellblock::support::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::time::Instant;

/// Calls that may wait to be sent again; the oldest of who has the most makes room.
const MAX_WAITING: usize = 1_000;

/// The calls that wait to be sent again.
#[derive(Default)]
pub(crate) struct Resumes(Mutex<HashMap<String, Waiting>>);

struct Waiting {
    resume: Resume,
    principal: Principal,
    expires: Instant,
}

/// A call that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    pub(crate) session: String,
    pub(crate) cell: CellId,
    /// The questions that were put, by their names.
    pub(crate) questions: Vec<String>,
    pub(crate) max_tokens: usize,
}

impl Resumes {
    /// Keeps a call, and returns what it is sent again with.
    pub(crate) fn put(
        &self,
        session: &str,
        cell: &CellId,
        questions: Vec<String>,
        max_tokens: usize,
        principal: &Principal,
    ) -> Result<String, SessionError> {
        let name = handle()?;
        let now = Instant::now();
        let mut waiting = lock(&self.0);
        waiting.retain(|_, waiting| waiting.expires > now);
        if waiting.len() >= MAX_WAITING {
            let needless = needless(&waiting);
            waiting.remove(&needless);
        }
        let resume =
            Resume { session: session.to_owned(), cell: cell.clone(), questions, max_tokens };
        let principal = principal.clone();
        waiting.insert(name.clone(), Waiting { resume, principal, expires: now + PATIENCE });
        Ok(name)
    }

    /// Takes a call that is sent again, unless it was another's, or is too late.
    pub(crate) fn take(&self, name: &str, principal: &Principal) -> Option<Resume> {
        let mut waiting = lock(&self.0);
        let found = waiting.get(name)?;
        if found.principal != *principal {
            return None;
        }
        let found = waiting.remove(name)?;
        (found.expires > Instant::now()).then_some(found.resume)
    }
}

/// The oldest call of who has the most, so that nobody pushes others out.
fn needless(waiting: &HashMap<String, Waiting>) -> String {
    let mut counts: HashMap<&Principal, usize> = HashMap::new();
    for waiting in waiting.values() {
        *counts.entry(&waiting.principal).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(principal, _)| principal);
    let own = waiting.iter().filter(|(_, waiting)| Some(&waiting.principal) == most);
    let oldest = own.min_by_key(|(_, waiting)| waiting.expires);
    oldest.map(|(name, _)| name.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_works_once_for_its_owner_and_in_time() {
        let resumes = Resumes::default();
        let owner: Principal = Some("one".into());
        let put = |principal: &Principal| {
            let questions = vec!["call_1".to_owned()];
            resumes.put("s", &CellId::from("1"), questions, 10, principal).expect("a name")
        };
        let name = put(&owner);
        assert_eq!(name.len(), 32);
        assert_eq!(resumes.take(&name, &Some("two".into())), None);
        assert_eq!(resumes.take(&name, &None), None);
        assert_eq!(resumes.take(&name, &owner).expect("once").questions, ["call_1"]);
        assert_eq!(resumes.take(&name, &owner), None, "twice");
        let late = put(&owner);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(resumes.take(&late, &owner), None, "too late");
        let first = put(&owner);
        for _ in 0..MAX_WAITING {
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
            put(&owner);
        }
        assert_eq!(resumes.take(&first, &owner), None, "it made room");
        let other = put(&Some("two".into()));
        for _ in 0..MAX_WAITING {
            put(&owner);
        }
        assert!(resumes.take(&other, &Some("two".into())).is_some(), "nobody pushes others out");
    }
}
