//! Reading the log of a space, off the threads that answer.

use std::sync::Arc;

use pmx_sync::code::Code;
use pmx_sync::live::Tidings;
use pmx_sync::name::SpaceName;
use pmx_sync::serve::{Backend as _, Spaces as _};
use pmx_sync::space::{Command, Reply};
use pmx_sync::stream::{Page, Read, StreamName};
use pmx_sync::wire::Problem;

use crate::host::http::{Counter, guarded};
use crate::host::ready::block_on;
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
}

impl Place {
    /// The topic of a space.
    pub(super) fn topic(self, space: &SpaceName) -> Result<StreamName, Problem> {
        let name = match self {
            Self::Log => space.to_string(),
            Self::Sockets => format!("{space}/sockets"),
            Self::Net => format!("{space}/net"),
            Self::NetLog => format!("{space}/net-log"),
        };
        let unfit = |error| Problem::new(Code::Storage, format!("waiting for {space}: {error}"));
        StreamName::parse(&name).map_err(unfit)
    }
}

/// Lets all know who wait for a space that it has a new deploy.
pub(crate) fn ring(topics: &Topics, space: &SpaceName) {
    for place in [Place::Log, Place::Sockets, Place::Net, Place::NetLog] {
        if let Ok(topic) = place.topic(space) {
            topics.changed(&topic);
        }
    }
}

/// The log of a space.
pub(super) struct Reading {
    counter: Arc<Counter>,
    space: SpaceName,
    compact: bool,
}

impl Reading {
    pub(super) fn new(counter: &Arc<Counter>, space: &SpaceName, compact: bool) -> Self {
        Self {
            counter: Arc::clone(counter),
            space: space.clone(),
            compact,
        }
    }

    /// Reads a page for all who are at its place.
    pub(super) async fn shared(&self, read: Read) -> Result<Shared, Problem> {
        Ok(Shared::alone(read, self.read(read).await?))
    }

    /// Reads a page for sockets: with all that changed, where a message names only a part.
    pub(super) async fn tidings(&self, read: Read) -> Result<Shared, Problem> {
        self.beside(move |counter, space, compact| {
            let page = page(counter, space, read, compact)?;
            let unread = |error| Problem::new(Code::Corrupt, format!("reading events: {error}"));
            let mut tidings = Tidings::of(&page).map_err(unread)?;
            for (from, to) in tidings.lacking() {
                let command = Command::Net { from, to };
                let spaces = counter.server.backend().spaces();
                let net = block_on(spaces.call(space, command, crate::host::now()));
                // A deploy that is gone: then all are told that more changed than is known.
                if let Ok(Reply::Net(net)) = net {
                    tidings.complete(*net);
                }
            }
            let mut shared = Shared::alone(read, page);
            shared.tidings = Some(tidings);
            Ok(shared)
        })
        .await
    }

    /// Does what blocks on a thread where that holds up nobody.
    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Counter, &SpaceName, bool) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = Arc::clone(&self.counter.live.reads).acquire_owned();
        let turn = turn.await.expect("the semaphore is never closed");
        let (counter, space) = (Arc::clone(&self.counter), self.space.clone());
        let compact = self.compact;
        let done = tokio::task::spawn_blocking(move || {
            let done = guarded(counter.log, || work(&counter, &space, compact));
            drop(turn);
            done.flatten()
        });
        done.await
            .unwrap_or_else(|error| Err(Problem::new(Code::Interrupted, error.to_string())))
    }
}

impl Source for Reading {
    type Failure = Problem;

    async fn read(&self, read: Read) -> Result<Page, Problem> {
        self.beside(move |counter, space, compact| page(counter, space, read, compact))
            .await
    }
}

fn page(counter: &Counter, space: &SpaceName, read: Read, compact: bool) -> Result<Page, Problem> {
    let now = crate::host::now();
    block_on(counter.server.log(space, read, compact, now))
}
