//! The SQL state of a server's subscriptions: its schema and its queries.
//!
//! A subscription is one row with its wake in it, so that a wake costs one row; each of its
//! streams is a row, because an append changes one of them.

use std::time::Duration;

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::schema::SchemaError;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use super::base_url::BaseUrl;
use super::call::Attempt;
use super::config::{Config, Delivery};
use super::id::SubscriptionId;
use super::pattern::Pattern;
use super::patterns::Followed;
use super::secret::Secret;
use super::ssrf::WebhookUrl;
use super::wake::{NEVER, Phase, Wake};
use crate::{Offset, StreamName, schema};

const SCHEMA: &[&str] = &[
    // `next` counts up for ever: a number that a token names is never another subscription's.
    // `patterns`: drawn anew when a subscription begins or ends.
    "CREATE TABLE IF NOT EXISTS subscription_meta (
        one INTEGER PRIMARY KEY CHECK (one = 1), seed BLOB NOT NULL, next INTEGER NOT NULL,
        patterns INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE TABLE IF NOT EXISTS subscription (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, hash BLOB NOT NULL,
        kind TEXT NOT NULL, target TEXT NOT NULL, pattern TEXT, lease INTEGER NOT NULL,
        description TEXT, root TEXT NOT NULL, created INTEGER NOT NULL,
        links INTEGER NOT NULL, truncated INTEGER NOT NULL,
        generation INTEGER NOT NULL, phase TEXT NOT NULL, due INTEGER, keep INTEGER,
        holder TEXT, failures INTEGER NOT NULL, told TEXT) STRICT",
    "CREATE INDEX IF NOT EXISTS subscription_due ON subscription (due) WHERE due IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS subscription_link (
        number INTEGER NOT NULL, path TEXT NOT NULL, explicit INTEGER NOT NULL,
        acked INTEGER NOT NULL, tail INTEGER NOT NULL, incarnation INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (number, path)) STRICT, WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS subscription_link_path ON subscription_link (path)",
];

const COLUMNS: &str = "number, id, kind, target, pattern, lease, description, root, created, \
     links, truncated, generation, phase, due, keep, holder, failures, told";

/// A webhook that is to be sent, now or later.
const QUEUED_WEBHOOK: &str = "kind = 'webhook' AND phase = 'queued'";

/// A subscription as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) id: SubscriptionId,
    pub(super) delivery: Delivery,
    pub(super) pattern: Option<Pattern>,
    pub(super) lease: Duration,
    pub(super) description: Option<String>,
    pub(super) root: BaseUrl,
    pub(super) created: Timestamp,
    pub(super) links: u64,
    pub(super) truncated: bool,
    pub(super) wake: Wake,
}

/// A stream of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) path: StreamName,
    pub(super) kind: LinkKind,
    pub(super) acked: Offset,
    pub(super) tail: Offset,
}

/// A fan-out, as far as circles are concerned.
pub(super) struct FanOut {
    pub(super) number: u64,
    pub(super) pattern: Option<Pattern>,
    pub(super) target: StreamName,
}

/// Why a stream belongs to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkKind {
    /// It was named.
    Explicit,
    /// The pattern matches it.
    Glob,
}

impl LinkKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Glob => "glob",
        }
    }
}

impl Link {
    pub(super) fn is_pending(&self) -> bool {
        self.tail > self.acked
    }
}

/// The ledger, for the length of one turn.
pub(super) struct Ledger<'a, S>(pub(super) &'a S);

