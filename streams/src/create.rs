//! Creation of a stream: new, forked, or confirmed with equal properties.

use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use super::append::{EmptyArray, check_position, encode_body};
use super::call::{Create, Expiry, Fork, MediaType};
use super::engine::Engine;
use super::fork::ForkSnapshot;
use super::generation::Generation;
use super::job::RELEASE;
use super::record::{Branch, StreamRecord, exact};
use super::reply::{Created, Refusal};

/// Result of [`Engine::begin_fork`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForkStart {
    /// The fork exists with the same properties.
    Existing(Created),
    /// The source has to retain a snapshot; a release job is queued in case that fails.
    Resolve,
}

impl<S: Sql> Engine<'_, S> {
    /// Creates a stream that is no fork, ignoring [`Create::fork`]. For forks, see
    /// [`driver::create`](super::driver::create).
    pub fn create(
        &self,
        call: &Create,
        now: Timestamp,
        generation: Generation,
    ) -> Result<Created, Refusal> {
        if let Some(created) = self.find(call, now)? {
            return Ok(created);
        }
        let media = call.media_type.clone();
        let media = media.unwrap_or_else(|| MediaType::new("application/octet-stream"));
        let expiry = call.expiry.unwrap_or(Expiry::Never);
        let mut stream = StreamRecord::new(generation, media, expiry, now);
        stream.expiry_text.clone_from(&call.expiry_text);
        self.insert_stream(call, stream, None, now)
    }

    /// Begins to create a fork. `reference` becomes its generation.
    pub fn begin_fork(
        &self,
        call: &Create,
        reference: Generation,
        now: Timestamp,
    ) -> Result<ForkStart, Refusal> {
        if let Some(created) = self.find(call, now)? {
            return Ok(ForkStart::Existing(created));
        }
        if let Some(fork) = &call.fork {
            self.enqueue_release(&fork.source, reference, now)?;
        }
        Ok(ForkStart::Resolve)
    }

    /// Creates the fork from the snapshot that its source retains.
    pub fn complete_fork(
        &self,
        call: &Create,
        reference: Generation,
        snapshot: &ForkSnapshot,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        if let Some(created) = self.find(call, now)? {
            // Another request created it first, so this one's snapshot is released.
            self.abandon_fork(reference, now)?;
            return Ok(created);
        }
        let shared = &snapshot.media_type;
        let media = call.media_type.as_ref().unwrap_or(shared);
        if media.essence() != shared.essence() {
            return Err(Refusal::SourceType);
        }
        if !self.is_release_queued(reference)? {
            let why = "the source took too long to retain its log for a fork".to_owned();
            return Err(Refusal::Storage { why });
        }
        let (expiry, text) = match call.expiry {
            Some(expiry) => (expiry, &call.expiry_text),
            None => (snapshot.expiry, &snapshot.expiry_text),
        };
        let mut stream = StreamRecord::new(reference, media.clone(), expiry, now);
        stream.expiry_text.clone_from(text);
        stream.expiry_inherited = call.expiry.is_none();
        stream.branch = call.fork.as_ref().map(|fork| Branch {
            source: fork.source.to_string(),
            at: snapshot.at.saturating_sub(fork.beyond),
            beyond: fork.beyond,
        });
        self.insert_stream(call, stream, Some(snapshot), now)
    }

    /// The existing stream, if it has the properties of the call; `None` if the name is free.
    fn find(&self, call: &Create, now: Timestamp) -> Result<Option<Created>, Refusal> {
        let Some(stream) = self.load()? else {
            return Ok(None);
        };
        if stream.is_over(now) {
            return if stream.deleted || stream.references > 0 {
                Err(Refusal::Taken)
            } else {
                Ok(None)
            };
        }
        match difference(call, &stream) {
            Some(what) => Err(Refusal::Exists { what: what.into() }),
            None => Ok(Some(Created {
                fresh: false,
                view: stream.view(),
            })),
        }
    }

    fn insert_stream(
        &self,
        call: &Create,
        mut stream: StreamRecord,
        snapshot: Option<&ForkSnapshot>,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        self.check_size(call.body.len())?;
        let body = if call.body.is_empty() {
            std::borrow::Cow::default()
        } else {
            encode_body(&stream, &call.body, EmptyArray::Allowed)?
        };
        check_position(&stream, &body)?;
        // Everything is checked: the engine writes from here on.
        if let Some(expired) = self.load()? {
            self.destroy(&expired, now)?;
        }
        let shared = snapshot.map_or(0, |snapshot| snapshot.incarnation);
        stream.incarnation = self.take_incarnation()?.max(shared);
        if let Some(snapshot) = snapshot {
            self.copy_snapshot(&mut stream, snapshot)?;
            self.dequeue(RELEASE, &stream.generation.to_string())?;
        }
        self.insert_rows(&mut stream, &body)?;
        stream.closed = call.closed;
        self.record_created(&mut stream, now)?;
        self.insert(&stream)?;
        Ok(Created {
            fresh: true,
            view: stream.view(),
        })
    }
}

/// The first property in which an existing stream differs from a call.
fn difference(call: &Create, stream: &StreamRecord) -> Option<&'static str> {
    let is_fork = call.fork.is_some();
    let same_type = match &call.media_type {
        Some(media) => media.essence() == stream.media.essence(),
        None => is_fork || stream.media.essence() == "application/octet-stream",
    };
    let same_expiry = match call.expiry {
        None if is_fork => stream.expiry_inherited,
        asked => exact(asked.unwrap_or(Expiry::Never)) == stream.expiry,
    };
    let same_branch = match (&call.fork, &stream.branch) {
        (None, None) => true,
        (Some(fork), Some(branch)) => is_same_branch(fork, branch),
        (Some(_), None) | (None, Some(_)) => false,
    };
    [
        (same_type, "media type"),
        (same_expiry, "time to live"),
        (call.closed == stream.closed, "closed status"),
        (same_branch, "source"),
    ]
    .into_iter()
    .find_map(|(same, what)| (!same).then_some(what))
}

/// Whether a fork has the branch of a request. A request without an offset accepts any.
fn is_same_branch(fork: &Fork, branch: &Branch) -> bool {
    let same_offset = fork.at.is_none_or(|at| at.position() == branch.at);
    fork.source.as_str() == branch.source && same_offset && fork.beyond == branch.beyond
}
