//! Event requests at the edge: sends each to the object of its site's space.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, IF_NONE_MATCH, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::request::Parts;
use http::{HeaderName, Method, Response};
use pmx_core::problem::Problem;
use pmx_sync::live::{EVENTS_PATH, EventReader, EventRequest, refused};
use worker::js_sys::futures::{JsFuture, future_to_promise};
use worker::js_sys::{Object, Promise, Reflect};
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen::{JsCast as _, JsValue};
use worker::{Env, web_sys};

use crate::event_rate_limit;
use crate::handle;
use crate::head::{Names, picked};
use crate::http::now;
use crate::isolate;
use crate::js_error::words;
use crate::streams::answer::{self, AnswerBody};
use crate::streams::edge::Namespace;

/// Answers an event request with a response or a promise of one. Returns `undefined` for any other
/// request.
#[expect(clippy::needless_pass_by_value, reason = "JavaScript hands them over")]
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
pub fn live(request: web_sys::Request, env: Env) -> JsValue {
    let url = request.url();
    // Most requests have no such path.
    if !url.contains(EVENTS_PATH) {
        return JsValue::UNDEFINED;
    }
    match pass(&request, &env) {
        Ok(answer) => answer,
        Err(problem) => sent(refused(&problem)),
    }
}

fn pass(request: &web_sys::Request, env: &Env) -> Result<JsValue, Problem> {
    let head = head(request)?;
    let server = isolate::server(env)?;
    if server.custom_host(&head).is_some() {
        return Ok(of_custom_host(head, request, env));
    }
    match server.listener(&head) {
        None => Ok(JsValue::UNDEFINED),
        Some(Err(refusal)) => Ok(sent(refusal)),
        Some(Ok(listener)) if listener.access == EventReader::Holder => {
            hand_on(&listener, request, env)
        }
        Some(Ok(listener)) => {
            // The handle is cloned, not the request.
            let (request, env) = (Clone::clone(request), env.clone());
            let answering = async move { visited(&listener, &request, &env).await };
            Ok(future_to_promise(AssertUnwindSafe(answering)).into())
        }
    }
}

/// Answers an event request of a visitor.
async fn visited(
    listener: &EventRequest,
    request: &web_sys::Request,
    env: &Env,
) -> Result<JsValue, JsValue> {
    let answer = async {
        event_rate_limit::admit(env, request, &listener.channel).await?;
        let server = isolate::server(env)?;
        server.admit_listener(listener, now()).await?;
        hand_on(listener, request, env)
    };
    match answer.await {
        Ok(answer) => JsFuture::from(Promise::from(answer)).await,
        Err(problem) => Ok(sent(refused(&problem))),
    }
}

/// Answers a request whose custom host has to be looked up, with a promise: an event request as
/// [`pass`] does, any other as the rest of the Worker does.
fn of_custom_host(mut head: Parts, request: &web_sys::Request, env: &Env) -> JsValue {
    let (request, env) = (Clone::clone(request), env.clone());
    let answering = async move {
        let found = async {
            let server = isolate::server(&env)?;
            server.find_custom_site(&mut head, now()).await?;
            Ok(server.listener(&head))
        };
        match found.await {
            Err(problem) => Ok(sent(refused(&problem))),
            Ok(Some(Err(refusal))) => Ok(sent(refusal)),
            Ok(Some(Ok(listener))) if listener.access == EventReader::Holder => {
                match hand_on(&listener, &request, &env) {
                    Ok(answer) => JsFuture::from(Promise::from(answer)).await,
                    Err(problem) => Ok(sent(refused(&problem))),
                }
            }
            Ok(Some(Ok(listener))) => visited(&listener, &request, &env).await,
            Ok(None) => {
                let answer = handle::answer(&request.into(), &env).await;
                answer
                    .map(|answer| web_sys::Response::from(answer).into())
                    .map_err(Into::into)
            }
        }
    };
    future_to_promise(AssertUnwindSafe(answering)).into()
}

/// Forwards a request to its space, and returns its response, both unchanged.
fn hand_on(
    listener: &EventRequest,
    request: &web_sys::Request,
    env: &Env,
) -> Result<JsValue, Problem> {
    let space = &listener.channel.space;
    let failed = |thrown: JsValue| {
        let doing = format!("asking the space {space}");
        crate::js_error::unavailable(doing)(words(thrown))
    };
    let namespace: Namespace = isolate::spaces(env)?.unchecked_into();
    let options = Object::new();
    if let Some(hint) = isolate::location_hint(env)? {
        let hint = JsValue::from_str(hint.as_str());
        Reflect::set(&options, &"locationHint".into(), &hint).map_err(failed)?;
    }
    let stub = namespace.get_by_name_as(space.as_str(), &options);
    let stub = stub.map_err(failed)?;
    stub.fetch(request).map_err(failed)
}

thread_local! {
    static NAMES: Names = Names::new(|_| {
        let last_event = HeaderName::from_static("last-event-id");
        vec![
            ORIGIN,
            UPGRADE,
            CONNECTION,
            AUTHORIZATION,
            SEC_WEBSOCKET_PROTOCOL,
            IF_NONE_MATCH,
            last_event,
        ]
    });
}

/// The head of a request, with the headers that matter to an event request.
pub(super) fn head(request: &web_sys::Request) -> Result<Parts, Problem> {
    NAMES.with(|names| picked(request, names))
}

fn sent(answer: Response<Bytes>) -> JsValue {
    let sent = answer::sent(answer.map(AnswerBody::Bytes), &Method::GET);
    // If even this response fails, there is none.
    sent.map_or(JsValue::UNDEFINED, Into::into)
}
