//! Target: where a redirect leads, with the values of its source.
//!
//! Values are put in once, with the encoding in which they came, and are never read again. In a
//! host, a value is one whole label (RFC 1123, section 2.1). What a URL cannot hold is
//! percent-encoded as the URL standard does (whatwg.org, "percent-encoded bytes").

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::diagnostic::{RuleCode, TokenFault};
use super::pattern::{PatternPart, Values, lower_text, parts};

/// Characters of a path that a target's author may write and a URL cannot hold.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// The same of a query and a fragment.
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\'');

/// A parsed target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RedirectTarget {
    /// `https://host[:port]`; nothing for a path of the site.
    origin: Option<Vec<TargetPart>>,
    path: Vec<TargetPart>,
    query: Option<Vec<TargetPart>>,
    fragment: Option<Vec<TargetPart>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TargetPart {
    Text(Box<str>),
    /// The value of the name with this index.
    Value(usize),
}

impl RedirectTarget {
    /// Parses a target, whose names are those of its source.
    pub(super) fn parse(text: &str, names: &[Box<str>]) -> Result<Self, TokenFault> {
        let (origin, rest) = split_origin(text)?;
        let origin = origin.map(|origin| host(&origin, names)).transpose()?;
        let (rest, fragment) = split(rest, '#');
        let (path, query) = split(rest, '?');
        let path = if path.is_empty() { "/" } else { path };
        let path = resolved(path).ok_or_else(|| {
            let message = format!("{text:?} leads above the top of the site");
            TokenFault::new(RuleCode::Target, message)
        })?;
        Ok(Self {
            origin,
            path: pieces(&path, names, PATH)?,
            query: query.map(|text| pieces(text, names, QUERY)).transpose()?,
            fragment: fragment
                .map(|text| pieces(text, names, QUERY))
                .transpose()?,
        })
    }

    /// Whether the target is a path of the same site.
    pub(super) const fn is_local(&self) -> bool {
        self.origin.is_none()
    }

    /// Whether the path has no values.
    pub(super) fn has_literal_path(&self) -> bool {
        matches!(&self.path[..], [TargetPart::Text(_)])
    }

    /// The path with the values put in. It starts with exactly one slash.
    pub(super) fn path(&self, values: &Values<'_>) -> String {
        let path = filled(&self.path, values, PATH);
        format!("/{}", path.trim_start_matches(['/', '\\']))
    }

    /// The URL for a `Location` header. The request's query passes on, unless the target has its
    /// own. `None` if a value cannot be a label of the host.
    pub(super) fn location(&self, values: &Values<'_>, query: Option<&str>) -> Option<String> {
        let mut location = match &self.origin {
            Some(origin) => filled_host(origin, values)?,
            None => String::new(),
        };
        location.push_str(&self.path(values));
        let own = self.query.as_ref().filter(|query| !query.is_empty());
        let query = own.map_or_else(
            || query.filter(|query| !query.is_empty()).map(str::to_owned),
            |own| Some(filled(own, values, QUERY)),
        );
        if let Some(query) = query {
            location.push('?');
            location.push_str(&query);
        }
        if let Some(fragment) = &self.fragment {
            location.push('#');
            location.push_str(&filled(fragment, values, QUERY));
        }
        Some(location)
    }
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

/// Splits `https://host` from the rest.
fn split_origin(text: &str) -> Result<(Option<String>, &str), TokenFault> {
    if text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\") {
        return Ok((None, text));
    }
    let scheme = ["https://", "http://"].into_iter().find(|scheme| {
        let head = text.get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    });
    let Some(scheme) = scheme else {
        let message = format!("{text:?} is no target: it starts with one / or with https://");
        return Err(TokenFault::new(RuleCode::Target, message));
    };
    let rest = text[scheme.len()..].trim_start_matches('/');
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    Ok((Some(format!("{scheme}{host}")), path))
}

