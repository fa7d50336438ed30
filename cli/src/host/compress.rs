//! Serve-time compression: gzip and brotli for clients that do not accept the stored zstd frames.
//!
//! The host compresses a blob once for each coding, and caches the result within bounds. A few
//! blocking threads do the work. While they are busy, a client gets the uncompressed bytes.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use pmx_core::code::Code;
use pmx_core::coding::takes_coding;
use pmx_core::problem::Problem;
use pmx_sync::bounded_cache::BoundedCache;
use pmx_sync::serve::{Body, BodyRange};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::response_body::{Backing, failure, far_turn, opened};

/// A content coding that the host applies on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AppliedCoding {
    Brotli,
    Gzip,
}

impl AppliedCoding {
    /// The smallest of the codings that the client names and accepts. A client that accepts `*`
    /// gets identity.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let accept = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
        let names = |coding: Self| accept.to_ascii_lowercase().contains(coding.name());
        [Self::Brotli, Self::Gzip]
            .into_iter()
            .find(|coding| names(*coding) && takes_coding(Some(accept), coding.name()))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn encode(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut coded = Vec::with_capacity(bytes.len() / 3);
        match self {
            Self::Brotli => {
                let mut encoder =
                    brotli::CompressorWriter::new(&mut coded, BUFFER_BYTES, BROTLI_QUALITY, 22);
                encoder.write_all(bytes)?;
                encoder.flush()?;
                drop(encoder);
            }
            Self::Gzip => {
                let mut encoder = GzEncoder::new(&mut coded, flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(bytes)?;
                encoder.finish()?;
            }
        }
        coded.shrink_to_fit();
        Ok(coded)
    }
}

/// Compresses answers.
pub(crate) struct Compressor {
    coded: BoundedCache<(String, AppliedCoding), Bytes>,
    at_work: Arc<Semaphore>,
}

impl Compressor {
    pub(crate) fn new() -> Self {
        Self {
            coded: BoundedCache::new(CACHE_BYTES),
            at_work: Arc::new(Semaphore::new(AT_WORK_MAX)),
        }
    }

    /// Compresses an answer, if the client accepts a coding and the answer may have one. The plan
    /// marks such answers: they vary with `Accept-Encoding`. Fails if the store can't be reached
    /// now: a second read would only wait again.
    pub(crate) async fn code<B: Backing>(
        &self,
        coding: Option<AppliedCoding>,
        method: &Method,
        answer: Response<Body>,
        backing: &Arc<B>,
    ) -> Result<Response<Body>, Problem> {
        let Some(coding) = coding.filter(|_| may_be_coded(&answer)) else {
            return Ok(answer);
        };
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(described(answer, coding, None));
        }
        let is_head = method == Method::HEAD;
        let raw = if is_head {
            announced(&answer)
        } else {
            length(&answer)
        };
        if !(RAW_BYTES_MIN..=RAW_BYTES_MAX).contains(&raw) {
            return Ok(answer);
        }
        if is_head {
            // The length of the body is known only after compression.
            return Ok(described(answer, coding, None));
        }
        Ok(match self.coded(coding, &answer, backing).await? {
            Some(bytes) => {
                let length = bytes.len();
                described(answer, coding, Some(length)).map(|_| Body::Bytes(bytes))
            }
            None => answer,
        })
    }

    async fn coded<B: Backing>(
        &self,
        coding: AppliedCoding,
        answer: &Response<Body>,
        backing: &Arc<B>,
    ) -> Result<Option<Bytes>, Problem> {
        let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let Some(tag) = tag else {
            return Ok(None);
        };
        let key = (tag.to_owned(), coding);
        if let Some(coded) = self.coded.find(&key) {
            return Ok(Some(coded));
        }
        let permit = timeout(WAIT_TIME, Arc::clone(&self.at_work).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Ok(None);
        };
        let Ok(turn) = far_turn(&**backing, WAIT_TIME).await else {
            return Ok(None);
        };
        let (body, backing) = (answer.body().clone(), Arc::clone(backing));
        let work = tokio::task::spawn_blocking(move || {
            let raw = whole(&body, &*backing);
            drop(turn);
            let coded = raw.and_then(|raw| coding.encode(&raw));
            drop(permit);
            coded.map(Bytes::from)
        });
        match work.await {
            Ok(Ok(coded)) => {
                let bytes = coded.len() + ENTRY_BYTES;
                self.coded.insert(key, coded.clone(), bytes);
                Ok(Some(coded))
            }
            Ok(Err(error)) => {
                let problem = failure(&error);
                let is_passing = problem.code == Code::Unavailable;
                if is_passing { Err(problem) } else { Ok(None) }
            }
            Err(_) => Ok(None),
        }
    }
}

/// Bytes of compressed bodies in the cache.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of a key and of the cache's own tables.
const ENTRY_BYTES: usize = 256;

/// Bodies that are compressed at once.
const AT_WORK_MAX: usize = 2;

/// How long a client waits for its turn before it gets the uncompressed bytes.
const WAIT_TIME: Duration = Duration::from_millis(250);

/// Below this size, the uncompressed bytes fit into one packet anyway.
const RAW_BYTES_MIN: u64 = 1_024;

/// Above this size, compression takes longer than sending: the largest blob in a pack.
const RAW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// As small as gzip's level 9, in a third of its time.
const BROTLI_QUALITY: u32 = 5;

const GZIP_LEVEL: u32 = 6;

const BUFFER_BYTES: usize = 64 * 1024;

