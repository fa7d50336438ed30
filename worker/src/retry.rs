//! Retries inside the Worker: repeats requests that the platform refuses for a moment.
//!
//! A publish is hundreds of requests to R2 and to objects, so a rare failure would end many
//! publishes. The Worker repeats only idempotent requests. The client repeats the rest, as the
//! response says.

use std::time::Duration;

use worker::Delay;
use worker::js_sys::Math;

/// Attempts for one result.
const ATTEMPTS_MAX: u32 = 3;

/// The longest wait after the first attempt.
const FIRST: Duration = Duration::from_millis(50);

/// How long to wait after the attempt of this number, from 0: four times as long each time, with
/// jitter on the second half. `chance` is from 0 to 1.
fn wait(attempt: u32, chance: f64) -> Duration {
    let whole = FIRST * 4_u32.saturating_pow(attempt);
    whole / 2 + whole.mul_f64(chance.clamp(0.0, 1.0)) / 2
}

/// The result of an attempt; transient failures cause another attempt.
pub(crate) async fn repeated<T, E>(
    is_passing: impl Fn(&E) -> bool,
    attempt: impl AsyncFn() -> Result<T, E>,
) -> Result<T, E> {
    let pause = async |number| Delay::from(wait(number, Math::random())).await;
    repeated_after(pause, is_passing, attempt).await
}

async fn repeated_after<T, E>(
    pause: impl AsyncFn(u32),
    is_passing: impl Fn(&E) -> bool,
    attempt: impl AsyncFn() -> Result<T, E>,
) -> Result<T, E> {
    for number in 1..ATTEMPTS_MAX {
        match attempt().await {
            Err(error) if is_passing(&error) => pause(number - 1).await,
            outcome => return outcome,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn backoff_grows_within_bounds() {
        let millis = |attempt, chance| wait(attempt, chance).as_millis();
        assert_eq!([millis(0, 0.0), millis(0, 1.0)], [25, 50]);
        assert_eq!([millis(1, 0.0), millis(1, 1.0)], [100, 200]);
    }

    /// The result of a sequence of outcomes, and the calls that it took.
    fn ran(outcomes: &[Result<u8, &'static str>]) -> (Result<u8, &'static str>, Vec<String>) {
        let (left, done) = (RefCell::new(outcomes.iter()), RefCell::new(Vec::new()));
        let note = |what: String| done.borrow_mut().push(what);
        let mut ran = pin!(repeated_after(
            async |number| note(format!("wait {number}")),
            |error| *error == "passing",
            async || {
                note("ask".to_owned());
                *left.borrow_mut().next().unwrap()
            },
        ));
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(outcome) = ran.as_mut().poll(&mut context) else {
            panic!("it waits for nothing");
        };
        (outcome, done.take())
    }

    #[test]
    fn passing_failures_are_asked_again_and_others_are_not() {
        let (outcome, done) = ran(&[Err("passing"), Ok(7)]);
        assert_eq!(
            (outcome, done.join(", ").as_str()),
            (Ok(7), "ask, wait 0, ask")
        );
        let (outcome, done) = ran(&[Err("passing"); 3]);
        let all = "ask, wait 0, ask, wait 1, ask";
        assert_eq!((outcome, done.join(", ").as_str()), (Err("passing"), all));
        let (outcome, done) = ran(&[Err("lasting"), Ok(7)]);
        assert_eq!((outcome, done.len()), (Err("lasting"), 1));
    }
}
