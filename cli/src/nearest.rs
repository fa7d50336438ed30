//! "Did you mean": the nearest of a few words.

/// The word that is the fewest edits away, if that is few enough to be a slip.
pub(crate) fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let scored = words.iter().map(|known| (distance(word, known), *known));
    let (edits, known) = scored.min()?;
    (edits <= 1 + known.len() / 4).then_some(known)
}

/// How many insertions, removals and replacements lie between two words (Wagner and Fischer, "The
/// string-to-string correction problem", 1974).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let words = ["server", "space", "dir"];
        for (word, expected) in [
            ("sever", Some("server")),
            ("Server", Some("server")),
            ("spaces", Some("space")),
            ("dri", None),
            ("di", Some("dir")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &words), expected, "{word}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
