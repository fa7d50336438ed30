//! Event log reads: the changes of a site's deploys, for readers of Durable Streams and for open
//! pages.
//!
//! The server answers a read that does not wait. The platform, which has the sockets, serves reads
//! that wait. A platform whose space reads its own log passes itself as the [`Spaces`].

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_streams::http::{InvalidRequest, LiveCursor, LiveMode, StreamRequest, answer};
use pmx_streams::{From, Offset, Page, Read};

use super::auth::authorise;
use super::backend::{Backend, Pointers, Spaces};
use super::body::Body;
use super::min_deploy::DEPLOY_TOKEN;
use super::question_budget::Question;
use super::server::{LivePages, Server};
use crate::limits::{EVENT_PATHS_MAX, LIVE_PATHS_MAX};
use crate::live::{
    ChangeMessage, DeliveryMode, EVENTS_PATH, EventBatch, EventReader, EventRequest,
    add_event_headers, events_closed, is_compact, parse,
};
use crate::pointer::Pointer;
use crate::site::Addressed;
use crate::space::{Command, Reply};

/// A page of a channel's log, and whether visitors may read lists of paths there.
struct Log {
    page: Page,
    is_open: bool,
}

/// The reader of a log, the space to ask, and the time.
struct Asker<'a, S> {
    spaces: &'a S,
    channel: &'a Channel,
    reader: EventReader,
    now: Timestamp,
}

impl<B: Backend> Server<B> {
    /// Parses a request that waits for the events of a site, or returns the answer that refuses it.
    /// [`Server::handle`] answers requests that do not wait. [`Server::admit_listener`] decides
    /// whether the reader may wait.
    pub fn listener(&self, head: &Parts) -> Option<Result<EventRequest, Response<Bytes>>> {
        if !is_events(head) {
            return None;
        }
        parse(head, &channel(&self.addressed(head))?, self.reader(head))
    }

    /// The channel whose events a request without the publish secret reads: the server may have to
    /// ask its space.
    pub fn visited(&self, head: &Parts) -> Option<Channel> {
        let is_visit = is_events(head) && self.reader(head) == EventReader::Visitor;
        is_visit.then(|| channel(&self.addressed(head))).flatten()
    }

    fn reader(&self, head: &Parts) -> EventReader {
        match authorise(&head.headers, self.publish_secret()) {
            Ok(()) => EventReader::Holder,
            Err(_) => EventReader::Visitor,
        }
    }

    /// Checks by the channel's pointer whether a reader may wait for events, before the space is
    /// asked.
    pub async fn admit_listener(
        &self,
        listener: &EventRequest,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let channel = &listener.channel;
        match listener.mode {
            // The session decides for each subscription what a socket's visitor may receive.
            DeliveryMode::Socket(_) if listener.access == EventReader::Visitor => {
                self.pointer_of(channel, now).await.map(drop)
            }
            DeliveryMode::Socket(_) => Ok(()),
            DeliveryMode::Poll(_) | DeliveryMode::Events(_) => {
                self.admit_list(channel, listener.access, now).await
            }
        }
    }

    /// Checks by the channel's pointer whether a reader may have lists of its paths. A holder
    /// always passes: the pointer of its channel may lag, so the space decides.
    async fn admit_list(
        &self,
        channel: &Channel,
        reader: EventReader,
        now: Timestamp,
    ) -> Result<(), Problem> {
        if reader == EventReader::Holder {
            return Ok(());
        }
        let pointer = self.pointer_of(channel, now).await?;
        let is_open = pointer.live || pointer.events || channel.alias.is_some();
        if is_open || self.live() == LivePages::All {
            Ok(())
        } else {
            Err(events_closed())
        }
    }

    /// The pointer of a channel; a problem if there is none.
    async fn pointer_of(&self, channel: &Channel, now: Timestamp) -> Result<Pointer, Problem> {
        let pointer = self.backend().pointers().read(channel).await?;
        let pointer = match pointer.filter(|pointer| pointer.is_shown(now)) {
            Some(pointer) => Some(pointer),
            None => self.newer_pointer(channel, None, now).await?,
        };
        pointer.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no site {channel}")))
    }

