//! Live pages: the messages of a page to `/_events`, and the injected script.

use bytes::Bytes;
use pmx_sync::live::{ClientMessage, Served, inject};

/// A message of a page is parsed or refused.
pub(crate) fn events_message(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _refused = ClientMessage::parse(text);
    }
}

/// The injection adds the script to a page at one place, and removes nothing.
pub(crate) fn injection(bytes: &[u8]) {
    let page = Bytes::copy_from_slice(bytes);
    for is_missing in [false, true] {
        let with = inject(
            &page,
            Served {
                deploy: 7,
                is_missing,
                shown: None,
            },
        );
        let added = with.len().checked_sub(page.len());
        let added = added.expect("a page becomes no shorter");
        let same = page
            .iter()
            .zip(with.iter())
            .take_while(|(one, other)| one == other);
        // The added bytes may begin like the bytes after them.
        let at = same.count();
        let is_page = |at: usize| with[..at] == page[..at] && with[at + added..] == page[at..];
        assert!((0..=at).rev().any(is_page), "a page is not its own");
    }
}
