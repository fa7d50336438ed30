//! Event log reader: pages of a space's log, for all readers at one offset.

use std::sync::Arc;

use pmx_core::channel::Channel;
use pmx_core::problem::Problem;
use pmx_streams::{Page, Read};
use pmx_sync::live::EventReader;
use pmx_sync::serve::Backend as _;

use crate::host::state::AppState;
use crate::host::streams::broadcast::Shared;
use crate::host::streams::events::Source;

/// The log of a channel.
pub(super) struct LogReader {
    state: Arc<AppState>,
    channel: Channel,
    kind: ReadMode,
}

/// The reader's access and mode.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadMode {
    pub(super) compact: bool,
    pub(super) reader: EventReader,
}

impl LogReader {
    pub(super) fn new(state: &Arc<AppState>, channel: &Channel, kind: ReadMode) -> Self {
        Self {
            state: Arc::clone(state),
            channel: channel.clone(),
            kind,
        }
    }

    /// Reads a page for all readers at its offset.
    pub(super) async fn shared(&self, read: Read) -> Result<Shared, Problem> {
        Ok(Shared::new(read, self.read(read).await?))
    }

    /// Reads a page for sockets. It has all changes, of which a message names only a part.
    pub(super) async fn batch(&self, read: Read) -> Result<Shared, Problem> {
        let Self {
            state,
            channel,
            kind,
        } = self;
        let (server, now) = (&state.server, crate::host::now());
        let spaces = server.backend().spaces();
        let (page, batch) = server
            .event_batch(spaces, channel, read, kind.compact, now)
            .await?;
        let mut shared = Shared::new(read, page);
        shared.batch = Some(batch);
        Ok(shared)
    }

    /// Waits for the space's lock without a thread.
    async fn page(&self, read: Read) -> Result<Page, Problem> {
        let ReadMode { compact, reader } = self.kind;
        let (server, now) = (&self.state.server, crate::host::now());
        server.log(&self.channel, read, compact, reader, now).await
    }
}

impl Source for LogReader {
    type Failure = Problem;

    async fn read(&self, read: Read) -> Result<Page, Problem> {
        self.page(read).await
    }
}
