//! Stream record: the stream's own row, column by column.

use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_core::sql::{SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use super::call::{Expiry, MediaType};
use super::generation::Generation;
use super::offset::Offset;
use super::reply::StreamProperties;
use super::row::{Columns, invalid_column};
use super::segment::StreamKind;

/// A stream's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a row, column by column")]
pub(super) struct StreamRecord {
    pub(super) generation: Generation,
    pub(super) media: MediaType,
    pub(super) expiry: Expiry,
    pub(super) expiry_text: Option<String>,
    pub(super) expiry_inherited: bool,
    pub(super) closed: bool,
    pub(super) deleted: bool,
    pub(super) tail: u64,
    pub(super) weight: u64,
    pub(super) hot: u64,
    pub(super) hot_weight: u64,
    pub(super) hot_rows: u64,
    pub(super) seq: Option<String>,
    pub(super) touched: Timestamp,
    pub(super) cold: bool,
    pub(super) references: u64,
    pub(super) branch: Option<Branch>,
    pub(super) followed: bool,
    pub(super) round: u64,
    pub(super) reported: u64,
    pub(super) incarnation: u64,
}

/// Where a fork branches off, as its request named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) source: String,
    pub(super) at: u64,
    pub(super) beyond: u64,
}

pub(super) const COLUMNS: &str = "generation, media, expiry, expiry_value, expiry_text, expiry_inherited, \
     closed, deleted, tail, weight, hot, hot_weight, hot_rows, seq, touched, cold, edges, source, \
     fork_at, fork_beyond, followed, round, told, incarnation";

impl StreamRecord {
    /// An empty stream.
    pub(super) fn new(
        generation: Generation,
        media: MediaType,
        expiry: Expiry,
        now: Timestamp,
    ) -> Self {
        Self {
            generation,
            media,
            expiry: exact(expiry),
            expiry_text: None,
            expiry_inherited: false,
            closed: false,
            deleted: false,
            tail: 0,
            weight: 0,
            hot: 0,
            hot_weight: 0,
            hot_rows: 0,
            seq: None,
            touched: now,
            cold: false,
            references: 0,
            branch: None,
            followed: false,
            round: 0,
            reported: 0,
            incarnation: 0,
        }
    }

    /// What the stream's positions count.
    pub(super) fn kind(&self) -> StreamKind {
        if self.media.is_json() {
            StreamKind::Json
        } else {
            StreamKind::Bytes
        }
    }

    /// The offset of a position.
    pub(super) const fn offset(&self, position: u64) -> Offset {
        Offset::at(position).of_incarnation(self.incarnation)
    }

    /// The properties that clients see.
    pub(super) fn view(&self) -> StreamProperties {
        StreamProperties {
            media_type: self.media.clone(),
            next: self.offset(self.tail),
            closed: self.closed,
            expiry: self.expiry,
            expiry_text: self.expiry_text.clone(),
            generation: self.generation.to_string(),
        }
    }

    /// Parses a row of [`COLUMNS`].
    pub(super) fn read(row: SqlRow) -> Result<Self, SqlError> {
        let mut row = Columns::of(row);
        let generation =
            Generation::from_hex(&row.text()?).ok_or_else(|| invalid_column("a generation"))?;
        let media = MediaType::new(row.text()?);
        let expiry = match (row.integer()?, row.integer()?) {
            (NEVER, _) => Expiry::Never,
            (IDLE, seconds) => Expiry::Idle(seconds),
            (AT, millis) => Expiry::At(Timestamp::from_millis(millis)),
            (_, _) => return Err(invalid_column("an expiry")),
        };
        Ok(Self {
            generation,
            media,
            expiry,
            expiry_text: row.optional_text()?,
            expiry_inherited: row.flag()?,
            closed: row.flag()?,
            deleted: row.flag()?,
            tail: row.integer()?,
            weight: row.integer()?,
            hot: row.integer()?,
            hot_weight: row.integer()?,
            hot_rows: row.integer()?,
            seq: row.optional_text()?,
            touched: Timestamp::from_millis(row.integer()?),
            cold: row.flag()?,
            references: row.integer()?,
            branch: branch(&mut row)?,
            followed: row.flag()?,
            round: row.integer()?,
            reported: row.integer()?,
            incarnation: row.integer()?,
        })
    }

    /// The key, then the values of [`COLUMNS`].
    pub(super) fn values(&self, key: i64) -> Vec<Value> {
        let (expiry, value) = match self.expiry {
            Expiry::Never => (NEVER, 0),
            Expiry::Idle(seconds) => (IDLE, seconds),
            Expiry::At(at) => (AT, at.as_millis()),
        };
        let branch = self.branch.as_ref();
        vec![
            Value::Integer(key),
            self.generation.to_string().into(),
            self.media.as_str().into(),
            expiry.into(),
            value.into(),
            self.expiry_text.clone().into(),
            u64::from(self.expiry_inherited).into(),
            u64::from(self.closed).into(),
            u64::from(self.deleted).into(),
            self.tail.into(),
            self.weight.into(),
            self.hot.into(),
            self.hot_weight.into(),
            self.hot_rows.into(),
            self.seq.clone().into(),
            self.touched.as_millis().into(),
            u64::from(self.cold).into(),
            self.references.into(),
            branch.map(|branch| branch.source.clone()).into(),
            branch.map(|branch| branch.at).into(),
            branch.map(|branch| branch.beyond).into(),
            u64::from(self.followed).into(),
            self.round.into(),
            self.reported.into(),
            self.incarnation.into(),
        ]
    }
}

fn branch(row: &mut Columns) -> Result<Option<Branch>, SqlError> {
    let (source, at, beyond) = (
        row.optional_text()?,
        row.optional_integer()?,
        row.optional_integer()?,
    );
    let position = at.zip(beyond);
    Ok(source
        .zip(position)
        .map(|(source, (at, beyond))| Branch { source, at, beyond }))
}

const NEVER: u64 = 0;
const IDLE: u64 = 1;
const AT: u64 = 2;

/// The expiry that SQL can store: larger numbers saturate at the largest exact integer.
pub(super) fn exact(expiry: Expiry) -> Expiry {
    match expiry {
        Expiry::Never => Expiry::Never,
        Expiry::Idle(seconds) => Expiry::Idle(seconds.min(EXACT_INTEGER_MAX)),
        Expiry::At(at) => {
            let millis = at.as_millis().min(EXACT_INTEGER_MAX);
            Expiry::At(Timestamp::from_millis(millis))
        }
    }
}
