//! Subscription engine: handles requests, and events of streams.
//!
//! Call each method inside [`Sql::atomically`]. A method that refuses has written nothing, so many
//! calls can share one transaction.

use std::sync::Arc;

use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::config::{Delivery, SubscriptionConfig};
use super::id::SubscriptionId;
use super::pattern::{Pattern, is_reserved};
use super::pattern_cache::{CachedPattern, PatternCache};
use super::request::{RequiredTails, SubscriptionRequest, TailOffsets};
use super::response::{SubscriptionRefusal, SubscriptionResponse};
use super::secret::{Secret, WakeRef};
use super::store::{Link, LinkKind, Record, SubscriptionStore, millis};
use super::view::{LinkView, Signing, SubscriptionView, WebhookView, keys_url, rfc3339};
use super::wake::PAST;
use crate::limits::{SUBSCRIPTION_STREAMS_MAX, SUBSCRIPTIONS_MAX};
use crate::{Offset, StreamName};

/// The subscriptions of a server, within one transaction.
pub struct Subscriptions<'a, S> {
    pub(super) store: SubscriptionStore<'a, S>,
    pub(super) secret: Secret,
    cache: PatternCache,
}

impl<'a, S: Sql> Subscriptions<'a, S> {
    /// Creates or migrates the tables. `seed` is random; only that of the first call counts, and
    /// the keys are derived from it.
    pub fn install(sql: &'a S, seed: [u8; 32]) -> Result<(), SchemaError> {
        SubscriptionStore(sql).install(seed)
    }

    /// Opens the tables that [`install`](Self::install) created.
    pub fn open(sql: &'a S) -> Result<Self, SqlError> {
        let store = SubscriptionStore(sql);
        let secret = store.secret()?;
        let cache = PatternCache::default();
        Ok(Self {
            store,
            secret,
            cache,
        })
    }

    /// The same with a cache of patterns that outlives the transaction.
    #[must_use]
    pub fn with_cache(self, cache: &PatternCache) -> Self {
        let cache = cache.clone();
        Self { cache, ..self }
    }

    /// The tails that [`handle`](Self::handle) needs. The platform reports every later append by
    /// [`on_append`](Self::on_append) before it answers the writer.
    pub fn required_tails(&self, request: &SubscriptionRequest) -> Result<RequiredTails, SqlError> {
        Ok(match request {
            // The engine confirms it as it is, or refuses.
            SubscriptionRequest::Create { id, .. } if self.store.find(id)?.is_some() => {
                RequiredTails::default()
            }
            SubscriptionRequest::Create { config, .. } => RequiredTails {
                streams: config.streams.iter().cloned().collect(),
                pattern: config.pattern.clone(),
            },
            SubscriptionRequest::Link(_, streams) => RequiredTails {
                streams: streams.clone(),
                pattern: None,
            },
            // The engine knows of every append that was acknowledged.
            SubscriptionRequest::Claim { .. }
            | SubscriptionRequest::Show(_)
            | SubscriptionRequest::Delete(_)
            | SubscriptionRequest::Unlink(..)
            | SubscriptionRequest::Callback(..)
            | SubscriptionRequest::Ack(..)
            | SubscriptionRequest::Release(..)
            | SubscriptionRequest::Keys => RequiredTails::default(),
        })
    }

