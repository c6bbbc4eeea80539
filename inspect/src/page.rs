//! The page: one HTML file with its style, its script and, when it was saved, a recording.
//!
//! What it shows is untrusted. Its script makes nodes of text only, and its policy allows
//! that script alone, by its hash: what a text may contain is never run or loaded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const STYLE: &str = include_str!("page/style.css");

/// The script: one function around all parts, which share its scope.
static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let parts = [
        include_str!("page/nodes.js"),
        include_str!("page/recording.js"),
        include_str!("page/timeline.js"),
        include_str!("page/program.js"),
        include_str!("page/view.js"),
        include_str!("page/live.js"),
    ];
    format!("\"use strict\";\n(() => {{\n{}start();\n}})();\n", parts.concat())
});

/// A page that shows a recording, given as JSON.
pub(crate) fn saved(recording: &str) -> String {
    page(&policy("'none'"), &for_html(recording))
}

/// The page of an inspector, which fetches what it shows.
pub(crate) fn live() -> String {
    page(&live_policy(), "null")
}

/// What the page of an inspector may do.
pub(crate) fn live_policy() -> String {
    policy("'self'")
}

/// A policy for content that allows the page's own script and style, pictures that are in
/// the page, and connections to `connect`.
fn policy(connect: &str) -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         connect-src {connect}; base-uri 'none'; form-action 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
        hash(&SCRIPT),
        hash(STYLE)
    )
}

fn page(policy: &str, data: &str) -> String {
    let script = &*SCRIPT;
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>Cellblock</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n\
         <main id=\"page\"><noscript>This page needs its script.</noscript></main>\n\
         <script type=\"application/json\" id=\"recording\">{data}</script>\n\
         <script>{script}</script>\n</body>\n</html>\n"
    )
}

/// JSON that can stand in a script element: what HTML could take for markup is escaped.
/// Outside its strings JSON has none of these characters.
fn for_html(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_the_element_that_holds_it() {
        let hostile = serde_json::json!({ "a": "</script><script>x&y<!--\u{2028}\u{2029}" });
        let page = saved(&hostile.to_string());
        let (_, data) = page.split_once("id=\"recording\">").expect("the element");
        let (data, _) = data.split_once("</script>").expect("its end");
        assert!(!data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{data}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(data).expect("JSON"), hostile);
    }

    #[test]
    fn the_page_names_the_hashes_of_its_own_script_and_style() {
        let page = live();
        for (start, end, policy) in [
            ("<style>", "</style>", "style-src"),
            ("</script>\n<script>", "</script>", "script-src"),
        ] {
            let (_, rest) = page.split_once(start).expect(start);
            let (text, _) = rest.split_once(end).expect(end);
            let hash = STANDARD.encode(Sha256::digest(text));
            assert!(page.contains(&format!("{policy} 'sha256-{hash}';")), "{policy}");
        }
        assert!(page.contains("connect-src 'self'"));
        assert!(saved("null").contains("connect-src 'none'"));
    }

    /// The script writes texts as texts: none of the ways in which a text becomes markup
    /// or code is in it.
    #[test]
    fn the_script_makes_no_markup_of_texts() {
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "Function(",
            "srcdoc",
            "setAttribute(\"on",
            "javascript:",
        ] {
            assert!(!SCRIPT.contains(way), "{way}");
        }
        assert!(!SCRIPT.contains("</"), "it would end its element");
        assert!(!STYLE.contains("</") && !STYLE.contains("url("));
    }
}
