//! Making a stream, or finding that it was made before on the same terms.

use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;

use super::append::{Empty, at_rest, check_room};
use super::call::{Create, Expiry, Fork, MediaType};
use super::chore::GIVE_BACK;
use super::engine::Engine;
use super::fork::Loan;
use super::generation::Generation;
use super::record::{Branch, Stream, exact};
use super::reply::{Created, Refusal};

/// How far a fork came by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// It was there before, on the same terms.
    There(Created),
    /// The source has to be asked; that it will be is written down.
    Ask,
}

impl<S: Sql> Engine<'_, S> {
    /// Makes a stream that is no fork. Whoever calls this for a fork gets a stream that forgot
    /// its source: see [`execute::create`](super::execute::create).
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
        let mut stream = Stream::new(generation, media, expiry, now);
        stream.expiry_text.clone_from(&call.expiry_text);
        self.make(call, stream, None, now)
    }

    /// Begins to make a fork. `edge` becomes its generation.
    pub fn begin_fork(
        &self,
        call: &Create,
        edge: Generation,
        now: Timestamp,
    ) -> Result<Beginning, Refusal> {
        if let Some(created) = self.find(call, now)? {
            return Ok(Beginning::There(created));
        }
        if let Some(fork) = &call.fork {
            self.intend_fork(&fork.source, edge, now)?;
        }
        Ok(Beginning::Ask)
    }

    /// Makes the fork of what its source lent.
    pub fn settle_fork(
        &self,
        call: &Create,
        edge: Generation,
        loan: &Loan,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        if let Some(created) = self.find(call, now)? {
            // Somebody else was faster: what was lent to this one is not needed.
            self.abandon_fork(edge, now)?;
            return Ok(created);
        }
        let lent = &loan.media_type;
        let media = call.media_type.as_ref().unwrap_or(lent);
        if media.essence() != lent.essence() {
            return Err(Refusal::SourceType);
        }
        if !self.intends_fork(edge)? {
            let why = "the source took too long to lend to a fork".to_owned();
            return Err(Refusal::Storage { why });
        }
        let (expiry, text) = match call.expiry {
            Some(expiry) => (expiry, &call.expiry_text),
            None => (loan.expiry, &loan.expiry_text),
        };
        let mut stream = Stream::new(edge, media.clone(), expiry, now);
        stream.expiry_text.clone_from(text);
        stream.expiry_inherited = call.expiry.is_none();
        stream.branch = call.fork.as_ref().map(|fork| Branch {
            source: fork.source.to_string(),
            at: loan.at.saturating_sub(fork.beyond),
            beyond: fork.beyond,
        });
        self.make(call, stream, Some(loan), now)
    }

    /// The stream that is there already, if it is as it should be; nothing if the name is free.
    fn find(&self, call: &Create, now: Timestamp) -> Result<Option<Created>, Refusal> {
        let Some(stream) = self.load()? else {
            return Ok(None);
        };
        if stream.is_over(now) {
            return if stream.deleted || stream.edges > 0 {
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

    fn make(
        &self,
        call: &Create,
        mut stream: Stream,
        loan: Option<&Loan>,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        self.check_size(call.body.len())?;
        let body = if call.body.is_empty() {
            std::borrow::Cow::default()
        } else {
            at_rest(&stream, &call.body, Empty::Allowed)?
        };
        check_room(&stream, &body)?;
        // From here on nothing is refused any more.
        if let Some(lapsed) = self.load()? {
            self.destroy(&lapsed, now)?;
        }
        let lent = loan.map_or(0, |loan| loan.incarnation);
        stream.incarnation = self.take_past()?.max(lent);
        if let Some(loan) = loan {
            self.take(&mut stream, loan)?;
            self.cross_out(GIVE_BACK, &stream.generation.to_string())?;
        }
        self.lay(&mut stream, &body)?;
        stream.closed = call.closed;
        self.record_created(&mut stream, now)?;
        self.insert(&stream)?;
        Ok(Created {
            fresh: true,
            view: stream.view(),
        })
    }
}

/// In what a stream is not what is asked for.
fn difference(call: &Create, stream: &Stream) -> Option<&'static str> {
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

/// Where a fork left its source counts only if it was said: else it was wherever the tail was.
fn is_same_branch(fork: &Fork, branch: &Branch) -> bool {
    let same_place = fork.at.is_none_or(|at| at.position() == branch.at);
    fork.source.as_str() == branch.source && same_place && fork.beyond == branch.beyond
}
