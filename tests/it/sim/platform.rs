//! Answers of a server in memory, read to their end.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::Response;
use pmx_core::backend::Blobs;
use pmx_core::codec::Decoder;
use pmx_core::domain::Domain;
use pmx_core::name::SpaceName;
use pmx_sync::serve::{Body, Dictionaries, LivePages, Settings, SiteUrls};
use pmx_sync::site::Hosts;

use super::client::{Answer, Broken, SECRET};

pub(crate) fn settings() -> Settings {
    Settings {
        hosts: Hosts::new(Domain::parse("localhost").unwrap()).with_loopback(),
        publish_secret: Some(SECRET.into()),
        urls: SiteUrls {
            scheme: "http",
            port: None,
        },
        live: LivePages::Chosen,
        dictionaries: Dictionaries::Passed,
        lease: pmx_sync::space::LEASE,
        files_max: pmx_sync::limits::FILES_MAX,
        section_raw_bytes_max: pmx_core::limits::SECTION_RAW_BYTES_MAX,
    }
}

pub(crate) fn space(name: &str) -> SpaceName {
    SpaceName::parse(name).unwrap()
}

/// The path of a file as a request has it.
pub(crate) fn url_path(path: &str) -> String {
    let mut url = String::from("/");
    for byte in path.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => url.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => url.push(byte.into()),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// Reads the body of an answer as a host does.
pub(crate) async fn read<B: Blobs>(blobs: &B, response: Response<Body>) -> Result<Answer, Broken> {
    let (head, body) = response.into_parts();
    let (first, pieces) = body.split();
    let mut decoder = Decoder::new();
    let mut whole = Vec::from(first);
    for piece in pieces {
        let stored = blobs.read(piece.key, piece.range.clone()).await;
        let stored = stored.map_err(|_| Broken)?.ok_or(Broken)?;
        whole.extend_from_slice(&piece.open(stored, &mut decoder).unwrap());
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: whole.into(),
    })
}

/// Polls a future that waits for nothing but its own turn.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
