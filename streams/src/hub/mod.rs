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
    Action, Answer, Call, Effect, PatternCache, Refusal, RequiredTails, Room, Subscriptions,
    TailOffsets,
};

pub use directory::Entry;
pub use index::{MAKE_VERSIONS, READ_VERSIONS, Rows, Statement, migrations};
pub use sender::RegistryBatch;
pub use tail_tracking::TrackRequest;

/// The hub of a server, for the length of a turn.
pub struct Hub<'a, S> {
    sql: &'a S,
    subscriptions: Subscriptions<'a, S>,
    /// Whether the operator keeps an index of all streams.
    has_index: bool,
}

impl<'a, S: Sql> Hub<'a, S> {
    /// Makes the tables, unless they are there. `seed` is random, and counts only the first time.
    pub fn install(sql: &'a S, seed: [u8; 32]) -> Result<(), SchemaError> {
        schema::settle(sql, &schema::HUB, |sql| {
            directory::install(sql)?;
            for tables in [outbox::REGISTRY, outbox::INDEX] {
                outbox::Outbox::new(sql, tables).install()?;
            }
            Ok(())
        })?;
        Subscriptions::install(sql, seed)
    }

    /// Opens what [`install`](Self::install) made.
    pub fn open(sql: &'a S) -> Result<Self, SqlError> {
        let subscriptions = Subscriptions::open(sql)?;
        Ok(Self {
            sql,
            subscriptions,
            has_index: false,
        })
    }

    /// The same with a cache of patterns that outlives the turn.
    #[must_use]
    pub fn with_cache(self, cache: &PatternCache) -> Self {
        Self {
            subscriptions: self.subscriptions.with_cache(cache),
            ..self
        }
    }

    /// The same, with an index of all streams to be written.
    #[must_use]
    pub fn with_index(self, has_index: bool) -> Self {
        Self { has_index, ..self }
    }

    /// The subscriptions.
    pub const fn subscriptions(&self) -> &Subscriptions<'a, S> {
        &self.subscriptions
    }

    /// Answers a call about subscriptions. Before that, its
    /// [required tails](Self::required_tails) have to be followed.
    pub fn handle(&self, call: &Call, now: Timestamp) -> Result<Answer, Refusal> {
        let tails = self.tails(&self.subscriptions.required_tails(call)?)?;
        self.subscriptions.handle(call, &tails, now)
    }

    /// Does what is due: see [`Subscriptions::work`].
    pub fn work(&self, now: Timestamp, room: Room) -> Result<Vec<Effect>, SqlError> {
        let mut effects = self.subscriptions.work(now, room)?;
        for effect in &mut effects {
            if let Action::Copy(copying) = &mut effect.action {
                let entry = self.entry(&copying.source)?;
                copying.generation = entry.map(|entry| entry.generation);
            }
        }
        Ok(effects)
    }

    /// When the platform has to come by, if nothing happens before.
    pub fn due(&self, now: Timestamp, room: Room) -> Result<Option<Timestamp>, SqlError> {
        let all = [
            self.subscriptions.due(now, room)?,
            self.follows_due()?,
            self.registry_outbox().due(now)?,
            // Without an index no one sends what was written down for it before.
            self.index_outbox().due(now)?.filter(|_| self.has_index),
        ];
        Ok(all.into_iter().flatten().min())
    }

    fn tails(&self, needs: &RequiredTails) -> Result<TailOffsets, SqlError> {
        let entries = self.entries(needs)?;
        Ok(entries.into_iter().map(|it| (it.name, it.tail)).collect())
    }
}
