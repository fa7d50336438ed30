//! Which coding a client takes: `Accept-Encoding` (RFC 9110, section 12.5.3).
//!
//! Blobs lie at rest as zstd frames or as they are, so there is one question only: may the frame be
//! sent as it lies?

use crate::location::Codec;

/// How the bytes of a body are coded on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Identity,
    /// `Content-Encoding: zstd` (RFC 9659): the stored bytes unchanged.
    Zstd,
}

impl Coding {
    /// What to send a client with this `Accept-Encoding`. Without one, the bytes as they are.
    pub(super) fn accepted(accept_encoding: Option<&str>) -> Self {
        if takes_coding(accept_encoding, "zstd") {
            Self::Zstd
        } else {
            Self::Identity
        }
    }
}

/// Whether a client with this `Accept-Encoding` is to be sent this coding rather than the bytes as
/// they are.
pub fn takes_coding(accept_encoding: Option<&str>, coding: &str) -> bool {
    let mut coded = None;
    let mut any = None;
    let mut identity = None;
    for element in accept_encoding.unwrap_or_default().split(',') {
        let (name, weight) = weighted(element);
        if name.eq_ignore_ascii_case(coding) {
            coded = Some(weight);
        } else if name.eq_ignore_ascii_case("identity") {
            identity = Some(weight);
        } else if name == "*" {
            any = Some(weight);
        }
    }
    let coded = coded.or(any).unwrap_or(0);
    coded > 0 && coded >= identity.unwrap_or(0)
}

/// Whether bytes at rest are what a client that takes zstd can be sent.
pub(super) const fn is_zstd_at_rest(codec: Codec) -> bool {
    match codec {
        Codec::Zstd | Codec::ZstdParts => true,
        Codec::Stored | Codec::Parts => false,
    }
}

/// A coding and its weight in thousandths. A weight that is none refuses the coding: the bytes as
/// they are can be read by everyone.
fn weighted(element: &str) -> (&str, u16) {
    let (name, parameters) = element.split_once(';').unwrap_or((element, "q=1"));
    let value = parameters.trim().split_once('=');
    let value = value.filter(|(key, _)| key.eq_ignore_ascii_case("q"));
    let weight = value.and_then(|(_, value)| thousandths(value));
    (name.trim(), weight.unwrap_or(0))
}

fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.bytes().all(|b| b.is_ascii_digit()) && fraction.len() <= 3;
    let fraction = format!("{fraction:0<3}").parse::<u16>().ok();
    match (whole, fraction.filter(|_| digits)?) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_is_sent_to_those_who_take_it() {
        for (header, expected) in [
            ("zstd", Coding::Zstd),
            ("gzip, deflate, br, zstd", Coding::Zstd),
            ("gzip,ZSTD;q=0.5", Coding::Zstd),
            ("zstd ; q=0.001", Coding::Zstd),
            ("zstd;q=1.000", Coding::Zstd),
            ("*", Coding::Zstd),
            ("*;q=0.1", Coding::Zstd),
            ("identity;q=0.5, zstd", Coding::Zstd),
            ("", Coding::Identity),
            ("gzip, br", Coding::Identity),
            ("zstd;q=0", Coding::Identity),
            ("zstd;q=0.000, *", Coding::Identity),
            ("*;q=0", Coding::Identity),
            ("identity, zstd;q=0.5", Coding::Identity),
            ("zstd;q=2", Coding::Identity),
            ("zstd;q=1.001", Coding::Identity),
            ("zstd;q=0.0001", Coding::Identity),
            ("zstd;q=-1", Coding::Identity),
            ("zstd;q=x", Coding::Identity),
            ("zstd;level=3", Coding::Identity),
            ("xzstd", Coding::Identity),
            (";;;,,,=", Coding::Identity),
        ] {
            assert_eq!(Coding::accepted(Some(header)), expected, "{header:?}");
        }
        assert_eq!(Coding::accepted(None), Coding::Identity);
    }
}
