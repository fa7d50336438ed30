//! Ignore rules: patterns, and names that start with a dot.
//!
//! Patterns have the syntax and the meaning of gitignore(5): the last matching one decides, `!`
//! includes a name again, and files in an excluded folder stay excluded. A name with a leading dot
//! is left out, unless a pattern includes it or it is `.well-known` (RFC 8615).

use std::borrow::Cow;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::error::ScanFault;
use super::filesystem::{self, FileSystem};
use super::stat::FileKind;
use crate::text;

/// The file of patterns at the top of a folder; never published itself, at any depth.
pub(super) const IGNORE_FILE: &str = ".pmxignore";

/// The file of a project's settings, which is not published either.
const PROJECT_FILE: &str = "pmx.toml";

/// Most bytes of an ignore file: more patterns than a person writes.
const IGNORE_BYTES_MAX: u64 = 1024 * 1024;

/// Whether a name is that of a file of settings, which no site has.
pub(super) fn is_settings(name: &[u8]) -> bool {
    name == IGNORE_FILE.as_bytes() || name == PROJECT_FILE.as_bytes()
}

/// Rules for what a scan leaves out.
#[derive(Debug)]
pub(super) struct IgnoreRules {
    patterns: Gitignore,
}

/// Whether a name is a folder: patterns that end with `/` match only folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathKind {
    File,
    Folder,
}

impl IgnoreRules {
    /// Reads the patterns of the ignore file and then those of the command line, which take
    /// precedence.
    pub(super) fn parse(ignore_file: &str, exclude: &[String]) -> Result<Self, ScanFault> {
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        for line in text::lines(ignore_file) {
            add(&mut builder, IGNORE_FILE, line)?;
        }
        for pattern in exclude {
            add(&mut builder, "--exclude", pattern)?;
        }
        let patterns = builder.build().map_err(|error| ScanFault::Pattern {
            place: "the patterns together",
            pattern: String::new(),
            fault: error.to_string(),
        })?;
        Ok(Self { patterns })
    }

    /// Whether a name in the folder with this prefix (empty, or ending with `/`) is published.
    pub(super) fn admit(&self, prefix: &str, name: &[u8], shape: PathKind) -> bool {
        if is_settings(name) {
            return false;
        }
        let dotted = name.first() == Some(&b'.') && name != b".well-known";
        self.matched(prefix, name, shape).unwrap_or(!dotted)
    }

    /// Whether a file that a build declares is published: patterns alone decide.
    pub(super) fn admit_declared(&self, prefix: &str, name: &[u8]) -> bool {
        self.matched(prefix, name, PathKind::File).unwrap_or(true)
    }

    /// The decision of the patterns, if one matches.
    fn matched(&self, prefix: &str, name: &[u8], shape: PathKind) -> Option<bool> {
        if self.patterns.is_empty() {
            return None;
        }
        let path = [prefix.as_bytes(), name].concat();
        let is_folder = shape == PathKind::Folder;
        match self.patterns.matched(as_path(&path), is_folder) {
            Match::None => None,
            Match::Ignore(_) => Some(false),
            Match::Whitelist(_) => Some(true),
        }
    }
}

/// The text of the ignore file at the top of a folder; empty without one.
pub(super) fn ignore_file<G: FileSystem>(filesystem: &G) -> Result<String, ScanFault> {
    use std::io::{ErrorKind, Read};
    let fault = |fault: String| ScanFault::IgnoreFile { fault };
    let unreadable = |error| ScanFault::from_io(IGNORE_FILE, "read", error);
    let top = filesystem.top().map_err(unreadable)?;
    let name = filesystem::c_name(IGNORE_FILE).map_err(unreadable)?;
    let stat = match filesystem.stat(&top, &name) {
        Ok(stat) => stat,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let is = match stat.kind {
        FileKind::File if stat.size > IGNORE_BYTES_MAX => {
            return Err(ScanFault::TooLarge {
                path: IGNORE_FILE.to_owned(),
                unit: "bytes",
                actual: stat.size,
                limit: IGNORE_BYTES_MAX,
            });
        }
        FileKind::File => None,
        FileKind::Folder => Some("is a folder"),
        FileKind::Link => Some("is a symbolic link"),
        FileKind::Special | FileKind::Unknown => Some("is a FIFO, a socket or a device"),
    };
    if let Some(is) = is {
        return Err(fault(format!("{is}; pmx reads patterns from a file only")));
    }
    let file = filesystem.open(&top, &name).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let read = file.take(IGNORE_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    let text = text::decode(&bytes).map_err(|error| fault(error.to_string()))?;
    Ok(text.to_owned())
}

fn add(builder: &mut GitignoreBuilder, place: &'static str, line: &str) -> Result<(), ScanFault> {
    let outcome = builder.add_line(None, line);
    outcome.map(drop).map_err(|error| ScanFault::Pattern {
        place,
        pattern: line.chars().take(200).collect(),
        fault: error.to_string(),
    })
}

#[cfg(unix)]
fn as_path(bytes: &[u8]) -> Cow<'_, Path> {
    use std::os::unix::ffi::OsStrExt;
    Cow::Borrowed(Path::new(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn as_path(bytes: &[u8]) -> Cow<'_, Path> {
    Cow::Owned(String::from_utf8_lossy(bytes).into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_apply_patterns_and_leave_out_dot_files() {
        let file = "# a comment\n*.log\n/top\nfolder/\n!.nojekyll\n!keep.log\ndocs/**/secret\n";
        let rules = IgnoreRules::parse(file, &["!late.log".into(), "*.map".into()]).unwrap();
        for (prefix, name, shape, expected) in [
            ("", "index.html", PathKind::File, true),
            ("", "a.log", PathKind::File, false),
            ("x/", "a.log", PathKind::File, false),
            ("x/", "keep.log", PathKind::File, true),
            ("", "late.log", PathKind::File, true),
            ("", "top", PathKind::File, false),
            ("x/", "top", PathKind::File, true),
            ("", "folder", PathKind::Folder, false),
            ("", "folder", PathKind::File, true),
            ("", ".nojekyll", PathKind::File, true),
            ("book/", ".nojekyll", PathKind::File, true),
            ("", ".git", PathKind::Folder, false),
            ("", ".well-known", PathKind::Folder, true),
            ("docs/a/b/", "secret", PathKind::File, false),
            ("assets/", "a.js.map", PathKind::File, false),
        ] {
            let admitted = rules.admit(prefix, name.as_bytes(), shape);
            assert_eq!(admitted, expected, "{prefix}{name}");
        }
    }

    #[test]
    fn files_of_settings_are_never_published() {
        let rules = IgnoreRules::parse("!.pmxignore\n!pmx.toml", &[]).unwrap();
        for name in [&b".pmxignore"[..], b"pmx.toml"] {
            assert!(!rules.admit("", name, PathKind::File));
            assert!(!rules.admit("a/", name, PathKind::File));
        }
    }

    #[test]
    fn bad_pattern_is_named() {
        let error = IgnoreRules::parse("", &["a[".into()]).unwrap_err();
        assert!(matches!(&error, ScanFault::Pattern { pattern, .. } if pattern == "a["));
    }
}
