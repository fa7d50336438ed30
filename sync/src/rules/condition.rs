//! Rule condition: language, cookie, country or query parameter that a request needs.
//!
//! Languages are those of `Accept-Language` (RFC 9110, section 12.5.4), cookies are compared by
//! name, countries come from the platform. A query parameter has a fixed value, or gives its value
//! to a name of the source.

use http::HeaderValue;
use percent_encoding::percent_decode_str;

use super::pattern::Values;

/// A condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// Any of these languages, in lower case: the client's most wanted one decides.
    Language(Vec<Box<str>>),
    /// Any of these countries (ISO 3166-1 alpha-2, in lower case).
    Country(Vec<Box<str>>),
    /// Any of these cookies.
    Cookie(Vec<Box<str>>),
    /// The query has this parameter with this value.
    Parameter(Box<str>, Box<str>),
    /// The query has this parameter; its value is that of the next name of the source.
    NamedParameter(Box<str>),
}

/// The parts of a request that conditions read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientContext<'a> {
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The `Accept-Language` header.
    pub languages: Option<&'a HeaderValue>,
    /// The `Cookie` header.
    pub cookies: Option<&'a HeaderValue>,
    /// The country, in lower case.
    pub country: Option<&'a str>,
}

/// The parts of a request that an answer depends on because of conditions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DependsOn {
    /// `Accept-Language`
    pub language: bool,
    /// `Cookie`
    pub cookie: bool,
    /// The country, which no header names.
    pub country: bool,
}

impl DependsOn {
    /// Whether no condition counted.
    pub const fn is_nothing(self) -> bool {
        !self.language && !self.cookie && !self.country
    }
}

impl Condition {
    /// Whether a request satisfies the condition. Adds the value of a named parameter.
    pub(super) fn holds<'a>(
        &self,
        client: &ClientContext<'a>,
        values: &mut Values<'a>,
        depends: &mut DependsOn,
    ) -> bool {
        match self {
            Self::Language(wanted) => {
                depends.language = true;
                first_language(client.languages).is_some_and(|language| {
                    wanted.iter().any(|wanted| is_language(&language, wanted))
                })
            }
            Self::Country(wanted) => {
                depends.country = true;
                let country = client.country.unwrap_or_default();
                wanted.iter().any(|wanted| **wanted == *country)
            }
            Self::Cookie(wanted) => {
                depends.cookie = true;
                wanted.iter().any(|name| has_cookie(client.cookies, name))
            }
            Self::Parameter(name, value) => {
                let mut found = parameters(client.query).filter(|(known, _)| same(known, name));
                found.any(|(_, found)| same(found, value))
            }
            Self::NamedParameter(name) => {
                let mut found = parameters(client.query).filter(|(known, _)| same(known, name));
                let found = found.next().filter(|(_, value)| !has_dot_segment(value));
                if let Some((_, value)) = found {
                    values.push(value);
                }
                found.is_some()
            }
        }
    }

    /// Whether only the query decides.
    pub(super) const fn is_of_query(&self) -> bool {
        matches!(self, Self::Parameter(..) | Self::NamedParameter(_))
    }
}

/// Whether two texts of a query are the same once decoded.
fn same(one: &str, other: &str) -> bool {
    one == other || percent_decode_str(one).eq(percent_decode_str(other))
}

