//! Hub: directory, subscriptions and registry outbox of a server whose streams are separate
//! objects.
//!
//! Streams report their lifecycle to the hub, and their tails while a subscription follows them
//! ([`HubUpdate`](crate::HubUpdate)). The hub keeps the server's [`Subscriptions`], the directory
//! of names that patterns are matched against, and the messages for the registry. Its transactions
//! are synchronous and record the effects; the platform performs these and reports their results.
//!
//! - The hub answers a new subscription once every matching stream reports its tail: it then knows
//!   of each later append before that is acknowledged.
//! - A stream learns with its next report that no subscription follows it: a subscription that ends
//!   costs each of its streams one more report.

mod directory;
mod index;
mod ingest;
mod outbox;
mod sender;
mod tail_tracking;

use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use crate::schema;
use crate::subscription::{
    Effect, PatternCache, PlatformAction, RequiredTails, SubscriptionRefusal, SubscriptionRequest,
    SubscriptionResponse, Subscriptions, TailOffsets, WebhookCapacity,
};

pub use directory::DirectoryEntry;
pub use index::{CREATE_VERSIONS, IndexBatch, READ_VERSIONS, Statement, migrations};
pub use sender::RegistryBatch;
pub use tail_tracking::TrackRequest;

/// The hub of a server, within one transaction.
pub struct Hub<'a, S> {
    sql: &'a S,
    subscriptions: Subscriptions<'a, S>,
    /// Whether the operator has an index of all streams.
    has_index: bool,
}

impl<'a, S: Sql> Hub<'a, S> {
    /// Creates or migrates the tables. `seed` is random; only that of the first call counts.
    pub fn install(sql: &'a S, seed: [u8; 32]) -> Result<(), SchemaError> {
        schema::install_or_migrate(sql, &schema::HUB, |sql| {
            directory::install(sql)?;
            for tables in [outbox::REGISTRY, outbox::INDEX] {
                outbox::HubOutbox::new(sql, tables).install()?;
            }
            Ok(())
        })?;
        Subscriptions::install(sql, seed)
    }

    /// Opens the tables that [`install`](Self::install) created.
    pub fn open(sql: &'a S) -> Result<Self, SqlError> {
        let subscriptions = Subscriptions::open(sql)?;
        Ok(Self {
            sql,
            subscriptions,
            has_index: false,
        })
    }

    /// The same with a cache of patterns that outlives the transaction.
    #[must_use]
    pub fn with_cache(self, cache: &PatternCache) -> Self {
        Self {
            subscriptions: self.subscriptions.with_cache(cache),
            ..self
        }
    }

    /// The same; with `has_index`, it queues changes for the index of all streams.
    #[must_use]
    pub fn with_index(self, has_index: bool) -> Self {
        Self { has_index, ..self }
    }

    /// The subscriptions.
    pub const fn subscriptions(&self) -> &Subscriptions<'a, S> {
        &self.subscriptions
    }

    /// Handles a request to the subscriptions, after the streams of its
    /// [required tails](Self::required_tails) are tracked.
    pub fn handle(
        &self,
        request: &SubscriptionRequest,
        now: Timestamp,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        let tails = self.tails(&self.subscriptions.required_tails(request)?)?;
        self.subscriptions.handle(request, &tails, now)
    }

    /// Advances what is due: see [`Subscriptions::work`].
    pub fn work(&self, now: Timestamp, capacity: WebhookCapacity) -> Result<Vec<Effect>, SqlError> {
        let mut effects = self.subscriptions.work(now, capacity)?;
        for effect in &mut effects {
            if let PlatformAction::Copy(copying) = &mut effect.action {
                let entry = self.entry(&copying.source)?;
                copying.generation = entry.map(|entry| entry.generation);
            }
        }
        Ok(effects)
    }

    /// When the alarm has to run next, without another event.
    pub fn due(
        &self,
        now: Timestamp,
        capacity: WebhookCapacity,
    ) -> Result<Option<Timestamp>, SqlError> {
        let all = [
            self.subscriptions.due(now, capacity)?,
            self.tracking_due()?,
            self.registry_outbox().due(now)?,
            // Without an index, changes that were queued for it before stay queued.
            self.index_outbox().due(now)?.filter(|_| self.has_index),
        ];
        Ok(all.into_iter().flatten().min())
    }

    fn tails(&self, needs: &RequiredTails) -> Result<TailOffsets, SqlError> {
        let entries = self.entries(needs)?;
        Ok(entries.into_iter().map(|it| (it.name, it.tail)).collect())
    }
}
