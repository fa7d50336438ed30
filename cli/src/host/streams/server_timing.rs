//! Server timing: durations of the parts of a request.
//!
//! The task that answers a request collects them, if the client asks for them. Otherwise they are
//! dropped.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use http::Response;
use pmx_streams::policy::{TimedStep, Timing};

tokio::task_local! {
    static TIMES: RefCell<Timing>;
}

/// Awaits a response, and adds the header with the durations.
pub(super) async fn measured<B>(answering: impl Future<Output = Response<B>>) -> Response<B> {
    let answering = async {
        let mut answer = answering.await;
        // Set by the scope below.
        let _ = TIMES.try_with(|times| times.borrow().write_headers(answer.headers_mut()));
        answer
    };
    TIMES.scope(RefCell::default(), answering).await
}

/// Records the time since `begun` for a step.
pub(super) fn note(step: TimedStep, begun: Instant) {
    took(step, begun.elapsed());
}

/// Records a duration for a step.
pub(super) fn took(step: TimedStep, time: Duration) {
    // Not set unless the client asks for timings.
    let _ = TIMES.try_with(|times| times.borrow_mut().add(step, time));
}
