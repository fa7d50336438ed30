//! Store faults: what an operation's failure means for content, and whether it passes.
//!
//! Only a definite answer of the store says that an object is absent: a wrong bucket, an endpoint
//! that is no store, and every failure on the way are errors.

use http::StatusCode;
use object_store::Error;
use pmx_core::backend::BackendError;

use super::connection::Ending;

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreErrorKind {
    /// There is no such object.
    Absent,
    /// The object ends before the range.
    Beyond,
    /// There is such an object already, or another request changes it.
    Exists,
    /// The object is no longer the one that was read.
    Changed,
    /// The store, or its settings, has no conditional writes.
    Unconditional,
    /// The same operation may soon succeed.
    Passing,
    /// Anything else.
    Lasting,
}

/// A failed operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreError {
    pub(super) meaning: StoreErrorKind,
    why: String,
}

impl StoreError {
    /// Reads an error of the store's client. Its text is not repeated: see `connection`.
    pub(super) fn of(error: &Error, ending: Option<&Ending>) -> Self {
        let code = code(&error.to_string());
        Self {
            meaning: meaning(error, ending, code.as_deref()),
            why: why(ending, code.as_deref()),
        }
    }

    /// An operation that did not end in time.
    pub(super) fn late(ending: Option<&Ending>) -> Self {
        Self {
            meaning: StoreErrorKind::Passing,
            why: format!("it took too long; at last, {}", why(ending, None)),
        }
    }

    /// A body of another length than the answer's head says.
    pub(super) fn short() -> Self {
        Self {
            meaning: StoreErrorKind::Passing,
            why: "the store sent a body of another length".to_owned(),
        }
    }

    /// An operation that the host's own end interrupted.
    pub(super) fn interrupted() -> Self {
        Self {
            meaning: StoreErrorKind::Passing,
            why: "the host stops".to_owned(),
        }
    }

    /// The failure of an operation.
    pub(super) fn of_operation(self, doing: impl Into<String>) -> BackendError {
        let error = BackendError::new(doing, self.why);
        // What exists or changed unexpectedly does so because of a request at the same time.
        match self.meaning {
            StoreErrorKind::Passing | StoreErrorKind::Exists | StoreErrorKind::Changed => {
                error.passing()
            }
            StoreErrorKind::Absent
            | StoreErrorKind::Beyond
            | StoreErrorKind::Unconditional
            | StoreErrorKind::Lasting => error,
        }
    }
}

/// Whether an error of a deletion means that the object is gone.
pub(super) fn is_absent(error: &Error) -> bool {
    code(&error.to_string()).as_deref() == Some("NoSuchKey")
}

fn meaning(error: &Error, ending: Option<&Ending>, code: Option<&str>) -> StoreErrorKind {
    match (error, ending) {
        // A bucket that does not exist is 404, too.
        (Error::NotFound { .. }, _) if code == Some("NoSuchKey") => StoreErrorKind::Absent,
        (Error::AlreadyExists { .. }, _) => StoreErrorKind::Exists,
        (Error::Precondition { .. }, _) => StoreErrorKind::Changed,
        (Error::NotImplemented { .. }, _) => StoreErrorKind::Unconditional,
        (_, Some(Ending::Broken { .. })) => StoreErrorKind::Passing,
        (_, Some(Ending::Answered { status, .. })) => of_status(*status, code),
        (_, None) => StoreErrorKind::Lasting,
    }
}

fn of_status(status: StatusCode, code: Option<&str>) -> StoreErrorKind {
    match status {
        StatusCode::RANGE_NOT_SATISFIABLE if code == Some("InvalidRange") => StoreErrorKind::Beyond,
        StatusCode::NOT_IMPLEMENTED => StoreErrorKind::Unconditional,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => StoreErrorKind::Passing,
        _ if status.is_server_error() || PASSING_CODES.contains(&code.unwrap_or_default()) => {
            StoreErrorKind::Passing
        }
        // The body of a good answer ended early. With a code, it names an object that a bulk
        // deletion left.
        _ if status.is_success() && code.is_none() => StoreErrorKind::Passing,
        _ => StoreErrorKind::Lasting,
    }
}

