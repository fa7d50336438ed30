//! Notification: wakes waiters on a change, without missing one between a read and the wait.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use event_listener::Event;
use futures_util::future::{Either, select};
use worker::Delay;

/// Notifies waiters of changes. A waiter names the last version that it has seen.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    version: Cell<u64>,
    changed: Event,
}

impl Notify {
    /// The number of changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.version.get()
    }

    /// Counts a change and wakes all waiters.
    pub(crate) fn notify_all(&self) {
        self.version.set(self.version.get().wrapping_add(1));
        self.changed.notify(usize::MAX);
    }

    /// Waits until the version differs from `seen`.
    pub(crate) async fn notified(&self, seen: u64) {
        while self.version() == seen {
            self.changed.listen().await;
        }
    }
}

/// Waits for a future for a limited time; `None` if it takes longer.
pub(crate) async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), pin!(Delay::from(time))).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn notify_all_wakes_each_waiter_once_and_none_that_left() {
        let notify = Notify::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let (mut a, mut b) = (pin!(notify.notified(0)), pin!(notify.notified(0)));
        for _ in 0..3 {
            assert!(a.as_mut().poll(&mut context).is_pending());
            assert!(b.as_mut().poll(&mut context).is_pending());
        }
        {
            let mut leaver = pin!(notify.notified(0));
            assert!(leaver.as_mut().poll(&mut context).is_pending());
        }
        notify.notify_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(a.as_mut().poll(&mut context).is_ready());
        assert!(b.as_mut().poll(&mut context).is_ready());
        assert!(notify.changed.total_listeners() == 0);
        // A waiter that has seen an older version does not wait.
        assert!(pin!(notify.notified(0)).poll(&mut context).is_ready());
        assert!(pin!(notify.notified(1)).poll(&mut context).is_pending());
    }
}
