//! Redeploy check: observes open pages while the operator deploys the Worker again.

use std::thread;
use std::time::{Duration, Instant};

use super::sockets::{Dialer, Socket};
use super::updates::seconds;
use super::{CheckFinding, Doctor};
use crate::error::Failure;

/// Time for the operator to deploy.
const DEPLOYED: Duration = Duration::from_mins(15);

/// How long a page tries to reconnect.
const BACK: Duration = Duration::from_mins(1);

/// Open pages reconnect within this time, each at a different moment.
const SPREAD: Duration = Duration::from_secs(10);

/// The times at which a socket closed and its page reconnected.
struct Return {
    closed: Instant,
    back: Option<Instant>,
}

impl Doctor<'_> {
    /// Waits until the sockets close, and reconnects each as a page does.
    pub(super) fn redeployed(
        &self,
        dialer: &Dialer<'_>,
        sockets: Vec<Socket>,
    ) -> Result<CheckFinding, Failure> {
        if !self.args.redeploy {
            return Ok(CheckFinding::skipped(
                "pass --redeploy and deploy while it runs",
            ));
        }
        let count = sockets.len();
        if count == 0 {
            return Ok(CheckFinding::failed("there are no open sockets"));
        }
        self.board.say(&format!(
            "Now deploy the Worker again (npx wrangler deploy); {count} open sockets are watched."
        ));
        let returns: Vec<Return> = thread::scope(|scope| {
            let pages = sockets.into_iter();
            let pages = pages.map(|socket| scope.spawn(move || returned(socket, dialer)));
            let threads: Vec<_> = pages.collect();
            let joined = threads
                .into_iter()
                .filter_map(|it| it.join().ok().flatten());
            joined.collect()
        });
        self.context.interrupt.check()?;
        Ok(finding(count, &returns))
    }
}

/// Waits until a socket closes, and until its page reconnects. `None` if it stays open.
fn returned(mut socket: Socket, dialer: &Dialer<'_>) -> Option<Return> {
    if socket.is_open(Instant::now() + DEPLOYED, dialer.interrupt) {
        return None;
    }
    let closed = Instant::now();
    let mut byte = [128];
    let _ = getrandom::fill(&mut byte);
    let mut wait = SPREAD * u32::from(byte[0]) / 255;
    while closed.elapsed() < BACK && dialer.interrupt.sleep(wait).is_ok() {
        if dialer.open().is_ok() {
            let back = Some(Instant::now());
            return Some(Return { closed, back });
        }
        wait = Duration::from_secs(1);
    }
    Some(Return { closed, back: None })
}

fn finding(count: usize, returns: &[Return]) -> CheckFinding {
    let Some(first) = returns.iter().map(|it| it.closed).min() else {
        let waited = seconds(DEPLOYED);
        let words = format!("none of {count} sockets was closed within {waited}");
        return CheckFinding::failed(words).hint("Was the Worker deployed again?");
    };
    let mut back: Vec<_> = returns.iter().filter_map(|it| it.back).collect();
    back.sort_unstable();
    let after = |at: Option<&Instant>| at.map_or("-".to_owned(), |at| seconds(*at - first));
    let words = format!(
        "{} of {count} closed, {} came back, half of them within {}, the last after {}",
        returns.len(),
        back.len(),
        after(back.get(back.len().saturating_sub(1) / 2)),
        after(back.last())
    );
    if back.len() == returns.len() {
        CheckFinding::ok(words)
    } else {
        CheckFinding::failed(words)
    }
}
