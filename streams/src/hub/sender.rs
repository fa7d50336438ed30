//! Registry sender: batches of lifecycle messages that the hub appends to the registry.

use bytes::Bytes;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;

use super::Hub;
use super::outbox::{HubOutbox, REGISTRY};
use crate::registry;
use crate::{Append, Producer};

/// The hub's producer id in the registry.
const PRODUCER: &str = "hub";

/// A batch of messages for the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryBatch {
    number: u64,
    /// The append, whose producer makes a repeated batch count once.
    pub append: Append,
}

impl<'a, S: Sql> Hub<'a, S> {
    /// The next batch for the registry, if there is one. It stays the same until it is
    /// [acknowledged](Self::ack_registry_batch).
    pub fn registry_batch(&self, now: Timestamp) -> Result<Option<RegistryBatch>, SqlError> {
        let batch = self.registry_outbox().batch(now)?;
        Ok(batch.map(|(number, messages)| RegistryBatch {
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

    /// Records that the registry has a batch.
    pub fn ack_registry_batch(&self, batch: &RegistryBatch) -> Result<(), SqlError> {
        self.registry_outbox().ack(batch.number)
    }

    /// Schedules another try with backoff, after a batch may have been lost.
    pub fn nack_registry_batch(&self, now: Timestamp) -> Result<(), SqlError> {
        self.registry_outbox().nack(now)
    }

    pub(super) const fn registry_outbox(&self) -> HubOutbox<'a, S> {
        HubOutbox::new(self.sql, REGISTRY)
    }
}
