//! Pointer answers: caches a space's replies about a channel, and lets one request ask (single
//! flight).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use crate::bounded_cache::BoundedCache;
use crate::pointer::Pointer;

/// How long an answer counts, measured from its question.
pub(super) const SPAN: Duration = Duration::from_secs(5);

/// How long the server asks nothing after a question that failed or got no answer yet. The request
/// that asked may have ended.
const LOST: Duration = Duration::from_secs(1);

/// Turns in progress; beyond this number the server drops those whose requests have ended.
const TURNS_MAX: usize = 256;

/// Bytes of one earlier root and its extent.
const EARLIER_BYTES: usize = 80;

/// Bytes of cached answers: some hundred pointers, or some thousand names without one.
const ANSWERS_BYTES: usize = 512 * 1024;

/// The answers of spaces about their channels, and the questions in progress.
pub(super) struct Newest {
    answers: BoundedCache<Channel, PointerAnswer>,
    asking: Mutex<Asking>,
}

#[derive(Debug, Clone)]
struct PointerAnswer {
    asked: Timestamp,
    said: SpaceAnswer,
}

#[derive(Debug, Clone)]
pub(super) enum SpaceAnswer {
    /// The channel's newest pointer.
    Found(Pointer),
    /// The channel does not exist.
    Absent,
    /// The question failed.
    Failed,
}

#[derive(Default)]
struct Asking {
    turns: HashMap<Channel, (u64, Timestamp)>,
    last: u64,
}

/// The next step of a request.
pub(super) enum PointerLookup<'a> {
    /// Done: the pointer that replaces the request's own, if a newer one exists.
    Known(Result<Option<Pointer>, Problem>),
    /// Ask the space.
    Ask(QueryPermit<'a>),
    /// Wait until another request has asked; its turn has this number.
    Wait(u64),
}

/// The right to ask about a channel, until it is dropped.
pub(super) struct QueryPermit<'a> {
    newest: &'a Newest,
    channel: Channel,
    number: u64,
}

impl Default for Newest {
    fn default() -> Self {
        Self {
            answers: BoundedCache::new(ANSWERS_BYTES),
            asking: Mutex::default(),
        }
    }
}

impl Newest {
    pub(super) fn step(
        &self,
        channel: &Channel,
        shown: Option<&Pointer>,
        now: Timestamp,
    ) -> PointerLookup<'_> {
        if let Some(answer) = self.answers.find(channel)
            && let Some(known) = answer.counts(shown, now)
        {
            return PointerLookup::Known(known);
        }
        let mut asking = self.asking();
        match asking.turns.get(channel) {
            Some((number, begun)) if is_within(LOST, *begun, now) => {
                return PointerLookup::Wait(*number);
            }
            Some(_) | None => {}
        }
        if asking.turns.len() >= TURNS_MAX {
            asking
                .turns
                .retain(|_, (_, begun)| is_within(LOST, *begun, now));
        }
        asking.last += 1;
        let number = asking.last;
        asking.turns.insert(channel.clone(), (number, now));
        drop(asking);
        PointerLookup::Ask(QueryPermit {
            newest: self,
            channel: channel.clone(),
            number,
        })
    }

    /// Ends a turn, unless another request has taken it over.
    pub(super) fn end(&self, channel: &Channel, number: u64) {
        let mut asking = self.asking();
        let turn = asking.turns.get(channel);
        if turn.is_some_and(|(current, _)| *current == number) {
            asking.turns.remove(channel);
        }
    }

    pub(super) fn keep(&self, channel: &Channel, asked: Timestamp, said: SpaceAnswer) {
        let earlier = match &said {
            SpaceAnswer::Found(pointer) => pointer.earlier.len(),
            SpaceAnswer::Absent | SpaceAnswer::Failed => 0,
        };
        let bytes = channel.space.as_str().len() + 256 + earlier * EARLIER_BYTES;
        self.answers
            .insert(channel.clone(), PointerAnswer { asked, said }, bytes);
    }

    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PointerAnswer {
    /// The answer for a request with the pointer `shown`; `None` if the server must ask the space.
    fn counts(
        self,
        shown: Option<&Pointer>,
        now: Timestamp,
    ) -> Option<Result<Option<Pointer>, Problem>> {
        let found = match self.said {
            SpaceAnswer::Failed => return is_within(LOST, self.asked, now).then(|| Err(busy())),
            SpaceAnswer::Found(_) | SpaceAnswer::Absent if !is_within(SPAN, self.asked, now) => {
                return None;
            }
            SpaceAnswer::Absent => None,
            SpaceAnswer::Found(found) => Some(found),
        };
        match (shown, found) {
            (None, found) => Some(Ok(found)),
            (Some(shown), Some(found)) if is_newer(&found, shown) => Some(Ok(Some(found))),
            (Some(shown), Some(found)) if !is_newer(shown, &found) => Some(Ok(None)),
            // The pointer is newer than the answer, so a still newer one may exist.
            (Some(_), _) => None,
        }
    }
}

impl Drop for QueryPermit<'_> {
    fn drop(&mut self) {
        self.newest.end(&self.channel, self.number);
    }
}

/// Whether a pointer follows another one, or belongs to another space that now has the name.
pub(super) fn is_newer(pointer: &Pointer, than: &Pointer) -> bool {
    let is_of_another = pointer.space != than.space && !pointer.is_before(than);
    is_of_another || pointer.place() > than.place()
}

/// Whether two moments are at most `span` apart. Concurrent requests may be out of order.
pub(super) fn is_within(span: Duration, one: Timestamp, other: Timestamp) -> bool {
    let apart = one.as_millis().abs_diff(other.as_millis());
    u128::from(apart) < span.as_millis()
}

pub(super) fn busy() -> Problem {
    let detail = "the space of this site did not say in time what its newest deploy is";
    Problem::new(Code::SpaceBusy, detail)
}
