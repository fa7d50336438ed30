//! Rule diagnostics: errors and warnings with file, line and column, each with a stable code.

use std::fmt;

use serde::Serialize;

use crate::limits::{GENERATED_RULES_BYTES_MAX, RULE_FILE_BYTES_MAX};
use crate::path::SitePath;

/// A rule file of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum RuleFile {
    /// `_redirects`
    #[serde(rename = "_redirects")]
    Redirects,
    /// `_headers`
    #[serde(rename = "_headers")]
    Headers,
    /// `_site.toml`
    #[serde(rename = "_site.toml")]
    Settings,
    /// `_pmx/rules.json`
    #[serde(rename = "_pmx/rules.json")]
    Generated,
    /// `[site]` of `pmx.toml`, of which a client makes `_site.toml`; no site has this file.
    #[serde(rename = "pmx.toml")]
    Project,
}

impl RuleFile {
    /// Every rule file of a site, in the order in which diagnostics list them.
    pub const ALL: [Self; 4] = [
        Self::Redirects,
        Self::Headers,
        Self::Settings,
        Self::Generated,
    ];

    /// The path in the site.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Redirects => "_redirects",
            Self::Headers => "_headers",
            Self::Settings => "_site.toml",
            Self::Generated => "_pmx/rules.json",
            Self::Project => "pmx.toml",
        }
    }

    /// The path in the site.
    pub fn site_path(self) -> SitePath {
        SitePath::parse(self.path()).expect("names of rule files are paths")
    }

    /// Most bytes of the file.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Redirects | Self::Headers | Self::Settings | Self::Project => RULE_FILE_BYTES_MAX,
            Self::Generated => GENERATED_RULES_BYTES_MAX,
        }
    }

    /// The rule file at this path of a site.
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.path() == path)
    }
}

impl fmt::Display for RuleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// A line of a rule file, counted from 1. Generated rules have line 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RuleLine {
    /// The file.
    pub file: RuleFile,
    /// The line.
    pub line: u32,
}

impl RuleLine {
    /// The place of generated rules.
    pub(crate) const GENERATED: Self = Self {
        file: RuleFile::Generated,
        line: 0,
    };
}

impl fmt::Display for RuleLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Whether a diagnostic refuses the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The line has no valid meaning.
    Error,
    /// The line has a meaning, but probably not the intended one.
    Warning,
}

/// An error or a warning about a rule file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file and the line.
    #[serde(flatten)]
    pub at: RuleLine,
    /// The column, counted from 1 in characters.
    pub column: u32,
    /// Error or warning.
    pub severity: Severity,
    /// The stable code.
    pub code: RuleCode,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Self {
            at,
            column,
            code,
            message,
            ..
        } = self;
        write!(f, "{at}:{column}: {severity}[{code}]: {message}")
    }
}

macro_rules! rule_codes {
    ($($variant:ident $text:literal $explanation:literal)*) => {
        /// The stable code of a kind of diagnostic.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum RuleCode {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl RuleCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as users see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What the code means, and what to do.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }
        }
    };
}

rule_codes! {
    Syntax "rules-syntax" "The line does not have the form of a rule. A redirect is SOURCE TARGET \
        [STATUS]; a header is NAME: VALUE below a line with its path."
    Source "rules-source" "The source of a rule is a path that starts with /, or http(s)://host/path \
        without a port. It has at most one *, no # and no empty or dot segments."
    Target "rules-target" "The target of a redirect is a path that starts with one /, or a whole \
        http(s):// URL. The target of a 200, 404 or 410 rule is a page of the site."
    Status "rules-status" "A redirect has status 301, 302, 303, 307 or 308. A rule with 200, 404 or \
        410 answers with a page of the site. A ! behind the status puts the rule before files."
    Name "rules-name" "A target may use the names of its source only: :name for a :name there, \
        :splat for the *. A name starts with a letter, and stands once in a source."
    Host "rules-host" "A value of the request becomes a host only as one whole label of it, such as \
        https://:tenant.example.com/."
    Condition "rules-condition" "A condition is Language=, Country= or Cookie= with values that \
        commas separate. Other conditions of other hosts do not exist here."
    Header "rules-header" "A header needs a name and a value that HTTP allows. The server sets \
        ETag, Content-Length, Content-Encoding, Content-Range, Accept-Ranges, Transfer-Encoding, \
        Connection, Location and X-Pmx-* itself."
    Access "rules-access" "A password in a file that is published with the site protects nothing. \
        Use pmx access."
    Loop "rules-loop" "The rule leads back to itself, alone, with other rules or with the clean URL \
        of a page, so a browser would give up."
    Limit "rules-limit" "A rule file is larger than the limits allow. `pmx rules` prints them."
    Setting "rules-setting" "The key or value does not exist in _site.toml. Keys are html, missing, \
        shell, canonical and [types]."
    Generated "rules-generated" "_pmx/rules.json is not in its one canonical form. Build tools \
        write it; do not edit it by hand."
    Hidden "rules-hidden" "The rule never applies, because an earlier rule always answers first."
    OverFile "rules-over-file" "A redirect hides a file of the site: redirects come before files."
    NoTarget "rules-no-target" "The target of the rule does not exist in the site."
    Fragment "rules-fragment" "Browsers keep the fragment of a URL, the part behind the #, to \
        themselves. A source with one matches as if it had none."
    Scheme "rules-scheme" "A rule compares the host of a source, and not its scheme."
}

impl RuleCode {
    /// The code with this text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|code| code.as_str() == text)
    }
}

impl fmt::Display for RuleCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RuleCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Collector of the diagnostics of one file.
#[derive(Debug)]
pub(super) struct Diagnostics {
    file: RuleFile,
    all: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(super) const fn of(file: RuleFile) -> Self {
        Self {
            file,
            all: Vec::new(),
        }
    }

    pub(super) fn error(&mut self, at: Position, code: RuleCode, message: impl Into<String>) {
        self.push(at, Severity::Error, code, message.into());
    }

    pub(super) fn warn(&mut self, at: Position, code: RuleCode, message: impl Into<String>) {
        self.push(at, Severity::Warning, code, message.into());
    }

    /// Records the fault of a token.
    pub(super) fn fault(&mut self, at: Position, fault: TokenFault) {
        self.error(at, fault.code, fault.message);
    }

    fn push(&mut self, at: Position, severity: Severity, code: RuleCode, message: String) {
        if self.all.len() >= DIAGNOSTICS_MAX {
            return;
        }
        let Position { line, column } = at;
        let at = RuleLine {
            file: self.file,
            line,
        };
        self.all.push(Diagnostic {
            at,
            column,
            severity,
            code,
            message,
        });
    }

    pub(super) fn into_all(self) -> Vec<Diagnostic> {
        self.all
    }
}

/// Diagnostics of one file: more than a person reads, and a bound for what a hostile file costs.
const DIAGNOSTICS_MAX: usize = 1_000;

/// A place in a rule file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// Why a token is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenFault {
    pub(super) code: RuleCode,
    pub(super) message: String,
}

impl TokenFault {
    pub(super) fn new(code: RuleCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}
