//! The edge: which requests are about streams, who may pass, and to which object they go.

use std::cell::OnceCell;
use std::rc::Rc;

use bytes::Bytes;
use http::Uri;
use pmx_sync::code::Code;
use pmx_sync::site::{Addressed, Domain, resolve};
use pmx_sync::stream::StreamName;
use pmx_sync::stream::http::{STREAMS_PATH, Settings, answer, name_of};
use pmx_sync::wire::Problem;
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::{Env, web_sys};

use super::answer::{Body, response};
use super::request::{Look, address, head};
use super::settings::StreamConfig;
use crate::isolate;
use crate::thrown::words;

/// Answers a request about a stream: with an answer, or with what promises one. `undefined` if the
/// request is about something else.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
pub fn stream(request: web_sys::Request, env: Env) -> JsValue {
    let url = request.url();
    // Sites may have such paths as well; most requests have not.
    if !url.contains(STREAMS_PATH) {
        return JsValue::UNDEFINED;
    }
    let outcome = pass(&request, &env);
    outcome.unwrap_or_else(|problem| refusal(&problem))
}

/// What an isolate keeps for the streams it sends requests to.
struct Edge {
    domain: Domain,
    settings: Settings,
    namespace: Namespace,
}

fn pass(request: &web_sys::Request, env: &Env) -> Result<JsValue, Problem> {
    let edge = edge(env)?;
    let address = address(request)?;
    let Some(name) = asked(&address, &edge.domain) else {
        return Ok(JsValue::UNDEFINED);
    };
    let head = head(request, address, Look::Sender)?;
    let refused = match (edge.settings.preflight(&head), name) {
        (Some(answer), _) => answer,
        (None, Err(error)) => answer::invalid(&error),
        (None, Ok(name)) => match edge.settings.authorise(&head) {
            Ok(()) => return edge.forward(request, &name),
            Err(problem) => answer::problem(&problem),
        },
    };
    let answer = edge.settings.dress(&head, refused).map(Body::Bytes);
    let answer = response(answer, &head.method)?;
    Ok(web_sys::Response::from(answer).into())
}

type Asked = Result<StreamName, pmx_sync::stream::http::InvalidRequest>;

/// Which stream an address is about; nothing if it is about none.
fn asked(address: &Uri, domain: &Domain) -> Option<Asked> {
    let host = address.authority()?.as_str();
    match resolve(host, domain) {
        Addressed::Api => name_of(address),
        Addressed::Site { .. } | Addressed::Unknown => None,
    }
}

impl Edge {
    /// Hands the request to the object of its stream, as it is.
    fn forward(&self, request: &web_sys::Request, name: &StreamName) -> Result<JsValue, Problem> {
        let failed = |thrown: JsValue| {
            let detail = format!("asking the stream {name}: {}", words(thrown));
            Problem::new(Code::Storage, detail)
        };
        let stub = self.namespace.get_by_name(name.as_str()).map_err(failed)?;
        stub.fetch(request).map_err(failed)
    }
}

fn refusal(problem: &Problem) -> JsValue {
    let answer = Settings::default();
    let (head, ()) = http::Request::new(()).into_parts();
    let answer = answer.dress(&head, answer::problem(problem));
    let answer: http::Response<Bytes> = answer;
    match response(answer.map(Body::Bytes), &head.method) {
        Ok(response) => web_sys::Response::from(response).into(),
        // There is nothing left to say it with.
        Err(_) => JsValue::UNDEFINED,
    }
}

thread_local! {
    static EDGE: OnceCell<Rc<Edge>> = const { OnceCell::new() };
}

fn edge(env: &Env) -> Result<Rc<Edge>, Problem> {
    EDGE.with(|kept| {
        if let Some(edge) = kept.get() {
            return Ok(Rc::clone(edge));
        }
        let edge = Rc::new(Edge {
            domain: isolate::domain(env)?,
            settings: StreamConfig::of(env).settings,
            namespace: isolate::streams(env)?.unchecked_into(),
        });
        Ok(Rc::clone(kept.get_or_init(|| edge)))
    })
}

// The answer goes from object to client without becoming one of this module's in between.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
extern "C" {
    /// The objects of all streams.
    type Namespace;

    #[wasm_bindgen(method, catch, js_name = getByName)]
    fn get_by_name(this: &Namespace, name: &str) -> Result<Stub, JsValue>;

    /// One of them.
    type Stub;

    #[wasm_bindgen(method, catch)]
    fn fetch(this: &Stub, request: &web_sys::Request) -> Result<JsValue, JsValue>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_api_has_streams() {
        let domain = Domain::parse("path.app").unwrap();
        for (address, expected) in [
            ("https://path.app/v1/stream/a/b", Some("a/b")),
            ("https://api.path.app/v1/stream/a?offset=-1", Some("a")),
            ("http://127.0.0.1:8787/v1/stream/a", Some("a")),
            ("https://path.app/v1/stream/", Some("")),
            ("https://docs.path.app/v1/stream/a", None),
            ("https://path.app/x/v1/stream/a", None),
            ("https://path.app/peers/lend", None),
            ("https://path.app/peers/lend?/v1/stream/", None),
        ] {
            let found = asked(&address.parse().unwrap(), &domain);
            let found = found.map(|name| name.map_or(String::new(), |name| name.to_string()));
            assert_eq!(found.as_deref(), expected, "{address}");
        }
    }
}
