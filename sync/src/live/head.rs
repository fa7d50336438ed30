//! Head insertion point: the place where a script does not change the tree of an HTML page.
//!
//! The HTML standard (section 13.2.6.4) skips white space, comments, a doctype and some end tags
//! before the element `head` begins. The insertion point is after all of these, and after the start
//! tag of `head` if the page has one. An element there becomes the head's first child, and the
//! parser is in the same state after it. So this module need not understand the rest of the page:
//! it never reads text of scripts, comments or attributes.
//!
//! The module cuts tokens as the standard's tokeniser does (section 13.2.5). It does not pass a
//! token without an end: the point is before it. If only a page's beginning is known, such a token
//! may end later, and the point is unknown.

/// Insertion point of the live script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InsertionPoint {
    /// Bytes before it.
    pub(super) at: usize,
    /// Whether the point is the same for every continuation of the page.
    pub(super) is_sure: bool,
}

/// The insertion point; `None` if the page's encoding is no superset of ASCII.
pub(super) fn insertion_point(page: &[u8]) -> Option<InsertionPoint> {
    if page.starts_with(&[0xfe, 0xff]) || page.starts_with(&[0xff, 0xfe]) {
        return None;
    }
    let mut at = 0;
    if page.starts_with(&[0xef, 0xbb, 0xbf]) {
        at = 3;
    }
    while let Some(token) = token(page.get(at..).unwrap_or_default()) {
        at += token.len;
        if token.kind != Kind::Before {
            return Some(InsertionPoint { at, is_sure: true });
        }
    }
    Some(InsertionPoint { at, is_sure: false })
}

/// A token before the head's content.
struct Token {
    kind: Kind,
    len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The start tag of `head`: the point follows it.
    Head,
    /// Any other token that the parser skips, or that only opens `html`.
    Before,
    /// The start of the head's content, or of content after the head: the point precedes it.
    Content,
}

/// The token at the beginning of a text; `None` if the text ends inside it.
fn token(text: &[u8]) -> Option<Token> {
    let before = |len| {
        Some(Token {
            kind: Kind::Before,
            len,
        })
    };
    let content = Some(Token {
        kind: Kind::Content,
        len: 0,
    });
    match text {
        [b'\t' | b'\n' | b'\x0c' | b'\r' | b' ', ..] => before(1),
        [b'<', b'!', b'-', b'-', rest @ ..] => before(4 + comment(rest)?),
        [b'<', b'/', b'>', ..] => before(3),
        [b'<', b'/', letter, ..] if letter.is_ascii_alphabetic() => {
            let (name, len) = tag(text.get(2..)?)?;
            let ends = [&b"head"[..], b"body", b"html", b"br"];
            let opens = ends.iter().any(|end| name.eq_ignore_ascii_case(end));
            if opens { content } else { before(2 + len) }
        }
        // Doctypes end with the first `>`, also within quotes. So do other declarations, processing
        // instructions and invalid end tags, which are comments.
        [b'<', b'!' | b'?', ..] | [b'<', b'/', _, ..] => before(through(text)?),
        [b'<', letter, ..] if letter.is_ascii_alphabetic() => {
            let (name, len) = tag(text.get(1..)?)?;
            let kind = if name.eq_ignore_ascii_case(b"head") {
                Kind::Head
            } else if name.eq_ignore_ascii_case(b"html") {
                Kind::Before
            } else {
                return content;
            };
            Some(Token { kind, len: 1 + len })
        }
        [] | [b'<'] | [b'<', b'/'] => None,
        _ => content,
    }
}

/// The length up to and including the first `>`.
fn through(text: &[u8]) -> Option<usize> {
    text.iter().position(|&b| b == b'>').map(|at| at + 1)
}

