//! Site settings: the keys of `_site.toml`.

use std::collections::BTreeMap;

use http::StatusCode;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::diagnostic::{Diagnostics, Position, RuleCode};
use crate::limits::MEDIA_RULES_MAX;
use crate::media::Media;
use crate::path::SitePath;

/// How a page's file and its URL relate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HtmlMode {
    /// `/a` for `a.html`, `/a/` for `a/index.html`.
    #[default]
    Auto,
    /// `/a/` for both.
    Slash,
    /// `/a` for both.
    NoSlash,
    /// Files under their own names only.
    Exact,
    /// `/a` and `/a.html` for `a.html`, `/a/` for `a/index.html`, without redirects between them.
    Both,
}

/// What answers if nothing else does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Missing {
    /// The nearest `404.html`.
    #[default]
    NearestPage,
    /// The shell of a single-page application.
    Shell,
    /// A short text.
    Nothing,
}

/// The settings of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteSettings {
    pub(crate) html: HtmlMode,
    pub(crate) missing: Missing,
    pub(crate) shell: SitePath,
    pub(crate) canonical: StatusCode,
    /// Media types by path, or by extension with its dot.
    types: BTreeMap<Box<str>, Media>,
}

impl Default for SiteSettings {
    fn default() -> Self {
        Self {
            html: HtmlMode::default(),
            missing: Missing::default(),
            shell: SitePath::parse("index.html").expect("a path"),
            canonical: StatusCode::TEMPORARY_REDIRECT,
            types: BTreeMap::new(),
        }
    }
}

impl SiteSettings {
    /// The media type that the site gives to a file; a path counts before an extension.
    pub(crate) fn media(&self, path: &SitePath) -> Option<&Media> {
        if self.types.is_empty() {
            return None;
        }
        let by_extension = || {
            let dots = path.name().match_indices('.');
            let mut suffixes = dots.map(|(at, _)| &path.name()[at..]);
            suffixes.find_map(|suffix| self.types.get(suffix))
        };
        self.types.get(path.as_str()).or_else(by_extension)
    }

    /// Whether the site has settings of its own.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl HtmlMode {
    const NAMES: [(&'static str, Self); 9] = [
        ("auto", Self::Auto),
        ("slash", Self::Slash),
        ("no-slash", Self::NoSlash),
        ("exact", Self::Exact),
        ("both", Self::Both),
        // Those of Cloudflare's wrangler.toml.
        ("auto-trailing-slash", Self::Auto),
        ("force-trailing-slash", Self::Slash),
        ("drop-trailing-slash", Self::NoSlash),
        ("none", Self::Exact),
    ];

    pub(super) fn parse(text: &str) -> Option<Self> {
        find(&Self::NAMES, text)
    }
}

impl Missing {
    const NAMES: [(&'static str, Self); 5] = [
        ("404", Self::NearestPage),
        ("spa", Self::Shell),
        ("none", Self::Nothing),
        ("404-page", Self::NearestPage),
        ("single-page-application", Self::Shell),
    ];

    pub(super) fn parse(text: &str) -> Option<Self> {
        find(&Self::NAMES, text)
    }
}

fn find<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    let found = names.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value)
}

/// The first names of a list: those that are ours.
fn listed<T>(names: &[(&str, T)], count: usize) -> String {
    let names: Vec<_> = names[..count].iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

const KEYS: [&str; 7] = [
    "html",
    "missing",
    "shell",
    "canonical",
    "types",
    "html_handling",
    "not_found_handling",
];

/// Parses `_site.toml`; leaves out keys with errors.
pub(super) fn parse(text: &str, diagnostics: &mut Diagnostics) -> SiteSettings {
    let mut reader = SettingsReader {
        text,
        diagnostics,
        settings: SiteSettings::default(),
    };
    match DeTable::parse(text) {
        Ok(table) => {
            for (key, value) in table.get_ref() {
                reader.key(key, value);
            }
        }
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let message = error.message().to_owned();
            reader.error(at, message);
        }
    }
    reader.settings
}

struct SettingsReader<'a, 'b> {
    text: &'a str,
    diagnostics: &'b mut Diagnostics,
    settings: SiteSettings,
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;

impl SettingsReader<'_, '_> {
    fn key(&mut self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) {
        let at = value.span().start;
        match key.get_ref().as_ref() {
            "html" | "html_handling" => {
                let names = listed(&HtmlMode::NAMES, 5);
                if let Some(html) = self.choice(value, HtmlMode::parse, &names) {
                    self.settings.html = html;
                }
            }
            "missing" | "not_found_handling" => {
                let names = listed(&Missing::NAMES, 3);
                if let Some(missing) = self.choice(value, Missing::parse, &names) {
                    self.settings.missing = missing;
                }
            }
            "shell" => {
                let path = |text: &str| SitePath::parse(text.trim_start_matches('/')).ok();
                if let Some(shell) = self.choice(value, path, "the path of a page") {
                    self.settings.shell = shell;
                }
            }
            "canonical" => match value.get_ref().as_integer().map(DeInteger::as_str) {
                Some("307") => self.settings.canonical = StatusCode::TEMPORARY_REDIRECT,
                Some("308") => self.settings.canonical = StatusCode::PERMANENT_REDIRECT,
                _ => self.error(at, "canonical is 307 or 308"),
            },
            "types" => match value.get_ref().as_table() {
                Some(types) => self.types(types),
                None => self.error(at, "[types] is a table of media types"),
            },
            unknown => {
                let message = match suggestion(unknown) {
                    Some(known) => format!("{unknown} is no setting; did you mean {known}?"),
                    None => format!(
                        "{unknown} is no setting; there are {}",
                        KEYS[..5].join(", ")
                    ),
                };
                self.error(key.span().start, message);
            }
        }
    }

