//! Content coding negotiation: `Accept-Encoding` (RFC 9110, section 12.5.3).
//!
//! Blobs lie at rest as zstd frames or as they are, so there are two questions: may the frame be
//! sent as it lies, and if not, may the bytes be sent as they are? Other codings are put around
//! bytes by the host or an edge before it.

use crate::location::Codec;

/// How the bytes of a body are coded on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As they are.
    Identity,
    /// `Content-Encoding: zstd` (RFC 9659): the stored bytes unchanged.
    Zstd,
}

/// Content codings that a client's `Accept-Encoding` admits for a site's blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Whether a frame at rest is what the client prefers.
    zstd: bool,
    /// Whether it takes bytes as they are.
    identity: bool,
    /// Whether it takes a coding that the host or an edge puts around bytes as they are.
    on_the_way: bool,
}

impl Accepted {
    /// Reads the header. Without one a client takes anything; it gets the bytes as they are.
    pub fn parse(accept_encoding: Option<&str>) -> Self {
        let takes = |coding| takes_coding(accept_encoding, coding);
        Self {
            zstd: takes("zstd"),
            identity: Weights::of(accept_encoding, "identity").identity_weight() > 0,
            on_the_way: ["gzip", "x-gzip", "br", "deflate"].into_iter().any(takes),
        }
    }

    /// The coding of a blob, of which there is a frame at rest or not; nothing if the client takes
    /// none that there is.
    pub const fn coding(self, has_frame: bool) -> Option<Coding> {
        match (has_frame && self.zstd, self.identity || self.on_the_way) {
            (true, _) => Some(Coding::Zstd),
            (false, true) => Some(Coding::Identity),
            (false, false) => None,
        }
    }

    /// Whether the client takes bytes as they are, of which a range may be sent.
    pub const fn takes_identity(self) -> bool {
        self.identity
    }
}

/// Whether a client with this `Accept-Encoding` is to be sent this coding rather than the bytes as
/// they are.
///
/// `*` stands for any coding, but names none that the client is known to read: it leads to a
/// coding only where the bytes as they are were refused.
pub fn takes_coding(accept_encoding: Option<&str>, coding: &str) -> bool {
    let weights = Weights::of(accept_encoding, coding);
    let identity = weights.identity_weight();
    match weights.coded {
        Some(coded) => coded > 0 && coded >= weights.identity.unwrap_or(0),
        None => identity == 0 && weights.any.unwrap_or(0) > 0,
    }
}

/// The weights that a header gives to one coding and to what else counts for it, in thousandths.
struct Weights {
    coded: Option<u16>,
    any: Option<u16>,
    identity: Option<u16>,
}

impl Weights {
    fn of(accept_encoding: Option<&str>, coding: &str) -> Self {
        let (mut coded, mut any, mut identity) = (None, None, None);
        for element in accept_encoding.unwrap_or_default().split(',') {
            let (name, weight) = weighted(element);
            if name.eq_ignore_ascii_case("identity") {
                identity = Some(weight);
            } else if name.eq_ignore_ascii_case(coding) {
                coded = Some(weight);
            } else if name == "*" {
                any = Some(weight);
            }
        }
        Self {
            coded,
            any,
            identity,
        }
    }

    /// Bytes as they are may be sent unless `identity;q=0` refuses them, or `*;q=0` does without
    /// an entry for `identity`.
    fn identity_weight(&self) -> u16 {
        self.identity.or(self.any).unwrap_or(1)
    }
}

/// Whether bytes at rest are what a client that takes zstd can be sent.
pub const fn is_zstd_at_rest(codec: Codec) -> bool {
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
    fn coding_follows_rfc_9110() {
        let (zstd, identity) = (Some(Coding::Zstd), Some(Coding::Identity));
        for (header, framed, plain) in [
            ("zstd", zstd, identity),
            ("gzip, deflate, br, zstd", zstd, identity),
            ("gzip,ZSTD;q=0.5", zstd, identity),
            ("zstd ; q=0.001", zstd, identity),
            ("zstd;q=1.000", zstd, identity),
            ("identity;q=0.5, zstd", zstd, identity),
            ("", identity, identity),
            ("gzip, br", identity, identity),
            ("zstd;q=0", identity, identity),
            ("identity, zstd;q=0.5", identity, identity),
            ("zstd;q=2", identity, identity),
            ("zstd;q=1.001", identity, identity),
            ("zstd;q=0.0001", identity, identity),
            ("zstd;q=-1", identity, identity),
            ("zstd;q=x", identity, identity),
            ("zstd;level=3", identity, identity),
            ("xzstd", identity, identity),
            (";;;,,,=", identity, identity),
            // Any coding, but none that is known to be read.
            ("*", identity, identity),
            ("*;q=0.1", identity, identity),
            ("zstd;q=0.000, *", identity, identity),
            ("gzip, *;q=0.5", identity, identity),
            // The bytes as they are are refused.
            ("*, identity;q=0", zstd, identity),
            ("identity;q=0, *;q=0.5", zstd, identity),
            ("zstd, identity;q=0", zstd, None),
            ("zstd, *;q=0", zstd, None),
            ("identity;q=0", None, None),
            ("*;q=0", None, None),
            ("zstd;q=0, identity;q=0", None, None),
            // They are refused, but a host or an edge codes them.
            ("gzip, identity;q=0", identity, identity),
            ("br;q=0.1, *;q=0", identity, identity),
            ("*;q=0, identity", identity, identity),
            ("*;q=0, identity;q=0.1, zstd;q=0.1", zstd, identity),
        ] {
            let accepted = Accepted::parse(Some(header));
            let codings = (accepted.coding(true), accepted.coding(false));
            assert_eq!(codings, (framed, plain), "{header:?}");
        }
        assert_eq!(Accepted::parse(None).coding(true), identity);
    }
}
