//! Outbox alarm: delivers the pointers that the server could not deliver while it answered, and
//! removes previews whose time is over.
//!
//! At the start, this task checks every space, because a crash may have interrupted a delivery.
//! Then it checks each space that changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::blocking::{block_on, blocking};
use super::panics::guarded;
use super::state::AppState;

/// Delivers until `stop` changes.
pub(crate) async fn watch_outboxes(
    state: Arc<AppState>,
    mut changed: mpsc::UnboundedReceiver<SpaceName>,
    mut stop: watch::Receiver<bool>,
) {
    let mut due = every_space(&state);
    loop {
        let first = due.iter().min_by_key(|(_, at)| **at);
        let first = first.map(|(space, at)| (space.clone(), *at));
        let at = first.as_ref().map_or_else(Instant::now, |(_, at)| *at);
        tokio::select! {
            _ = stop.changed() => return,
            Some(space) = changed.recv() => {
                let soon = Instant::now() + SETTLE_TIME;
                due.entry(space).and_modify(|at| *at = soon.min(*at)).or_insert(soon);
            }
            () = sleep_until(at), if first.is_some() => {
                if let Some((space, _)) = first {
                    due.remove(&space);
                    if let Some(wait) = deliver(&state, space.clone()).await {
                        due.insert(space, Instant::now() + wait);
                    }
                }
            }
        }
    }
}

/// Time for the server to deliver a changed space's pointers itself.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// How long to wait after a failure of the platform.
const RETRY_TIME: Duration = Duration::from_secs(5);

/// The shortest wait before the next check.
const WAIT_MIN: Duration = Duration::from_millis(20);

/// The longest wait before the next check: the system's clock may be set during it.
const WAIT_MAX: Duration = Duration::from_hours(1);

fn every_space(state: &AppState) -> BTreeMap<SpaceName, Instant> {
    let names = state.server.backend().spaces.names();
    let names = names.unwrap_or_else(|error| {
        state.log.fault("looking for outboxes", &error);
        Vec::new()
    });
    let now = Instant::now();
    names.into_iter().map(|name| (name, now)).collect()
}

/// Delivers for one space. Returns the wait until its next delivery, if there is one.
async fn deliver(state: &Arc<AppState>, space: SpaceName) -> Option<Duration> {
    // Without its objects a space changes nothing: see `store::owner`.
    match state.server.backend().blobs.check_changes().await {
        Ok(()) => {}
        Err(problem) if problem.code == Code::Unavailable => return Some(RETRY_TIME),
        Err(_) => return Some(WAIT_MAX),
    }
    let state = Arc::clone(state);
    let log = state.log;
    let work = tokio::task::spawn_blocking(move || {
        let now = super::now();
        let left = blocking(|| guarded(log, || block_on(state.server.tend(&space, now))));
        left.flatten().map(|left| {
            let wait = left.map(|at| at.as_millis().saturating_sub(now.as_millis()));
            wait.map(|wait| Duration::from_millis(wait).clamp(WAIT_MIN, WAIT_MAX))
        })
    });
    match work.await {
        Ok(Ok(wait)) => wait,
        Ok(Err(problem)) if problem.code == Code::NotFound => None,
        Ok(Err(problem)) => {
            log.fault("delivering an outbox", &problem);
            Some(RETRY_TIME)
        }
        // The runtime is shutting down.
        Err(_) => None,
    }
}
