//! JSON messages as text: validated once, split at their ends, and never serialised again.
//!
//! The stored form of messages is a run: each message is followed by a comma. So two runs
//! concatenate to a run, and a response is a run between brackets, without its last comma.

use serde::de::IgnoredAny;

/// A run of messages, each followed by a comma.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageRun {
    pub(super) text: Vec<u8>,
    /// The number of messages.
    pub(super) count: u64,
}

/// Parses a body: the elements of an array are messages, any other value is one message. `Err` is
/// the reason why the body is not JSON.
pub(super) fn flatten(body: &[u8]) -> Result<MessageRun, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8".to_owned())?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    let body = body.trim_ascii();
    let inner = body
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    let mut run = MessageRun {
        text: Vec::with_capacity(body.len() + 1),
        count: 0,
    };
    match inner {
        Some(inner) if inner.trim_ascii().is_empty() => {}
        Some(inner) => Messages(inner).for_each(|message| run.push(message)),
        None => run.push(body),
    }
    Ok(run)
}

impl MessageRun {
    fn push(&mut self, message: &[u8]) {
        self.text.extend_from_slice(message.trim_ascii());
        self.text.push(b',');
        self.count += 1;
    }
}

/// Iterates over the messages of a valid run, without their commas.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = message_end(self.0);
        let (message, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..).unwrap_or_default();
        Some(message)
    }
}

/// The length of the first `count` messages, including their commas.
pub(super) fn bytes_of(run: &[u8], count: u64) -> usize {
    let mut messages = Messages(run);
    for _ in 0..count {
        if messages.next().is_none() {
            break;
        }
    }
    run.len() - messages.0.len()
}

/// The index of the comma after the first message, or the end.
fn message_end(run: &[u8]) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(byte) = run.get(at) {
        match byte {
            b'"' => at = string_end(run, at + 1),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    run.len()
}

/// The index of the quote that ends the string whose first character is at `at`.
fn string_end(run: &[u8], mut at: usize) -> usize {
    while let Some(byte) = run.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    run.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\PC\"\\\\,\\[\\]{}]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[a\"\\\\,]{0,3}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn flatten_yields_the_elements_of_an_array(
            values in proptest::collection::vec(value(), 0..8), pretty: bool
        ) {
            let array = Value::from(values.clone());
            let body = if pretty {
                format!(" {array:#}\r\n")
            } else {
                array.to_string()
            };
            let run = flatten(body.as_bytes()).unwrap();
            prop_assert_eq!(run.count, values.len() as u64);
            let back: Vec<Value> = Messages(&run.text)
                .map(|message| serde_json::from_slice(message).unwrap())
                .collect();
            prop_assert_eq!(&back, &values);
            for count in 0..=run.count {
                let head = &run.text[..bytes_of(&run.text, count)];
                prop_assert_eq!(Messages(head).count() as u64, count);
            }
        }

        #[test]
        fn flatten_accepts_only_valid_json(body in proptest::collection::vec(any::<u8>(), 0..32)) {
            if let Ok(run) = flatten(&body) {
                prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
                prop_assert_eq!(Messages(&run.text).count() as u64, run.count);
            }
        }
    }

    #[test]
    fn flatten_keeps_text_and_splits_one_level() {
        for (body, expected) in [
            ("1", Some("1,")),
            (" {\"a\": [1, 2]} ", Some("{\"a\": [1, 2]},")),
            ("[1, 2 ,3]", Some("1,2,3,")),
            ("[[1],[2,3]]", Some("[1],[2,3],")),
            ("[\"],\\\"\", 2]", Some("\"],\\\"\",2,")),
            ("[ ]", Some("")),
            ("\"[\"", Some("\"[\",")),
            ("", None),
            ("[1,]", None),
            ("1 2", None),
            ("{", None),
        ] {
            let text = flatten(body.as_bytes()).ok().map(|run| run.text);
            assert_eq!(text.as_deref(), expected.map(str::as_bytes), "{body}");
        }
        assert!(flatten(b"\"\xff\"").is_err());
        let deep = "[".repeat(100_000);
        assert!(flatten(deep.as_bytes()).is_err());
    }
}