    fn choice<T>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        parse: impl Fn(&str) -> Option<T>,
        names: &str,
    ) -> Option<T> {
        let parsed = value.get_ref().as_str().and_then(parse);
        if parsed.is_none() {
            self.error(value.span().start, format!("the value is one of: {names}"));
        }
        parsed
    }

    fn types(&mut self, types: &DeTable<'_>) {
        for (key, value) in types {
            if self.settings.types.len() >= MEDIA_RULES_MAX {
                let message = format!("[types] has more than {MEDIA_RULES_MAX} entries");
                return self.error(key.span().start, message);
            }
            let written = key.get_ref().as_ref();
            let name = written.trim_start_matches('/');
            if !written.contains(['.', '/']) {
                let message = format!("this is the file {written}; an extension is \".{written}\"");
                let at = self.position(key.span().start);
                self.diagnostics.warn(at, RuleCode::Setting, message);
            }
            let is_name = name.starts_with('.') || SitePath::parse(name).is_ok();
            let media = value.get_ref().as_str();
            match media.and_then(|media| Media::parse(media).ok()) {
                Some(media) if is_name => {
                    self.settings.types.insert(name.into(), media);
                }
                Some(_) | None => {
                    let at = value.span().start;
                    self.error(at, "an entry is \".extension\" or a path, and a media type");
                }
            }
        }
    }

    fn error(&mut self, offset: usize, message: impl Into<String>) {
        let at = self.position(offset);
        self.diagnostics.error(at, RuleCode::Setting, message);
    }

    fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Position {
            line: before.matches('\n').count() as u32 + 1,
            column: line.chars().count() as u32 + 1,
        }
    }
}

/// The key that the author probably meant: at most two edits away.
fn suggestion(unknown: &str) -> Option<&'static str> {
    let distances = KEYS
        .iter()
        .map(|key| (strsim::levenshtein(unknown, key), *key));
    let (distance, key) = distances.min()?;
    (distance <= 2).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::super::diagnostic::RuleFile;
    use super::*;

    fn read(text: &str) -> (SiteSettings, Vec<String>) {
        let mut diagnostics = Diagnostics::of(RuleFile::Settings);
        let settings = parse(text, &mut diagnostics);
        let all = diagnostics.into_all();
        (settings, all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn parse_reads_keys_and_those_of_wrangler() {
        let text = "html = \"no-slash\"\nmissing = \"spa\"\nshell = \"/app.html\"\ncanonical = 308\n\
                    [types]\n\".usdz\" = \"model/vnd.usdz+zip\"\n\"/feed\" = \"application/rss+xml\"";
        let (settings, errors) = read(text);
        assert_eq!(errors, [""; 0]);
        assert_eq!(settings.html, HtmlMode::NoSlash);
        assert_eq!(settings.missing, Missing::Shell);
        assert_eq!(settings.shell.as_str(), "app.html");
        assert_eq!(settings.canonical, StatusCode::PERMANENT_REDIRECT);
        for (path, media) in [
            ("a/b.usdz", Some("model/vnd.usdz+zip")),
            ("feed", Some("application/rss+xml")),
            ("b.html", None),
        ] {
            let path = SitePath::parse(path).unwrap();
            assert_eq!(settings.media(&path).map(Media::as_str), media);
        }
        let text = "html_handling = \"none\"\nnot_found_handling = \"single-page-application\"\n";
        let (settings, errors) = read(text);
        assert_eq!(errors, [""; 0]);
        assert_eq!(
            (settings.html, settings.missing),
            (HtmlMode::Exact, Missing::Shell)
        );
    }

    #[test]
    fn parse_names_what_it_does_not_know() {
        for (text, expected) in [
            (
                "htlm = 1",
                "_site.toml:1:1: error[rules-setting]: htlm is no setting; did you mean html?",
            ),
            (
                "\n  html = \"x\"",
                "_site.toml:2:10: error[rules-setting]: the value is one of: auto, slash, no-slash, exact, both",
            ),
            (
                "canonical = 301",
                "_site.toml:1:13: error[rules-setting]: canonical is 307 or 308",
            ),
            (
                "[types]\n\".a\" = \"b\"",
                "_site.toml:2:8: error[rules-setting]: an entry is \".extension\" or a path, and a media type",
            ),
            (
                "[types]\nusdz = \"model/x\"",
                "_site.toml:2:1: warning[rules-setting]: this is the file usdz; an extension is \".usdz\"",
            ),
        ] {
            assert_eq!(read(text).1, [expected], "{text}");
        }
        assert_eq!(read("html = ").1.len(), 1);
    }
}
