//! Subscription engine: handles calls, and events of streams.
//!
//! Each method is one turn: call it inside [`Sql::atomically`]. A turn that refuses has written
//! nothing, so many of them can share one transaction.

use std::sync::Arc;

use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::call::{Answer, Call, Refusal, RequiredTails, TailOffsets};
use super::config::{Config, Delivery};
use super::id::SubscriptionId;
use super::ledger::{Ledger, Link, LinkKind, Record, millis};
use super::pattern::{Pattern, is_reserved};
use super::patterns::{Followed, PatternCache};
use super::secret::{Secret, WakeRef};
use super::view::{LinkView, Signing, SubscriptionView, WebhookView, keys_url, rfc3339};
use super::wake::PAST;
use crate::limits::{SUBSCRIPTION_STREAMS_MAX, SUBSCRIPTIONS_MAX};
use crate::{Offset, StreamName};

/// The subscriptions of a server, for the length of a turn.
pub struct Subscriptions<'a, S> {
    pub(super) ledger: Ledger<'a, S>,
    pub(super) secret: Secret,
    cache: PatternCache,
}

impl<'a, S: Sql> Subscriptions<'a, S> {
    /// Makes the tables, unless they are there. `seed` is random, and counts only the first time:
    /// the keys come from it.
    pub fn install(sql: &'a S, seed: [u8; 32]) -> Result<(), SchemaError> {
        Ledger(sql).install(seed)
    }

    /// Opens what [`install`](Self::install) made.
    pub fn open(sql: &'a S) -> Result<Self, SqlError> {
        let ledger = Ledger(sql);
        let secret = ledger.secret()?;
        let cache = PatternCache::default();
        Ok(Self {
            ledger,
            secret,
            cache,
        })
    }

    /// The same with a cache of patterns that outlives the turn.
    #[must_use]
    pub fn with_cache(self, cache: &PatternCache) -> Self {
        let cache = cache.clone();
        Self { cache, ..self }
    }

    /// Which tails [`handle`](Self::handle) needs. Every append afterwards is reported by
    /// [`on_append`](Self::on_append), before its writer is notified of it.
    pub fn required_tails(&self, call: &Call) -> Result<RequiredTails, SqlError> {
        Ok(match call {
            // It is confirmed as it is, or refused.
            Call::Create { id, .. } if self.ledger.find(id)?.is_some() => RequiredTails::default(),
            Call::Create { config, .. } => RequiredTails {
                streams: config.streams.iter().cloned().collect(),
                pattern: config.pattern.clone(),
            },
            Call::Link(_, streams) => RequiredTails {
                streams: streams.clone(),
                pattern: None,
            },
            // Whatever grew was told before its writer was answered.
            Call::Claim { .. }
            | Call::Show(_)
            | Call::Delete(_)
            | Call::Unlink(..)
            | Call::Callback(..)
            | Call::Ack(..)
            | Call::Release(..)
            | Call::Keys => RequiredTails::default(),
        })
    }

    /// Answers a call. See [`work`](Self::work) for what may have to follow.
    pub fn handle(
        &self,
        call: &Call,
        tails: &TailOffsets,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        match call {
            Call::Create { id, config, root } => {
                if let Some(record) = self.ledger.find(id)? {
                    return self.confirm(&record, config);
                }
                self.has_room(config, tails)?;
                if let Delivery::FanOut(target) = &config.delivery {
                    let follows = |stream: &StreamName| {
                        config.streams.contains(stream) || is_followed(config, stream)
                    };
                    self.check_acyclic(target, follows)?;
                }
                let record = self.ledger.insert(id, config, root, now)?;
                self.create(record, config, tails)
            }
            Call::Show(id) => Ok(Answer::Shown(self.view(&self.find(id)?)?)),
            Call::Delete(id) => {
                if let Some(record) = self.ledger.find(id)? {
                    self.ledger.remove(record.number)?;
                }
                Ok(Answer::Done)
            }
            Call::Link(id, streams) => self.add(self.find(id)?, streams, tails),
            Call::Unlink(id, stream) => self.unlink(self.find(id)?, stream),
            Call::Claim { id, worker, within } => {
                let record = self.find(id)?;
                self.covers(&record, within.as_ref())?;
                self.claim(record, worker, now)
            }
            Call::Callback(id, report) => self.report(self.find(id)?, report, now),
            Call::Ack(id, report) => self.report(self.find_claimed(id)?, report, now),
            Call::Release(id, report) => self.release(self.find_claimed(id)?, report, now),
            Call::Keys => Ok(Answer::Keys(self.secret.key_set())),
        }
    }