    /// Answers a reader of a site's events. Only deploys write them.
    pub(super) async fn events(
        &self,
        channel: &Channel,
        head: &Parts,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let reader = self.reader(head);
        let answer = match StreamRequest::parse(head) {
            Ok(StreamRequest::Get(get)) if get.live == LiveMode::CatchUp => {
                self.admit_list(channel, reader, now).await?;
                let compact = is_compact(head);
                let page = self.log(channel, get.read, compact, reader, now).await?;
                let answer = answer::page(&get, &page, LiveCursor::after(None, now, 0));
                self.with_token(answer, channel, &page)
            }
            Ok(StreamRequest::Head) => {
                self.admit_list(channel, reader, now).await?;
                let tail = Read { from: From::Now };
                let page = self.log(channel, tail, false, reader, now).await?;
                self.with_token(answer::view(&page.view), channel, &page)
            }
            Ok(StreamRequest::Get(_)) => {
                let (name, why) = ("live", "this server does not hold requests open");
                answer::invalid(&InvalidRequest::Query { name, why })
            }
            Ok(StreamRequest::Create(_) | StreamRequest::Append(_) | StreamRequest::Delete) => {
                answer::invalid(&InvalidRequest::Method(head.method.clone()))
            }
            Err(error) => answer::invalid(&error),
        };
        Ok(add_event_headers(answer).map(Body::Bytes))
    }

    /// Adds the deploy token of the page's last deploy to its answer.
    fn with_token(
        &self,
        mut answer: Response<Bytes>,
        channel: &Channel,
        page: &Page,
    ) -> Response<Bytes> {
        let token = self.tokens().token(channel, page.end.position());
        if let Some(Ok(token)) = token.as_deref().map(HeaderValue::from_str) {
            answer.headers_mut().insert(DEPLOY_TOKEN, token);
        }
        answer
    }

    /// Reads the log of changes by the deploys of a site, or of a preview.
    pub async fn log(
        &self,
        channel: &Channel,
        read: Read,
        compact: bool,
        reader: EventReader,
        now: Timestamp,
    ) -> Result<Page, Problem> {
        let spaces = self.backend().spaces();
        self.log_of(spaces, channel, read, compact, reader, now)
            .await
    }

    /// Like [`Self::log`], but asks `spaces`. Each message has a deploy token.
    pub async fn log_of<S: Spaces>(
        &self,
        spaces: &S,
        channel: &Channel,
        read: Read,
        compact: bool,
        reader: EventReader,
        now: Timestamp,
    ) -> Result<Page, Problem> {
        self.count(channel, reader, Question::Known, now)?;
        let asker = Asker {
            spaces,
            channel,
            reader,
            now,
        };
        let Log { page, is_open } = self.look(&asker, read, compact).await?;
        if reader == EventReader::Visitor && !is_open {
            return Err(events_closed());
        }
        self.with_tokens(channel, page)
    }

    fn with_tokens(&self, channel: &Channel, page: Page) -> Result<Page, Problem> {
        if page.body.is_empty() {
            return Ok(page);
        }
        let mut messages = ChangeMessage::list(&page).map_err(|error| unread(&error))?;
        for message in &mut messages {
            message.know = self.tokens().token(channel, message.deploy);
        }
        let body = written(&messages)?;
        Ok(Page { body, ..page })
    }

    /// Reads the log for sockets, and completes truncated messages with all changes. Also returns
    /// the page that it read.
    pub async fn event_batch<S: Spaces>(
        &self,
        spaces: &S,
        channel: &Channel,
        read: Read,
        compact: bool,
        now: Timestamp,
    ) -> Result<(Page, EventBatch), Problem> {
        // Reads that follow a deploy are not counted; reads that catch up are, as any visitor's.
        let asker = Asker {
            spaces,
            channel,
            reader: EventReader::Visitor,
            now,
        };
        let Log { page, is_open } = self.look(&asker, read, compact).await?;
        let token = |deploy| self.tokens().token(channel, deploy);
        let mut batch = EventBatch::of(&page, is_open, token).map_err(|error| unread(&error))?;
        for (from, to) in batch.truncated() {
            let net = self.net(&asker, (from, to), LIVE_PATHS_MAX);
            // The space no longer has the deploy: the message stays truncated.
            if let Ok(net) = net.await {
                batch.complete(net);
            }
        }
        Ok((page, batch))
    }

