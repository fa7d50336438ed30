//! Gzip of pages, for hosts without a proxy that compresses.
//!
//! Each coding is a representation with an entity tag of its own (RFC 9110, section 8.8.3). So a
//! reader that has one coding never gets 304 for the other.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::request::Parts;
use http::{Response, StatusCode};
use pmx_core::coding::takes_coding;

use super::answer::{page_tagged, set};
use super::cursor::LiveCursor;
use super::etag;
use super::request::Get;
use crate::limits::{STREAM_GZIP_BYTES_MAX, STREAM_GZIP_BYTES_MIN};
use crate::{MediaType, Page};

/// Whether to compress a page: its reader accepts gzip, and the page is text of a suitable length.
pub fn takes_gzip(head: &Parts, page: &Page) -> bool {
    let accepted = head.headers.get(ACCEPT_ENCODING);
    let accepted = accepted.and_then(|value| value.to_str().ok());
    let fits = (STREAM_GZIP_BYTES_MIN..=STREAM_GZIP_BYTES_MAX).contains(&page.body.len());
    fits && is_text(&page.view.media_type) && takes_coding(accepted, "gzip")
}

/// The response with a page that `deflate` compresses, or 304 if the reader has it.
pub fn page_in_gzip(
    get: &Get,
    page: &Page,
    cursor: LiveCursor,
    deflate: impl FnOnce(&[u8]) -> Bytes,
) -> Response<Bytes> {
    let mut answer = page_tagged(get, page, cursor, &etag::in_gzip(&etag::of_page(page)));
    if answer.status() == StatusCode::OK {
        set(&mut answer, CONTENT_ENCODING, "gzip");
        let body = deflate(answer.body());
        *answer.body_mut() = body;
    }
    answer
}

/// Whether a media type is text, which compresses well.
fn is_text(media_type: &MediaType) -> bool {
    let essence = media_type.essence();
    let ends = ["json", "+json", "xml", "+xml", "javascript"];
    essence.starts_with("text/") || ends.iter().any(|end| essence.ends_with(end))
}

#[cfg(test)]
mod tests {
    use pmx_core::time::Timestamp;

    use super::*;
    use crate::http::StreamRequest;
    use crate::{Expiry, Offset, StreamProperties};

    fn head(accepted: &str, known: &str) -> Parts {
        let request = http::Request::builder()
            .uri("/v1/stream/a?offset=-1")
            .header("accept-encoding", accepted)
            .header("if-none-match", known);
        request.body(()).unwrap().into_parts().0
    }

    fn page(media_type: &str, bytes: usize) -> Page {
        let view = StreamProperties {
            media_type: MediaType::new(media_type),
            next: Offset::at(9_000_000),
            closed: false,
            expiry: Expiry::Never,
            expiry_text: None,
            generation: "9a".repeat(16),
        };
        Page {
            view,
            start: Offset::ZERO,
            end: Offset::at(bytes as u64),
            body: vec![b'x'; bytes].into(),
        }
    }

    #[test]
    fn takes_gzip_for_text_of_a_suitable_length() {
        for (accepted, media_type, bytes, expected) in [
            ("gzip, deflate", "text/plain", 1_024, true),
            (
                "br, GZIP;q=0.5",
                "application/json; charset=utf-8",
                5_000,
                true,
            ),
            ("gzip", "application/ld+json", 5_000, true),
            // `*` does not name gzip, so the reader may not know it.
            ("*", "application/ld+json", 5_000, false),
            ("gzip", "application/x-ndjson", 5_000, true),
            ("gzip", "application/octet-stream", 5_000, false),
            ("gzip", "image/png", 5_000, false),
            ("gzip", "text/plain", 1_023, false),
            ("gzip", "text/plain", 8 * 1024 * 1024 + 1, false),
            ("gzip;q=0", "text/plain", 5_000, false),
            ("br, zstd", "text/plain", 5_000, false),
            ("identity, gzip;q=0.5", "text/plain", 5_000, false),
        ] {
            let rendered = takes_gzip(&head(accepted, "x"), &page(media_type, bytes));
            assert_eq!(rendered, expected, "{accepted} {media_type} {bytes}");
        }
    }

    #[test]
    fn page_in_gzip_has_its_own_tag() {
        let page = page("text/plain", 2_000);
        let tag = etag::of_page(&page);
        let gzipped = tag.replace(":m\"", ":m:g\"");
        for (known, expected) in [("\"x\"", 200), (tag.as_str(), 200), (gzipped.as_str(), 304)] {
            let head = head("gzip", known);
            let Ok(StreamRequest::Get(get)) = StreamRequest::parse(&head) else {
                panic!("it is a GET");
            };
            let cursor = LiveCursor::at(Timestamp::from_millis(0));
            let deflate = |bytes: &[u8]| Bytes::copy_from_slice(&bytes[..9]);
            let answer = page_in_gzip(&get, &page, cursor, deflate);
            assert_eq!(answer.status(), expected, "{known}");
            assert_eq!(answer.headers()["etag"], gzipped);
            let coded = answer.headers().contains_key("content-encoding");
            assert_eq!(
                (coded, answer.body().len()),
                (expected == 200, if coded { 9 } else { 0 })
            );
        }
    }
}
