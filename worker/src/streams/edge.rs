//! The edge: which requests are about streams, who may pass, and to which object they go.

use std::cell::OnceCell;
use std::rc::Rc;

use bytes::Bytes;
use http::Uri;
use http::request::Parts;
use pmx_core::exposure::Exposure;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_streams::http::{
    Admitted, Listing, STREAMS_PATH, Settings, TellTimes, answer, registry_refusal,
};
use pmx_streams::policy::Per;
use pmx_streams::subscription::http::{is_control, turned_away};
use pmx_sync::site::{Addressed, Hosts};
use worker::js_sys::Object;
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::{Env, web_sys};

use super::answer::{Body, sent};
use super::hub_client::HUB;
use super::limit::Limit;
use super::request::{Look, head};
use super::server_timing;
use super::settings::StreamConfig;
use crate::http::{discard, now};
use crate::isolate;
use crate::js_error::{unavailable, words};

/// Answers a request about a stream: with an answer, or with what promises one. `undefined` if the
/// request is about something else.
#[expect(clippy::needless_pass_by_value, reason = "JavaScript hands them over")]
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
pub fn stream(request: web_sys::Request, env: Env) -> JsValue {
    let url = request.url();
    // Sites may have such paths as well; most requests have not.
    if !url.contains(STREAMS_PATH) {
        return JsValue::UNDEFINED;
    }
    let outcome = pass(&request, &env);
    outcome.unwrap_or_else(|problem| failure(&problem))
}

/// What an isolate keeps for the streams it sends requests to.
struct Edge {
    hosts: Hosts,
    settings: Settings,
    limit: Limit,
    namespace: Namespace,
    hub: Namespace,
}

fn pass(request: &web_sys::Request, env: &Env) -> Result<JsValue, Problem> {
    let edge = edge(env)?;
    let head = head(request, Look::Sender)?;
    if !is_for_streams(&head.uri, &edge.hosts) {
        return Ok(JsValue::UNDEFINED);
    }
    let begun = now();
    let refusal = match edge.admitted(&head, begun) {
        Ok(Target::Hub) => return edge.hub.hand(request, HUB),
        Ok(Target::Stream(admitted)) => {
            match edge.limit.of_client(request, &head.method, &admitted) {
                None => {
                    let answering = edge.namespace.hand(request, admitted.name.as_str())?;
                    return Ok(match edge.settings.timing {
                        TellTimes::Always => server_timing::add_header(&answering, begun),
                        TellTimes::OnRequest => answering,
                    });
                }
                Some(refusal) => refusal,
            }
        }
        Err(refusal) => refusal,
    };
    discard(request);
    let refusal = edge
        .settings
        .add_common_headers(&head, refusal)
        .map(Body::Bytes);
    sent(refusal, &head.method).map(Into::into)
}

/// Whether an address is one that streams can have.
fn is_for_streams(address: &Uri, hosts: &Hosts) -> bool {
    let host = address.authority().map(http::uri::Authority::as_str);
    let addressed = host.map(|host| hosts.resolve(host, Exposure::Public));
    let is_api = addressed == Some(Addressed::Api);
    is_api && address.path().starts_with(STREAMS_PATH)
}

/// Who is asked.
enum Target {
    Hub,
    Stream(Admitted),
}

impl Edge {
    /// Whom a request may ask, by its head alone; or the answer that it gets without.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    fn admitted(&self, head: &Parts, now: Timestamp) -> Result<Target, http::Response<Bytes>> {
        if let Some(path) = head.uri.path().strip_prefix(STREAMS_PATH)
            && is_control(path)
        {
            return turned_away(&self.settings, head, path, now).map_or(Ok(Target::Hub), Err);
        }
        if Listing::is_asked(head) {
            return Listing::admitted(&self.settings, head, now).map(|_| Target::Hub);
        }
        let admitted = self.settings.admit(head, now)?;
        match registry_refusal(&admitted.name, &head.method) {
            Some(refusal) => Err(refusal),
            None => Ok(Target::Stream(admitted)),
        }
    }
}

impl Namespace {
    /// Hands the request to an object, as it is.
    fn hand(&self, request: &web_sys::Request, name: &str) -> Result<JsValue, Problem> {
        let failed =
            |thrown: JsValue| unavailable(format!("asking the object {name}"))(words(thrown));
        let stub = self.get_by_name(name).map_err(failed)?;
        stub.fetch(request).map_err(failed)
    }
}

/// Answers a request that an object did not: the platform failed while it was handed on.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
pub fn unanswered(thrown: JsValue) -> JsValue {
    failure(&unavailable("handing a request to its object")(words(
        thrown,
    )))
}

/// A failure before anything is known.
fn failure(problem: &Problem) -> JsValue {
    let (head, ()) = http::Request::new(()).into_parts();
    let answer = Settings::default().add_common_headers(&head, answer::problem(problem));
    let sent = sent(answer.map(Body::Bytes), &head.method);
    // There is nothing left to say it with.
    sent.map_or(JsValue::UNDEFINED, Into::into)
}

thread_local! {
    static EDGE: OnceCell<Rc<Edge>> = const { OnceCell::new() };
}

fn edge(env: &Env) -> Result<Rc<Edge>, Problem> {
    EDGE.with(|kept| {
        if let Some(edge) = kept.get() {
            return Ok(Rc::clone(edge));
        }
        let settings = StreamConfig::of(env)?.settings;
        let edge = Rc::new(Edge {
            hosts: isolate::hosts(env)?,
            limit: Limit::new(settings.rates, Per::Client),
            settings,
            namespace: isolate::streams(env)?.unchecked_into(),
            hub: isolate::hub(env)?.unchecked_into(),
        });
        Ok(Rc::clone(kept.get_or_init(|| edge)))
    })
}

// The answer goes from object to client without becoming one of this module's in between.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
extern "C" {
    /// The objects of a class.
    pub(crate) type Namespace;

    #[wasm_bindgen(method, catch, js_name = getByName)]
    pub(crate) fn get_by_name(this: &Namespace, name: &str) -> Result<Stub, JsValue>;

    #[wasm_bindgen(method, catch, js_name = getByName)]
    pub(crate) fn get_by_name_as(
        this: &Namespace,
        name: &str,
        options: &Object,
    ) -> Result<Stub, JsValue>;

    /// One of them.
    pub(crate) type Stub;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn fetch(this: &Stub, request: &web_sys::Request) -> Result<JsValue, JsValue>;
}

#[cfg(test)]
mod tests {
    use pmx_core::domain::Domain;

    use super::*;

    #[test]
    fn only_the_api_has_streams() {
        let hosts = Hosts::new(Domain::parse("path.app").unwrap());
        for (address, expected) in [
            ("https://path.app/v1/stream/a/b", true),
            ("https://api.path.app/v1/stream/a?offset=-1", true),
            ("http://127.0.0.1:8787/v1/stream/a", false),
            ("https://docs.path.app/v1/stream/a", false),
            ("https://path.app/x/v1/stream/a", false),
            ("https://path.app/peers", false),
            ("https://stream/peers?/v1/stream/", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(is_for_streams(&address, &hosts), expected, "{address}");
        }
    }
}