impl<S: Sql> Ledger<'_, S> {
    pub(super) fn install(&self, seed: [u8; 32]) -> Result<(), SchemaError> {
        schema::settle(self.0, &schema::SUBSCRIPTIONS, |sql| {
            for statement in SCHEMA {
                sql.run(statement, &[])?;
            }
            schema::add_column(sql, "subscription_link", "incarnation")?;
            schema::add_column(sql, "subscription_meta", "patterns")?;
            let insert =
                "INSERT OR IGNORE INTO subscription_meta (one, seed, next) VALUES (1, ?, 1)";
            sql.run(insert, &[seed.as_slice().into()]).map(drop)
        })
    }

    pub(super) fn secret(&self) -> Result<Secret, SqlError> {
        let rows = self.0.run("SELECT seed FROM subscription_meta", &[])?;
        match rows.into_iter().next().map(Cells::new) {
            Some(mut cells) => Ok(Secret::new(cells.seed()?)),
            None => Err(SqlError("the ledger of subscriptions is not made".into())),
        }
    }

    pub(super) fn count(&self) -> Result<u64, SqlError> {
        self.number("SELECT COUNT(*) FROM subscription", &[])
    }

    pub(super) fn find(&self, id: &SubscriptionId) -> Result<Option<Record>, SqlError> {
        let select = format!("SELECT {COLUMNS} FROM subscription WHERE id = ?");
        self.record(&select, &[id.as_str().into()])
    }

    pub(super) fn at(&self, number: u64) -> Result<Option<Record>, SqlError> {
        let select = format!("SELECT {COLUMNS} FROM subscription WHERE number = ?");
        self.record(&select, &[number.into()])
    }

    pub(super) fn hash(&self, number: u64) -> Result<Option<Vec<u8>>, SqlError> {
        let select = "SELECT hash FROM subscription WHERE number = ?";
        let rows = self.0.run(select, &[number.into()])?;
        rows.into_iter()
            .next()
            .map(|row| Cells::new(row).blob())
            .transpose()
    }

    /// Keeps a new subscription, without its streams.
    pub(super) fn insert(
        &self,
        id: &SubscriptionId,
        config: &Config,
        root: &BaseUrl,
        now: Timestamp,
    ) -> Result<Record, SqlError> {
        let number = self.number("SELECT next FROM subscription_meta", &[])?;
        let next = "UPDATE subscription_meta SET next = ?";
        self.0.run(next, &[(number + 1).into()])?;
        self.draw_version()?;
        let insert = "INSERT INTO subscription (number, id, hash, kind, target, pattern, lease,
             description, root, created, links, truncated, generation, phase, failures)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 'idle', 0)";
        let params = [
            number.into(),
            id.as_str().into(),
            config.hash().as_slice().into(),
            config.delivery.kind().into(),
            config.delivery.target().into(),
            config.pattern.as_ref().map(Pattern::as_str).into(),
            millis(config.lease).into(),
            config.description.as_deref().into(),
            root.as_str().into(),
            now.as_millis().into(),
        ];
        self.0.run(insert, &params)?;
        Ok(Record {
            number,
            id: id.clone(),
            delivery: config.delivery.clone(),
            pattern: config.pattern.clone(),
            lease: config.lease,
            description: config.description.clone(),
            root: root.clone(),
            created: now,
            links: 0,
            truncated: false,
            wake: Wake::none(),
        })
    }

    pub(super) fn remove(&self, number: u64) -> Result<(), SqlError> {
        for delete in [
            "DELETE FROM subscription_link WHERE number = ?",
            "DELETE FROM subscription WHERE number = ?",
        ] {
            self.0.run(delete, &[number.into()])?;
        }
        self.draw_version()
    }

    /// Draws the version of the patterns anew: a number that no transaction had that was undone.
    fn draw_version(&self) -> Result<(), SqlError> {
        let draw = "UPDATE subscription_meta SET patterns = random() & ?";
        self.0.run(draw, &[EXACT_INTEGER_MAX.into()]).map(drop)
    }

    /// The version of the patterns.
    pub(super) fn version(&self) -> Result<u64, SqlError> {
        self.number("SELECT patterns FROM subscription_meta", &[])
    }

    /// Keeps what changes of a subscription.
    pub(super) fn keep(&self, record: &Record) -> Result<(), SqlError> {
        let wake = &record.wake;
        let (phase, keep) = match wake.phase {
            Phase::Idle => ("idle", None),
            Phase::Queued { keep, .. } => ("queued", Some(keep.as_millis())),
            Phase::Sent { .. } => ("sent", None),
            Phase::Announced => ("announced", None),
            Phase::Awake { .. } => ("awake", None),
        };
        let sent = if wake.sent.is_empty() {
            None
        } else {
            Some(serde_json::to_string(&wake.sent).map_err(wrong)?)
        };
        let update = "UPDATE subscription SET links = ?, truncated = ?, generation = ?, phase = ?,
             due = ?, keep = ?, holder = ?, failures = ?, told = ? WHERE number = ?";
        let params = [
            record.links.into(),
            u64::from(record.truncated).into(),
            wake.generation.into(),
            phase.into(),
            wake.due().map(Timestamp::as_millis).into(),
            keep.into(),
            wake.holder().into(),
            wake.failures.into(),
            sent.into(),
            record.number.into(),
        ];
        self.0.run(update, &params).map(drop)
    }

    /// The first subscriptions for which something has to happen by itself, without webhooks that
    /// are to be sent.
    pub(super) fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, SqlError> {
        let select = format!(
            "SELECT {COLUMNS} FROM subscription WHERE due <= ? AND NOT ({QUEUED_WEBHOOK})
             ORDER BY due, number LIMIT ?"
        );
        self.records(&select, &[now.as_millis().into(), (limit as u64).into()])
    }

    /// The first webhooks that are to be sent.
    pub(super) fn queued_webhooks(
        &self,
        now: Timestamp,
        tried: Attempt,
        limit: usize,
    ) -> Result<Vec<Record>, SqlError> {
        let select = format!(
            "SELECT {COLUMNS} FROM subscription WHERE due <= ? AND {QUEUED_WEBHOOK}
             AND (failures > 0) = ? ORDER BY due, number LIMIT ?"
        );
        let again = u64::from(tried == Attempt::Retry);
        let params = [now.as_millis().into(), again.into(), (limit as u64).into()];
        self.records(&select, &params)
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Result<Option<Timestamp>, SqlError> {
        self.first_due("TRUE", &[])
    }

    /// The same without webhooks that are to be sent.
    pub(super) fn next_due_of_others(&self) -> Result<Option<Timestamp>, SqlError> {
        self.first_due(&format!("NOT ({QUEUED_WEBHOOK})"), &[])
    }

    /// The same of these webhooks alone.
    pub(super) fn next_webhook_due(&self, tried: Attempt) -> Result<Option<Timestamp>, SqlError> {
        let again = u64::from(tried == Attempt::Retry);
        let which = format!("{QUEUED_WEBHOOK} AND (failures > 0) = ?");
        self.first_due(&which, &[again.into()])
    }

    fn first_due(&self, which: &str, params: &[Value]) -> Result<Option<Timestamp>, SqlError> {
        let select = format!(
            "SELECT due FROM subscription WHERE due IS NOT NULL AND {which} ORDER BY due LIMIT 1"
        );
        let row = self.0.run(&select, params)?.into_iter().next();
        row.map(|row| Cells::new(row).moment()).transpose()
    }

    /// The subscriptions that have a pattern.
    pub(super) fn patterns(&self) -> Result<Vec<Followed>, SqlError> {
        let select = "SELECT number, pattern, CASE kind WHEN 'webhook' THEN NULL ELSE target END
             FROM subscription WHERE pattern IS NOT NULL";
        let read = |row| {
            let mut cells = Cells::new(row);
            let (number, pattern) = (cells.number()?, cells.text()?);
            Ok(Followed {
                number,
                pattern: Pattern::parse(&pattern).map_err(wrong)?,
                own: cells.optional_text()?,
            })
        };
        self.0.run(select, &[])?.into_iter().map(read).collect()
    }

    /// Number, pattern and target of each fan-out.
    pub(super) fn fan_outs(&self) -> Result<Vec<FanOut>, SqlError> {
        let select = "SELECT number, pattern, target FROM subscription WHERE kind = 'fan-out'";
        let read = |row| {
            let mut cells = Cells::new(row);
            let (number, pattern) = (cells.number()?, cells.optional_text()?);
            let pattern = pattern.map(|text| Pattern::parse(&text).map_err(wrong));
            Ok(FanOut {
                number,
                pattern: pattern.transpose()?,
                target: StreamName::parse(&cells.text()?).map_err(wrong)?,
            })
        };
        self.0.run(select, &[])?.into_iter().map(read).collect()
    }

    /// A stream with work: each of them in its turn, as `turn` grows.
    pub(super) fn pending(&self, number: u64, turn: u64) -> Result<Option<Link>, SqlError> {
        let select = "SELECT path, explicit, acked, tail, incarnation FROM subscription_link
             WHERE number = ?1 AND acked < tail ORDER BY path LIMIT 1 OFFSET ?2 %
             (SELECT max(count(*), 1) FROM subscription_link WHERE number = ?1 AND acked < tail)";
        let rows = self.0.run(select, &[number.into(), turn.into()])?;
        rows.into_iter().next().map(link).transpose()
    }

    /// The numbers of the subscriptions that have a stream.
    pub(super) fn linked(&self, path: &StreamName) -> Result<Vec<u64>, SqlError> {
        let select = "SELECT number FROM subscription_link WHERE path = ?";
        let rows = self.0.run(select, &[path.as_str().into()])?;
        rows.into_iter()
            .map(|row| Cells::new(row).number())
            .collect()
    }

    /// The subscriptions that have a stream, have no worker awake, and have something to do there.
    pub(super) fn idle(&self, path: &StreamName) -> Result<Vec<Record>, SqlError> {
        let select = format!(
            "SELECT {COLUMNS} FROM subscription WHERE phase = 'idle' AND number IN
             (SELECT number FROM subscription_link WHERE path = ? AND acked < tail)"
        );
        self.records(&select, &[path.as_str().into()])
    }

    /// A stream grew: its end moves forward in every subscription that has it.
    pub(super) fn advance(&self, path: &StreamName, tail: Offset) -> Result<(), SqlError> {
        let update = "UPDATE subscription_link SET tail = ?, incarnation = ?
             WHERE path = ? AND tail < ?";
        let (tail, incarnation) = (|| tail.position().into(), tail.incarnation().into());
        let params = [tail(), incarnation, path.as_str().into(), tail()];
        self.0.run(update, &params).map(drop)
    }

    /// A stream is gone: a client that named it keeps it, from its beginning.
    pub(super) fn remove_stream(&self, path: &StreamName) -> Result<(), SqlError> {
        let path = || -> Value { path.as_str().into() };
        let count = "UPDATE subscription SET links = links - 1 WHERE number IN
             (SELECT number FROM subscription_link WHERE path = ? AND explicit = 0)";
        self.0.run(count, &[path()])?;
        let delete = "DELETE FROM subscription_link WHERE path = ? AND explicit = 0";
        self.0.run(delete, &[path()])?;
        let reset = "UPDATE subscription_link SET acked = 0, tail = 0, incarnation = 0
             WHERE path = ?";
        self.0.run(reset, &[path()]).map(drop)
    }

    pub(super) fn link(&self, number: u64, path: &StreamName) -> Result<Option<Link>, SqlError> {
        let select = "SELECT path, explicit, acked, tail, incarnation FROM subscription_link
             WHERE number = ? AND path = ?";
        let rows = self.0.run(select, &[number.into(), path.as_str().into()])?;
        rows.into_iter().next().map(link).transpose()
    }

    /// The streams of a subscription, those with work first.
    pub(super) fn links(&self, number: u64, limit: usize) -> Result<Vec<Link>, SqlError> {
        let select = "SELECT path, explicit, acked, tail, incarnation FROM subscription_link
             WHERE number = ? ORDER BY acked >= tail, path LIMIT ?";
        let params = [number.into(), (limit as u64).into()];
        self.0.run(select, &params)?.into_iter().map(link).collect()
    }

    pub(super) fn has_pending(&self, number: u64) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM subscription_link WHERE number = ? AND acked < tail LIMIT 1";
        Ok(!self.0.run(select, &[number.into()])?.is_empty())
    }

    pub(super) fn keep_link(&self, number: u64, link: &Link) -> Result<(), SqlError> {
        let upsert = "INSERT INTO subscription_link
             (number, path, explicit, acked, tail, incarnation)
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (number, path) DO UPDATE
             SET explicit = excluded.explicit, acked = excluded.acked, tail = excluded.tail,
             incarnation = excluded.incarnation";
        let params = [
            number.into(),
            link.path.as_str().into(),
            u64::from(link.kind == LinkKind::Explicit).into(),
            link.acked.position().into(),
            link.tail.position().into(),
            link.tail.incarnation().into(),
        ];
        self.0.run(upsert, &params).map(drop)
    }

    pub(super) fn unlink(&self, number: u64, path: &StreamName) -> Result<(), SqlError> {
        let delete = "DELETE FROM subscription_link WHERE number = ? AND path = ?";
        let params = [number.into(), path.as_str().into()];
        self.0.run(delete, &params).map(drop)
    }

    /// Everything up to a place is done; a place before that is no news.
    pub(super) fn acknowledge(
        &self,
        number: u64,
        path: &StreamName,
        offset: Offset,
    ) -> Result<(), SqlError> {
        let update = "UPDATE subscription_link SET acked = max(acked, ?), tail = max(tail, ?)
             WHERE number = ? AND path = ?";
        let offset = || offset.position().into();
        let params = [offset(), offset(), number.into(), path.as_str().into()];
        self.0.run(update, &params).map(drop)
    }

    fn number(&self, select: &str, params: &[Value]) -> Result<u64, SqlError> {
        let row = self.0.run(select, params)?.into_iter().next();
        row.map_or(Ok(0), |row| Cells::new(row).number())
    }

    fn record(&self, select: &str, params: &[Value]) -> Result<Option<Record>, SqlError> {
        Ok(self.records(select, params)?.into_iter().next())
    }

    fn records(&self, select: &str, params: &[Value]) -> Result<Vec<Record>, SqlError> {
        let rows = self.0.run(select, params)?;
        rows.into_iter()
            .map(|row| record(Cells::new(row)))
            .collect()
    }
}