/// The length of a comment after its `<!--`.
fn comment(text: &[u8]) -> Option<usize> {
    if text.starts_with(b">") {
        return Some(1);
    }
    if text.starts_with(b"->") {
        return Some(2);
    }
    let ends = |end: &[u8]| {
        let at = text.windows(end.len()).position(|found| found == end);
        at.map(|at| at + end.len())
    };
    match (ends(b"-->"), ends(b"--!>")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The name of a tag, and its length after `<` or `</`.
fn tag(text: &[u8]) -> Option<(&[u8], usize)> {
    let is_end = |b: &u8| is_space(*b) || matches!(b, b'/' | b'>');
    let name = text.get(..text.iter().position(is_end)?)?;
    let mut at = name.len();
    loop {
        // Before an attribute's name.
        match *text.get(at)? {
            b'>' => return Some((name, at + 1)),
            b'/' => at += 1,
            b if is_space(b) => at += 1,
            _ => at = attribute(text, at)?,
        }
    }
}

/// The end of the attribute that begins at `at`.
fn attribute(text: &[u8], mut at: usize) -> Option<usize> {
    // A name may begin with `=`.
    at += 1;
    while !matches!(*text.get(at)?, b'=' | b'/' | b'>') && !is_space(*text.get(at)?) {
        at += 1;
    }
    let name_end = at;
    while is_space(*text.get(at)?) {
        at += 1;
    }
    if *text.get(at)? != b'=' {
        return Some(name_end);
    }
    at += 1;
    while is_space(*text.get(at)?) {
        at += 1;
    }
    let quote = *text.get(at)?;
    if matches!(quote, b'"' | b'\'') {
        let rest = text.get(at + 1..)?;
        let len = rest.iter().position(|&b| b == quote)?;
        return Some(at + 1 + len + 1);
    }
    while !is_space(*text.get(at)?) && *text.get(at)? != b'>' {
        at += 1;
    }
    Some(at)
}

const fn is_space(b: u8) -> bool {
    matches!(b, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insertion_point_is_behind_the_start_of_the_head() {
        // `|` marks the insertion point.
        for marked in [
            "|",
            "|x",
            " \n|text",
            "|<p>x",
            "|<body>x</body></html>",
            "<!doctype html>|<title>x",
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" 'x'>\n<html>\n<head>|\n<meta>",
            "<!doctype html><!-- <head> --><html lang=en><!--x--> <head class='a>b'>|<base href=/>",
            "<html a=\"<head>\" b='>' c=> <head\n/>|x",
            "<html a = \"x\" b=c/d / =e='>'>|<script>'</body>'</script>",
            "<!--><head>|",
            "<!---><head>|",
            "<!--a--!><head>|",
            "<!-- a -- > <head> -->|<p>",
            "<?xml version=\"1.0\"?><html>|<frameset>",
            "<!x><![CDATA[<head>|]]>",
            "</p a='>'></><//x><head>|</head>",
            "|</head>x",
            "|</br>",
            "<html>|<header>x",
            "|<headers>",
            "|<plaintext><head>",
            "|<template><head>",
            "|<!-- no end <head>",
            "<html>|<head a='x>",
            "|<!doctype html",
            "|<",
            "|< head>",
            "<head>|<head>",
            "\u{feff} <head>|",
        ] {
            let page = marked.replace('|', "");
            let place = insertion_point(page.as_bytes());
            assert_eq!(place.map(|place| place.at), marked.find('|'), "{marked}");
        }
    }

    #[test]
    fn insertion_point_that_is_sure_stays_however_the_page_goes_on() {
        let page = "\u{feff} \n<!DOCTYPE html><!--a--><!--b--!></p a='>'></><?x?>\
                    <html a=\"<head>\" b='>' c=d/e> <head f>|<title>x";
        let whole = page.replace('|', "");
        // After the byte order mark.
        for end in 3..=whole.len() {
            let start = &whole.as_bytes()[..end];
            let place = insertion_point(start).unwrap();
            if place.is_sure {
                assert_eq!(Some(place.at), page.find('|'), "{end}");
            }
            let is_known = Some(end) >= page.find('|');
            assert_eq!(place.is_sure, is_known, "{end}");
        }
        for (start, is_sure) in [
            ("", false),
            ("x", true),
            ("<", false),
            ("</", false),
            ("<!", false),
            ("<p", false),
            ("<p>", true),
            ("< ", true),
            ("</body>", true),
            ("<!-- no end <head>", false),
        ] {
            let place = insertion_point(start.as_bytes());
            assert_eq!(place, Some(InsertionPoint { at: 0, is_sure }), "{start}");
        }
    }

    #[test]
    fn insertion_point_needs_an_encoding_with_ascii() {
        for page in [&b"\xff\xfe<\0h\0"[..], b"\xfe\xff\0<\0h"] {
            assert_eq!(insertion_point(page), None);
        }
    }
}
