//! Redirect rules: the lines of `_redirects`.
//!
//! ```text
//! SOURCE [key=value | key=:name]… TARGET [STATUS[!]] [Language=|Country=|Cookie=]… [# comment]
//! ```

use http::StatusCode;

use super::condition::Condition;
use super::diagnostic::{Diagnostics, Position, RuleCode, RuleFile, RuleLine, TokenFault};
use super::line::{Line, Word, lines, words};
use super::pattern::{SPLAT, Slash, SourcePattern};
use super::target::RedirectTarget;
use crate::limits::{REDIRECT_RULES_MAX, RULE_LINE_BYTES_MAX};

/// A rule of `_redirects`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RedirectRule {
    pub(super) at: RuleLine,
    pub(super) pattern: SourcePattern,
    pub(super) conditions: Vec<Condition>,
    pub(super) target: RedirectTarget,
    pub(super) action: RuleAction,
    /// Whether the rule comes before files.
    pub(super) is_forced: bool,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleAction {
    /// Sends the client to the target.
    Redirect(StatusCode),
    /// Answers with a page of the site under the URL that was requested.
    Rewrite(StatusCode),
}

impl RedirectRule {
    /// Whether the rule comes before files.
    pub(super) const fn is_before_files(&self) -> bool {
        self.is_forced || matches!(self.action, RuleAction::Redirect(_))
    }

    /// Whether the rule shows a page at many paths. It leaves the paths of assets to later rules.
    pub(super) fn is_wide_rewrite(&self) -> bool {
        let is_rewrite = matches!(self.action, RuleAction::Rewrite(_));
        is_rewrite && self.pattern.has_splat() && !self.is_forced
    }
}

/// Parses `_redirects`; leaves out lines with errors.
pub(super) fn parse(text: &str, diagnostics: &mut Diagnostics) -> Vec<RedirectRule> {
    let mut rules: Vec<RedirectRule> = Vec::new();
    for line in lines(text) {
        if rules.len() >= REDIRECT_RULES_MAX {
            let message = format!("the file has more than {REDIRECT_RULES_MAX} rules");
            diagnostics.error(line.at, RuleCode::Limit, message);
            break;
        }
        let source = line.text.split_whitespace().next().unwrap_or_default();
        if SourcePattern::is_doubly_wild(source) {
            diagnostics.warn(line.at, RuleCode::Hidden, DOUBLY_WILD);
            continue;
        }
        match rule(line) {
            Ok((rule, warnings)) => {
                for (at, code, message) in warnings {
                    diagnostics.warn(at, code, message);
                }
                rules.push(rule);
            }
            Err((at, fault)) => diagnostics.fault(at, fault),
        }
    }
    rules
}

/// Why a rule with two `*` is none. Other hosts take such lines and ignore them.
const DOUBLY_WILD: &str =
    "the rule never applies: a source has at most one *; name the other parts, as in /:a/x/*";

type Placed<T> = Result<T, (Position, TokenFault)>;