fn record(mut cells: Cells) -> Result<Record, SqlError> {
    let number = cells.number()?;
    let id = SubscriptionId::parse(&cells.text()?).map_err(wrong)?;
    let (kind, target) = (cells.text()?, cells.text()?);
    let delivery = match kind.as_str() {
        "webhook" => Delivery::Webhook(WebhookUrl::kept(target)),
        "fan-out" => Delivery::FanOut(StreamName::parse(&target).map_err(wrong)?),
        _ => Delivery::PullWake(StreamName::parse(&target).map_err(wrong)?),
    };
    let pattern = cells.optional_text()?;
    let pattern = pattern.map(|text| Pattern::parse(&text).map_err(wrong));
    Ok(Record {
        number,
        id,
        delivery,
        pattern: pattern.transpose()?,
        lease: Duration::from_millis(cells.number()?),
        description: cells.optional_text()?,
        root: BaseUrl::parse(&cells.text()?).ok_or_else(|| wrong("no root"))?,
        created: cells.moment()?,
        links: cells.number()?,
        truncated: cells.number()? != 0,
        wake: wake(cells)?,
    })
}

fn wake(mut cells: Cells) -> Result<Wake, SqlError> {
    let (generation, phase) = (cells.number()?, cells.text()?);
    let (due, keep) = (cells.optional_number()?, cells.optional_number()?);
    let moment = |millis: Option<u64>| millis.map_or(NEVER, Timestamp::from_millis);
    let holder = cells.optional_text()?;
    let (at, keep) = (moment(due), moment(keep));
    let phase = match phase.as_str() {
        "idle" => Phase::Idle,
        "queued" => Phase::Queued { at, keep },
        "sent" => Phase::Sent { until: at },
        "announced" => Phase::Announced,
        "awake" => Phase::Awake { until: at, holder },
        _ => return Err(wrong(format!("a wake is {phase:?}"))),
    };
    let failures = cells.number()?;
    let sent = match cells.optional_text()? {
        Some(text) => serde_json::from_str(&text).map_err(wrong)?,
        None => std::collections::BTreeMap::new(),
    };
    Ok(Wake {
        generation,
        phase,
        failures,
        sent,
    })
}

