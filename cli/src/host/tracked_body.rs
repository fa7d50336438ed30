//! Tracked body: marks its connection during the sending and at the end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::any_body::AnyBody;
use super::connections::{Connection, ConnectionPhase};

/// A body, and the values that its connection holds until the end.
pub(crate) struct TrackedBody {
    body: AnyBody,
    connection: Arc<Connection>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl TrackedBody {
    pub(crate) const fn new(
        body: AnyBody,
        connection: Arc<Connection>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            body,
            connection,
            _permit: permit,
        }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.connection.enter(ConnectionPhase::Silent);
    }
}