fn host(origin: &str, names: &[Box<str>]) -> Result<Vec<TargetPart>, TokenFault> {
    let pieces = pieces(&lower_text(origin), names, CONTROLS)?;
    // Each value stands for one label, so a host without values shows the form.
    let sample: String = pieces.iter().map(sample).collect();
    let authority = sample.split_once("://").map_or("", |(_, host)| host);
    let (name, port) = split(authority, ':');
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    if !is_port || !is_host(name) {
        let message = format!("{origin:?} is no host: a value stands for one whole label of it");
        return Err(TokenFault::new(RuleCode::Host, message));
    }
    for (at, piece) in pieces.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| pieces.get(at));
        let begins = text_of(before).is_some_and(|text| text.ends_with(['/', '.']));
        let after = pieces.get(at + 1);
        let ends = after.is_none() || text_of(after).is_some_and(|text| text.starts_with('.'));
        if matches!(piece, TargetPart::Value(_)) && !(begins && ends && after.is_some()) {
            let message = format!("{origin:?}: a value stands for one whole label, not the last");
            return Err(TokenFault::new(RuleCode::Host, message));
        }
    }
    Ok(pieces)
}

fn sample(piece: &TargetPart) -> &str {
    match piece {
        TargetPart::Text(text) => text,
        TargetPart::Value(_) => "x",
    }
}

fn text_of(piece: Option<&TargetPart>) -> Option<&str> {
    match piece {
        Some(TargetPart::Text(text)) => Some(text),
        Some(TargetPart::Value(_)) | None => None,
    }
}

fn is_host(name: &str) -> bool {
    !name.is_empty() && name.len() <= 253 && name.trim_end_matches('.').split('.').all(is_label)
}

/// Whether a text is one label of a host name: letters, digits and hyphens between them.
fn is_label(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_part)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A path without dot segments, and with `/` in place of a backslash (URL standard, 4.4).
fn resolved(path: &str) -> Option<String> {
    let path = path.replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    let mut all = path.split('/').skip(1).peekable();
    while let Some(segment) = all.next() {
        let is_last = all.peek().is_none();
        match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "." => {}
            ".." => drop(segments.pop()?),
            _ => {
                segments.push(segment);
                continue;
            }
        }
        if is_last {
            segments.push("");
        }
    }
    Some(format!("/{}", segments.join("/")))
}

fn pieces(
    text: &str,
    names: &[Box<str>],
    set: &'static AsciiSet,
) -> Result<Vec<TargetPart>, TokenFault> {
    let pieces = parts(text).into_iter().map(|part| match part {
        PatternPart::Text(text) => Ok(TargetPart::Text(encoded(text, set).into())),
        PatternPart::Splat => Ok(TargetPart::Text("*".into())),
        PatternPart::Name(name) => {
            let index = names.iter().position(|known| **known == *name);
            index.map(TargetPart::Value).ok_or_else(|| {
                let message = format!("the source has no {}", written(name));
                TokenFault::new(RuleCode::Name, message)
            })
        }
    });
    pieces.collect()
}

fn written(name: &str) -> String {
    match name {
        super::pattern::SPLAT => "*, which gives :splat".into(),
        name => format!(":{name}"),
    }
}

/// Encodes what a URL cannot hold, and a `%` that begins no escape.
fn encoded(text: &str, set: &'static AsciiSet) -> String {
    let mut whole = String::with_capacity(text.len());
    for (at, part) in text.split('%').enumerate() {
        if at > 0 {
            let digits = part.as_bytes().get(..2);
            let is_escape = digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
            whole.push_str(if is_escape { "%" } else { "%25" });
        }
        whole.extend(utf8_percent_encode(part, set));
    }
    whole
}

fn filled(pieces: &[TargetPart], values: &Values<'_>, set: &'static AsciiSet) -> String {
    let mut whole = String::new();
    for piece in pieces {
        match piece {
            TargetPart::Text(text) => whole.push_str(text),
            TargetPart::Value(index) => {
                let value = values.get(*index);
                // A value that begins with a slash makes no empty segment.
                let value = if whole.ends_with('/') {
                    value.trim_start_matches('/')
                } else {
                    value
                };
                whole.push_str(&encoded(value, set));
            }
        }
    }
    whole
}

fn filled_host(pieces: &[TargetPart], values: &Values<'_>) -> Option<String> {
    let mut whole = String::new();
    for piece in pieces {
        match piece {
            TargetPart::Text(text) => whole.push_str(text),
            TargetPart::Value(index) => {
                let label = values.get(*index);
                whole.push_str(is_label(label).then_some(label)?);
            }
        }
    }
    Some(whole)
}

#[cfg(test)]
mod tests;
