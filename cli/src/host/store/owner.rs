//! Owner record: the one server that writes below a prefix, and its fencing epoch.
//!
//! A server creates the record `<prefix>/owner` with a condition, so one of several wins. A server
//! that finds another's record only reads. Taking over replaces the record, on condition that it
//! did not change, with the next epoch. The former owner reads the record before each deletion and
//! every [`CHECK_TIME`], and only reads from then on.

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
    /// Grows by one with each new owner.
    pub(super) epoch: u64,
}

impl OwnerRecord {
    /// The record of the first server.
    pub(super) fn first(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            epoch: 1,
        }
    }

    /// The record of a server after this one.
    pub(super) fn next(&self, server: &str) -> Self {
        Self {
            server: server.to_owned(),
            epoch: self.epoch.saturating_add(1),
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("a record is text and a number")
            .into()
    }
}

/// Whether this server owns the prefix, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// The record was not read yet.
    Unknown,
    /// This server owned it then.
    Own(Instant),
    /// Another server owns it. This server writes again only after a start that takes over.
    Foreign(OwnerRecord),
}

/// What this server knows of the record.
pub(super) struct Owner {
    /// The id of this server's data folder.
    pub(super) me: String,
    standing: Mutex<Standing>,
}

impl Owner {
    pub(super) fn new(me: String) -> Self {
        Self {
            me,
            standing: Mutex::new(Standing::Unknown),
        }
    }

    /// The other server that owns the prefix.
    pub(super) fn other(&self) -> Option<OwnerRecord> {
        match &*self.standing() {
            Standing::Foreign(record) => Some(record.clone()),
            Standing::Unknown | Standing::Own(_) => None,
        }
    }

    /// Whether a write has to read the record first.
    pub(super) fn is_due(&self) -> bool {
        match &*self.standing() {
            Standing::Own(read) => read.elapsed() > CHECK_TIME,
            Standing::Unknown => true,
            Standing::Foreign(_) => false,
        }
    }

    /// Notes the record that was found or written.
    pub(super) fn note(&self, found: OwnerRecord) {
        let mut standing = self.standing();
        if !matches!(*standing, Standing::Foreign(_)) {
            *standing = if found.server == self.me {
                Standing::Own(Instant::now())
            } else {
                Standing::Foreign(found)
            };
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
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
        let owner = Owner::new("a".into());
        assert!(owner.is_due());
        let own = OwnerRecord::first("a");
        owner.note(own.clone());
        assert!(!owner.is_due() && owner.other().is_none());
        let other = own.next("b");
        assert_eq!(other.epoch, 2);
        owner.note(other.clone());
        owner.note(own);
        assert_eq!(owner.other(), Some(other));
    }
}
