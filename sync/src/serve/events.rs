//! The events of a site, as a reader of Durable Streams asks for them who does not wait. Those who
//! wait are the platform's, which has the sockets.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};

use super::backend::{Backend, Spaces};
use super::body::Body;
use super::server::Server;
use crate::channel::Channel;
use crate::code::Code;
use crate::live::{EVENTS_PATH, Listener, dress, is_compact, listener};
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
        listener(head, &channel(&self.addressed(head))?)
    }

    /// Answers a reader of a site's events. Only deploys write them.
    pub(super) async fn events(
        &self,
        channel: &Channel,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let answer = match Call::parse(head) {
            Ok(Call::Get(get)) if get.live == Live::CatchUp => {
                let compact = is_compact(head);
                let page = self.log(channel, get.read, compact, now).await?;
                answer::page(&get, &page, Cursor::after(None, now, 0))
            }
            Ok(Call::Head) => {
                let tail = Read { from: From::Now };
                answer::view(&self.log(channel, tail, false, now).await?.view)
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

    /// Reads the log of what the deploys of a site, or of a preview, changed.
    pub async fn log(
        &self,
        channel: &Channel,
        read: Read,
        compact: bool,
        now: Timestamp,
    ) -> Result<Page, Problem> {
        let command = Command::Events {
            alias: channel.alias.clone(),
            read,
            compact,
        };
        let spaces = self.backend().spaces();
        match spaces.call(&channel.space, command, now).await? {
            Reply::Events(page) => Ok(*page),
            other => {
                let detail = format!("a space answered a reader of its events with {other:?}");
                Err(Problem::new(Code::Storage, detail))
            }
        }
    }
}

/// The channel whose events a host tells. A deploy at its own number has none: nothing follows it.
pub(super) fn channel(addressed: &Addressed) -> Option<Channel> {
    match addressed {
        Addressed::Site { space, deploy } => {
            let alias = match deploy {
                Selector::Active => None,
                Selector::Alias(alias) => Some(alias.clone()),
                Selector::Number(_) => return None,
            };
            let space = space.clone();
            Some(Channel { space, alias })
        }
        Addressed::Api | Addressed::Unknown => None,
    }
}

/// Whether the request is one for a site's events.
pub(super) fn is_events(head: &Parts) -> bool {
    let reads = [Method::GET, Method::HEAD];
    head.uri.path() == EVENTS_PATH && reads.contains(&head.method)
}
