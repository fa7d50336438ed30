//! Subscription links: the streams of a subscription, each with its acknowledged offset and tail.

use pmx_core::sql::{Sql, SqlError, SqlRow, Value};

use super::record::stream_name;
use super::{COLUMNS, Record, SubscriptionStore};
use crate::row::Columns;
use crate::{Offset, StreamName};

/// A stream of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::subscription) struct Link {
    pub(in crate::subscription) path: StreamName,
    pub(in crate::subscription) kind: LinkKind,
    pub(in crate::subscription) acked: Offset,
    pub(in crate::subscription) tail: Offset,
}

/// Why a stream belongs to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::subscription) enum LinkKind {
    /// The subscription names it.
    Explicit,
    /// The subscription's pattern matches it.
    Glob,
}

impl LinkKind {
    pub(in crate::subscription) const fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Glob => "glob",
        }
    }
}

impl Link {
    pub(in crate::subscription) fn is_pending(&self) -> bool {
        self.tail > self.acked
    }

    fn read(row: SqlRow) -> Result<Self, SqlError> {
        let mut row = Columns::of(row);
        let path = stream_name(&row.text()?)?;
        let kind = if row.flag()? {
            LinkKind::Explicit
        } else {
            LinkKind::Glob
        };
        let (acked, tail) = (row.integer()?, row.integer()?);
        let start = Offset::ZERO.of_incarnation(row.integer()?);
        Ok(Self {
            path,
            kind,
            acked: start.moved_to(acked),
            tail: start.moved_to(tail),
        })
    }
}

impl<S: Sql> SubscriptionStore<'_, S> {
    pub(in crate::subscription) fn link(
        &self,
        number: u64,
        path: &StreamName,
    ) -> Result<Option<Link>, SqlError> {
        let params = [number.into(), path.as_str().into()];
        self.select_link("WHERE number = ? AND path = ?", &params)
    }

    /// The streams of a subscription, those with pending work first.
    pub(in crate::subscription) fn links(
        &self,
        number: u64,
        limit: usize,
    ) -> Result<Vec<Link>, SqlError> {
        let params = [number.into(), (limit as u64).into()];
        let clauses = "WHERE number = ? ORDER BY acked >= tail, path LIMIT ?";
        self.select_links(clauses, &params)
    }

    /// A stream with pending work. As `round` grows, the pending streams take turns.
    pub(in crate::subscription) fn pending_link(
        &self,
        number: u64,
        round: u64,
    ) -> Result<Option<Link>, SqlError> {
        let clauses = "WHERE number = ?1 AND acked < tail ORDER BY path LIMIT 1 OFFSET ?2 %
             (SELECT max(count(*), 1) FROM subscription_link WHERE number = ?1 AND acked < tail)";
        self.select_link(clauses, &[number.into(), round.into()])
    }

    fn select_link(&self, clauses: &str, params: &[Value]) -> Result<Option<Link>, SqlError> {
        Ok(self.select_links(clauses, params)?.into_iter().next())
    }

    /// The links that the clauses of a `SELECT` choose, in their order.
    fn select_links(&self, clauses: &str, params: &[Value]) -> Result<Vec<Link>, SqlError> {
        let select = format!(
            "SELECT path, explicit, acked, tail, incarnation FROM subscription_link {clauses}"
        );
        let rows = self.0.run(&select, params)?;
        rows.into_iter().map(Link::read).collect()
    }

    pub(in crate::subscription) fn has_pending(&self, number: u64) -> Result<bool, SqlError> {
        let select = "SELECT 1 FROM subscription_link WHERE number = ? AND acked < tail LIMIT 1";
        Ok(!self.0.run(select, &[number.into()])?.is_empty())
    }

    /// The numbers of the subscriptions that have a stream.
    pub(in crate::subscription) fn linked(&self, path: &StreamName) -> Result<Vec<u64>, SqlError> {
        let select = "SELECT number FROM subscription_link WHERE path = ?";
        let rows = self.0.run(select, &[path.as_str().into()])?;
        rows.into_iter()
            .map(|row| Columns::of(row).integer())
            .collect()
    }

    /// The idle subscriptions for which a stream has pending work.
    pub(in crate::subscription) fn idle(&self, path: &StreamName) -> Result<Vec<Record>, SqlError> {
        let select = format!(
            "SELECT {COLUMNS} FROM subscription WHERE phase = 'idle' AND number IN
             (SELECT number FROM subscription_link WHERE path = ? AND acked < tail)"
        );
        self.records(&select, &[path.as_str().into()])
    }

    /// Advances the tail of a stream in every subscription that has it.
    pub(in crate::subscription) fn advance(
        &self,
        path: &StreamName,
        tail: Offset,
    ) -> Result<(), SqlError> {
        let update = "UPDATE subscription_link SET tail = ?, incarnation = ?
             WHERE path = ? AND tail < ?";
        let (tail, incarnation) = (|| tail.position().into(), tail.incarnation().into());
        let params = [tail(), incarnation, path.as_str().into(), tail()];
        self.0.run(update, &params).map(drop)
    }

    /// Removes a stream that ended. A subscription that names it keeps it, reset to offset zero.
    pub(in crate::subscription) fn remove_stream(&self, path: &StreamName) -> Result<(), SqlError> {
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

    pub(in crate::subscription) fn save_link(
        &self,
        number: u64,
        link: &Link,
    ) -> Result<(), SqlError> {
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

    pub(in crate::subscription) fn unlink(
        &self,
        number: u64,
        path: &StreamName,
    ) -> Result<(), SqlError> {
        let delete = "DELETE FROM subscription_link WHERE number = ? AND path = ?";
        let params = [number.into(), path.as_str().into()];
        self.0.run(delete, &params).map(drop)
    }

    /// Acknowledges everything before an offset. An earlier offset than the acknowledged one
    /// changes nothing.
    pub(in crate::subscription) fn acknowledge(
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
}
