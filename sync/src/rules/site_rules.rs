//! Site rules: the compiled rules of one root, which both hosts keep in a cache.

use http::StatusCode;
use http::header::HeaderName;

use super::compared_path::ComparedPath;
use super::condition::{ClientContext, DependsOn};
use super::diagnostic::{Diagnostic, Diagnostics, RuleCode, RuleFile, RuleLine, Severity};
use super::generated::{CachePolicy, GeneratedRoute, GeneratedRules};
use super::headers::{self, HeaderBlock};
use super::index::RuleIndex;
use super::memory;
use super::pattern::Values;
use super::redirects::{self, RedirectRule, RuleAction};
use super::settings::{self, HtmlMode, Missing, SiteSettings};
use super::target::RedirectTarget;
use crate::limits::{HEADER_RULE_BYTES_MAX, RULES_MEMORY_BYTES_MAX};
use crate::manifest::Entry;
use crate::path::SitePath;
use crate::site::LocatedFile;
use crate::text;

/// The compiled rules of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteRules {
    settings: SiteSettings,
    pub(super) redirects: Vec<RedirectRule>,
    redirect_index: RuleIndex,
    pub(super) headers: Vec<HeaderBlock>,
    header_index: RuleIndex,
    pub(super) generated: GeneratedRules,
    charged_bytes: usize,
}

/// The parts of a request that rules read.
#[derive(Debug, Clone, Copy)]
pub struct RuleRequest<'a> {
    /// The host, in lower case and without a port.
    pub host: &'a str,
    /// The path as requested.
    pub path: &'a str,
    /// What conditions read.
    pub client: ClientContext<'a>,
}

/// What the rules of a site say about a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RuleAnswer {
    pub(crate) rule: Option<MatchedRule>,
    pub(crate) depends: DependsOn,
}

/// The first rule that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MatchedRule {
    pub(crate) at: RuleLine,
    pub(crate) action: MatchedAction,
    pub(crate) is_before_files: bool,
    /// The path of the source, if it differs from the request's by its last slash.
    pub(crate) other_slash: Option<String>,
}

/// What the rule does to this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MatchedAction {
    /// Sends the client to a URL.
    Redirect {
        status: StatusCode,
        location: String,
        /// The path of the same site, if the URL is there.
        local: Option<String>,
    },
    /// Answers with what the site has at this path.
    Rewrite {
        status: StatusCode,
        path: String,
        /// Whether the rule is for many paths, and then not for assets.
        is_wide: bool,
    },
    /// Answers with this file.
    File(SitePath),
}

impl SiteRules {
    /// Compiles rule files; each is its path and its bytes. Lines with errors are left out.
    pub fn compile<'a>(
        files: impl IntoIterator<Item = (RuleFile, &'a [u8])>,
    ) -> (Self, Vec<Diagnostic>) {
        let (mut rules, mut diagnostics) = (Self::default(), Vec::new());
        for (file, bytes) in files {
            let mut found = Diagnostics::of(file);
            rules.add(file, bytes, &mut found);
            diagnostics.extend(found.into_all());
        }
        rules.redirect_index = RuleIndex::of(rules.redirects.iter().map(|rule| &rule.pattern));
        rules.header_index = RuleIndex::of(rules.headers.iter().map(|block| &block.pattern));
        diagnostics.sort_by_key(|found| (found.at, found.column));
        (rules, diagnostics)
    }

    fn add(&mut self, file: RuleFile, bytes: &[u8], found: &mut Diagnostics) {
        if bytes.len() > file.bytes_max() {
            let (size, most) = (bytes.len(), file.bytes_max());
            let message = format!("the file has {size} bytes; the limit is {most}");
            return found.error(START, RuleCode::Limit, message);
        }
        let memory = memory::most(file, &String::from_utf8_lossy(bytes));
        if memory > Self::BYTES_MAX - self.charged_bytes() {
            let message = format!(
                "the rules up to this file take {} MiB of memory or more; the limit is {} MiB",
                (self.charged_bytes() + memory).div_ceil(MIB),
                Self::BYTES_MAX / MIB
            );
            return found.error(START, RuleCode::Limit, message);
        }
        self.charged_bytes += memory;
        if file == RuleFile::Generated {
            match GeneratedRules::decode(bytes) {
                Ok(rules) => self.generated = rules,
                Err(fault) => found.error(START, RuleCode::Generated, fault),
            }
            return;
        }
        let text = match text::decode(bytes) {
            Ok(text) => text,
            Err(fault) => return found.error(START, RuleCode::Syntax, format!("the file {fault}")),
        };
        match file {
            RuleFile::Redirects => self.redirects = redirects::parse(text, found),
            RuleFile::Headers => self.headers = headers::parse(text, found),
            RuleFile::Settings | RuleFile::Project => {
                self.settings = settings::parse(text, found);
            }
            RuleFile::Generated => {}
        }
    }

    /// Most bytes that a cache charges for the rules of one site: a part of an isolate's memory.
    pub const BYTES_MAX: usize = RULES_MEMORY_BYTES_MAX;

    /// Bytes that a cache charges for these rules.
    pub fn charged_bytes(&self) -> usize {
        size_of::<Self>() + self.charged_bytes
    }

    /// Whether the site has no rules at all.
    pub fn is_empty(&self) -> bool {
        self.redirects.is_empty()
            && self.headers.is_empty()
            && self.settings.is_default()
            && self.generated == GeneratedRules::default()
    }

    /// How files and URLs relate.
    pub fn html(&self) -> HtmlMode {
        let generated = self.generated.html.as_deref().and_then(HtmlMode::parse);
        match self.settings.html {
            HtmlMode::Auto => generated.unwrap_or_default(),
            chosen => chosen,
        }
    }