fn may_be_coded(answer: &Response<Body>) -> bool {
    let headers = answer.headers();
    let varies = headers.get(VARY).and_then(|vary| vary.to_str().ok());
    let varies = varies.is_some_and(|vary| vary.contains("accept-encoding"));
    let is_whole = matches!(
        answer.status(),
        StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::NOT_MODIFIED
    );
    varies
        && is_whole
        && !headers.contains_key(CONTENT_ENCODING)
        && !headers.contains_key(CONTENT_RANGE)
}

/// The answer with the headers of its compressed body. Its tag becomes weak, like that of the
/// stored coding, because it names the blob and not these bytes.
fn described(
    mut answer: Response<Body>,
    coding: AppliedCoding,
    length: Option<usize>,
) -> Response<Body> {
    let is_empty = answer.status() == StatusCode::NOT_MODIFIED;
    let headers = answer.headers_mut();
    if !is_empty {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        match length {
            Some(length) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(length))),
            None => drop(headers.remove(CONTENT_LENGTH)),
        }
    }
    let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    let weak = tag
        .filter(|tag| !tag.starts_with("W/"))
        .map(|tag| format!("W/{tag}"));
    if let Some(Ok(weak)) = weak.map(|tag| HeaderValue::from_str(&tag)) {
        headers.insert(ETAG, weak);
    }
    answer
}

fn announced(answer: &Response<Body>) -> u64 {
    let length = answer.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn length(answer: &Response<Body>) -> u64 {
    match answer.body() {
        Body::Empty => 0,
        Body::Bytes(bytes) => bytes.len() as u64,
        Body::Pieces(pieces) => pieces.iter().map(super::response_body::sent).sum(),
        // Large bodies that are generated for each request stay uncompressed.
        Body::Led(..) => u64::MAX,
    }
}

fn whole(body: &Body, backing: &impl Backing) -> io::Result<Bytes> {
    match body {
        Body::Empty => Ok(Bytes::new()),
        Body::Bytes(bytes) => Ok(bytes.clone()),
        Body::Pieces(pieces) => {
            let pieces: &[BodyRange] = pieces;
            opened(pieces, backing)
        }
        Body::Led(first, pieces) => {
            let rest = opened(pieces, backing)?;
            Ok([&first[..], &rest[..]].concat().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::blobs::ObjectFolder;
    use super::*;

    fn text() -> Bytes {
        "all work and no play ".repeat(1_000).into_bytes().into()
    }

    fn answer(headers: &[(&str, &str)]) -> Response<Body> {
        let mut answer = Response::builder().header("etag", "\"abc\"");
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(Body::Bytes(text())).unwrap()
    }

    fn coded(accept: &str, method: &Method, answer: Response<Body>) -> Response<Body> {
        let home = tempfile::tempdir().unwrap();
        let compressor = Compressor::new();
        let backing = Arc::new(ObjectFolder::open(home.path()).unwrap());
        let mut asked = HeaderMap::new();
        asked.insert(ACCEPT_ENCODING, accept.parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let coding = AppliedCoding::accepted(&asked);
        let coded = compressor.code(coding, method, answer, &backing);
        runtime.unwrap().block_on(coded).unwrap()
    }

    fn opened(answer: &Response<Body>) -> Vec<u8> {
        let Body::Bytes(bytes) = answer.body() else {
            panic!("{answer:?}");
        };
        let mut raw = Vec::new();
        let coding = answer.headers().get(CONTENT_ENCODING);
        match coding.map(HeaderValue::as_bytes) {
            Some(b"br") => brotli::Decompressor::new(&bytes[..], 4_096).read_to_end(&mut raw),
            Some(b"gzip") => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut raw),
            _ => (&bytes[..]).read_to_end(&mut raw),
        }
        .unwrap();
        raw
    }

    #[test]
    fn code_takes_the_clients_best_coding() {
        let vary = [("vary", "accept-encoding")];
        for (accept, expected, tag) in [
            ("gzip, deflate, br", Some("br"), "W/\"abc\""),
            ("gzip", Some("gzip"), "W/\"abc\""),
            ("br;q=0, gzip", Some("gzip"), "W/\"abc\""),
            ("deflate", None, "\"abc\""),
            ("gzip;q=0", None, "\"abc\""),
            ("*", None, "\"abc\""),
        ] {
            let answer = coded(accept, &Method::GET, answer(&vary));
            let coding = answer.headers().get(CONTENT_ENCODING);
            assert_eq!(
                coding.map(|coding| coding.to_str().unwrap()),
                expected,
                "{accept}"
            );
            assert_eq!(answer.headers()[ETAG], tag, "{accept}");
            assert_eq!(opened(&answer), text(), "{accept}");
            if expected.is_some() {
                let length = length(&answer);
                assert!(length < text().len() as u64 / 20, "{accept}: {length}");
                assert_eq!(answer.headers()[CONTENT_LENGTH], length.to_string());
            }
        }
    }

    #[test]
    fn code_leaves_what_has_no_other_coding() {
        let vary = ("vary", "accept-encoding");
        for headers in [
            &[][..],
            &[vary, ("content-encoding", "zstd")],
            &[vary, ("content-range", "bytes 0-9/10")],
        ] {
            let before = answer(headers);
            let after = coded("gzip, br", &Method::GET, answer(headers));
            assert_eq!(after.headers(), before.headers(), "{headers:?}");
        }
        let head = coded(
            "gzip",
            &Method::HEAD,
            answer(&[vary, ("content-length", "9000")]),
        );
        assert_eq!(head.headers()[CONTENT_ENCODING], "gzip");
        assert!(!head.headers().contains_key(CONTENT_LENGTH));
    }
}
