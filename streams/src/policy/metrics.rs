//! Metrics: a data point for each append, each read, and each reader of events when it leaves.
//! Cloudflare's Analytics Engine adds them up.

use crate::StreamName;
use crate::http::{Call, Live};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPoint {
    stream: String,
    what: Operation,
    /// Bytes of the body that came or went.
    pub bytes: u64,
    /// The status of the answer.
    pub status: u16,
    /// How long it took.
    pub millis: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Something was appended, or was to be.
    Append,
    /// Something was read, or waited for.
    Read,
    /// A reader of events was there.
    Live,
}

impl Operation {
    /// What a request is; nothing, if it is not counted or not over when it is answered.
    pub const fn of(call: &Call) -> Option<Self> {
        match call {
            Call::Append(_) => Some(Self::Append),
            Call::Get(get) => match get.live {
                Live::CatchUp | Live::LongPoll => Some(Self::Read),
                Live::Sse => None,
            },
            Call::Create(_) | Call::Delete | Call::Head => None,
        }
    }
}

/// Bytes of an index that Analytics Engine takes.
const INDEX_BYTES_MAX: usize = 96;

impl DataPoint {
    /// Something that happened to a stream.
    pub fn new(stream: &StreamName, what: Operation) -> Self {
        Self {
            stream: stream.as_str().to_owned(),
            what,
            bytes: 0,
            status: 200,
            millis: 0,
        }
    }

    /// What samples are taken by: as much of the stream's name as fits.
    pub fn index(&self) -> &str {
        self.stream.get(..INDEX_BYTES_MAX).unwrap_or(&self.stream)
    }

    /// The stream's name, and what happened.
    pub fn blobs(&self) -> [&str; 2] {
        let what = match self.what {
            Operation::Append => "append",
            Operation::Read => "read",
            Operation::Live => "live",
        };
        [&self.stream, what]
    }

    /// Bytes, status, milliseconds.
    pub fn doubles(&self) -> [f64; 3] {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let number = |count: u64| count as f64;
        [
            number(self.bytes),
            f64::from(self.status),
            number(self.millis),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_fits() {
        let name = "n".repeat(1_024);
        let mut point = DataPoint::new(&StreamName::parse(&name).unwrap(), Operation::Append);
        (point.bytes, point.status, point.millis) = (5, 204, 7);
        assert_eq!(point.index().len(), 96);
        assert_eq!(point.blobs(), [name.as_str(), "append"]);
        let expected = [5.0, 204.0, 7.0].map(f64::to_bits);
        assert_eq!(point.doubles().map(f64::to_bits), expected);
        let short = DataPoint::new(&StreamName::parse("a").unwrap(), Operation::Live);
        assert_eq!((short.index(), short.blobs()), ("a", ["a", "live"]));
    }

    #[test]
    fn what_is_counted() {
        let what = |method: &str, query: &str| {
            let request = http::Request::builder().method(method);
            let request = request
                .uri(format!("/v1/stream/a{query}"))
                .body(())
                .unwrap();
            Operation::of(&Call::parse(&request.into_parts().0).unwrap())
        };
        assert_eq!(what("POST", ""), Some(Operation::Append));
        assert_eq!(what("GET", "?offset=-1"), Some(Operation::Read));
        assert_eq!(
            what("GET", "?offset=-1&live=long-poll"),
            Some(Operation::Read)
        );
        assert_eq!(what("GET", "?offset=-1&live=sse"), None);
        assert_eq!(what("HEAD", ""), None);
        assert_eq!(what("PUT", ""), None);
    }
}