/// Whether a value would lead a client out of the folder that a target puts it into. A path has no
/// such segments: they are the client's to resolve (RFC 3986, section 5.2.4).
fn has_dot_segment(value: &str) -> bool {
    let value: Vec<u8> = percent_decode_str(value).collect();
    let mut segments = value.split(|byte| matches!(byte, b'/' | b'\\'));
    segments.any(|segment| matches!(segment, b"." | b".."))
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.unwrap_or_default().split('&');
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The language with the greatest weight, in lower case; the first of several.
fn first_language(header: Option<&HeaderValue>) -> Option<String> {
    let mut best: Option<(u16, &str)> = None;
    for item in header?.to_str().ok()?.split(',') {
        let (language, parameters) = item.split_once(';').unwrap_or((item, ""));
        let language = language.trim();
        let weight = weight(parameters);
        if !language.is_empty() && weight > best.map_or(0, |(weight, _)| weight) {
            best = Some((weight, language));
        }
    }
    best.map(|(_, language)| language.to_ascii_lowercase())
}

/// A weight in thousandths (RFC 9110, section 12.4.2).
#[expect(clippy::cast_sign_loss, reason = "the value is not negative")]
fn weight(parameters: &str) -> u16 {
    let Some(value) = parameters.trim().strip_prefix("q=") else {
        return 1_000;
    };
    let value: f32 = value.trim().parse().unwrap_or(0.0);
    (value.clamp(0.0, 1.0) * 1_000.0) as u16
}

/// `de` is the language of `de-at` (RFC 4647, section 3.3.1).
fn is_language(language: &str, range: &str) -> bool {
    let rest = language.strip_prefix(range);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn has_cookie(header: Option<&HeaderValue>, name: &str) -> bool {
    let text = header.and_then(|header| header.to_str().ok());
    let mut pairs = text.unwrap_or_default().split(';');
    pairs.any(|pair| {
        pair.split('=')
            .next()
            .is_some_and(|known| known.trim() == name)
    })
}

#[cfg(test)]
mod tests {
    use super::super::compared_path::ComparedPath;
    use super::super::pattern::SourcePattern;
    use super::*;

    fn holds(condition: &Condition, client: &ClientContext<'_>) -> (bool, DependsOn) {
        let pattern = SourcePattern::parse("/").unwrap();
        let path = ComparedPath::parse("/").unwrap();
        let (mut values, mut depends) = (pattern.values("", &path).unwrap(), DependsOn::default());
        let holds = condition.holds(client, &mut values, &mut depends);
        (holds, depends)
    }

    #[test]
    fn language_of_the_greatest_weight_decides() {
        for (header, expected) in [
            ("de", true),
            ("de-AT,en;q=0.5", true),
            ("en,de;q=0.9", false),
            ("en;q=0.2, de;q=0.9", true),
            ("de;q=0", false),
            ("den", false),
            ("*", false),
            ("", false),
        ] {
            let header = HeaderValue::from_static(header);
            let client = ClientContext {
                languages: Some(&header),
                ..ClientContext::default()
            };
            let (holds, depends) = holds(&Condition::Language(vec!["de".into()]), &client);
            assert_eq!(holds, expected, "{header:?}");
            assert!(depends.language);
        }
    }

    #[test]
    fn cookies_countries_and_parameters() {
        let cookies = HeaderValue::from_static("a=1; is_beta=yes");
        let client = ClientContext {
            query: Some("id=7&x&%61=%62&up=a%2F..%2fb&down=..c/.d"),
            cookies: Some(&cookies),
            country: Some("us"),
            ..ClientContext::default()
        };
        for (condition, expected) in [
            (Condition::Cookie(vec!["is_beta".into()]), true),
            (Condition::Cookie(vec!["beta".into()]), false),
            (Condition::Country(vec!["ca".into(), "us".into()]), true),
            (Condition::Country(vec!["ca".into()]), false),
            (Condition::Parameter("id".into(), "7".into()), true),
            (Condition::Parameter("id".into(), "8".into()), false),
            (Condition::Parameter("x".into(), "".into()), true),
            (Condition::NamedParameter("id".into()), true),
            (Condition::NamedParameter("y".into()), false),
            (Condition::Parameter("a".into(), "b".into()), true),
            (Condition::Parameter("%61".into(), "b".into()), true),
            (Condition::Parameter("a".into(), "c".into()), false),
            (Condition::NamedParameter("up".into()), false),
            (Condition::NamedParameter("down".into()), true),
        ] {
            assert_eq!(holds(&condition, &client).0, expected, "{condition:?}");
            assert!(
                !holds(&condition, &ClientContext::default()).0,
                "{condition:?}"
            );
        }
    }
}
