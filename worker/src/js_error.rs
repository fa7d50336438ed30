//! JavaScript errors: their text, their problem, and whether the call may be retried.

use pmx_core::backend::BackendError;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use worker::js_sys::Reflect;
use worker::wasm_bindgen::JsValue;

/// The text of a thrown value.
pub(crate) fn words(thrown: impl Into<JsValue>) -> String {
    worker::Error::from(thrown.into()).to_string()
}

/// Converts a thrown value to a backend failure: a transient one, unless R2 says otherwise.
pub(crate) fn backend<E: Into<worker::Error>>(
    doing: impl Into<String>,
) -> impl FnOnce(E) -> BackendError {
    move |thrown| {
        let words = thrown.into().to_string();
        let error = BackendError::new(doing, &words);
        if is_passing(&words) {
            error.passing()
        } else {
            error
        }
    }
}

/// Converts a thrown value to a problem.
pub(crate) fn problem<E: Into<worker::Error>>(
    doing: impl Into<String>,
) -> impl FnOnce(E) -> Problem {
    move |thrown| {
        let (doing, thrown) = (doing.into(), thrown.into());
        Problem::new(Code::Storage, format!("{doing}: {thrown}"))
    }
}

/// Converts a value that a call of an object threw. The object may answer the next call.
pub(crate) fn unavailable<E: Into<worker::Error>>(
    doing: impl Into<String>,
) -> impl FnOnce(E) -> Problem {
    move |thrown| {
        let (doing, thrown) = (doing.into(), thrown.into());
        Problem::new(Code::Unavailable, format!("{doing}: {thrown}"))
    }
}

/// Whether a store may answer the same request a moment later, by the text of its error. R2 ends
/// the text with a code. Most codes report a fault of the request.
pub(crate) fn is_passing(words: &str) -> bool {
    let code = words.rsplit_once('(').map(|(_, code)| code);
    let code = code.and_then(|code| code.split_once(')'));
    match code.and_then(|(code, _)| code.parse::<u32>().ok()) {
        Some(code) => PASSING_CODES.contains(&code),
        None => true,
    }
}

/// No code, internal error, service unavailable, connection lost, and too many requests at once.
const PASSING_CODES: [u32; 5] = [0, 10_001, 10_043, 10_054, 10_058];

/// Whether a call of an object may be repeated at once. The platform must allow it, and must not
/// report that the object is overloaded.
pub(crate) fn may_ask_again(thrown: &worker::Error) -> bool {
    let worker::Error::UnknownJsError { original, .. } = thrown else {
        return false;
    };
    let is = |flag: &str| {
        let value = Reflect::get(original, &JsValue::from_str(flag));
        value.is_ok_and(|value| value.is_truthy())
    };
    is_retryable(is("retryable"), is("overloaded"))
}

const fn is_retryable(retryable: bool, overloaded: bool) -> bool {
    retryable && !overloaded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_r2_say_whether_to_try_again() {
        for (words, expected) in [
            (
                "get: We encountered an internal error. Please try again. (10001)",
                true,
            ),
            ("put: Please look at the status page (10043)", true),
            (
                "put: Reduce your concurrent request rate for the same object. (10058)",
                true,
            ),
            ("get: Unspecified error (0)", true),
            (
                "put: The specified object name is not valid. (10020)",
                false,
            ),
            ("get: The requested range is not satisfiable (10039)", false),
            (
                "put: Your proposed upload exceeds the maximum allowed object size. (100100)",
                false,
            ),
            ("Network connection lost.", true),
            ("KV PUT failed: 429 Too Many Requests", true),
        ] {
            assert_eq!(is_passing(words), expected, "{words}");
        }
    }

    #[test]
    fn overloaded_objects_are_not_asked_again() {
        let cases = [(true, false), (true, true), (false, false), (false, true)];
        let again = cases.map(|(retryable, overloaded)| is_retryable(retryable, overloaded));
        assert_eq!(again, [true, false, false, false]);
    }
}
