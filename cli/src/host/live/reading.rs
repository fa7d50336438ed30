//! Event log reads: pages of a space's log, for all readers at one place.

use std::sync::Arc;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_streams::{Page, Read, StreamName};
use pmx_sync::live::Reader;
use pmx_sync::serve::Backend as _;

use crate::host::http::Counter;
use crate::host::streams::events::Source;
use crate::host::streams::topics::{Shared, Topics};

/// What is read for all who are at the same place. Sockets read more than others, and a net message
/// is another one than what it stands for, so neither shares with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The log as it is.
    Log,
    /// For sockets at the tail.
    Sockets,
    /// For sockets that catch up.
    Net,
    /// For readers who want net messages.
    NetLog,
    /// The log for those who hold the publish secret: they share with each other only, since a site
    /// may close to visitors while they wait.
    HeldLog,
    /// The same for those who want net messages.
    HeldNetLog,
}

impl Place {
    /// All.
    const ALL: [Self; 6] = [
        Self::Log,
        Self::Sockets,
        Self::Net,
        Self::NetLog,
        Self::HeldLog,
        Self::HeldNetLog,
    ];

    /// The topic of a channel.
    pub(super) fn topic(self, channel: &Channel) -> Result<StreamName, Problem> {
        let name = match self {
            Self::Log => channel.to_string(),
            Self::Sockets => format!("{channel}/sockets"),
            Self::Net => format!("{channel}/net"),
            Self::NetLog => format!("{channel}/net-log"),
            Self::HeldLog => format!("{channel}/held-log"),
            Self::HeldNetLog => format!("{channel}/held-net-log"),
        };
        let unfit = |error| Problem::new(Code::Storage, format!("waiting for {channel}: {error}"));
        StreamName::parse(&name).map_err(unfit)
    }
}

/// Lets all know who wait for a channel that it has a new deploy. Those of other channels sleep on.
pub(crate) fn ring(topics: &Topics, channel: &Channel) {
    for place in Place::ALL {
        if let Ok(topic) = place.topic(channel) {
            topics.changed(&topic);
        }
    }
}

/// The log of a channel.
pub(super) struct Reading {
    counter: Arc<Counter>,
    channel: Channel,
    kind: Kind,
}

/// Who reads it, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) compact: bool,
    pub(super) reader: Reader,
}

impl Reading {
    pub(super) fn new(counter: &Arc<Counter>, channel: &Channel, kind: Kind) -> Self {
        Self {
            counter: Arc::clone(counter),
            channel: channel.clone(),
            kind,
        }
    }

    /// Reads a page for all who are at its place.
    pub(super) async fn shared(&self, read: Read) -> Result<Shared, Problem> {
        Ok(Shared::alone(read, self.read(read).await?))
    }

    /// Reads a page for sockets: with all that changed, where a message names only a part.
    pub(super) async fn tidings(&self, read: Read) -> Result<Shared, Problem> {
        let Self {
            counter,
            channel,
            kind,
        } = self;
        let (server, now) = (&counter.server, crate::host::now());
        let spaces = server.backend().spaces();
        let (page, tidings) = server
            .tidings(spaces, channel, read, kind.compact, now)
            .await?;
        let mut shared = Shared::alone(read, page);
        shared.tidings = Some(tidings);
        Ok(shared)
    }

    /// Waits for the space's turn without a thread.
    async fn page(&self, read: Read) -> Result<Page, Problem> {
        let Kind { compact, reader } = self.kind;
        let (server, now) = (&self.counter.server, crate::host::now());
        server.log(&self.channel, read, compact, reader, now).await
    }
}

impl Source for Reading {
    type Failure = Problem;

    async fn read(&self, read: Read) -> Result<Page, Problem> {
        self.page(read).await
    }
}
