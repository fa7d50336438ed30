//! Suggestions ("did you mean"): the most similar of a few words.

/// The word with the fewest edits, if they are few enough for a typing error.
pub(crate) fn suggest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let scored = words
        .iter()
        .map(|known| (strsim::levenshtein(word, known), *known));
    let (edits, known) = scored.min()?;
    (edits <= 1 + known.len() / 4).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggest_recognises_slips_and_no_other_words() {
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
            assert_eq!(suggest(word, &words), expected, "{word}");
        }
    }
}
