//! The events of a site, as a reader of Durable Streams asks for them.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, Response};

use super::backend::{Backend, Spaces};
use super::body::Body;
use super::server::Server;
use crate::code::Code;
use crate::name::SpaceName;
use crate::space::{Command, Reply};
use crate::stream::http::{Call, Cursor, InvalidRequest, Live, answer};
use crate::time::Timestamp;
use crate::wire::Problem;

/// Where a site tells what its deploys changed.
pub(super) const EVENTS_PATH: &str = "/_events";

impl<B: Backend> Server<B> {
    /// Answers a reader of a site's events. Only deploys write them.
    pub(super) async fn events(
        &self,
        space: &SpaceName,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let answer = match Call::parse(head) {
            Ok(Call::Get(get)) if get.live == Live::CatchUp => {
                let command = Command::Events(get.read);
                match self.backend().spaces().call(space, command, now).await? {
                    Reply::Events(page) => answer::page(&get, &page, Cursor::after(None, now, 0)),
                    other => return Err(unexpected(&other)),
                }
            }
            Ok(Call::Head) => {
                let command = Command::Events(crate::stream::Read {
                    from: crate::stream::From::Now,
                });
                match self.backend().spaces().call(space, command, now).await? {
                    Reply::Events(page) => answer::view(&page.view),
                    other => return Err(unexpected(&other)),
                }
            }
            Ok(Call::Get(_)) => {
                let name = "live";
                let why = "a site's events are read by catching up; live reads are not there yet";
                answer::invalid(&InvalidRequest::Query { name, why })
            }
            Ok(Call::Create(_) | Call::Append(_) | Call::Delete) => {
                answer::invalid(&InvalidRequest::Method(head.method.clone()))
            }
            Err(error) => answer::invalid(&error),
        };
        Ok(dress(answer))
    }
}

/// Whether the request is one for a site's events.
pub(super) fn is_events(head: &Parts) -> bool {
    let reads = [Method::GET, Method::HEAD];
    head.uri.path() == EVENTS_PATH && reads.contains(&head.method)
}

fn dress(answer: Response<Bytes>) -> Response<Body> {
    let mut answer = answer.map(Body::Bytes);
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let caching = headers.entry(CACHE_CONTROL);
    caching.or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn unexpected(reply: &Reply) -> Problem {
    let detail = format!("a space answered a reader of its events with {reply:?}");
    Problem::new(Code::Storage, detail)
}
