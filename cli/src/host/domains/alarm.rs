//! Domain alarm: looks up the records of domains when they are due.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::host::blocking::{block_on, blocking};
use crate::host::panics::guarded;
use crate::host::state::AppState;

/// The longest wait between two checks: the system's clock may be set during it.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// The shortest wait between two checks.
const WAIT_MIN: Duration = Duration::from_millis(20);

/// Checks domains until `stop` changes.
pub(crate) async fn watch_domains(state: Arc<AppState>, mut stop: watch::Receiver<bool>) {
    loop {
        let wait = check_due_domains(Arc::clone(&state)).await;
        tokio::select! {
            _ = stop.changed() => return,
            () = state.server.backend().domains.changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Looks up what is due. Returns the wait until the next check.
async fn check_due_domains(state: Arc<AppState>) -> Duration {
    let log = state.log;
    let work = tokio::task::spawn_blocking(move || {
        let now = crate::host::now();
        let next = blocking(|| guarded(log, || block_on(state.server.check_domains(now))));
        let wait = next.flatten().map(|next| {
            let at = next.map_or(u64::MAX, pmx_core::time::Timestamp::as_millis);
            Duration::from_millis(at.saturating_sub(now.as_millis()))
        });
        wait.unwrap_or_else(|problem| {
            log.fault("checking the records of domains", &problem);
            WAIT_MAX
        })
    });
    // The runtime is shutting down if the thread did not run.
    work.await.unwrap_or(WAIT_MAX).clamp(WAIT_MIN, WAIT_MAX)
}
