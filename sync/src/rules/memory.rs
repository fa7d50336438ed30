//! Memory of compiled rules: an upper bound, counted in the text before anything is parsed.
//!
//! A short rule takes many times its text: its pattern, its target and its place in the index are
//! lists with a pointer, a length and a header of the allocator each.

use super::diagnostic::RuleFile;
use super::headers::is_path;
use super::line::lines;
use crate::limits::{HEADER_BLOCKS_MAX, REDIRECT_RULES_MAX};

/// Bytes for a byte of text: in a pattern, in the index, and in a target, where percent-encoding
/// makes three of one.
const OF_TEXT: usize = 5;

/// Bytes for a wildcard, a name or a member of a list: the text before it and itself.
const OF_PART: usize = 128;

/// Bytes for a rule or a path of headers, and its place in the index.
const OF_RULE: usize = 2048;

/// Bytes for a header.
const OF_HEADER: usize = 192;

/// Bytes for a route or a policy of a build tool: two strings in a tree.
const OF_ENTRY: usize = 288;

/// Bytes of memory that the rules of a file keep at most.
pub(super) fn most(file: RuleFile, text: &str) -> usize {
    let parts = OF_PART * count(text, b":*,=&");
    let kept = match file {
        RuleFile::Redirects => parts + OF_RULE * lines(text).take(REDIRECT_RULES_MAX).count(),
        RuleFile::Headers => {
            let paths = lines(text).filter(|line| is_path(line.text));
            let blocks = paths.take(HEADER_BLOCKS_MAX).count();
            parts + OF_RULE * blocks + OF_HEADER * lines(text).count()
        }
        RuleFile::Settings | RuleFile::Project => parts,
        // An entry has four strings or more, with two quotes each; a policy has two.
        RuleFile::Generated => OF_ENTRY * count(text, b"\"").div_ceil(4),
    };
    OF_TEXT * text.len() + kept
}

fn count(text: &str, bytes: &[u8]) -> usize {
    text.bytes().filter(|byte| bytes.contains(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::super::SiteRules;
    use super::*;

    #[test]
    fn rules_that_take_too_much_memory_are_refused() {
        let line = format!("/a /b?{} 301\n", "a=1,:*&".repeat(140));
        let names = line.repeat(1_000);
        let (rules, found) = SiteRules::compile([(RuleFile::Redirects, names.as_bytes())]);
        assert!(rules.is_empty());
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("_redirects:1:1"), "{found:?}");
        assert!(found[0].contains("memory"), "{found:?}");
    }
}
