//! Registry over HTTP: clients read it, and only the server writes it.

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, Response};
use pmx_core::code::Code;
use pmx_core::problem::Problem;

use super::answer;
use crate::StreamName;
use crate::registry::is_registry;

/// The refusal of a client's request that would write to the registry.
pub fn registry_refusal(name: &StreamName, method: &Method) -> Option<Response<Bytes>> {
    let is_read = *method == Method::GET || *method == Method::HEAD;
    if is_read || !is_registry(name) {
        return None;
    }
    let why = "the server alone writes to its registry";
    let mut answer = answer::problem(&Problem::new(Code::MethodNotAllowed, why));
    let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS");
    answer.headers_mut().insert(ALLOW, allowed);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::REGISTRY;

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).unwrap()
    }

    #[test]
    fn registry_refusal_rejects_writes_only() {
        for (method, refused) in [
            (Method::GET, false),
            (Method::HEAD, false),
            (Method::PUT, true),
            (Method::POST, true),
            (Method::DELETE, true),
        ] {
            let answer = registry_refusal(&name(REGISTRY), &method);
            assert_eq!(answer.is_some(), refused, "{method}");
            assert!(answer.is_none_or(|answer| answer.status() == 405));
            assert!(registry_refusal(&name("__registry"), &method).is_none());
        }
    }
}
