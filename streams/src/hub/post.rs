//! The registry's messages, on their way from the hub.

use bytes::Bytes;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::Hub;
use super::outbox::{Outbox, REGISTRY};
use crate::registry;
use crate::{Append, Producer};

/// The name under which the hub writes to the registry.
const PRODUCER: &str = "hub";

/// Messages for the registry that go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    number: u64,
    /// What has to be appended, once.
    pub append: Append,
}

impl<'a, S: Sql> Hub<'a, S> {
    /// The next messages for the registry, if any wait. The same, until they
    /// [arrived](Self::posted).
    pub fn batch(&self, now: Timestamp) -> Result<Option<Batch>, SqlError> {
        let waiting = self.posts().batch(now)?;
        Ok(waiting.map(|(number, messages)| Batch {
            number,
            append: Append {
                media_type: Some(registry::media_type()),
                body: Bytes::from(format!("[{}]", messages.join(","))),
                seq: None,
                producer: Some(Producer {
                    id: PRODUCER.to_owned(),
                    epoch: 0,
                    seq: number,
                }),
                close: false,
            },
        }))
    }

    /// A batch arrived.
    pub fn posted(&self, batch: &Batch) -> Result<(), SqlError> {
        self.posts().arrived(batch.number)
    }

    /// Nobody knows whether a batch arrived: it is tried again, ever later.
    pub fn not_posted(&self, now: Timestamp) -> Result<(), SqlError> {
        self.posts().put_off(now)
    }

    pub(super) const fn posts(&self) -> Outbox<'a, S> {
        Outbox::new(self.sql, REGISTRY)
    }
}
