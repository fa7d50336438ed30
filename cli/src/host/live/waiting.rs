//! Live subscriptions: the state that long polls, event streams and sockets share.

use std::sync::Arc;
use std::time::Duration;

use pmx_core::name::SpaceName;
use pmx_sync::limits::LIVE_SOCKETS_MAX;
use tokio::sync::{Semaphore, watch};

use crate::host::streams::broadcast::Topics;

/// State of all live subscriptions.
pub(crate) struct LiveState {
    pub(super) topics: Arc<Topics>,
    /// Sockets and readers that may wait at once.
    pub(crate) waiting: Arc<Semaphore>,
    pub(super) long_poll: Duration,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) notice: watch::Receiver<Notice>,
}

/// The notice in all open pages of one site: problems of its source folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) space: Option<SpaceName>,
    pub(crate) lines: Vec<String>,
}

impl LiveState {
    /// Creates the state. The spaces notify `topics`.
    pub(crate) fn new(
        topics: Arc<Topics>,
        long_poll: Duration,
        stop: watch::Receiver<bool>,
        notice: watch::Receiver<Notice>,
    ) -> Self {
        Self {
            topics,
            waiting: Arc::new(Semaphore::new(sockets_max())),
            long_poll,
            stop,
            notice,
        }
    }
}

/// The number of sockets that the process may have. It raises the limit of files to its maximum,
/// and reserves the files of all other uses.
fn sockets_max() -> usize {
    files_max()
        .saturating_sub(FILES_ELSE)
        .clamp(64, LIVE_SOCKETS_MAX)
}

/// Files of other uses: connections, ledgers, objects.
const FILES_ELSE: usize = 768;

#[cfg(unix)]
fn files_max() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = (LIVE_SOCKETS_MAX + FILES_ELSE) as u64;
    let most = limit.maximum.unwrap_or(wanted).min(wanted);
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // If the limit stays lower, there are fewer sockets.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    usize::try_from(current).unwrap_or(usize::MAX)
}

#[cfg(not(unix))]
fn files_max() -> usize {
    LIVE_SOCKETS_MAX
}