fn link(row: SqlRow) -> Result<Link, SqlError> {
    let mut cells = Cells::new(row);
    let path = StreamName::parse(&cells.text()?).map_err(wrong)?;
    let kind = match cells.number()? {
        0 => LinkKind::Glob,
        _ => LinkKind::Explicit,
    };
    let (acked, tail) = (cells.number()?, cells.number()?);
    let stream = Offset::ZERO.of_incarnation(cells.number()?);
    Ok(Link {
        path,
        kind,
        acked: stream.moved_to(acked),
        tail: stream.moved_to(tail),
    })
}

/// A duration in the unit of the ledger and of the protocol.
pub(super) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// The values of a row, one after the other.
struct Cells(std::vec::IntoIter<Value>);

impl Cells {
    fn new(row: SqlRow) -> Self {
        Self(row.into_iter())
    }

    fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Null)
    }

    fn text(&mut self) -> Result<String, SqlError> {
        self.optional_text()?.ok_or_else(|| wrong("no text"))
    }

    fn optional_text(&mut self) -> Result<Option<String>, SqlError> {
        match self.next() {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            other @ (Value::Integer(_) | Value::Blob(_)) => Err(wrong(format!("{other:?}"))),
        }
    }

    fn number(&mut self) -> Result<u64, SqlError> {
        self.optional_number()?.ok_or_else(|| wrong("no number"))
    }

    fn optional_number(&mut self) -> Result<Option<u64>, SqlError> {
        match self.next() {
            Value::Integer(number) => u64::try_from(number).map(Some).map_err(wrong),
            Value::Null => Ok(None),
            other @ (Value::Text(_) | Value::Blob(_)) => Err(wrong(format!("{other:?}"))),
        }
    }

    fn moment(&mut self) -> Result<Timestamp, SqlError> {
        self.number().map(Timestamp::from_millis)
    }

    fn blob(&mut self) -> Result<Vec<u8>, SqlError> {
        match self.next() {
            Value::Blob(bytes) => Ok(bytes),
            other @ (Value::Text(_) | Value::Integer(_) | Value::Null) => {
                Err(wrong(format!("{other:?}")))
            }
        }
    }

    fn seed(&mut self) -> Result<[u8; 32], SqlError> {
        let bytes = self.blob()?;
        bytes.try_into().map_err(|_| wrong("no seed"))
    }
}

fn wrong(what: impl std::fmt::Display) -> SqlError {
    SqlError(format!(
        "the ledger of subscriptions holds nonsense: {what}"
    ))
}
