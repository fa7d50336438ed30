//! Bytes inside JSON: a command with a small pack or a few nodes crosses to its space as text.
//!
//! `#[serde(with = "base64")]` on a field writes its bytes in base64 (RFC 4648, section 4),
//! strictly padded; `base64::list` does so for each of many.

use std::borrow::Cow;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = Text::deserialize(deserializer)?;
    let bytes = BASE64.decode(text.0.as_bytes()).map_err(Error::custom)?;
    Ok(bytes.into())
}

/// Text that is not copied where it need not be.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// For `Vec<Bytes>`.
pub(crate) mod list {
    use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        list: &[Bytes],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().cloned().map(One))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Bytes>, D::Error> {
        let list = Vec::<One>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|one| one.0).collect())
    }

    #[derive(Serialize, Deserialize)]
    struct One(#[serde(with = "super")] Bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Carrier {
        #[serde(with = "super")]
        one: Bytes,
        #[serde(with = "super::list")]
        many: Vec<Bytes>,
    }

    #[test]
    fn bytes_are_text() {
        let carrier = Carrier {
            one: Bytes::from_static(b"\0\xff"),
            many: vec![Bytes::from_static(b"pmx"), Bytes::new()],
        };
        let text = r#"{"one":"AP8=","many":["cG14",""]}"#;
        assert_eq!(serde_json::to_string(&carrier).unwrap(), text);
        assert_eq!(serde_json::from_str::<Carrier>(text).unwrap(), carrier);
        // An escape makes the text one that has to be copied.
        let escaped = text.replace('8', "\\u0038");
        assert_eq!(serde_json::from_str::<Carrier>(&escaped).unwrap(), carrier);
    }

    #[test]
    fn only_one_spelling_is_taken() {
        for bad in ["AP8", "AP9=", "AP8=\\n", "A-8=", "AP8= "] {
            let text = format!(r#"{{"one":"{bad}","many":[]}}"#);
            assert!(
                serde_json::from_str::<Carrier>(&text).is_err(),
                "{bad} was taken"
            );
        }
    }
}
