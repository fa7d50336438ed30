//! Request handling on the Worker: from the runtime's request to its response.

use bytes::Bytes;
use http::Extensions;
use pmx_core::country::Country;
use pmx_core::incident::Audience;
use pmx_core::problem::Problem;
use pmx_sync::live::refused;
use pmx_sync::serve::{Body, Nonce};
use worker::js_sys::Math;
use worker::{Env, Request, Response, console_log};

use crate::access_log;
use crate::admission::front;
use crate::event_rate_limit;
use crate::head;
use crate::http::{announced_body, discard, now, random};
use crate::isolate::{room, server};
use crate::op_counts;
use crate::response_body;
use crate::sampling::By;

/// Answers a request; each failure becomes a problem response.
pub(crate) async fn answer(request: &Request, env: &Env) -> worker::Result<Response> {
    let started = now();
    let method = request.inner().method();
    let url = request.inner().url();
    let (response, audience) = match respond(request, env).await {
        Ok(answer) => answer,
        Err(failure) => (
            response_body::problem(&failure, &method)?,
            Audience::Stranger,
        ),
    };
    let millis = now().as_millis().saturating_sub(started.as_millis());
    if let Ok(front) = front(env) {
        front.add_common_headers(&url, &response)?;
        let status = response.status_code();
        if front.logged.takes(by(audience), status, Math::random()) {
            let (operations, memory) = (op_counts::take(), op_counts::memory());
            let line = access_log::request(&method, &url, status, millis, &operations, memory);
            console_log!("{line}");
        }
    }
    Ok(response)
}

const fn by(audience: Audience) -> By {
    match audience {
        Audience::Publisher => By::Publisher,
        Audience::Stranger => By::Reader,
    }
}

async fn respond(request: &Request, env: &Env) -> Result<(Response, Audience), Problem> {
    let (server, front) = (server(env)?, front(env)?);
    let mut head = head::all(request.inner())?;
    server.find_custom_site(&mut head, now()).await?;
    let audience = server.audience(&head);
    if let Some(channel) = server.visited(&head)
        && let Err(problem) = event_rate_limit::admit(env, request.inner(), &channel).await
    {
        let refusal = refused(&problem).map(Body::Bytes);
        let response = response_body::response(refusal, &server, audience).await?;
        return Ok((response, audience));
    }
    let answer = match server.admit(&head) {
        Ok(limit) => {
            let raw = request.inner();
            let (body, share) = if server.is_api(&head) {
                let announced = head::announced(&head.headers);
                let share = room(raw, announced, limit).inspect_err(|_| discard(raw))?;
                (announced_body(raw, announced, limit).await?, Some(share))
            } else {
                // A site answers without the body that a client may have sent.
                discard(raw);
                head.extensions.extend(country(request));
                (Bytes::new(), None)
            };
            let encodings = front.accepted(head::accepted_encodings(request.inner()));
            let request = http::Request::from_parts(head, body);
            let encodings = encodings.as_deref();
            let answer = server.handle(request, encodings, now(), nonce()?).await;
            drop(share);
            answer
        }
        Err(refusal) => {
            discard(request.inner());
            refusal
        }
    };
    let response = response_body::response(answer, &server, audience).await?;
    Ok((response, audience))
}

/// The client's country, as the platform knows it.
fn country(request: &Request) -> Extensions {
    let country = request.cf().and_then(worker::Cf::country);
    let mut known = Extensions::new();
    if let Some(country) = country.as_deref().and_then(Country::parse) {
        known.insert(country);
    }
    known
}

fn nonce() -> Result<Nonce, Problem> {
    random().map(Nonce)
}
