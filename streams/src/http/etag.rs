//! Entity tags: generation, range, and whether more messages follow.

use http::HeaderMap;
use http::header::IF_NONE_MATCH;
use pmx_core::limits::ETAGS_MAX;

use crate::{Offset, Page, StreamProperties};

/// The `If-None-Match` header: representations that the reader has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfNoneMatch {
    /// Any representation (`*`).
    Any,
    /// These tags, compared weakly (RFC 9110, section 13.1.2).
    These(Vec<String>),
}

impl IfNoneMatch {
    /// Parses a request's headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(IF_NONE_MATCH).iter();
        let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        if texts.iter().any(|text| text.trim() == "*") {
            return Self::Any;
        }
        let tags = texts.iter().flat_map(|text| tags(text)).take(ETAGS_MAX);
        Self::These(tags.map(str::to_owned).collect())
    }

    /// Whether the reader has the representation with this tag.
    pub fn has(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|known| known == tag),
        }
    }
}

/// The tag of a page. It changes when another page follows, and when the stream is closed at the
/// page's end, although no byte differs. A cached response has headers about both, and a 304 would
/// never correct them.
pub(super) fn of_page(page: &Page) -> String {
    let after = match (page.is_up_to_date(), page.is_at_end()) {
        (_, true) => After::Nothing,
        (true, false) => After::NothingYet,
        (false, false) => After::More,
    };
    tag(&page.view.generation, page.start, page.end, after)
}

/// What follows a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    NothingYet,
    More,
}

/// The tag of the gzip representation.
pub(super) fn in_gzip(tag: &str) -> String {
    format!("{}:g\"", tag.trim_end_matches('"'))
}

/// The tag of the whole stream.
pub(super) fn of_view(view: &StreamProperties) -> String {
    let after = if view.closed {
        After::Nothing
    } else {
        After::NothingYet
    };
    tag(&view.generation, Offset::ZERO, view.next, after)
}

fn tag(generation: &str, start: Offset, end: Offset, after: After) -> String {
    let after = match after {
        After::Nothing => ":c",
        After::NothingYet => "",
        After::More => ":m",
    };
    let (start, end) = (start.position(), end.position());
    format!("\"{generation}:{start}:{end}{after}\"")
}

/// The tags of a list, with their quotes. The server's tags contain no quote and no comma.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|tag| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_compares_lists_weakly() {
        for (values, expected) in [
            (&["\"a:0:1\""][..], true),
            (&["W/\"a:0:1\""], true),
            (&["\"x\", \"a:0:1\""], true),
            (&["\"x\"", "\"y\" ,W/\"a:0:1\" "], true),
            (&["*"], true),
            (&[" * "], true),
            (&["a:0:1"], false),
            (&["\"a:0:1:c\""], false),
            (&["\"*\""], false),
            (&[""], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_NONE_MATCH, value.parse().unwrap());
            }
            let found = IfNoneMatch::of(&headers).has("\"a:0:1\"");
            assert_eq!(found, expected, "{values:?}");
        }
    }
}