    /// A stream was made or grew: it ends at `tail` now. Says whether a worker is to be woken.
    pub fn on_append(
        &self,
        stream: &StreamName,
        tail: Offset,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        if is_reserved(stream) {
            return Ok(false);
        }
        let linked = self.ledger.linked(stream)?;
        for followed in &*self.patterns()? {
            let number = followed.number;
            if !linked.contains(&number) && followed.matches(stream) {
                self.discover(number, stream)?;
            }
        }
        self.ledger.advance(stream, tail)?;
        let mut idle = self.ledger.idle(stream)?;
        for record in &mut idle {
            record.wake.begin(now);
            self.ledger.keep(record)?;
        }
        Ok(!idle.is_empty())
    }

    /// A stream is gone: it was deleted, or it expired. A client that named it keeps it, and if it
    /// is made again, all of it is new to them.
    pub fn on_removed(&self, stream: &StreamName) -> Result<(), SqlError> {
        for number in self.ledger.linked(stream)? {
            if let Some(mut record) = self.ledger.at(number)?
                && record.remove_stream(stream)
            {
                self.ledger.keep(&record)?;
            }
        }
        self.ledger.remove_stream(stream)
    }

    /// Whether anybody wants to learn of a stream when it grows.
    pub fn follows(&self, stream: &StreamName) -> Result<bool, SqlError> {
        if is_reserved(stream) {
            return Ok(false);
        }
        let is_linked = !self.ledger.linked(stream)?.is_empty();
        let is_meant = |followed: &Followed| followed.matches(stream);
        Ok(is_linked || self.patterns()?.iter().any(is_meant))
    }

    fn patterns(&self) -> Result<Arc<[Followed]>, SqlError> {
        let version = self.ledger.version()?;
        self.cache.get(version, || self.ledger.patterns())
    }

    /// Whether there is no subscription at all, so that no one need be told of anything.
    pub fn is_empty(&self) -> Result<bool, SqlError> {
        Ok(self.ledger.count()? == 0)
    }

    fn find(&self, id: &SubscriptionId) -> Result<Record, Refusal> {
        self.ledger.find(id)?.ok_or(Refusal::Unknown)
    }

    pub(super) fn find_claimed(&self, id: &SubscriptionId) -> Result<Record, Refusal> {
        let record = self.find(id)?;
        match record.delivery {
            Delivery::PullWake(_) => Ok(record),
            Delivery::Webhook(_) | Delivery::FanOut(_) => Err(not_pull_wake()),
        }
    }

    fn confirm(&self, record: &Record, config: &Config) -> Result<Answer, Refusal> {
        match self.ledger.hash(record.number)? {
            Some(hash) if hash == config.hash() => Ok(Answer::Shown(self.view(record)?)),
            Some(_) | None => Err(Refusal::Exists),
        }
    }

    fn has_room(&self, config: &Config, tails: &TailOffsets) -> Result<(), Refusal> {
        if self.ledger.count()? >= SUBSCRIPTIONS_MAX as u64 {
            let (limit, what) = (SUBSCRIPTIONS_MAX, "subscriptions");
            return Err(Refusal::Full { limit, what });
        }
        let matching = tails.keys().filter(|path| is_followed(config, path));
        let more = matching.filter(|path| !config.streams.contains(*path));
        if config.streams.len() + more.count() > SUBSCRIPTION_STREAMS_MAX {
            return Err(full());
        }
        Ok(())
    }

    /// Links what there is, where it ends now: what was written before is no one's work.
    fn create(
        &self,
        mut record: Record,
        config: &Config,
        tails: &TailOffsets,
    ) -> Result<Answer, Refusal> {
        for path in &config.streams {
            self.insert_link(&mut record, path, LinkKind::Explicit, tail(tails, path))?;
        }
        for (path, tail) in tails {
            if is_followed(config, path) && !config.streams.contains(path) {
                self.insert_link(&mut record, path, LinkKind::Glob, *tail)?;
            }
        }
        self.ledger.keep(&record)?;
        Ok(Answer::Created(self.view(&record)?))
    }

    fn add(
        &self,
        mut record: Record,
        streams: &[StreamName],
        tails: &TailOffsets,
    ) -> Result<Answer, Refusal> {
        if let Some(own) = record.delivery.own()
            && streams.contains(own)
        {
            return Err(Refusal::Invalid(OWN_STREAM.into()));
        }
        if let Delivery::FanOut(target) = &record.delivery {
            self.check_acyclic(target, |stream| streams.contains(stream))?;
        }
        if record.links + streams.len() as u64 > SUBSCRIPTION_STREAMS_MAX as u64 {
            return Err(full());
        }
        for path in streams {
            match self.ledger.link(record.number, path)? {
                Some(mut link) => {
                    link.kind = LinkKind::Explicit;
                    self.ledger.keep_link(record.number, &link)?;
                }
                None => {
                    self.insert_link(&mut record, path, LinkKind::Explicit, tail(tails, path))?;
                }
            }
        }
        self.ledger.keep(&record)?;
        Ok(Answer::Done)
    }

