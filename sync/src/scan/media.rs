//! Media types of one scan: each distinct one is made once and shared.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::media::{Media, media_of_name};

/// The media types of one scan.
#[derive(Debug, Default)]
pub(super) struct MediaTypes {
    made: RwLock<BTreeMap<&'static str, Media>>,
}

impl MediaTypes {
    /// The media type of a file with this name. The server derives the charset of a text from its
    /// bytes.
    pub(super) fn of(&self, name: &str) -> Media {
        let essence = media_of_name(name);
        let known = self.made.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(media) = known.get(essence) {
            return media.clone();
        }
        drop(known);
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        let parse = || Media::parse(essence).unwrap_or_else(|_| Media::unknown());
        made.entry(essence).or_insert_with(parse).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_shared_and_have_no_charset() {
        let types = MediaTypes::default();
        for _ in 0..2 {
            assert_eq!(types.of("index.html").as_str(), "text/html");
            assert_eq!(
                types.of("no-extension").as_str(),
                "application/octet-stream"
            );
        }
    }
}
