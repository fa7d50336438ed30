//! Notification and select: wakes waiters on a change, and waits for the first of two futures.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use worker::Delay;

/// Notifies waiters of changes. A waiter names the last version that it has seen, so that it misses
/// no change between a read and the wait.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    version: Cell<u64>,
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl Notify {
    /// The number of changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.version.get()
    }

    /// Counts a change and wakes all waiters.
    pub(crate) fn notify_all(&self) {
        self.version.set(self.version.get().wrapping_add(1));
        for waker in self.waiting.take().into_values() {
            waker.wake();
        }
    }

    /// Waits until the version differs from `seen`.
    pub(crate) const fn notified(&self, seen: u64) -> Notified<'_> {
        Notified {
            notify: self,
            seen,
            number: None,
        }
    }
}

/// See [`Notify::notified`].
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    seen: u64,
    /// The key of this waiter's waker.
    number: Option<u64>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        if notify.version() != self.seen {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            let next = notify.next.get();
            notify.next.set(next.wrapping_add(1));
            next
        });
        let waker = context.waker().clone();
        notify.waiting.borrow_mut().insert(number, waker);
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.notify.waiting.borrow_mut().remove(&number);
        }
    }
}

/// Which of two futures was ready first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Either {
    Left,
    Right,
}

/// Waits for the first of two futures; `right` can be polled again afterwards.
pub(crate) async fn select<L, R>(left: L, mut right: Pin<&mut R>) -> Either
where
    L: Future<Output = ()>,
    R: Future<Output = ()>,
{
    let mut left = pin!(left);
    poll_fn(|context| {
        if left.as_mut().poll(context).is_ready() {
            return Poll::Ready(Either::Left);
        }
        right.as_mut().poll(context).map(|()| Either::Right)
    })
    .await
}

/// Waits for a future for a limited time; `None` if it takes longer.
pub(super) async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut late = pin!(Delay::from(time));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => late.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Waits until all futures are ready.
pub(super) async fn join_all<F: Future<Output = ()>>(futures: impl IntoIterator<Item = F>) {
    let mut under_way: Vec<_> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        under_way.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if under_way.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

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
        assert!(notify.waiting.borrow().is_empty());
        // A waiter that has seen an older version does not wait.
        assert!(pin!(notify.notified(0)).poll(&mut context).is_ready());
        assert!(pin!(notify.notified(1)).poll(&mut context).is_pending());
    }

    #[test]
    fn select_returns_the_first_of_two() {
        let mut context = Context::from_waker(Waker::noop());
        let ready = || Box::pin(std::future::ready(()));
        let mut other = ready();
        let both = pin!(select(std::future::ready(()), other.as_mut()));
        assert_eq!(both.poll(&mut context), Poll::Ready(Either::Left));
        let mut other = ready();
        let second = pin!(select(std::future::pending(), other.as_mut()));
        assert_eq!(second.poll(&mut context), Poll::Ready(Either::Right));
    }
}
