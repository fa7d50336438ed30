//! Rule lines: a text split into lines and words, with their places.

use super::diagnostic::Position;

/// A word of a line, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) at: Position,
}

/// A line that is not empty and no comment, without the white space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) text: &'a str,
    pub(super) at: Position,
}

/// The lines of a rule file. A line that starts with `#` is a comment.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    (1..).zip(text.split('\n')).filter_map(|(line, whole)| {
        let text = whole.trim_start_matches(is_space);
        let before = &whole[..whole.len() - text.len()];
        let at = Position {
            line,
            column: column(before),
        };
        let text = text.trim_end_matches(is_space);
        let counts = !text.is_empty() && !text.starts_with('#');
        counts.then_some(Line { text, at })
    })
}

/// The words of a line. A word that starts with `#` begins a comment.
pub(super) fn words(line: Line<'_>) -> Vec<Word<'_>> {
    let (mut words, mut at) = (Vec::new(), 0);
    for text in line.text.split(is_space) {
        if text.starts_with('#') {
            break;
        }
        if !text.is_empty() {
            words.push(Word {
                text,
                at: line.position(at),
            });
        }
        let rest = &line.text[at + text.len()..];
        at += text.len() + rest.chars().next().map_or(0, char::len_utf8);
    }
    words
}

impl<'a> Line<'a> {
    /// The place of a byte of the line.
    pub(super) fn position(&self, offset: usize) -> Position {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Position {
            line: self.at.line,
            column: self.at.column + column(before) - 1,
        }
    }

    /// The text before a comment that follows white space.
    pub(super) fn without_comment(&self) -> &'a str {
        let is_comment = |(at, _): &(usize, &str)| self.text[..*at].ends_with(is_space);
        let comment = self.text.match_indices('#').find(is_comment);
        let text = comment.map_or(self.text, |(at, _)| &self.text[..at]);
        text.trim_end_matches(is_space)
    }
}

fn column(before: &str) -> u32 {
    before.chars().count() as u32 + 1
}

/// White space of any kind, also a byte order mark inside a text that was put together.
fn is_space(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_places() {
        let text = "# c\r\n\u{a0}/ü  /new\t301 # more\n\n/b /c#d";
        let found: Vec<_> = lines(text)
            .flat_map(words)
            .map(|word| (word.text, word.at.line, word.at.column))
            .collect();
        let expected = [
            ("/ü", 2, 2),
            ("/new", 2, 6),
            ("301", 2, 11),
            ("/b", 4, 1),
            ("/c#d", 4, 4),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn without_comment_keeps_a_number_sign_inside_a_word() {
        for (text, expected) in [("/a # b", "/a"), ("/a#b", "/a#b"), ("/a b", "/a b")] {
            let line = lines(text).next().unwrap();
            assert_eq!(line.without_comment(), expected, "{text}");
        }
    }
}
