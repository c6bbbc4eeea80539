//! Subjects, as a client names them and as a worker reads them.
//!
//! | | client | worker |
//! |---|---|---|
//! | start a cell | `cb.exec.CLASS` | `cb.TENANT.exec.CLASS` |
//! | which cells of a session are kept | `cb.cells.CLASS` | `cb.TENANT.cells.CLASS` |
//! | everything after | `cb.w.WORKER.LINK` | `cb.TENANT.w.WORKER.LINK` |
//!
//! A tenant's account imports `cb.TENANT.>` of the fleet's account as `cb.>`, so the server
//! writes the tenant, and nobody else can. A client in the fleet's own account has no tenant.

use uuid::Uuid;

/// The first token of every subject.
const ROOT: &str = "cb";

/// Longest name of a worker, a link, a class or a tenant, in bytes.
const MAX_TOKEN_BYTES: usize = 64;

/// What a subject names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subjects {
    /// Empty for a client in the fleet's own account.
    pub(crate) tenant: String,
    /// The class of a start or a question, or the link of a message for one.
    pub(crate) name: String,
}

impl Subjects {
    /// Where a client starts cells.
    pub(crate) fn start(class: &str) -> String {
        format!("{ROOT}.exec.{class}")
    }

    /// Where a client asks which cells of a session are kept.
    pub(crate) fn list(class: &str) -> String {
        format!("{ROOT}.cells.{class}")
    }

    /// Where a worker is asked that, for tenants and for clients in its own account.
    pub(crate) fn lists(class: &str) -> [String; 2] {
        [format!("{ROOT}.*.cells.{class}"), format!("{ROOT}.cells.{class}")]
    }

    /// Where a client sends the messages of a link; `link` is `WORKER.LINK`, as a worker says
    /// it. `None` when that is not two names.
    pub(crate) fn of_link(link: &str) -> Option<String> {
        let (worker, name) = link.split_once('.')?;
        (is_token(worker) && is_token(name)).then(|| format!("{ROOT}.w.{worker}.{name}"))
    }

    /// Where a worker takes cells of a class: for tenants, and for clients in its own account.
    pub(crate) fn starts(class: &str) -> [String; 2] {
        [format!("{ROOT}.*.exec.{class}"), format!("{ROOT}.exec.{class}")]
    }

    /// Where a worker receives the messages of its links.
    pub(crate) fn links(worker: &str) -> [String; 2] {
        [format!("{ROOT}.*.w.{worker}.*"), format!("{ROOT}.w.{worker}.*")]
    }

    /// Reads the subject of a message that came to a worker.
    pub(crate) fn read(subject: &str) -> Option<Self> {
        let tokens: Vec<_> = subject.split('.').collect();
        let (tenant, name) = match tokens[..] {
            [_, "exec" | "cells", class] => ("", class),
            [_, tenant, "exec" | "cells", class] => (tenant, class),
            [_, "w", _, link] => ("", link),
            [_, tenant, "w", _, link] => (tenant, link),
            _ => return None,
        };
        let is_tenant = tenant.is_empty() || is_token(tenant);
        (is_tenant && is_token(name))
            .then(|| Self { tenant: tenant.to_owned(), name: name.to_owned() })
    }
}

/// A name that nobody can guess: a random UUID, without hyphens.
pub(crate) fn random_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Whether a text can be one token of a subject: letters, digits, `-` and `_`.
pub(crate) fn is_token(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(subject: &str) -> Option<(String, String)> {
        Subjects::read(subject).map(|read| (read.tenant, read.name))
    }

    #[test]
    fn a_worker_reads_tenants_from_subjects() {
        let both = |tenant: &str, name: &str| Some((tenant.to_owned(), name.to_owned()));
        assert_eq!(read("cb.exec.main"), both("", "main"));
        assert_eq!(read("cb.acme.exec.main"), both("acme", "main"));
        assert_eq!(read("cb.w.worker.link"), both("", "link"));
        assert_eq!(read("cb.acme.w.worker.link"), both("acme", "link"));
        // A tenant may have any name.
        assert_eq!(read("cb.exec.exec.main"), both("exec", "main"));
        assert_eq!(read("cb.w.w.worker.link"), both("w", "link"));
        for other in ["cb", "cb.exec", "cb.a.b.c", "cb.a.exec.main.more", "cb.a b.exec.main"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_link_is_two_names_and_nothing_else() {
        assert_eq!(Subjects::of_link("a.b").as_deref(), Some("cb.w.a.b"));
        for other in ["", "a", "a.", ".b", "a.b.c", "a.>", "*.b", "a.b\r\nPUB x"] {
            assert_eq!(Subjects::of_link(other), None, "{other:?}");
        }
        assert!(is_token(&random_id()));
        assert!(!is_token(&"x".repeat(MAX_TOKEN_BYTES + 1)));
    }
}
