//! Server timing: durations of the parts of a request, where a client asks for them.
//!
//! What is noted belongs to the task that answers the request; where no one wants to know, it
//! belongs to none and is dropped.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Response;
use pmx_streams::policy::{Step, Timing};

tokio::task_local! {
    static TIMES: RefCell<Timing>;
}

/// Answers, and says where the time went.
pub(super) async fn measured(answering: impl Future<Output = Response<Body>>) -> Response<Body> {
    let answering = async {
        let mut answer = answering.await;
        // The scope is the one below.
        let _ = TIMES.try_with(|times| times.borrow().write_headers(answer.headers_mut()));
        answer
    };
    TIMES.scope(RefCell::default(), answering).await
}

/// Notes how long something took that began then.
pub(super) fn note(step: Step, begun: Instant) {
    took(step, begun.elapsed());
}

/// Notes that something took so long.
pub(super) fn took(step: Step, time: Duration) {
    // There is none where no one wants to know.
    let _ = TIMES.try_with(|times| times.borrow_mut().note(step, time));
}
