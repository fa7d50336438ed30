//! Write timeout: fails the writes of a client that stops reading, or reads too slowly.
//!
//! Hyper limits how long a request may take to arrive, but not how long an answer may take to
//! leave. Without this limit, a client that never reads keeps its connection and its buffers for
//! ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connections::Connection;

/// A socket whose writes fail after a time without progress, or below the minimum rate.
pub(crate) struct TimeoutWriter<S> {
    socket: S,
    connection: Arc<Connection>,
    patience: Duration,
    // Set only while a write waits.
    stalled: Option<(Instant, Pin<Box<Sleep>>)>,
    waited: Duration,
    written: u64,
}

/// Bytes per second that a client has to take while the server waits for it.
const RATE_MIN: u64 = 1_024;

impl<S> TimeoutWriter<S> {
    /// Lets writes wait for `patience`.
    pub(crate) const fn new(socket: S, patience: Duration, connection: Arc<Connection>) -> Self {
        Self {
            socket,
            connection,
            patience,
            stalled: None,
            waited: Duration::ZERO,
            written: 0,
        }
    }

    fn judge(
        &mut self,
        outcome: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &outcome {
            self.written += *bytes as u64;
            self.connection.moved(*bytes);
        }
        if outcome.is_ready() {
            if let Some((since, _)) = self.stalled.take() {
                self.waited += since.elapsed();
            }
            let fair = self.patience + Duration::from_secs(self.written / RATE_MIN);
            if self.waited > fair {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return outcome;
        }
        let patience = self.patience;
        let (_, stalled) = self
            .stalled
            .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutWriter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.connection.moved(buffer.filled().len() - before);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutWriter<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.judge(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.judge(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has no buffer of its own: `poll_write` has sent all bytes that it took.
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::connections::Connections;
    use super::*;

    fn connection() -> Arc<Connection> {
        Arc::new(Connections::new(1).admit().unwrap())
    }

    #[tokio::test]
    async fn reader_that_stops_is_given_up() {
        let (near, mut far) = duplex(8);
        let mut near = TimeoutWriter::new(near, Duration::from_millis(5), connection());
        near.write_all(b"12345678").await.unwrap();
        let stuck = near.write_all(b"9").await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
        drop(far.read_exact(&mut [0; 8]).await);
    }

    #[tokio::test]
    async fn reader_that_is_too_slow_is_given_up() {
        let (near, mut far) = duplex(8);
        let mut near = TimeoutWriter::new(near, Duration::from_millis(40), connection());
        let reading = tokio::spawn(async move {
            // A reader that takes a byte at a time never stalls for long.
            while far.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let slow = near.write_all(&[0; 1_000]).await.unwrap_err();
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
        drop(near);
        reading.await.unwrap();
    }
}
