//! Blocking marker: whether the current thread may block.
//!
//! Most futures of the ports are ready at once, since the disk blocks. [`block_on`] parks the
//! thread if a future waits, for example for a space's lock. A thread that may block runs its work
//! in [`blocking`]. On other threads, a port moves long work to a blocking thread.

use std::cell::Cell;

pub(crate) use pollster::block_on;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread may block.
pub(crate) fn may_block() -> bool {
    MAY_BLOCK.get()
}

/// Runs `work`, which may block, on this thread.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            MAY_BLOCK.set(self.0);
        }
    }
    let _before = Before(MAY_BLOCK.replace(true));
    work()
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[test]
    fn block_on_ends_ready_and_woken_futures() {
        assert_eq!(block_on(async { 7 }), 7);
        let mut polls = 0;
        let waits = std::future::poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(polls)
            }
        });
        assert_eq!(block_on(waits), 3);
    }
}