    fn count(
        &self,
        channel: &Channel,
        reader: EventReader,
        question: Question,
        now: Timestamp,
    ) -> Result<(), Problem> {
        match reader {
            EventReader::Holder => Ok(()),
            EventReader::Visitor => self.questions().take(Some(&channel.space), question, now),
        }
    }

    async fn look<S: Spaces>(
        &self,
        asker: &Asker<'_, S>,
        read: Read,
        compact: bool,
    ) -> Result<Log, Problem> {
        let start = match read.from {
            From::Now => return self.look_at(asker, read).await,
            _ if !compact => return self.look_at(asker, read).await,
            From::Start => Offset::ZERO,
            From::At(offset) => offset,
        };
        let tail = Read { from: From::Now };
        let Log { page, is_open } = self.look_at(asker, tail).await?;
        let (from, to) = (start.position(), page.end.position());
        if from >= to {
            return self.look_at(asker, read).await;
        }
        let net = self.net(asker, (from, to), EVENT_PATHS_MAX);
        let body = written(&[net.await?])?;
        let page = Page {
            start,
            body,
            ..page
        };
        Ok(Log { page, is_open })
    }

    async fn look_at<S: Spaces>(&self, asker: &Asker<'_, S>, read: Read) -> Result<Log, Problem> {
        let Asker {
            spaces,
            channel,
            now,
            ..
        } = *asker;
        let command = Command::Events {
            alias: channel.alias.clone(),
            read,
        };
        match spaces.call(&channel.space, command, now).await? {
            Reply::Events { page, is_open } => Ok(Log {
                page: *page,
                is_open: is_open || self.live() == LivePages::All,
            }),
            other => {
                let detail = format!("a space answered a reader of its events with {other:?}");
                Err(Problem::new(Code::Storage, detail))
            }
        }
    }

    /// The changes from one deploy to another. Deploys never change, so the server caches the
    /// answer. A deploy that does not exist counts against the budget of anonymous questions.
    async fn net<S: Spaces>(
        &self,
        asker: &Asker<'_, S>,
        (from, to): (u64, u64),
        most: usize,
    ) -> Result<ChangeMessage, Problem> {
        let Asker {
            spaces,
            channel,
            reader,
            now,
        } = *asker;
        let key = (channel.space.clone(), from, to, most);
        if let Some(net) = self.nets().find(&key) {
            return Ok(net);
        }
        self.count(channel, reader, Question::Difference, now)?;
        let command = Command::DiffSince { from, to, most };
        match spaces.call(&channel.space, command, now).await? {
            Reply::DiffSince(net) => {
                self.nets().insert(key, (*net).clone(), net.bytes() + 256);
                Ok(*net)
            }
            other => {
                let detail = format!("a space answered a comparison with {other:?}");
                Err(Problem::new(Code::Storage, detail))
            }
        }
    }
}

/// Encodes messages as a page of the log.
fn written(messages: &[ChangeMessage]) -> Result<Bytes, Problem> {
    let failed = |error| Problem::new(Code::Storage, format!("writing an event: {error}"));
    let spelt: Result<Vec<_>, _> = messages.iter().map(serde_json::to_vec).collect();
    Ok(spelt.map_err(failed)?.join(&b',').into())
}

fn unread(error: &serde_json::Error) -> Problem {
    Problem::new(Code::Corrupt, format!("reading events: {error}"))
}

/// The channel whose events a host serves. A host of one numbered deploy has none.
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

/// Whether a request reads a site's events.
pub(super) fn is_events(head: &Parts) -> bool {
    let reads = [Method::GET, Method::HEAD];
    head.uri.path() == EVENTS_PATH && reads.contains(&head.method)
}
