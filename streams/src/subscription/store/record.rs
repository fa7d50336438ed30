//! Subscription record: the row of a subscription, with its wake.

use std::collections::BTreeMap;
use std::time::Duration;

use pmx_core::sql::{SqlError, SqlRow};
use pmx_core::time::Timestamp;

use crate::StreamName;
use crate::row::{Columns, invalid_column};
use crate::subscription::base_url::BaseUrl;
use crate::subscription::config::Delivery;
use crate::subscription::id::SubscriptionId;
use crate::subscription::pattern::Pattern;
use crate::subscription::ssrf::WebhookUrl;
use crate::subscription::wake::{NEVER, SubscriptionWake, WakePhase};

/// The columns that [`Record::read`] expects.
pub(super) const COLUMNS: &str = "number, id, kind, target, pattern, lease, description, root, created, \
     links, truncated, generation, phase, due, keep, holder, failures, told";

/// The row of a subscription.
#[derive(Debug, Clone)]
pub(in crate::subscription) struct Record {
    pub(in crate::subscription) number: u64,
    pub(in crate::subscription) id: SubscriptionId,
    pub(in crate::subscription) delivery: Delivery,
    pub(in crate::subscription) pattern: Option<Pattern>,
    pub(in crate::subscription) lease: Duration,
    pub(in crate::subscription) description: Option<String>,
    pub(in crate::subscription) base_url: BaseUrl,
    pub(in crate::subscription) created: Timestamp,
    pub(in crate::subscription) links: u64,
    pub(in crate::subscription) truncated: bool,
    pub(in crate::subscription) wake: SubscriptionWake,
}

impl Record {
    /// Reads a row of [`COLUMNS`].
    pub(super) fn read(row: SqlRow) -> Result<Self, SqlError> {
        let mut row = Columns::of(row);
        let number = row.integer()?;
        let id = SubscriptionId::parse(&row.text()?).map_err(|_| invalid_column("an id"))?;
        let (kind, target) = (row.text()?, row.text()?);
        Ok(Self {
            number,
            id,
            delivery: delivery(&kind, target)?,
            pattern: row.optional_text()?.as_deref().map(pattern).transpose()?,
            lease: Duration::from_millis(row.integer()?),
            description: row.optional_text()?,
            base_url: BaseUrl::parse(&row.text()?).ok_or_else(|| invalid_column("a base URL"))?,
            created: Timestamp::from_millis(row.integer()?),
            links: row.integer()?,
            truncated: row.flag()?,
            wake: wake(row)?,
        })
    }
}

fn delivery(kind: &str, target: String) -> Result<Delivery, SqlError> {
    Ok(match kind {
        "webhook" => Delivery::Webhook(WebhookUrl::from_stored(target)),
        "fan-out" => Delivery::FanOut(stream_name(&target)?),
        _ => Delivery::PullWake(stream_name(&target)?),
    })
}

fn wake(mut row: Columns) -> Result<SubscriptionWake, SqlError> {
    let (generation, phase) = (row.integer()?, row.text()?);
    let (due, keep) = (row.optional_integer()?, row.optional_integer()?);
    let time = |millis: Option<u64>| millis.map_or(NEVER, Timestamp::from_millis);
    let holder = row.optional_text()?;
    let (at, keep) = (time(due), time(keep));
    let phase = match phase.as_str() {
        "idle" => WakePhase::Idle,
        "queued" => WakePhase::Queued { at, keep },
        "sent" => WakePhase::Sent { until: at },
        "announced" => WakePhase::Announced,
        "awake" => WakePhase::Awake { until: at, holder },
        _ => return Err(invalid_column("a phase of a wake")),
    };
    let failures = row.integer()?;
    let sent = match row.optional_text()? {
        Some(text) => serde_json::from_str(&text).map_err(|_| invalid_column("tails"))?,
        None => BTreeMap::new(),
    };
    Ok(SubscriptionWake {
        generation,
        phase,
        failures,
        sent,
    })
}

/// Parses a pattern of a row.
pub(super) fn pattern(text: &str) -> Result<Pattern, SqlError> {
    Pattern::parse(text).map_err(|_| invalid_column("a pattern"))
}

/// Parses a stream name of a row.
pub(super) fn stream_name(text: &str) -> Result<StreamName, SqlError> {
    StreamName::parse(text).map_err(|_| invalid_column("a name"))
}

/// A duration in the unit of the tables and of the protocol.
pub(in crate::subscription) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
