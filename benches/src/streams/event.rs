//! Event message: the content of every stream in the benches.

/// Bytes of a message.
const BYTES: usize = 190;

const NUMBER: &str = "{\"number\":";

/// The message with this number.
pub(crate) fn event(number: u64) -> String {
    let mut text = format!("{NUMBER}{number},\"text\":\"");
    let rest = BYTES - text.len() - 2;
    text.extend(std::iter::repeat_n('x', rest));
    text.push_str("\"}");
    text
}

/// The numbers of all messages in a text, in order.
pub(crate) fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split(NUMBER).skip(1).filter_map(|rest| {
        let (number, _) = rest.split_once(',')?;
        number.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_return() {
        let text = format!("[{},{}]", event(7), event(123_456));
        assert_eq!(text.len(), 2 * BYTES + 3);
        assert_eq!(numbers(&text).collect::<Vec<_>>(), [7, 123_456]);
    }
}
