//! Lenient rules: a rule file without the lines that have errors.

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, RuleFile, Severity};
use super::headers::is_path;

/// The file with empty lines in place of those with errors, so that the others keep their numbers.
/// A path of `_headers` goes with its headers. `None` if no line has an error.
pub fn without_errors(file: RuleFile, bytes: &[u8], found: &[Diagnostic]) -> Option<Vec<u8>> {
    let errors = found
        .iter()
        .filter(|found| found.at.file == file && found.severity == Severity::Error);
    let lines: BTreeSet<u32> = errors.map(|found| found.at.line).collect();
    if lines.is_empty() {
        return None;
    }
    let mut kept = Vec::with_capacity(bytes.len());
    let mut is_below_bad_path = false;
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        if number > 1 {
            kept.push(b'\n');
        }
        let is_bad = lines.contains(&number);
        let text = String::from_utf8_lossy(line);
        if file == RuleFile::Headers && is_path(text.trim_start_matches('\u{feff}').trim()) {
            is_below_bad_path = is_bad;
        }
        if !is_bad && !is_below_bad_path {
            kept.extend_from_slice(line);
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::super::site_rules::{SiteRules, has_errors};
    use super::*;

    #[test]
    fn without_errors_keeps_the_numbers_of_the_other_lines() {
        for (file, text, expected) in [
            (RuleFile::Redirects, "/a /b\nx\n/c /d\n", "/a /b\n\n/c /d\n"),
            (RuleFile::Redirects, "x\r\n/c /d", "\n/c /d"),
            (
                RuleFile::Headers,
                "/a\n X-A: 1\n//b\n X-B: 1\n/c\n X-C: 1\n ETag: 1\n",
                "/a\n X-A: 1\n\n\n/c\n X-C: 1\n\n",
            ),
            (
                RuleFile::Settings,
                "htlm = 1\nhtml = \"exact\"\n",
                "\nhtml = \"exact\"\n",
            ),
        ] {
            let (_, found) = SiteRules::compile([(file, text.as_bytes())]);
            let kept = without_errors(file, text.as_bytes(), &found).unwrap();
            assert_eq!(String::from_utf8_lossy(&kept), expected);
            let (_, found) = SiteRules::compile([(file, &kept[..])]);
            assert!(!has_errors(&found), "{found:?}");
        }
        assert_eq!(without_errors(RuleFile::Redirects, b"/a /b", &[]), None);
    }
}
