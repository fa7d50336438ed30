//! Upload storage: writes an upload's object, then records it in the space, in one call.
//!
//! The key of an object begins with the id of its space, which the server caches from the space's
//! last reply. A space may since be removed and made again under its name, with another id. So each
//! command carries the id that its object was written for, and the space refuses any id but its
//! own.

use bytes::Bytes;
use http::Response;
use pmx_core::backend::{Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::id::SpaceId;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::answer::json;
use super::backend::Backend;
use super::body::Body;
use super::nonce::Nonce;
use super::publish::unexpected;
use super::server::Server;
use crate::space::{Command, Reply};

impl<B: Backend> Server<B> {
    /// Writes an object, and records it in the space with the command `arrived`. If the space
    /// already has an object with this content, the server deletes the new one.
    pub(super) async fn keep(
        &self,
        object: Bytes,
        space: &SpaceName,
        arrived: impl Fn(ObjectKey) -> Command,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let bytes = object.len() as u64;
        let mut key = ObjectKey {
            space: self.space_id(space, now, nonce).await?,
            object: nonce.object(),
        };
        self.backend().blobs().write(key, object).await?;
        let mut noted = self.call(space, arrived(key), now).await;
        if is_of_another(&noted) {
            self.space_ids().remove(space);
            let other = key;
            key.space = self.space_id(space, now, nonce).await?;
            self.move_object(other, key, bytes).await?;
            noted = self.call(space, arrived(key), now).await;
        }
        match noted? {
            Reply::Recorded(kept) if kept == key.object => {}
            Reply::Recorded(_) => self.backend().blobs().delete(&[key]).await?,
            other => return Err(unexpected(&other)),
        }
        json(&serde_json::json!({ "kept": true }))
    }

    /// The internal id of a space, which is created if it does not exist.
    pub(super) async fn space_id(
        &self,
        space: &SpaceName,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<SpaceId, Problem> {
        if let Some(id) = self.space_ids().find(space) {
            return Ok(id);
        }
        let fresh = nonce.space();
        match self.call(space, Command::Open { fresh }, now).await? {
            Reply::Space(id) => {
                let bytes = space.as_str().len() + size_of::<(SpaceName, SpaceId)>();
                self.space_ids().insert(space.clone(), id, bytes);
                Ok(id)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The problem of a space that was removed: the next request creates it again.
    pub(super) fn gone(&self, space: &SpaceName) -> Problem {
        self.space_ids().remove(space);
        let detail = format!("the space {space} was removed while something was published to it");
        Problem::new(Code::Unavailable, detail)
    }

    /// Moves an object to the space that owns it. The server reads it again, because keeping every
    /// upload in memory until the space has recorded it costs too much.
    async fn move_object(&self, from: ObjectKey, to: ObjectKey, bytes: u64) -> Result<(), Problem> {
        let blobs = self.backend().blobs();
        let object = blobs.read(from, 0..bytes).await?;
        let object = object.ok_or_else(|| {
            let detail = format!("the object {from} is gone before {to} was written");
            Problem::new(Code::Unavailable, detail)
        })?;
        blobs.write(to, object).await?;
        Ok(blobs.delete(&[from]).await?)
    }
}

/// Whether the space refused an upload because its object has another space's id.
fn is_of_another(noted: &Result<Reply, Problem>) -> bool {
    match noted {
        Ok(reply) => matches!(reply, Reply::Space(_)),
        Err(problem) => problem.code == Code::NotFound,
    }
}
