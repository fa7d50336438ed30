//! Owner record: the one server that writes below a prefix, and its fencing epoch.
//!
//! A server creates the record `<prefix>/owner` with a condition, so one of several wins. A server
//! that finds another's record only reads. Taking over replaces the record, on condition that it
//! did not change, with the next epoch. Each start of the owner replaces it, too: two servers with
//! copies of one data folder have the same id, and then the newest start wins. The former owner
//! reads the record before each deletion and every [`CHECK_TIME`], and only reads from then on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmx_core::backend::BackendError;
use serde::{Deserialize, Serialize};

/// The key of the record, below the prefix.
pub(super) const OWNER_KEY: &str = "owner";

/// How old the last look at the record may be when the owner writes.
pub(super) const CHECK_TIME: Duration = Duration::from_secs(30);

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnerRecord {
    /// The random id of the owner's data folder.
    pub(super) server: String,
    /// Grows by one with each start that writes the record.
    pub(super) epoch: u64,
    /// The random number of the start that wrote it; empty in records of older versions.
    #[serde(default)]
    pub(super) run: String,
}

impl OwnerRecord {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("a record is texts and a number")
            .into()
    }
}

/// Whether this server owns the prefix, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ownership {
    /// The record was not read yet.
    Unknown,
    /// This server owned it then, by this record.
    Own(OwnerRecord, Instant),
    /// Another start owns it. This server writes again only after a start that takes over.
    Foreign(OwnerRecord),
}

/// What this server knows of the record.
pub(super) struct Owner {
    /// The id of this server's data folder.
    pub(super) me: String,
    /// The random number of this start.
    run: String,
    standing: Mutex<Ownership>,
}

impl Owner {
    pub(super) fn new(me: String, run: String) -> Self {
        Self {
            me,
            run,
            standing: Mutex::new(Ownership::Unknown),
        }
    }

    /// The record of this start after another; `None` if there is none.
    pub(super) fn next(&self, found: Option<&OwnerRecord>) -> OwnerRecord {
        OwnerRecord {
            server: self.me.clone(),
            epoch: found.map_or(0, |found| found.epoch).saturating_add(1),
            run: self.run.clone(),
        }
    }

    /// Whether a record is one that this start wrote.
    pub(super) fn wrote(&self, found: &OwnerRecord) -> bool {
        found.server == self.me && found.run == self.run
    }

    /// Whether a server may write its record in place of one that it found. Without force, only the
    /// first look of a start may, and only in place of a record of its own data folder.
    pub(super) fn may_replace(&self, found: &OwnerRecord, takes_over: bool) -> bool {
        takes_over || (self.is_unknown() && found.server == self.me)
    }

    /// Whether the record was never read.
    pub(super) fn is_unknown(&self) -> bool {
        *self.standing() == Ownership::Unknown
    }

    /// The other start that owns the prefix.
    pub(super) fn other(&self) -> Option<OwnerRecord> {
        match &*self.standing() {
            Ownership::Foreign(record) => Some(record.clone()),
            Ownership::Unknown | Ownership::Own(..) => None,
        }
    }

    /// Whether a write has to read the record first.
    pub(super) fn is_due(&self) -> bool {
        match &*self.standing() {
            Ownership::Own(_, read) => read.elapsed() > CHECK_TIME,
            Ownership::Unknown => true,
            Ownership::Foreign(_) => false,
        }
    }

    /// Notes the record that makes this server the owner.
    pub(super) fn note_own(&self, record: OwnerRecord) {
        let mut standing = self.standing();
        if !matches!(*standing, Ownership::Foreign(_)) {
            *standing = Ownership::Own(record, Instant::now());
        }
    }

    /// Notes a record that was found.
    pub(super) fn note(&self, found: OwnerRecord) {
        let owned = match &*self.standing() {
            Ownership::Own(own, _) => *own == found,
            Ownership::Unknown | Ownership::Foreign(_) => false,
        };
        if owned || self.wrote(&found) {
            self.note_own(found);
            return;
        }
        let mut standing = self.standing();
        if !matches!(*standing, Ownership::Foreign(_)) {
            *standing = Ownership::Foreign(found);
        }
    }

    fn standing(&self) -> MutexGuard<'_, Ownership> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record that can't be read: nothing is written until an operator looks at it.
pub(super) fn unreadable(key: &str, why: &serde_json::Error) -> BackendError {
    BackendError::new(format!("reading the owner record {key}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_that_lost_its_prefix_stays_so() {
        let owner = Owner::new("a".into(), "1".into());
        assert!(owner.is_due());
        let own = owner.next(None);
        owner.note(own.clone());
        assert!(!owner.is_due() && owner.other().is_none());
        let other = Owner::new("b".into(), "2".into()).next(Some(&own));
        assert_eq!(other.epoch, 2);
        owner.note(other.clone());
        owner.note(own);
        assert_eq!(owner.other(), Some(other));
    }

    #[test]
    fn newest_start_of_two_copies_owns_the_prefix() {
        let old = Owner::new("a".into(), "1".into());
        let new = Owner::new("a".into(), "2".into());
        let first = old.next(None);
        old.note(first.clone());
        assert!(new.may_replace(&first, false));
        let second = new.next(Some(&first));
        new.note(second.clone());
        assert!(!old.may_replace(&second, false));
        old.note(second.clone());
        assert_eq!(old.other(), Some(second));
        assert!(new.other().is_none());
    }

    #[test]
    fn record_of_an_older_version_is_read() {
        let record: OwnerRecord = serde_json::from_str(r#"{"server":"a","epoch":7}"#).unwrap();
        let owner = Owner::new("a".into(), "1".into());
        assert!(owner.may_replace(&record, false));
        assert_eq!(owner.next(Some(&record)).epoch, 8);
    }
}
