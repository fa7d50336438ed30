//! The events of a site, as a reader of Durable Streams asks for them who does not wait. Those who
//! wait are the platform's, which has the sockets.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};

use super::backend::{Backend, Spaces};
use super::body::Body;
use super::server::Server;
use crate::code::Code;
use crate::live::{EVENTS_PATH, Listener, dress, is_compact, listener};
use crate::name::SpaceName;
use crate::site::{Addressed, Selector};
use crate::space::{Command, Reply};
use crate::stream::http::{Call, Cursor, InvalidRequest, Live, answer};
use crate::stream::{From, Page, Read};
use crate::time::Timestamp;
use crate::wire::Problem;

impl<B: Backend> Server<B> {
    /// Whether a request waits for the events of a site, and how; or the answer that refuses it.
    /// What does not wait is for [`Server::handle`].
    pub fn listener(&self, head: &Parts) -> Option<Result<Listener, Response<Bytes>>> {
        if !is_events(head) {
            return None;
        }
        match self.addressed(head) {
            Addressed::Site {
                space,
                deploy: Selector::Active,
            } => listener(head, &space),
            Addressed::Site { .. } | Addressed::Api | Addressed::Unknown => None,
        }
    }

    /// Answers a reader of a site's events. Only deploys write them.
    pub(super) async fn events(
        &self,
        space: &SpaceName,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let answer = match Call::parse(head) {
            Ok(Call::Get(get)) if get.live == Live::CatchUp => {
                let compact = is_compact(head);
                let page = self.log(space, get.read, compact, now).await?;
                answer::page(&get, &page, Cursor::after(None, now, 0))
            }
            Ok(Call::Head) => {
                let tail = Read { from: From::Now };
                answer::view(&self.log(space, tail, false, now).await?.view)
            }
            Ok(Call::Get(_)) => {
                let (name, why) = ("live", "this server has nobody wait");
                answer::invalid(&InvalidRequest::Query { name, why })
            }
            Ok(Call::Create(_) | Call::Append(_) | Call::Delete) => {
                answer::invalid(&InvalidRequest::Method(head.method.clone()))
            }
            Err(error) => answer::invalid(&error),
        };
        Ok(dress(answer).map(Body::Bytes))
    }

    /// Reads the log of what a site's deploys changed.
    pub async fn log(
        &self,
        space: &SpaceName,
        read: Read,
        compact: bool,
        now: Timestamp,
    ) -> Result<Page, Problem> {
        let command = Command::Events { read, compact };
        match self.backend().spaces().call(space, command, now).await? {
            Reply::Events(page) => Ok(*page),
            other => {
                let detail = format!("a space answered a reader of its events with {other:?}");
                Err(Problem::new(Code::Storage, detail))
            }
        }
    }
}

/// Whether the request is one for a site's events.
pub(super) fn is_events(head: &Parts) -> bool {
    let reads = [Method::GET, Method::HEAD];
    head.uri.path() == EVENTS_PATH && reads.contains(&head.method)
}
