//! Request admission by the operator's variables, before the server sees a request.

use std::cell::OnceCell;
use std::rc::Rc;

use http::HeaderValue;
use http::header::STRICT_TRANSPORT_SECURITY;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_sync::serve::{Hsts, Transport};
use worker::wasm_bindgen::JsValue;
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::{Env, Response, web_sys};

use crate::head;
use crate::response_body;
use crate::sampling::SampleRate;
use crate::streams::answer::{AnswerBody, response};

/// The operator's settings.
pub(crate) struct Front {
    transport: Transport,
    /// Which requests get a log line.
    pub(crate) logged: SampleRate,
    frames: Frames,
}

/// Whether the Worker sends zstd frames as R2 stores them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frames {
    /// To clients that accept zstd.
    Sent,
    /// Never: the Worker decompresses them, and the edge compresses its response.
    Opened,
}

impl Front {
    fn of(text: impl Fn(&str) -> Option<String>) -> Result<Self, Problem> {
        let wrong = |name: &'static str, wants: &'static str| {
            let detail = format!("reading the variable {name}: it has to be {wants}");
            move || Problem::new(Code::NotConfigured, detail)
        };
        let hsts = Hsts::parse(text("HSTS").as_deref());
        let hsts = hsts.ok_or_else(wrong("HSTS", "a number of seconds, or off"))?;
        let logged = SampleRate::parse(text("LOG_SAMPLE").as_deref());
        Ok(Self {
            transport: match text("SITE_SCHEME").as_deref() {
                Some("http") => Transport::Any,
                Some(_) | None => Transport::Encrypted(hsts),
            },
            logged: logged.ok_or_else(wrong("LOG_SAMPLE", "a share from 0 to 1"))?,
            frames: match text("ZSTD").as_deref() {
                None | Some("on") => Frames::Sent,
                Some("off") => Frames::Opened,
                Some(_) => return Err(wrong("ZSTD", "on or off")()),
            },
        })
    }

    /// The codings that the server assumes a client accepts.
    pub(crate) fn accepted(&self, client: Option<String>) -> Option<String> {
        match self.frames {
            Frames::Sent => client,
            Frames::Opened => Some(OPEN.to_owned()),
        }
    }

    /// Adds the headers with instructions to browsers.
    pub(crate) fn add_common_headers(&self, url: &str, answer: &Response) -> worker::Result<()> {
        let strict = url.parse().ok().and_then(|uri| self.transport.strict(&uri));
        let strict = strict.as_ref().map(HeaderValue::to_str);
        let Some(Ok(strict)) = strict else {
            return Ok(());
        };
        let headers = answer.headers();
        headers.set(STRICT_TRANSPORT_SECURITY.as_str(), strict)
    }
}

/// The codings that every edge applies to uncompressed bytes.
const OPEN: &str = "gzip, br";

thread_local! {
    static FRONT: OnceCell<Rc<Front>> = const { OnceCell::new() };
}

/// The front of this isolate, which its first request creates.
pub(crate) fn front(env: &Env) -> Result<Rc<Front>, Problem> {
    FRONT.with(|kept| {
        if let Some(front) = kept.get() {
            return Ok(Rc::clone(front));
        }
        let text = |name: &str| env.var(name).ok().map(|value| value.to_string());
        let front = Rc::new(Front::of(text)?);
        Ok(Rc::clone(kept.get_or_init(|| front)))
    })
}

/// Redirects or refuses a plain http request to an https server. Returns `undefined` if the request
/// needs neither.
#[expect(clippy::needless_pass_by_value, reason = "JavaScript hands them over")]
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
pub fn plain(request: web_sys::Request, env: Env) -> JsValue {
    let answer = match refused(&request, &env) {
        Ok(answer) => answer,
        Err(problem) => response_body::problem(&problem, &request.method()).ok(),
    };
    answer.map_or(JsValue::UNDEFINED, |answer| {
        web_sys::Response::from(answer).into()
    })
}

fn refused(request: &web_sys::Request, env: &Env) -> Result<Option<Response>, Problem> {
    let front = front(env)?;
    if front.transport == Transport::Any {
        return Ok(None);
    }
    let head = head::all(request)?;
    let Some(refusal) = front.transport.refusal(&head) else {
        return Ok(None);
    };
    crate::http::discard(request);
    response(refusal.map(AnswerBody::Bytes), &head.method).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(variables: &[(&str, &str)]) -> Result<Front, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Front::of(find).map_err(|problem| format!("{} {}", problem.code, problem.detail))
    }

    #[test]
    fn deployed_server_is_one_of_https() {
        assert!(matches!(
            front(&[]).unwrap().transport,
            Transport::Encrypted(_)
        ));
        let local = front(&[("SITE_SCHEME", "http")]).unwrap();
        assert_eq!(local.transport, Transport::Any);
    }

    #[test]
    fn client_without_frames_takes_the_coding_of_the_edge() {
        let accepted = |variables: &[(&str, &str)], client: &str| {
            front(variables).unwrap().accepted(Some(client.to_owned()))
        };
        let client = "gzip, br, zstd, dcz";
        assert_eq!(accepted(&[], client).as_deref(), Some(client));
        assert_eq!(accepted(&[("ZSTD", "off")], client).as_deref(), Some(OPEN));
    }

    #[test]
    fn invalid_variables_are_named() {
        for (name, value) in [("HSTS", "1y"), ("LOG_SAMPLE", "2"), ("ZSTD", "no")] {
            let refused = front(&[(name, value)]).err().unwrap();
            assert!(refused.starts_with("E_NOT_CONFIGURED"), "{refused}");
            assert!(refused.contains(name), "{refused}");
        }
    }
}
