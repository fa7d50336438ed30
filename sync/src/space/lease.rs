//! Upload leases: how long the space keeps content that no deploy has.
//!
//! Packs, parts and nodes of a publish wait for its commit. If uploads to a space pause for longer
//! than the lease, the waiting content expires, and publishes delete it, [`DROPPED_AT_ONCE`] rows
//! each. Uploads without such a pause keep their content for [`LEASES_MAX`] leases: a long upload
//! completes, and abandoned ones are deleted.

use std::time::Duration;

use pmx_core::sql::{Sql, SqlError, Value};
use pmx_core::time::{Timestamp, parse_duration};

use super::collect::Collector;
use super::columns::{integer, text};
use super::ledger::Ledger;

/// The lease, unless the operator sets another.
pub const LEASE: Duration = Duration::from_hours(1);

/// Leases after which a busy space deletes waiting content.
const LEASES_MAX: u64 = 24;

/// Rows of a table that a publish deletes.
const DROPPED_AT_ONCE: u64 = 64;

/// Start of the current series of uploads, which has no pause longer than the lease, and its last
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Uploads {
    since: u64,
    last: u64,
    lease: u64,
}

impl Uploads {
    const fn starting(now: Timestamp) -> Self {
        Self {
            since: 0,
            last: now.as_millis(),
            lease: LEASE.as_millis() as u64,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (since, last, lease) = (next()?, next()?, next()?);
        Some(Self { since, last, lease })
    }

    /// Uploads that arrived before this time have expired.
    fn expired_before(&self, now: u64) -> u64 {
        if now.saturating_sub(self.last) > self.lease {
            return now.saturating_sub(self.lease);
        }
        let longest = self.lease.saturating_mul(LEASES_MAX);
        self.since.max(now.saturating_sub(longest))
    }

    fn touched(self, now: u64) -> Self {
        let is_new = now.saturating_sub(self.last) > self.lease;
        // Not `now`: requests overtake each other, and an upload may have an earlier time.
        let since = if is_new { self.last + 1 } else { self.since };
        let last = now.max(self.last);
        Self {
            since,
            last,
            ..self
        }
    }
}

/// Reads the lease: a number and `s`, `m`, `h` or `d`.
pub fn parse_lease(text: &str) -> Option<Duration> {
    parse_duration(text)
}

/// Begins a publish: waiting content expires, and the space deletes some of it.
pub(crate) fn begin<S: Sql>(
    ledger: &Ledger<'_, S>,
    now: Timestamp,
    lease: Duration,
    is_dry: bool,
) -> Result<(), SqlError> {
    let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    let known = read(ledger)?;
    let uploads = Uploads {
        lease,
        ..known.unwrap_or(Uploads::starting(now))
    };
    let before = uploads.expired_before(now.as_millis());
    ledger.expire_before(before);
    if is_dry {
        return Ok(());
    }
    if known != Some(uploads) {
        write(ledger, uploads)?;
    }
    let mut is_wanted = false;
    for delete in [
        "DELETE FROM pack WHERE id IN
             (SELECT id FROM pack WHERE toc IS NOT NULL AND at < ? LIMIT ?) RETURNING 1",
        "DELETE FROM part WHERE (blob, number) IN
             (SELECT blob, number FROM part WHERE at < ? LIMIT ?) RETURNING 1",
        "DELETE FROM node WHERE id IN
             (SELECT id FROM node WHERE object IS NULL AND kept < ? LIMIT ?) RETURNING 1",
        "DELETE FROM arrived WHERE bucket IN
             (SELECT bucket FROM arrived WHERE last < ? LIMIT ?) RETURNING 1",
    ] {
        let params = [before.into(), DROPPED_AT_ONCE.into()];
        is_wanted |= !ledger.sql().run(delete, &params)?.is_empty();
    }
    if is_wanted {
        ledger.write_collector(&Collector::read(ledger.sql())?.wanting(false))?;
    }
    Ok(())
}

/// Time before which uploads have expired, in milliseconds.
pub(super) fn expired<S: Sql>(ledger: &Ledger<'_, S>) -> Result<u64, SqlError> {
    let uploads = read(ledger)?;
    Ok(uploads.map_or(0, |uploads| {
        uploads.expired_before(ledger.now().as_millis())
    }))
}

/// When to look for abandoned uploads, and the last upload then.
pub(super) struct Look {
    pub(super) at: Timestamp,
    pub(super) last: u64,
}

/// The next look, unless nothing arrived since the last one, after which `looked` was the last
/// upload.
pub(super) fn next_look<S: Sql>(
    ledger: &Ledger<'_, S>,
    looked: u64,
) -> Result<Option<Look>, SqlError> {
    let uploads = read(ledger)?.filter(|uploads| uploads.last != looked);
    Ok(uploads.map(|uploads| Look {
        // Uploads of up to a sixteenth of the lease after the recorded one are not recorded.
        at: Timestamp::from_millis(
            uploads
                .last
                .saturating_add(uploads.lease)
                .saturating_add(uploads.lease / 16 + 1),
        ),
        last: uploads.last,
    }))
}

/// Whether something that waits for a commit has expired.
pub(super) fn has_expired<S: Sql>(ledger: &Ledger<'_, S>) -> Result<bool, SqlError> {
    let select = "SELECT EXISTS (SELECT 1 FROM pack WHERE toc IS NOT NULL AND at < ?)
         OR EXISTS (SELECT 1 FROM part WHERE at < ?)
         OR EXISTS (SELECT 1 FROM node WHERE object IS NULL AND kept < ?)";
    let before: Value = expired(ledger)?.into();
    let params = [before.clone(), before.clone(), before];
    let rows = ledger.sql().run(select, &params)?;
    let is_any = rows.first().map(|row| integer(row, 0)).transpose()?;
    Ok(is_any.unwrap_or(0) != 0)
}

/// Renews the lease: an upload arrived, or a publish reply named missing data.
pub(crate) fn touch<S: Sql>(ledger: &Ledger<'_, S>, now: Timestamp) -> Result<(), SqlError> {
    let known = read(ledger)?;
    let uploads = known.unwrap_or(Uploads::starting(now));
    let touched = uploads.touched(now.as_millis());
    ledger.expire_before(touched.expired_before(now.as_millis()));
    // A write for each pack would be unnecessary.
    let is_stale = touched.last - uploads.last > touched.lease / 16;
    if known.is_none() || is_stale || touched.since != uploads.since {
        write(ledger, touched)?;
    }
    Ok(())
}

fn read<S: Sql>(ledger: &Ledger<'_, S>) -> Result<Option<Uploads>, SqlError> {
    let select = "SELECT value FROM meta WHERE key = 'uploads'";
    let rows = ledger.sql().run(select, &[])?;
    let text = rows.first().map(|row| text(row, 0)).transpose()?;
    Ok(text.as_deref().and_then(Uploads::parse))
}

fn write<S: Sql>(ledger: &Ledger<'_, S>, uploads: Uploads) -> Result<(), SqlError> {
    let Uploads { since, last, lease } = uploads;
    let upsert = "INSERT INTO meta (key, value) VALUES ('uploads', ?)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    let value = format!("{since} {last} {lease}");
    ledger.sql().run(upsert, &[value.into()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_expire_after_a_pause_and_after_many_leases() {
        let start = Uploads {
            since: 1_000,
            last: 1_000,
            lease: 100,
        };
        let expired = |uploads: Uploads, at: u64, now: u64| at < uploads.expired_before(now);
        assert!(!expired(start, 1_000, 1_100));
        assert!(expired(start, 1_000, 1_101), "a pause");
        let busy = (0..100).fold(start, |uploads, n| uploads.touched(1_000 + n * 50));
        assert_eq!((busy.since, busy.last), (1_000, 5_950));
        assert!(!expired(busy, 3_600, 5_960), "a long upload goes on");
        assert!(expired(busy, 1_000, 5_960), "not for ever");
        let again = busy.touched(6_100);
        assert_eq!(again.since, 5_951);
        assert!(
            expired(again, 5_950, 6_100),
            "what a pause ended stays ended"
        );
    }

    #[test]
    fn leases_are_read_as_they_are_written() {
        let seconds = |text| parse_lease(text).map(|lease| lease.as_secs());
        assert_eq!(seconds("10s"), Some(10));
        assert_eq!(seconds("5m"), Some(300));
        assert_eq!(seconds("24h"), Some(86_400));
        for bad in ["", "s", "0s", "-1s", "1.5h", "10", "10 minutes", "ü"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
