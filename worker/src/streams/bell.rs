//! Waking those who wait, and waiting for the first of two things.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use worker::Delay;

/// Rings whenever something changed. Whoever waits says what they have heard already, so that no
/// ringing is missed between a look and the wait.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Cell<u64>,
    next: Cell<u64>,
    waiting: RefCell<BTreeMap<u64, Waker>>,
}

impl Bell {
    /// How often it has rung.
    pub(crate) fn rung(&self) -> u64 {
        self.rung.get()
    }

    /// Rings.
    pub(crate) fn ring(&self) {
        self.rung.set(self.rung.get().wrapping_add(1));
        for waker in self.waiting.take().into_values() {
            waker.wake();
        }
    }

    /// Waits until it has rung more often than `heard`.
    pub(crate) const fn beyond(&self, heard: u64) -> Beyond<'_> {
        Beyond {
            bell: self,
            heard,
            place: None,
        }
    }
}

/// See [`Bell::beyond`].
pub(crate) struct Beyond<'a> {
    bell: &'a Bell,
    heard: u64,
    place: Option<u64>,
}

impl Future for Beyond<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let bell = self.bell;
        if bell.rung() != self.heard {
            return Poll::Ready(());
        }
        let place = *self.place.get_or_insert_with(|| {
            let next = bell.next.get();
            bell.next.set(next.wrapping_add(1));
            next
        });
        let waker = context.waker().clone();
        bell.waiting.borrow_mut().insert(place, waker);
        Poll::Pending
    }
}

impl Drop for Beyond<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.bell.waiting.borrow_mut().remove(&place);
        }
    }
}

/// What came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// What was waited for.
    Hoped,
    /// What ends the waiting.
    Feared,
}

/// Waits for the first of two. The second can be waited for again.
pub(crate) async fn first<H, F>(hoped: H, mut feared: Pin<&mut F>) -> First
where
    H: Future<Output = ()>,
    F: Future<Output = ()>,
{
    let mut hoped = pin!(hoped);
    poll_fn(|context| {
        if hoped.as_mut().poll(context).is_ready() {
            return Poll::Ready(First::Hoped);
        }
        feared.as_mut().poll(context).map(|()| First::Feared)
    })
    .await
}

/// What comes of something, if it comes in time.
pub(super) async fn within<T>(time: Duration, hoped: impl Future<Output = T>) -> Option<T> {
    let mut hoped = pin!(hoped);
    let mut late = pin!(Delay::from(time));
    poll_fn(|context| match hoped.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => late.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Waits until all of them are over.
pub(super) async fn all<F: Future<Output = ()>>(futures: impl IntoIterator<Item = F>) {
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
    fn all_who_wait_are_woken_once_and_nobody_who_left() {
        let bell = Bell::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let (mut a, mut b) = (pin!(bell.beyond(0)), pin!(bell.beyond(0)));
        for _ in 0..3 {
            assert!(a.as_mut().poll(&mut context).is_pending());
            assert!(b.as_mut().poll(&mut context).is_pending());
        }
        {
            let mut leaver = pin!(bell.beyond(0));
            assert!(leaver.as_mut().poll(&mut context).is_pending());
        }
        bell.ring();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(a.as_mut().poll(&mut context).is_ready());
        assert!(bell.waiting.borrow().is_empty());
        // Who heard less than was rung does not wait.
        assert!(pin!(bell.beyond(0)).poll(&mut context).is_ready());
        assert!(pin!(bell.beyond(1)).poll(&mut context).is_pending());
    }

    #[test]
    fn the_first_of_two() {
        let mut context = Context::from_waker(Waker::noop());
        let ready = || Box::pin(std::future::ready(()));
        let mut other = ready();
        let both = pin!(first(std::future::ready(()), other.as_mut()));
        assert_eq!(both.poll(&mut context), Poll::Ready(First::Hoped));
        let mut other = ready();
        let feared = pin!(first(std::future::pending(), other.as_mut()));
        assert_eq!(feared.poll(&mut context), Poll::Ready(First::Feared));
    }
}