    /// Handles a request. Call [`work`](Self::work) afterwards.
    pub fn handle(
        &self,
        request: &SubscriptionRequest,
        tails: &TailOffsets,
        now: Timestamp,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        match request {
            SubscriptionRequest::Create {
                id,
                config,
                base_url,
            } => {
                if let Some(record) = self.store.find(id)? {
                    return self.confirm(&record, config);
                }
                self.check_limits(config, tails)?;
                if let Delivery::FanOut(target) = &config.delivery {
                    let follows = |stream: &StreamName| {
                        config.streams.contains(stream) || is_followed(config, stream)
                    };
                    self.check_acyclic(target, follows)?;
                }
                let record = self.store.insert(id, config, base_url, now)?;
                self.create(record, config, tails)
            }
            SubscriptionRequest::Show(id) => {
                Ok(SubscriptionResponse::Shown(self.view(&self.find(id)?)?))
            }
            SubscriptionRequest::Delete(id) => {
                if let Some(record) = self.store.find(id)? {
                    self.store.remove(record.number)?;
                }
                Ok(SubscriptionResponse::Done)
            }
            SubscriptionRequest::Link(id, streams) => self.add(self.find(id)?, streams, tails),
            SubscriptionRequest::Unlink(id, stream) => self.unlink(self.find(id)?, stream),
            SubscriptionRequest::Claim { id, worker, within } => {
                let record = self.find(id)?;
                self.covers(&record, within.as_ref())?;
                self.claim(record, worker, now)
            }
            SubscriptionRequest::Callback(id, report) => self.report(self.find(id)?, report, now),
            SubscriptionRequest::Ack(id, report) => {
                self.report(self.find_claimed(id)?, report, now)
            }
            SubscriptionRequest::Release(id, report) => {
                self.release(self.find_claimed(id)?, report, now)
            }
            SubscriptionRequest::Keys => Ok(SubscriptionResponse::Keys(self.secret.key_set())),
        }
    }

    /// Records that a stream was created or grew to `tail`. Returns whether the server has to wake
    /// a worker.
    pub fn on_append(
        &self,
        stream: &StreamName,
        tail: Offset,
        now: Timestamp,
    ) -> Result<bool, SqlError> {
        if is_reserved(stream) {
            return Ok(false);
        }
        let linked = self.store.linked(stream)?;
        for cached in &*self.patterns()? {
            let number = cached.number;
            if !linked.contains(&number) && cached.matches(stream) {
                self.discover(number, stream)?;
            }
        }
        self.store.advance(stream, tail)?;
        let mut idle = self.store.idle(stream)?;
        for record in &mut idle {
            record.wake.begin(now);
            self.store.save(record)?;
        }
        Ok(!idle.is_empty())
    }

    /// Records that a stream was deleted or expired. A subscription that names it keeps it: if it
    /// is created again, all of it is pending.
    pub fn on_removed(&self, stream: &StreamName) -> Result<(), SqlError> {
        for number in self.store.linked(stream)? {
            if let Some(mut record) = self.store.at(number)?
                && record.remove_stream(stream)
            {
                self.store.save(&record)?;
            }
        }
        self.store.remove_stream(stream)
    }

    /// Whether a subscription follows a stream.
    pub fn follows(&self, stream: &StreamName) -> Result<bool, SqlError> {
        if is_reserved(stream) {
            return Ok(false);
        }
        let is_linked = !self.store.linked(stream)?.is_empty();
        let matches = |cached: &CachedPattern| cached.matches(stream);
        Ok(is_linked || self.patterns()?.iter().any(matches))
    }

    fn patterns(&self) -> Result<Arc<[CachedPattern]>, SqlError> {
        let version = self.store.version()?;
        self.cache.get(version, || self.store.patterns())
    }

    /// Whether there is no subscription, so that no event needs to be recorded.
    pub fn is_empty(&self) -> Result<bool, SqlError> {
        Ok(self.store.count()? == 0)
    }

    fn find(&self, id: &SubscriptionId) -> Result<Record, SubscriptionRefusal> {
        self.store.find(id)?.ok_or(SubscriptionRefusal::Unknown)
    }

    pub(super) fn find_claimed(&self, id: &SubscriptionId) -> Result<Record, SubscriptionRefusal> {
        let record = self.find(id)?;
        match record.delivery {
            Delivery::PullWake(_) => Ok(record),
            Delivery::Webhook(_) | Delivery::FanOut(_) => Err(not_pull_wake()),
        }
    }

    fn confirm(
        &self,
        record: &Record,
        config: &SubscriptionConfig,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        match self.store.hash(record.number)? {
            Some(hash) if hash == config.hash() => {
                Ok(SubscriptionResponse::Shown(self.view(record)?))
            }
            Some(_) | None => Err(SubscriptionRefusal::Exists),
        }
    }

    fn check_limits(
        &self,
        config: &SubscriptionConfig,
        tails: &TailOffsets,
    ) -> Result<(), SubscriptionRefusal> {
        if self.store.count()? >= SUBSCRIPTIONS_MAX as u64 {
            let (limit, what) = (SUBSCRIPTIONS_MAX, "subscriptions");
            return Err(SubscriptionRefusal::Full { limit, what });
        }
        let matching = tails.keys().filter(|path| is_followed(config, path));
        let more = matching.filter(|path| !config.streams.contains(*path));
        if config.streams.len() + more.count() > SUBSCRIPTION_STREAMS_MAX {
            return Err(full());
        }
        Ok(())
    }

