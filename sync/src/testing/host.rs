//! In-memory host: a server whose objects, pointers and ledgers are in memory.

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response, Uri};
use pmx_core::backend::Blobs;
use pmx_core::codec::Decoder;
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use super::client::{Broken, Network, SECRET, WholeResponse};
use super::{MemoryBlobs, MemoryPointers, MemorySpaces, Platform};
use crate::serve::{Body, Nonce, Server, ServerSettings};

/// A server that lives as long as this value. Its clock is the number of requests so far, in
/// milliseconds.
pub struct Host<S: Sql> {
    server: Server<Memory<S>>,
    requests: Cell<u8>,
}

/// The ports of a host in memory.
pub type Memory<S> = Platform<MemoryBlobs, MemoryPointers, MemorySpaces<S, MemoryBlobs>>;

impl<S: Sql + 'static> Host<S> {
    /// A host without a site. `ledger` makes the empty database of a new space.
    pub fn new(ledger: impl Fn() -> S + 'static) -> Self {
        let blobs = MemoryBlobs::default();
        let platform = Platform {
            spaces: MemorySpaces::new(blobs.clone(), move |_| ledger()),
            pointers: MemoryPointers::default(),
            blobs,
        };
        Self {
            server: Server::new(platform, settings()),
            requests: Cell::new(0),
        }
    }

    /// The ports of the host.
    pub fn platform(&self) -> &Memory<S> {
        self.server.backend()
    }

    /// Gets a page, as a browser without content codings does.
    pub fn get(&self, url: &str) -> Result<WholeResponse, Box<dyn std::error::Error>> {
        let url: Uri = url.parse()?;
        let host = url.host().unwrap_or_default();
        let request = Request::get(url.path()).header("host", host);
        Ok(block_on((&self).send(request.body(Bytes::new())?))?)
    }
}

impl<S: Sql + 'static> Network for &Host<S> {
    async fn send(&self, request: Request<Bytes>) -> Result<WholeResponse, Broken> {
        self.requests.set(self.requests.get() + 1);
        let seed = self.requests.get();
        let now = Timestamp::from_millis(seed.into());
        let response = self.server.handle(request, None, now, Nonce([seed; 32]));
        read(&self.server.backend().blobs, response.await).await
    }
}

/// Settings of a server at `*.localhost`, whose clients send [`SECRET`].
pub fn settings() -> ServerSettings {
    let settings = super::settings();
    ServerSettings {
        hosts: settings.hosts.with_loopback(),
        publish_secret: Some(SECRET.into()),
        ..settings
    }
}

/// Reads the body of a response as a host does.
pub async fn read<B: Blobs>(blobs: &B, response: Response<Body>) -> Result<WholeResponse, Broken> {
    let (head, body) = response.into_parts();
    let (first, pieces) = body.split();
    let mut decoder = Decoder::new();
    let mut whole = Vec::from(first);
    for piece in pieces {
        let stored = blobs.read(piece.key, piece.range.clone()).await;
        let stored = stored.map_err(|_| Broken)?.ok_or(Broken)?;
        whole.extend_from_slice(&piece.open(stored, &mut decoder).unwrap());
    }
    Ok(WholeResponse {
        status: head.status,
        headers: head.headers,
        body: whole.into(),
    })
}

/// Polls a future until it is ready: in memory none waits for a thread or a clock.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
