//! Panic guard: a panic ends one request or one iteration of a loop, not the host.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::sql::SqlError;

use super::access_log::Log;

/// Turns a panic into an error answer: it ends the request, not the host.
pub(crate) fn guarded<T>(log: Log, work: impl FnOnce() -> T) -> Result<T, Problem> {
    // The locks notice a panic in the middle of a change, or SQLite rolls the change back.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(log, &*panic))
}

pub(super) fn panicked(log: Log, panic: &(dyn Any + Send)) -> Problem {
    log.fault("answering a request", &panic_message(panic));
    Problem::new(Code::Storage, "the server failed at this request")
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of unknown kind"))
}

/// Runs work, and turns a panic into an error, so that a thread which serves many requests
/// continues. It takes poisoned locks anyway, and SQLite rolls back an unfinished change.
pub(crate) fn unpanicked<T>(work: impl FnOnce() -> Result<T, SqlError>) -> Result<T, SqlError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let why = panic_message(&*panic);
        Err(SqlError(why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::response_body::problem;

    #[test]
    fn panic_becomes_an_answer() {
        assert_eq!(guarded(Log::Quiet, || 7).unwrap(), 7);
        let failed = guarded(Log::Quiet, || panic!("on purpose")).unwrap_err();
        let answer = problem(&failed);
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(!failed.detail.contains("purpose"));
    }
}
