//! Registry sender: batches of lifecycle messages that the hub appends to the registry.

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
pub struct RegistryBatch {
    number: u64,
    /// What has to be appended, once.
    pub append: Append,
}

impl<'a, S: Sql> Hub<'a, S> {
    /// The next messages for the registry, if any wait. The same, until they
    /// [ack](Self::ack_registry_batch).
    pub fn registry_batch(&self, now: Timestamp) -> Result<Option<RegistryBatch>, SqlError> {
        let waiting = self.registry_outbox().batch(now)?;
        Ok(waiting.map(|(number, messages)| RegistryBatch {
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

    /// A batch ack.
    pub fn ack_registry_batch(&self, batch: &RegistryBatch) -> Result<(), SqlError> {
        self.registry_outbox().ack(batch.number)
    }

    /// No one knows whether a batch arrived: it is tried again, ever later.
    pub fn nack_registry_batch(&self, now: Timestamp) -> Result<(), SqlError> {
        self.registry_outbox().nack(now)
    }

    pub(super) const fn registry_outbox(&self) -> Outbox<'a, S> {
        Outbox::new(self.sql, REGISTRY)
    }
}