    fn unlink(&self, mut record: Record, path: &StreamName) -> Result<Answer, Refusal> {
        let Some(mut link) = self.ledger.link(record.number, path)? else {
            return Ok(Answer::Done);
        };
        if record
            .pattern
            .as_ref()
            .is_some_and(|pattern| pattern.matches(path))
        {
            link.kind = LinkKind::Glob;
            self.ledger.keep_link(record.number, &link)?;
        } else {
            self.ledger.unlink(record.number, path)?;
            record.links = record.links.saturating_sub(1);
            record.remove_stream(path);
            self.ledger.keep(&record)?;
        }
        Ok(Answer::Done)
    }

    /// The pattern of a subscription matches a stream that it does not have: all of it is new.
    fn discover(&self, number: u64, path: &StreamName) -> Result<(), SqlError> {
        let Some(mut record) = self.ledger.at(number)? else {
            return Ok(());
        };
        if record.links >= SUBSCRIPTION_STREAMS_MAX as u64 {
            if record.truncated {
                return Ok(());
            }
            record.truncated = true;
        } else {
            self.insert_link(&mut record, path, LinkKind::Glob, Offset::ZERO)?;
        }
        self.ledger.keep(&record)
    }

    fn insert_link(
        &self,
        record: &mut Record,
        path: &StreamName,
        kind: LinkKind,
        at: Offset,
    ) -> Result<(), SqlError> {
        record.links += 1;
        let link = Link {
            path: path.clone(),
            kind,
            acked: at,
            tail: at,
        };
        self.ledger.keep_link(record.number, &link)
    }

    pub(super) fn all_links(&self, record: &Record) -> Result<Vec<Link>, SqlError> {
        self.ledger.links(record.number, SUBSCRIPTION_STREAMS_MAX)
    }

    fn view(&self, record: &Record) -> Result<SubscriptionView, SqlError> {
        let mut links = self.all_links(record)?;
        links.sort_by(|a, b| a.path.cmp(&b.path));
        let streams = links.into_iter().map(|link| LinkView {
            path: link.path,
            link_type: link.kind.as_str(),
            acked_offset: link.acked,
        });
        let (mut webhook, mut wake_stream, mut target_stream) = (None, None, None);
        match &record.delivery {
            Delivery::Webhook(url) => {
                let signing = Signing {
                    alg: "ed25519",
                    kid: self.secret.key_id(),
                    jwks_url: keys_url(&record.root),
                };
                let url = url.to_string();
                webhook = Some(WebhookView { url, signing });
            }
            Delivery::PullWake(stream) => wake_stream = Some(stream.to_string()),
            Delivery::FanOut(stream) => target_stream = Some(stream.to_string()),
        }
        Ok(SubscriptionView {
            id: record.id.clone(),
            subscription_id: record.id.clone(),
            kind: record.delivery.kind(),
            pattern: record.pattern.as_ref().map(|it| it.as_str().to_owned()),
            streams: streams.collect(),
            webhook,
            wake_stream,
            target_stream,
            lease_ttl_ms: millis(record.lease),
            created_at: rfc3339(record.created),
            status: match record.wake.failures {
                0 => "active",
                _ => "failed",
            },
            truncated: record.truncated,
            description: record.description.clone(),
        })
    }
}

impl Record {
    /// Its wake, as tokens and ids name it.
    pub(super) fn wake_ref(&self) -> WakeRef {
        WakeRef {
            subscription: self.number,
            generation: self.wake.generation,
        }
    }

    /// A stream is gone. Who was told of it is not done with what comes under its name later, and
    /// what is copied of it must not be taken for that.
    fn remove_stream(&mut self, stream: &StreamName) -> bool {
        let was_sent = self.wake.sent.remove(stream).is_some();
        if was_sent {
            match self.delivery {
                Delivery::Webhook(_) | Delivery::PullWake(_) => {}
                Delivery::FanOut(_) => self.wake.begin(PAST),
            }
        }
        was_sent
    }
}

/// Why a stream may not belong to a subscription.
pub(super) const OWN_STREAM: &str =
    "a subscription can't follow the stream it writes to: each message would cause the next";

fn is_followed(config: &Config, path: &StreamName) -> bool {
    let matches = |pattern: &Pattern| pattern.matches(path);
    config.delivery.own() != Some(path) && config.pattern.as_ref().is_some_and(matches)
}

fn tail(tails: &TailOffsets, path: &StreamName) -> Offset {
    tails.get(path).copied().unwrap_or(Offset::ZERO)
}

fn full() -> Refusal {
    let (limit, what) = (SUBSCRIPTION_STREAMS_MAX, "streams in a subscription");
    Refusal::Full { limit, what }
}

pub(super) fn not_pull_wake() -> Refusal {
    Refusal::Invalid("the subscription is none of type pull-wake".into())
}
