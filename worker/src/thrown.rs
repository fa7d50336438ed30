//! What JavaScript throws, in words.

use pmx_sync::code::Code;
use pmx_sync::serve::BackendError;
use pmx_sync::wire::Problem;
use worker::wasm_bindgen::JsValue;

/// Says what was thrown.
pub(crate) fn words(thrown: impl Into<JsValue>) -> String {
    worker::Error::from(thrown.into()).to_string()
}

/// Makes a failure of the platform of what was thrown.
pub(crate) fn backend<E: Into<worker::Error>>(
    doing: impl Into<String>,
) -> impl FnOnce(E) -> BackendError {
    move |thrown| BackendError::new(doing, thrown.into())
}

/// Makes an answer of what was thrown.
pub(crate) fn problem<E: Into<worker::Error>>(
    doing: impl Into<String>,
) -> impl FnOnce(E) -> Problem {
    move |thrown| {
        let (doing, thrown) = (doing.into(), thrown.into());
        Problem::new(Code::Storage, format!("{doing}: {thrown}"))
    }
}
