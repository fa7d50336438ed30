//! Content coding negotiation: `Accept-Encoding` (RFC 9110, section 12.5.3).
//!
//! Blobs are stored as zstd frames or uncompressed, so there are two questions. May the server send
//! the stored frame, and if not, may it send the uncompressed bytes? The host, or an edge in front
//! of it, applies other codings.

use crate::location::Codec;

/// Content coding of a body on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Uncompressed.
    Identity,
    /// `Content-Encoding: zstd` (RFC 9659): the stored bytes unchanged.
    Zstd,
}

/// Content codings that a client's `Accept-Encoding` admits for a site's blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Whether the client prefers a stored zstd frame.
    zstd: bool,
    /// Whether the client accepts uncompressed bytes.
    identity: bool,
    /// Whether the client accepts a coding that the host or an edge applies to uncompressed bytes.
    on_the_way: bool,
}

impl Accepted {
    /// Parses the header. A client without one accepts anything, and gets uncompressed bytes.
    pub fn parse(accept_encoding: Option<&str>) -> Self {
        let takes = |coding| takes_coding(accept_encoding, coding);
        Self {
            zstd: takes("zstd"),
            identity: Weights::of(accept_encoding, "identity").identity_weight() > 0,
            on_the_way: ["gzip", "x-gzip", "br", "deflate"].into_iter().any(takes),
        }
    }

    /// The coding of a blob with or without a stored frame; `None` if the client accepts no
    /// available one.
    pub const fn coding(self, has_frame: bool) -> Option<Coding> {
        match (has_frame && self.zstd, self.identity || self.on_the_way) {
            (true, _) => Some(Coding::Zstd),
            (false, true) => Some(Coding::Identity),
            (false, false) => None,
        }
    }

    /// Whether the client accepts uncompressed bytes, of which the server may send a range.
    pub const fn takes_identity(self) -> bool {
        self.identity
    }
}

/// Whether a client with this `Accept-Encoding` should get this coding rather than uncompressed
/// bytes.
///
/// `*` stands for any coding, but does not show that the client can read this one. It selects a
/// coding only if the client refuses uncompressed bytes.
pub fn takes_coding(accept_encoding: Option<&str>, coding: &str) -> bool {
    let weights = Weights::of(accept_encoding, coding);
    let identity = weights.identity_weight();
    match weights.coded {
        Some(coded) => coded > 0 && coded >= weights.identity.unwrap_or(0),
        None => identity == 0 && weights.any.unwrap_or(0) > 0,
    }
}

/// The weights of a header for one coding and for its alternatives, in thousandths.
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

    /// Uncompressed bytes may be sent unless `identity;q=0` refuses them, or `*;q=0` does without
    /// an entry for `identity`.
    fn identity_weight(&self) -> u16 {
        self.identity.or(self.any).unwrap_or(1)
    }
}

/// Whether stored bytes can be sent unchanged to a client that accepts zstd.
pub const fn is_stored_as_zstd(codec: Codec) -> bool {
    match codec {
        Codec::Zstd | Codec::ZstdParts => true,
        Codec::Stored | Codec::Parts => false,
    }
}

/// A coding and its weight in thousandths. An invalid weight refuses the coding, because every
/// client can read uncompressed bytes.
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
            // Any coding, but none that the client is known to read.
            ("*", identity, identity),
            ("*;q=0.1", identity, identity),
            ("zstd;q=0.000, *", identity, identity),
            ("gzip, *;q=0.5", identity, identity),
            // The client refuses uncompressed bytes.
            ("*, identity;q=0", zstd, identity),
            ("identity;q=0, *;q=0.5", zstd, identity),
            ("zstd, identity;q=0", zstd, None),
            ("zstd, *;q=0", zstd, None),
            ("identity;q=0", None, None),
            ("*;q=0", None, None),
            ("zstd;q=0, identity;q=0", None, None),
            // The client refuses uncompressed bytes, but a host or an edge compresses them.
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