/// Codes of S3 that pass, whatever their status.
const PASSING_CODES: &[&str] = &[
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
];

fn why(ending: Option<&Ending>, code: Option<&str>) -> String {
    match ending {
        Some(Ending::Answered { host, status }) => {
            let code = code.map(|code| format!(" {code}")).unwrap_or_default();
            format!("{host} answered {}{code}", status.as_u16())
        }
        Some(Ending::Broken { host, why }) => format!("no answer from {host}: {why}"),
        None => "no request could be made: check the credentials and the endpoint".to_owned(),
    }
}

/// The code of S3 in an error's text, which contains the body of the answer, or ends with the code
/// of one object of a bulk deletion.
fn code(text: &str) -> Option<String> {
    let of_body = || text.split_once("<Code>")?.1.split_once("</Code>");
    let of_object = || text.rsplit_once("(code: ")?.1.split_once(')');
    let (code, _) = of_body().or_else(of_object)?;
    let is_word = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_found(body: &str) -> Error {
        Error::NotFound {
            path: "a".into(),
            source: body.into(),
        }
    }

    fn answered(status: u16) -> Ending {
        Ending::Answered {
            host: "store.example".into(),
            status: StatusCode::from_u16(status).unwrap(),
        }
    }

    #[test]
    fn only_the_stores_own_word_says_that_an_object_is_absent() {
        for (body, expected) in [
            (
                "404: <Error><Code>NoSuchKey</Code></Error>",
                StoreErrorKind::Absent,
            ),
            (
                "404: <Error><Code>NoSuchBucket</Code></Error>",
                StoreErrorKind::Lasting,
            ),
            ("404: <html>no such page</html>", StoreErrorKind::Lasting),
            ("404", StoreErrorKind::Lasting),
        ] {
            let fault = StoreError::of(&not_found(body), Some(&answered(404)));
            assert_eq!(fault.meaning, expected, "{body}");
        }
    }

    #[test]
    fn failures_pass_unless_the_request_is_at_fault() {
        let error = Error::Generic {
            store: "S3",
            source: "hunter2 <Code>SlowDown</Code>".into(),
        };
        let other = Error::Generic {
            store: "S3",
            source: "hunter2 <Code>Other</Code>".into(),
        };
        let ranged = Error::Generic {
            store: "S3",
            source: "hunter2 <Code>InvalidRange</Code>".into(),
        };
        let broken = Ending::Broken {
            host: "store.example".into(),
            why: "Connection refused".into(),
        };
        for (error, ending, expected) in [
            (&other, Some(answered(500)), StoreErrorKind::Passing),
            (&other, Some(answered(503)), StoreErrorKind::Passing),
            (&other, Some(answered(429)), StoreErrorKind::Passing),
            (&error, Some(answered(400)), StoreErrorKind::Passing),
            (&other, Some(broken), StoreErrorKind::Passing),
            (&other, Some(answered(403)), StoreErrorKind::Lasting),
            (&ranged, Some(answered(416)), StoreErrorKind::Beyond),
            (&other, Some(answered(416)), StoreErrorKind::Lasting),
            (&other, None, StoreErrorKind::Lasting),
        ] {
            let fault = StoreError::of(error, ending.as_ref());
            assert_eq!(fault.meaning, expected, "{ending:?}");
            let shown = fault.of_operation("reading").to_string();
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    #[test]
    fn bulk_deletion_names_the_code_of_each_object() {
        for (code, is_gone, expected) in [
            ("NoSuchKey", true, StoreErrorKind::Lasting),
            ("InternalError", false, StoreErrorKind::Passing),
            ("AccessDenied", false, StoreErrorKind::Lasting),
        ] {
            let text = format!("DeleteObjects request failed for key a: no (code: {code})");
            let error = Error::Generic {
                store: "S3",
                source: text.into(),
            };
            assert_eq!(is_absent(&error), is_gone, "{code}");
            let fault = StoreError::of(&error, Some(&answered(200)));
            assert_eq!(fault.meaning, expected, "{code}");
        }
    }
}