    /// What answers if nothing else does.
    pub fn missing(&self) -> Missing {
        let generated = self.generated.missing.as_deref().and_then(Missing::parse);
        match self.settings.missing {
            Missing::NearestPage => generated.unwrap_or_default(),
            chosen => chosen,
        }
    }

    pub(crate) const fn settings(&self) -> &SiteSettings {
        &self.settings
    }

    /// A file with the media type that the site gives to its path.
    pub(crate) fn typed(&self, path: &SitePath, held: LocatedFile) -> LocatedFile {
        let Some(media) = self.settings.media(path).cloned() else {
            return held;
        };
        let entry = Entry {
            media,
            ..held.entry
        };
        LocatedFile { entry, ..held }
    }

    /// The cache policy that the build gives to a file.
    pub(crate) fn cache_policy(&self, file: &SitePath) -> Option<CachePolicy> {
        self.generated.cache.get(file).copied()
    }

    /// The first rule that matches a request.
    pub(crate) fn answer(&self, request: &RuleRequest<'_>) -> RuleAnswer {
        let mut answer = RuleAnswer::default();
        if !self.redirect_index.is_empty()
            && let Some(path) = ComparedPath::parse(request.path)
        {
            let candidates = self.redirect_index.candidates(&path);
            let rules = candidates.filter_map(|number| self.redirects.get(number));
            for rule in rules {
                answer.rule = matched(rule, request, &path, &mut answer.depends);
                if answer.rule.is_some() {
                    return answer;
                }
            }
        }
        answer.rule = self.route(request);
        answer
    }

    fn route(&self, request: &RuleRequest<'_>) -> Option<MatchedRule> {
        let action = match self.generated.routes.get(request.path)? {
            GeneratedRoute::File { file } => MatchedAction::File(file.clone()),
            GeneratedRoute::Redirect { status, to } => {
                let target = RedirectTarget::parse(to, &[]).ok()?;
                redirect(&target, &Values::default(), status.get(), request)?
            }
        };
        Some(MatchedRule {
            at: RuleLine::GENERATED,
            action,
            is_before_files: true,
            other_slash: None,
        })
    }

    /// The changes of headers for a path, in order.
    pub(crate) fn header_changes(&self, request: &RuleRequest<'_>) -> Vec<HeaderChange> {
        self.counted_changes(request).0
    }

    /// The changes that fit into a response, and the bytes of all headers that blocks set.
    pub(super) fn counted_changes(&self, request: &RuleRequest<'_>) -> (Vec<HeaderChange>, usize) {
        let path = (!self.header_index.is_empty()).then(|| ComparedPath::parse(request.path));
        let Some(path) = path.flatten() else {
            return (Vec::new(), 0);
        };
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for number in self.header_index.candidates(&path) {
            let Some(block) = self.headers.get(number) else {
                continue;
            };
            let Some(values) = block.pattern.values(request.host, &path) else {
                continue;
            };
            changes.extend(block.removed.iter().cloned().map(HeaderChange::Remove));
            for (name, value) in &block.set {
                let value = value.filled(&values);
                bytes += name.as_str().len() + value.len() + 4;
                if bytes > HEADER_RULE_BYTES_MAX {
                    continue;
                }
                let block = block.at.line;
                let name = name.clone();
                changes.push(HeaderChange::Set { block, name, value });
            }
        }
        (changes, bytes)
    }
}

/// A change of the headers of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderChange {
    /// Removes what was set before.
    Remove(HeaderName),
    /// Sets a header; lines of one block add up.
    Set {
        block: u32,
        name: HeaderName,
        value: String,
    },
}

const MIB: usize = 1024 * 1024;

/// Whether diagnostics refuse the site.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    let mut all = diagnostics.iter();
    all.any(|found| found.severity == Severity::Error)
}

const START: super::diagnostic::Position = super::diagnostic::Position { line: 1, column: 1 };

fn matched<'a>(
    rule: &RedirectRule,
    request: &RuleRequest<'a>,
    path: &ComparedPath<'a>,
    depends: &mut DependsOn,
) -> Option<MatchedRule> {
    let mut values = rule.pattern.values(request.host, path)?;
    for condition in &rule.conditions {
        if !condition.holds(&request.client, &mut values, depends) {
            return None;
        }
    }
    let action = match rule.action {
        RuleAction::Redirect(status) => redirect(&rule.target, &values, status, request)?,
        RuleAction::Rewrite(_) if rule.is_wide_rewrite() && names_asset(request.path) => {
            return None;
        }
        RuleAction::Rewrite(status) => MatchedAction::Rewrite {
            status,
            path: rule.target.path(&values),
            is_wide: rule.is_wide_rewrite(),
        },
    };
    Some(MatchedRule {
        at: rule.at,
        action,
        is_before_files: rule.is_before_files(),
        other_slash: rule
            .pattern
            .literal_url()
            .filter(|source| request.path != source && same_but_slash(source, request.path)),
    })
}

/// Whether the last segment of a path has an extension other than that of a page. A missing asset
/// is no page of an application.
pub(crate) fn names_asset(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|extension| !extension.eq_ignore_ascii_case("html"))
}

fn same_but_slash(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// A redirect, unless it leads to the URL that was requested.
fn redirect(
    target: &RedirectTarget,
    values: &Values<'_>,
    status: StatusCode,
    request: &RuleRequest<'_>,
) -> Option<MatchedAction> {
    let location = target.location(values, request.client.query)?;
    let local = target.is_local().then(|| target.path(values));
    let is_here = local.as_deref() == Some(request.path);
    (!is_here).then_some(MatchedAction::Redirect {
        status,
        location,
        local,
    })
}

#[cfg(test)]
mod tests;