    /// Links the existing streams at their tails: earlier messages are no pending work.
    fn create(
        &self,
        mut record: Record,
        config: &SubscriptionConfig,
        tails: &TailOffsets,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        for path in &config.streams {
            self.insert_link(&mut record, path, LinkKind::Explicit, tail(tails, path))?;
        }
        for (path, tail) in tails {
            if is_followed(config, path) && !config.streams.contains(path) {
                self.insert_link(&mut record, path, LinkKind::Glob, *tail)?;
            }
        }
        self.store.save(&record)?;
        Ok(SubscriptionResponse::Created(self.view(&record)?))
    }

    fn add(
        &self,
        mut record: Record,
        streams: &[StreamName],
        tails: &TailOffsets,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        if let Some(own) = record.delivery.own_stream()
            && streams.contains(own)
        {
            return Err(SubscriptionRefusal::invalid(OWN_STREAM));
        }
        if let Delivery::FanOut(target) = &record.delivery {
            self.check_acyclic(target, |stream| streams.contains(stream))?;
        }
        if record.links + streams.len() as u64 > SUBSCRIPTION_STREAMS_MAX as u64 {
            return Err(full());
        }
        for path in streams {
            match self.store.link(record.number, path)? {
                Some(mut link) => {
                    link.kind = LinkKind::Explicit;
                    self.store.save_link(record.number, &link)?;
                }
                None => {
                    self.insert_link(&mut record, path, LinkKind::Explicit, tail(tails, path))?;
                }
            }
        }
        self.store.save(&record)?;
        Ok(SubscriptionResponse::Done)
    }

    fn unlink(
        &self,
        mut record: Record,
        path: &StreamName,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        let Some(mut link) = self.store.link(record.number, path)? else {
            return Ok(SubscriptionResponse::Done);
        };
        if record
            .pattern
            .as_ref()
            .is_some_and(|pattern| pattern.matches(path))
        {
            link.kind = LinkKind::Glob;
            self.store.save_link(record.number, &link)?;
        } else {
            self.store.unlink(record.number, path)?;
            record.links = record.links.saturating_sub(1);
            record.remove_stream(path);
            self.store.save(&record)?;
        }
        Ok(SubscriptionResponse::Done)
    }

    /// Links a stream that a subscription's pattern matches for the first time: all of it is
    /// pending.
    fn discover(&self, number: u64, path: &StreamName) -> Result<(), SqlError> {
        let Some(mut record) = self.store.at(number)? else {
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
        self.store.save(&record)
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
        self.store.save_link(record.number, &link)
    }

    pub(super) fn all_links(&self, record: &Record) -> Result<Vec<Link>, SqlError> {
        self.store.links(record.number, SUBSCRIPTION_STREAMS_MAX)
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
                    jwks_url: keys_url(&record.base_url),
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
    /// The wake's reference in tokens and ids.
    pub(super) fn wake_ref(&self) -> WakeRef {
        WakeRef {
            subscription: self.number,
            generation: self.wake.generation,
        }
    }

    /// Forgets that a stream was sent. Its worker has not processed a later stream of the name, and
    /// a copy in progress must not count for that one. Returns whether anything changed.
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

fn is_followed(config: &SubscriptionConfig, path: &StreamName) -> bool {
    let matches = |pattern: &Pattern| pattern.matches(path);
    config.delivery.own_stream() != Some(path) && config.pattern.as_ref().is_some_and(matches)
}

fn tail(tails: &TailOffsets, path: &StreamName) -> Offset {
    tails.get(path).copied().unwrap_or(Offset::ZERO)
}

fn full() -> SubscriptionRefusal {
    let (limit, what) = (SUBSCRIPTION_STREAMS_MAX, "streams in a subscription");
    SubscriptionRefusal::Full { limit, what }
}

pub(super) fn not_pull_wake() -> SubscriptionRefusal {
    SubscriptionRefusal::invalid("the subscription is none of type pull-wake")
}
