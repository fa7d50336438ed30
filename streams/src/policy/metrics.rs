//! Metrics: a data point for each append, each read, and each session of an event reader.
//! Cloudflare's Analytics Engine aggregates them.

use crate::StreamName;
use crate::http::{LiveMode, StreamRequest};

/// A data point: one operation on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPoint {
    stream: String,
    operation: Operation,
    /// Bytes of the body, of the request or the response.
    pub bytes: u64,
    /// The status of the response.
    pub status: u16,
    /// The duration in milliseconds.
    pub millis: u64,
}

/// A counted operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An append, successful or not.
    Append,
    /// A read or a long poll.
    Read,
    /// The session of an event reader.
    Live,
}

impl Operation {
    /// The operation of a request. `None` if it is not counted, or not over when the response
    /// begins.
    pub const fn of(request: &StreamRequest) -> Option<Self> {
        match request {
            StreamRequest::Append(_) => Some(Self::Append),
            StreamRequest::Get(get) => match get.live {
                LiveMode::CatchUp | LiveMode::LongPoll => Some(Self::Read),
                LiveMode::Sse => None,
            },
            StreamRequest::Create(_) | StreamRequest::Delete | StreamRequest::Head => None,
        }
    }
}

/// Longest index of Analytics Engine in bytes.
const INDEX_BYTES_MAX: usize = 96;

impl DataPoint {
    /// A data point of an operation on a stream.
    pub fn new(stream: &StreamName, operation: Operation) -> Self {
        Self {
            stream: stream.as_str().to_owned(),
            operation,
            bytes: 0,
            status: 200,
            millis: 0,
        }
    }

    /// The sampling key: the stream's name, truncated.
    pub fn index(&self) -> &str {
        self.stream.get(..INDEX_BYTES_MAX).unwrap_or(&self.stream)
    }

    /// The stream's name and the operation.
    pub fn blobs(&self) -> [&str; 2] {
        let operation = match self.operation {
            Operation::Append => "append",
            Operation::Read => "read",
            Operation::Live => "live",
        };
        [&self.stream, operation]
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
    fn data_point_truncates_the_index() {
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
    fn operation_of_counts_appends_reads_and_long_polls() {
        let operation = |method: &str, query: &str| {
            let request = http::Request::builder().method(method);
            let request = request
                .uri(format!("/v1/stream/a{query}"))
                .body(())
                .unwrap();
            Operation::of(&StreamRequest::parse(&request.into_parts().0).unwrap())
        };
        assert_eq!(operation("POST", ""), Some(Operation::Append));
        assert_eq!(operation("GET", "?offset=-1"), Some(Operation::Read));
        assert_eq!(
            operation("GET", "?offset=-1&live=long-poll"),
            Some(Operation::Read)
        );
        assert_eq!(operation("GET", "?offset=-1&live=sse"), None);
        assert_eq!(operation("HEAD", ""), None);
        assert_eq!(operation("PUT", ""), None);
    }
}
