//! Rule difference: the rules that one deploy has and another lacks.
//!
//! The unit is a rule, not a line: a header is named with its path, and comments do not count.

use std::time::{Duration, Instant};

use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_sync::rules::RuleFile;
use pmx_sync::wire::DiffRow;
use serde::Serialize;
use serde_json::Value;
use similar::{Algorithm, ChangeTag, capture_diff_slices_deadline};

use crate::client::http::Client;
use crate::error::Failure;
use crate::rule_files::RuleFiles;

/// Time after which a difference may become longer than necessary.
const PATIENCE: Duration = Duration::from_secs(2);

/// The side of a difference on which a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum RuleSide {
    Removed,
    Added,
}

/// A rule on one side only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RuleChange {
    change: RuleSide,
    file: String,
    /// The rule's line, from 1, on its side. A generated file has no lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    rule: String,
}

impl std::fmt::Display for RuleChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.change {
            RuleSide::Removed => '-',
            RuleSide::Added => '+',
        };
        write!(f, "{sign} {}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, " {}", self.rule)
    }
}

/// Where the rules of one side are.
pub(super) enum RuleSource<'a> {
    /// In a folder.
    Folder(&'a RuleFiles),
    /// In a deploy of the server.
    Deploy(&'a SpaceName, u64),
}

impl RuleSource<'_> {
    fn read(&self, file: RuleFile, client: &Client) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Folder(files) => Ok(files.bytes(file).unwrap_or_default().to_vec()),
            // A site without a deploy has no rules.
            Self::Deploy(_, 0) => Ok(Vec::new()),
            Self::Deploy(space, number) => match client.file(space, *number, &file.site_path()) {
                Err(failure) if failure.code == Code::NotFound => Ok(Vec::new()),
                read => read,
            },
        }
    }
}

/// The rules that differ between two sides. `rows` are the paths that differ, if all are known.
pub(super) fn changes(
    before: &RuleSource<'_>,
    after: &RuleSource<'_>,
    rows: Option<&[DiffRow]>,
    client: &Client,
) -> Result<Vec<RuleChange>, Failure> {
    let mut changes = Vec::new();
    for file in RuleFile::ALL {
        let path = file.site_path();
        let is_changed = rows.is_none_or(|rows| rows.iter().any(|row| row.path == path));
        if is_changed {
            let (old, new) = (before.read(file, client)?, after.read(file, client)?);
            changes.extend(between(file, &old, &new));
        }
    }
    Ok(changes)
}

fn between(file: RuleFile, old: &[u8], new: &[u8]) -> Vec<RuleChange> {
    let (old, new) = (rules(file, old), rules(file, new));
    let texts = |rules: &[RuleText]| {
        rules
            .iter()
            .map(|rule| rule.text.clone())
            .collect::<Vec<_>>()
    };
    let (before, after) = (texts(&old), texts(&new));
    let deadline = Instant::now() + PATIENCE;
    let found = capture_diff_slices_deadline(Algorithm::Myers, &before, &after, Some(deadline));
    let changes = found.iter().flat_map(|it| it.iter_changes(&before, &after));
    let changes = changes.filter_map(|change| {
        let (change, rule) = match change.tag() {
            ChangeTag::Equal => return None,
            ChangeTag::Delete => (RuleSide::Removed, old.get(change.old_index()?)?),
            ChangeTag::Insert => (RuleSide::Added, new.get(change.new_index()?)?),
        };
        Some(RuleChange {
            change,
            file: file.to_string(),
            line: rule.line,
            rule: rule.text.clone(),
        })
    });
    changes.collect()
}

/// A rule of a file, and its line.
struct RuleText {
    line: Option<usize>,
    text: String,
}

fn rules(file: RuleFile, bytes: &[u8]) -> Vec<RuleText> {
    let text = String::from_utf8_lossy(bytes);
    match file {
        RuleFile::Headers => headers(&text),
        RuleFile::Generated => generated(bytes),
        RuleFile::Redirects | RuleFile::Settings | RuleFile::Project => lines(&text).collect(),
    }
}

/// The lines that are not empty, and no comments.
fn lines(text: &str) -> impl Iterator<Item = RuleText> {
    let lines = text.lines().enumerate();
    let lines = lines.map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| RuleText {
        line: Some(number),
        text: line.split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

/// The headers, each with the path of its block.
fn headers(text: &str) -> Vec<RuleText> {
    let mut path = String::new();
    let mut rules = Vec::new();
    for rule in lines(text) {
        if rule.text.starts_with('/') || rule.text.starts_with("http") {
            path = rule.text;
        } else {
            let text = format!("{path} {}", rule.text);
            rules.push(RuleText { text, ..rule });
        }
    }
    rules
}

/// The entries of a generated file.
fn generated(bytes: &[u8]) -> Vec<RuleText> {
    let Ok(Value::Object(parts)) = serde_json::from_slice(bytes) else {
        return Vec::new();
    };
    let mut texts = Vec::new();
    for (part, value) in parts {
        match value {
            Value::Object(entries) => {
                let entries = entries.into_iter();
                texts.extend(entries.map(|(key, value)| format!("{part} {key} {value}")));
            }
            value => texts.push(format!("{part} {value}")),
        }
    }
    let rules = texts.into_iter().map(|text| RuleText { line: None, text });
    rules.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: RuleFile, old: &str, new: &str) -> Vec<String> {
        let changes = between(file, old.as_bytes(), new.as_bytes());
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn between_names_rules_with_their_lines() {
        for (file, old, new, expected) in [
            (
                RuleFile::Redirects,
                "/a /b\n# c\n/d  /e 301\n",
                "/a /b\n\n\n/d /e 301 \n/f /g\n",
                &["+ _redirects:5 /f /g"][..],
            ),
            // The order counts.
            (
                RuleFile::Redirects,
                "/a /b\n/c /d\n",
                "/c /d\n/a /b\n",
                &["+ _redirects:1 /c /d", "- _redirects:2 /c /d"],
            ),
            (
                RuleFile::Headers,
                "/a\n  X-A: 1\n  X-B: 1\n/b\n  X-A: 1\n",
                "/a\n  X-A: 1\n  X-B: 2\n/c\n  X-A: 1\n",
                &[
                    "- _headers:3 /a X-B: 1",
                    "- _headers:5 /b X-A: 1",
                    "+ _headers:3 /a X-B: 2",
                    "+ _headers:5 /c X-A: 1",
                ],
            ),
            (
                RuleFile::Settings,
                "",
                "html = \"slash\"\n",
                &["+ _site.toml:1 html = \"slash\""],
            ),
            (
                RuleFile::Generated,
                r#"{"html":"exact","routes":{"/":{"status":308,"to":"/a"}},"version":1}"#,
                r#"{"html":"exact","routes":{"/":{"status":308,"to":"/b"}},"version":1}"#,
                &[
                    r#"- _pmx/rules.json routes / {"status":308,"to":"/a"}"#,
                    r#"+ _pmx/rules.json routes / {"status":308,"to":"/b"}"#,
                ],
            ),
            (RuleFile::Generated, "{", "\u{ff}", &[]),
        ] {
            assert_eq!(shown(file, old, new), expected, "{file} {old:?} {new:?}");
        }
    }
}