/// A warning of a line that is a rule all the same.
type Warning = (Position, RuleCode, &'static str);

fn rule(line: Line<'_>) -> Placed<(RedirectRule, Vec<Warning>)> {
    if line.text.len() > RULE_LINE_BYTES_MAX {
        let message = format!("the line has more than {RULE_LINE_BYTES_MAX} bytes");
        return Err((line.at, TokenFault::new(RuleCode::Limit, message)));
    }
    let words = words(line);
    let Some((source, rest)) = words.split_first() else {
        return Err((
            line.at,
            TokenFault::new(RuleCode::Syntax, "the line is empty"),
        ));
    };
    let (parameters, rest) = rest.split_at(parameter_words(rest));
    let Some((target, rest)) = rest.split_first() else {
        let message = "a rule needs a target: SOURCE TARGET [STATUS]";
        return Err((source.at, TokenFault::new(RuleCode::Syntax, message)));
    };
    let (status, rest) = match rest.split_first() {
        Some((status, rest)) if !status.text.contains('=') => (Some(status), rest),
        Some(_) | None => (None, rest),
    };
    let mut doubts = warnings(*source);
    doubts.extend(parameters.iter().filter_map(misplaced));
    doubts.extend(rest.iter().filter_map(no_country));
    let (mut pattern, mut conditions) = source_of(source)?;
    for word in parameters {
        conditions.push(parameter(word.text, &mut pattern).map_err(|fault| (word.at, fault))?);
    }
    for word in rest {
        conditions.push(condition(word)?);
    }
    let to =
        RedirectTarget::parse(target.text, pattern.names()).map_err(|fault| (target.at, fault))?;
    let (action, is_forced) = match status {
        Some(word) => action(word.text).map_err(|fault| (word.at, fault))?,
        None => (RuleAction::Redirect(StatusCode::FOUND), false),
    };
    if matches!(action, RuleAction::Rewrite(_)) && !to.is_local() {
        let message = "200, 404 and 410 answer with a page of the site, not of another host";
        return Err((target.at, TokenFault::new(RuleCode::Target, message)));
    }
    if leads_to_itself(source.text, target.text, &to, &conditions, action) {
        let message = "the rule leads to its own source";
        return Err((source.at, TokenFault::new(RuleCode::Loop, message)));
    }
    let rule = RedirectRule {
        at: RuleLine {
            file: RuleFile::Redirects,
            line: line.at.line,
        },
        pattern: pattern.with_slash(slash(source.text, target.text)),
        conditions,
        target: to,
        action,
        is_forced,
    };
    Ok((rule, doubts))
}

/// A condition before the target, where each word is a parameter of the query.
fn misplaced(word: &Word<'_>) -> Option<Warning> {
    let key = word.text.split('=').next().unwrap_or_default();
    let is_condition = ["language", "country", "cookie"]
        .iter()
        .any(|name| key.eq_ignore_ascii_case(name));
    is_condition.then_some((word.at, RuleCode::Condition, MISPLACED))
}

/// A country that no client has.
fn no_country(word: &Word<'_>) -> Option<Warning> {
    let (key, values) = word.text.split_once('=')?;
    let mut values = values.split(',').map(str::trim);
    let is_code = |value: &str| {
        value.is_empty() || (value.len() == 2 && value.bytes().all(|b| b.is_ascii_alphabetic()))
    };
    let is_doubtful = key.eq_ignore_ascii_case("country") && !values.all(is_code);
    is_doubtful.then_some((word.at, RuleCode::Condition, NO_COUNTRY))
}

const MISPLACED: &str =
    "before the target, this is a parameter of the query; a condition comes after the target";

const NO_COUNTRY: &str =
    "a country is two letters (ISO 3166-1); the rule never applies for any other";

/// The number of words before the target.
fn parameter_words(words: &[Word<'_>]) -> usize {
    let is_parameter = |word: &&Word<'_>| {
        let name = word.text.split('=').next().unwrap_or_default();
        name.len() < word.text.len() && !name.contains(['/', ':'])
    };
    words.iter().take_while(is_parameter).count()
}

fn source_of(word: &Word<'_>) -> Placed<(SourcePattern, Vec<Condition>)> {
    let placed = |fault| (word.at, fault);
    let text = word.text.split('#').next().unwrap_or_default();
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let mut pattern = SourcePattern::parse(path).map_err(placed)?;
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let conditions = pairs.map(|pair| parameter(pair, &mut pattern).map_err(placed));
    let conditions = conditions.collect::<Result<_, _>>()?;
    Ok((pattern, conditions))
}

/// A query parameter: `key=value`, or `key=:name`.
fn parameter(text: &str, pattern: &mut SourcePattern) -> Result<Condition, TokenFault> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let name = value.strip_prefix(':').filter(|name| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_part)
    });
    match name {
        Some(name) => {
            pattern.add_name(name)?;
            Ok(Condition::NamedParameter(key.into()))
        }
        None => Ok(Condition::Parameter(key.into(), value.into())),
    }
}

