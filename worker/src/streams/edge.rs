//! Edge of streams: recognises requests for streams, checks access and forwards them to objects.

use std::cell::OnceCell;
use std::rc::Rc;

use bytes::Bytes;
use http::Uri;
use http::request::Parts;
use pmx_core::exposure::Exposure;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_streams::http::{
    Admitted, ListRequest, STREAMS_PATH, StreamSettings, TimingAudience, answer, registry_refusal,
};
use pmx_streams::policy::Per;
use pmx_streams::subscription::http::{early_response, is_control};
use pmx_sync::site::{Addressed, Hosts};
use worker::js_sys::Object;
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::{Env, web_sys};

use super::answer::{AnswerBody, sent};
use super::hub_client::HUB;
use super::limit::Limit;
use super::request::{HeadReader, head};
use super::server_timing;
use super::settings::StreamConfig;
use crate::http::{discard, now};
use crate::isolate;
use crate::js_error::{unavailable, words};

/// Answers a request for a stream with a response or a promise of one. `undefined` if the request
/// is not for a stream.
#[expect(clippy::needless_pass_by_value, reason = "JavaScript hands them over")]
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
pub fn stream(request: web_sys::Request, env: Env) -> JsValue {
    let url = request.url();
    // A cheap test first: most requests do not have this path. Sites may have it too.
    if !url.contains(STREAMS_PATH) {
        return JsValue::UNDEFINED;
    }
    let outcome = forward(&request, &env);
    outcome.unwrap_or_else(|problem| failure(&problem))
}

/// State that an isolate keeps for forwarding.
struct Edge {
    hosts: Hosts,
    settings: StreamSettings,
    limit: Limit,
    namespace: Namespace,
    hub: Namespace,
}

fn forward(request: &web_sys::Request, env: &Env) -> Result<JsValue, Problem> {
    let edge = edge(env)?;
    let head = head(request, HeadReader::Edge)?;
    if !is_for_streams(&head.uri, &edge.hosts) {
        return Ok(JsValue::UNDEFINED);
    }
    let begun = now();
    let refusal = match edge.admitted(&head, begun) {
        Ok(Target::Hub) => return edge.hub.forward(request, HUB),
        Ok(Target::Stream(admitted)) => {
            match edge.limit.of_client(request, &head.method, &admitted) {
                None => {
                    let answering = edge.namespace.forward(request, admitted.name.as_str())?;
                    return Ok(match edge.settings.timing {
                        TimingAudience::Always => server_timing::add_header(&answering, begun),
                        TimingAudience::OnRequest => answering,
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
        .map(AnswerBody::Bytes);
    sent(refusal, &head.method).map(Into::into)
}

/// Whether an address belongs to streams: a path of the API's host.
fn is_for_streams(address: &Uri, hosts: &Hosts) -> bool {
    let host = address.authority().map(http::uri::Authority::as_str);
    let addressed = host.map(|host| hosts.resolve(host, Exposure::Public));
    let is_api = addressed == Some(Addressed::Api);
    is_api && address.path().starts_with(STREAMS_PATH)
}

/// The object that a request goes to.
enum Target {
    Hub,
    Stream(Admitted),
}

impl Edge {
    /// The object of a request, by its head alone, or the response that needs no object.
    #[expect(
        clippy::result_large_err,
        reason = "the answer is made once for each refusal"
    )]
    fn admitted(&self, head: &Parts, now: Timestamp) -> Result<Target, http::Response<Bytes>> {
        if let Some(path) = head.uri.path().strip_prefix(STREAMS_PATH)
            && is_control(path)
        {
            let response = early_response(&self.settings, head, path, now);
            return response.map_or(Ok(Target::Hub), Err);
        }
        if ListRequest::is_requested(head) {
            return ListRequest::admitted(&self.settings, head, now).map(|_| Target::Hub);
        }
        let admitted = self.settings.admit(head, now)?;
        match registry_refusal(&admitted.name, &head.method) {
            Some(refusal) => Err(refusal),
            None => Ok(Target::Stream(admitted)),
        }
    }
}

impl Namespace {
    /// Forwards the request unchanged to an object.
    fn forward(&self, request: &web_sys::Request, name: &str) -> Result<JsValue, Problem> {
        let failed =
            |thrown: JsValue| unavailable(format!("asking the object {name}"))(words(thrown));
        let stub = self.get_by_name(name).map_err(failed)?;
        stub.fetch(request).map_err(failed)
    }
}

/// The response to a request that the platform failed to forward.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
pub fn unanswered(thrown: JsValue) -> JsValue {
    failure(&unavailable("handing a request to its object")(words(
        thrown,
    )))
}

/// The response to a failure before the settings are known.
fn failure(problem: &Problem) -> JsValue {
    let (head, ()) = http::Request::new(()).into_parts();
    let answer = StreamSettings::default().add_common_headers(&head, answer::problem(problem));
    let sent = sent(answer.map(AnswerBody::Bytes), &head.method);
    // If even this response fails, there is none.
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

// These types let a response go from object to client without a conversion in this module.
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

    /// A stub of one object.
    pub(crate) type Stub;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn fetch(this: &Stub, request: &web_sys::Request) -> Result<JsValue, JsValue>;
}

#[cfg(test)]
mod tests {
    use pmx_core::domain::Domain;

    use super::*;

    #[test]
    fn is_for_streams_only_on_the_host_of_the_api() {
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
