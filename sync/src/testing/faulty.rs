//! Faulty decorator: a platform with a hook around every effect.

use std::fmt;
use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::channel::Channel;
use pmx_core::id::SpaceId;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::sql::{Sql, SqlError, SqlRow, Value};
use pmx_core::time::Timestamp;

use crate::pointer::Pointer;
use crate::serve::{Pointers, Spaces};
use crate::space::{Command, Reply};

/// An effect of a server on its platform.
#[derive(Debug, Clone, Copy)]
pub enum ServerEffect<'a> {
    /// An object is read.
    ReadBlob(&'a ObjectKey),
    /// An object is written.
    WriteBlob(&'a ObjectKey),
    /// Objects are deleted.
    DeleteBlobs(&'a [ObjectKey]),
    /// Objects of a space that was deleted are deleted.
    DeleteSome(SpaceId),
    /// A pointer is read.
    ReadPointer(&'a Channel),
    /// A pointer is written.
    WritePointer(&'a Channel, &'a Pointer),
    /// A space is called.
    Call(&'a SpaceName, &'static str),
}

impl fmt::Display for ServerEffect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadBlob(key) => write!(f, "read {}", key.object),
            Self::WriteBlob(key) => write!(f, "write {}", key.object),
            Self::DeleteBlobs(keys) => write!(f, "delete {} objects", keys.len()),
            Self::DeleteSome(space) => write!(f, "delete some objects of {space}"),
            Self::ReadPointer(channel) => write!(f, "read the pointer of {channel}"),
            Self::WritePointer(channel, pointer) => {
                write!(f, "point {channel} to deploy {}", pointer.deploy)
            }
            Self::Call(space, command) => write!(f, "call {space}: {command}"),
        }
    }
}

/// Decides whether effects take place.
pub trait Hook {
    /// Runs before an effect: an `Err` replaces the effect.
    fn before(&self, effect: ServerEffect<'_>) -> impl Future<Output = Result<(), BackendError>>;

    /// Runs after an effect: an `Err` replaces its result, although it took place.
    fn after(&self, effect: ServerEffect<'_>) -> impl Future<Output = Result<(), BackendError>>;

    /// Runs before a statement, and before a transaction commits: an `Err` replaces it.
    fn statement(&self, statement: &str) -> Result<(), SqlError>;
}

/// A port with a hook around every effect.
#[derive(Debug, Clone)]
pub struct Faulty<T, H> {
    inner: T,
    hook: H,
}

impl<T, H> Faulty<T, H> {
    /// Puts a hook around a port.
    pub const fn new(inner: T, hook: H) -> Self {
        Self { inner, hook }
    }

    /// The port without the hook.
    pub const fn inner(&self) -> &T {
        &self.inner
    }
}

impl<T: Blobs, H: Hook> Blobs for Faulty<T, H> {
    async fn read(&self, key: ObjectKey, range: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        self.hook.before(ServerEffect::ReadBlob(&key)).await?;
        let bytes = self.inner.read(key, range).await?;
        self.hook.after(ServerEffect::ReadBlob(&key)).await?;
        Ok(bytes)
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        self.hook.before(ServerEffect::WriteBlob(&key)).await?;
        self.inner.write(key, body).await?;
        self.hook.after(ServerEffect::WriteBlob(&key)).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), BackendError> {
        self.hook.before(ServerEffect::DeleteBlobs(keys)).await?;
        self.inner.delete(keys).await?;
        self.hook.after(ServerEffect::DeleteBlobs(keys)).await
    }

    async fn delete_some(&self, space: SpaceId, most: usize) -> Result<usize, BackendError> {
        self.hook.before(ServerEffect::DeleteSome(space)).await?;
        let count = self.inner.delete_some(space, most).await?;
        self.hook.after(ServerEffect::DeleteSome(space)).await?;
        Ok(count)
    }
}

impl<T: Pointers, H: Hook> Pointers for Faulty<T, H> {
    async fn read(&self, channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        self.hook.before(ServerEffect::ReadPointer(channel)).await?;
        let pointer = self.inner.read(channel).await?;
        self.hook.after(ServerEffect::ReadPointer(channel)).await?;
        Ok(pointer)
    }

    fn may_lag(&self) -> bool {
        self.inner.may_lag()
    }

    async fn write(&self, channel: &Channel, pointer: &Pointer) -> Result<(), BackendError> {
        self.hook
            .before(ServerEffect::WritePointer(channel, pointer))
            .await?;
        self.inner.write(channel, pointer).await?;
        self.hook
            .after(ServerEffect::WritePointer(channel, pointer))
            .await
    }
}

impl<T: Spaces, H: Hook> Spaces for Faulty<T, H> {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let effect = ServerEffect::Call(space, name(&command));
        self.hook.before(effect).await?;
        let reply = self.inner.call(space, command, now).await?;
        self.hook.after(effect).await?;
        Ok(reply)
    }
}

impl<T: Sql, H: Hook> Sql for Faulty<T, H> {
    fn run(&self, statement: &str, params: &[Value]) -> Result<Vec<SqlRow>, SqlError> {
        self.hook.statement(statement)?;
        self.inner.run(statement, params)
    }

    fn atomically<T2, E: From<SqlError>>(
        &self,
        body: impl FnOnce(&Self) -> Result<T2, E>,
    ) -> Result<T2, E> {
        self.inner.atomically(|_| {
            let done = body(self)?;
            self.hook.statement("COMMIT")?;
            Ok(done)
        })
    }
}

const fn name(command: &Command) -> &'static str {
    match command {
        Command::Open { .. } => "open",
        Command::Publish(publish) if publish.commit.is_some() => "commit",
        Command::Publish(_) => "begin",
        Command::RecordPack { .. } => "pack arrived",
        Command::RecordPart(_) => "part arrived",
        Command::Rollback(_) => "rollback",
        Command::Resume => "resume",
        Command::DeleteAlias { .. } => "unalias",
        Command::ExpirePreviews => "expire",
        Command::Verify(_) => "verify",
        Command::Pin { .. }
        | Command::RemoveDeploy { .. }
        | Command::Retention
        | Command::SetRetention(_)
        | Command::Collect { .. } => command.name(),
        Command::DeleteSpace { .. } => "delete",
        Command::ForgetRemoved { .. } => "forget",
        Command::Previews => "previews",
        Command::Deploys { .. } => "deploys",
        Command::Diff { .. } => "diff",
        Command::Nodes { .. } => "nodes",
        Command::Events { .. } => "events",
        Command::DiffSince { .. } => "net",
        Command::Locate { .. } => "locate",
        Command::Index { .. } => "index",
        Command::PendingPointers => "undelivered",
        Command::Lost(_) => "lost",
        Command::AckPointer { .. } => "delivered",
    }
}