fn condition(word: &Word<'_>) -> Placed<Condition> {
    let Some((key, values)) = word.text.split_once('=') else {
        let message = format!("{:?} is too much: SOURCE TARGET [STATUS]", word.text);
        return Err((word.at, TokenFault::new(RuleCode::Syntax, message)));
    };
    let split = |lower: bool| -> Vec<Box<str>> {
        let values = values.split(',').map(str::trim);
        let values = values.filter(|value| !value.is_empty());
        let cased = values.map(|value| {
            if lower {
                value.to_ascii_lowercase()
            } else {
                value.into()
            }
        });
        cased.map(Into::into).collect()
    };
    let condition = match key.to_ascii_lowercase().as_str() {
        "language" => Condition::Language(split(true)),
        "country" => Condition::Country(split(true)),
        "cookie" => Condition::Cookie(split(false)),
        _ => {
            let message = format!("{key}= is no condition; use Language=, Country= or Cookie=");
            return Err((word.at, TokenFault::new(RuleCode::Condition, message)));
        }
    };
    let is_empty = match &condition {
        Condition::Language(all) | Condition::Country(all) | Condition::Cookie(all) => {
            all.is_empty()
        }
        Condition::Parameter(..) | Condition::NamedParameter(_) => false,
    };
    if is_empty {
        let message = format!("{key}= needs a value");
        return Err((word.at, TokenFault::new(RuleCode::Condition, message)));
    }
    Ok(condition)
}

fn action(text: &str) -> Result<(RuleAction, bool), TokenFault> {
    let (digits, is_forced) = match text.strip_suffix('!') {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    // Other hosts read a number here, so files with 301.0 exist.
    let status = match digits.strip_suffix(".0").unwrap_or(digits) {
        "200" => RuleAction::Rewrite(StatusCode::OK),
        "404" => RuleAction::Rewrite(StatusCode::NOT_FOUND),
        "410" => RuleAction::Rewrite(StatusCode::GONE),
        "301" => RuleAction::Redirect(StatusCode::MOVED_PERMANENTLY),
        "302" => RuleAction::Redirect(StatusCode::FOUND),
        "303" => RuleAction::Redirect(StatusCode::SEE_OTHER),
        "307" => RuleAction::Redirect(StatusCode::TEMPORARY_REDIRECT),
        "308" => RuleAction::Redirect(StatusCode::PERMANENT_REDIRECT),
        _ => {
            let message = format!(
                "{text} is no status of a redirect; use 301, 302, 303, 307, 308, or 200, 404, 410 \
                 for a page"
            );
            return Err(TokenFault::new(RuleCode::Status, message));
        }
    };
    Ok((status, is_forced))
}

/// The slash at the end counts if source and target differ by it alone.
fn slash(source: &str, target: &str) -> Slash {
    let source = spelt_as_target(source);
    let target = path_of(target);
    if source != target && source.trim_end_matches('/') == target.trim_end_matches('/') {
        Slash::Counts
    } else {
        Slash::Ignored
    }
}

/// Whether each request that the rule sends away comes back to it at once.
fn leads_to_itself(
    source: &str,
    target: &str,
    parsed: &RedirectTarget,
    conditions: &[Condition],
    action: RuleAction,
) -> bool {
    let is_redirect = matches!(action, RuleAction::Redirect(_));
    let is_of_query = conditions.iter().any(Condition::is_of_query);
    let (source, target) = (spelt_as_target(source), path_of(target));
    is_redirect && parsed.is_local() && source == target && !is_of_query
}

/// The path of a source, as a target would name its values.
fn spelt_as_target(source: &str) -> String {
    path_of(source).replace('*', &format!(":{SPLAT}"))
}

fn path_of(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or(text)
}

fn warnings(source: Word<'_>) -> Vec<Warning> {
    let scheme = source.text.get(..7);
    let is_http = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let scheme = is_http.then_some((source.at, RuleCode::Scheme, SCHEME));
    let has_fragment = source.text.contains('#');
    let fragment = has_fragment.then_some((source.at, RuleCode::Fragment, FRAGMENT));
    scheme.into_iter().chain(fragment).collect()
}

/// Why a source with a fragment is not what it seems.
const FRAGMENT: &str =
    "no request has a fragment, so the rule ignores it; write a space before a comment, or %23";

/// Why a source with `http://` is not what it seems.
pub(super) const SCHEME: &str =
    "the rule holds for https as well: it compares the host of the source, and not its scheme";

#[cfg(test)]
mod tests;
