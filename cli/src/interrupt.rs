//! Interrupts (Ctrl-C and SIGTERM): a flag that steps check, and hooks that wake waiting threads.
//!
//! A step may not end soon enough, for example a name lookup or a hanging disk. Then the command
//! ends anyway after a grace period. The files of pmx are written so that it may end at any moment.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Failure;

/// Interval at which waiting code checks the flag.
const TICK: Duration = Duration::from_millis(50);

/// Time for an orderly end, so that all of it takes less than a second.
const GRACE: Duration = Duration::from_millis(600);

/// Whether the user wants the command to end.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_raised: Arc<AtomicBool>,
    hooks: Mutex<Vec<Hook>>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl Interrupt {
    /// Listens for signals. The first one requests an orderly end, and the second one ends the
    /// process. `expired` is called if the command has not ended within the grace period.
    pub fn listen(expired: impl FnOnce() + Send + 'static) -> Self {
        let interrupt = Self::default();
        let flag = &interrupt.0.is_raised;
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // In this order, so that the first signal does not see the flag that it sets. If a
            // handler can't be installed, the signal keeps its default action.
            let second =
                signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag));
            if second.is_ok() {
                let _ = signal_hook::flag::register(signal, Arc::clone(flag));
            }
        }
        let watched = interrupt.clone();
        std::thread::spawn(move || {
            while !watched.is_raised() {
                std::thread::sleep(TICK);
            }
            watched.raise();
            std::thread::sleep(GRACE);
            expired();
        });
        interrupt
    }

    /// Whether the user has requested the end.
    pub fn is_raised(&self) -> bool {
        self.0.is_raised.load(Ordering::Relaxed)
    }

    /// Fails if the user has requested the end.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_raised() {
            Err(Failure::interrupted())
        } else {
            Ok(())
        }
    }

    /// Waits, and fails if the user requests the end before.
    pub fn sleep(&self, duration: Duration) -> Result<(), Failure> {
        let until = Instant::now() + duration;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(TICK));
        }
    }

    /// Calls a hook when the user requests the end, or at once if that has happened.
    pub fn on_raise(&self, hook: impl FnOnce() + Send + 'static) {
        self.lock().push(Box::new(hook));
        if self.is_raised() {
            self.raise();
        }
    }

    /// Requests the end.
    pub fn raise(&self) {
        self.0.is_raised.store(true, Ordering::Relaxed);
        let hooks = std::mem::take(&mut *self.lock());
        for hook in hooks {
            hook();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Hook>> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt").field(&self.is_raised()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hook_runs_once_whether_it_came_before_or_after() {
        let (sender, called) = std::sync::mpsc::channel();
        let interrupt = Interrupt::default();
        let before = sender.clone();
        interrupt.on_raise(move || before.send("before").unwrap());
        assert!(called.try_recv().is_err());
        interrupt.raise();
        interrupt.raise();
        interrupt.on_raise(move || sender.send("after").unwrap());
        assert_eq!(called.iter().collect::<Vec<_>>(), ["before", "after"]);
        assert_eq!(
            interrupt
                .sleep(Duration::from_hours(1))
                .map_err(|f| f.exit()),
            Err(130)
        );
    }
}
