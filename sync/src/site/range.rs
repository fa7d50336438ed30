//! Single byte ranges (RFC 9110, section 14). Ranges apply to the uncompressed bytes, never to a
//! coding of them.

use http::header::{self, HeaderMap};

/// A `Range` header with one range. The server answers several ranges with the whole file, as
/// section 14.2 allows: clients that ask for several are rare, and hostile ones ask for thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestedRange {
    /// `bytes=first-` or `bytes=first-last`.
    From { first: u64, last: Option<u64> },
    /// `bytes=-count`.
    Last(u64),
}

/// A range within a blob: `len` bytes, at least one, from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteRange {
    pub(super) first: u64,
    pub(super) len: u64,
}

/// The range has no byte of the blob: 416.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsatisfiable;

impl RequestedRange {
    /// Reads the header; `None` if it is absent or ignored.
    pub(super) fn parse(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(header::RANGE).iter();
        let line = lines.next()?.to_str().ok()?;
        let (unit, ranges) = line.split_once('=')?;
        let single = lines.next().is_none() && unit.trim().eq_ignore_ascii_case("bytes");
        let mut ranges = ranges.split(',').map(str::trim).filter(|r| !r.is_empty());
        let range = ranges.next().filter(|_| single)?;
        if ranges.next().is_some() {
            return None;
        }
        let (first, last) = range.split_once('-')?;
        match (first, last) {
            ("", count) => position(count).map(Self::Last),
            (first, "") => Some(Self::From {
                first: position(first)?,
                last: None,
            }),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                let last = Some(last);
                (Some(first) <= last).then_some(Self::From { first, last })
            }
        }
    }

    /// Cuts the range out of `size` bytes. `Ok(None)` means the whole file: no `Content-Range` can
    /// express the last bytes of an empty one.
    pub(super) fn of(self, size: u64) -> Result<Option<ByteRange>, Unsatisfiable> {
        match self {
            Self::Last(0) => Err(Unsatisfiable),
            Self::Last(_) if size == 0 => Ok(None),
            Self::Last(count) => {
                let len = count.min(size);
                let first = size - len;
                Ok(Some(ByteRange { first, len }))
            }
            Self::From { first, .. } if first >= size => Err(Unsatisfiable),
            Self::From { first, last } => {
                let last = last.unwrap_or(u64::MAX).min(size - 1);
                let len = last - first + 1;
                Ok(Some(ByteRange { first, len }))
            }
        }
    }
}

/// Parses a number of any length; one past 2^64 is past the end of every blob.
fn position(digits: &str) -> Option<u64> {
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Option<RequestedRange> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(line).unwrap());
        RequestedRange::parse(&headers)
    }

    fn cut(line: &str, size: u64) -> String {
        match parse(line).map(|range| range.of(size)) {
            None | Some(Ok(None)) => "all".into(),
            Some(Err(Unsatisfiable)) => "416".into(),
            Some(Ok(Some(ByteRange { first, len }))) => format!("{first}+{len}"),
        }
    }

    #[test]
    fn range_of_ten_bytes() {
        for (line, expected) in [
            ("bytes=0-", "0+10"),
            ("bytes=0-0", "0+1"),
            ("bytes=2-4", "2+3"),
            ("bytes=9-9", "9+1"),
            ("bytes=5-99", "5+5"),
            ("bytes=5-99999999999999999999999", "5+5"),
            ("bytes=-3", "7+3"),
            ("bytes=-10", "0+10"),
            ("bytes=-99", "0+10"),
            ("BYTES=2-4", "2+3"),
            ("bytes= 2-4 ,", "2+3"),
            ("bytes=-0", "416"),
            ("bytes=10-", "416"),
            ("bytes=10-20", "416"),
            ("bytes=99999999999999999999999-", "416"),
            ("bytes=5-1", "all"),
            ("bytes=0-1,3-4", "all"),
            ("bytes=", "all"),
            ("bytes=-", "all"),
            ("bytes=--1", "all"),
            ("bytes=1", "all"),
            ("bytes=a-b", "all"),
            ("bytes=+1-2", "all"),
            ("bytes=1 - 2", "all"),
            ("bytes 1-2", "all"),
            ("items=1-2", "all"),
            ("", "all"),
        ] {
            assert_eq!(cut(line, 10), expected, "{line}");
        }
        let thousands = format!("bytes={}", "0-1,".repeat(10_000));
        assert_eq!(cut(&thousands, 10), "all");
    }

    #[test]
    fn range_of_an_empty_file() {
        for (line, expected) in [
            ("bytes=0-", "416"),
            ("bytes=-1", "all"),
            ("bytes=-0", "416"),
        ] {
            assert_eq!(cut(line, 0), expected, "{line}");
        }
    }

    #[test]
    fn range_given_twice_is_ignored() {
        let mut headers = HeaderMap::new();
        headers.append(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.append(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(RequestedRange::parse(&headers), None);
    }

    proptest! {
        #[test]
        fn range_lies_within(line in "bytes=[0-9]{0,3}-[0-9]{0,3}", size in 0u64..300) {
            if let Some(Ok(Some(range))) = parse(&line).map(|range| range.of(size)) {
                prop_assert!(range.len > 0);
                prop_assert!(range.first + range.len <= size);
            }
        }
    }
}
