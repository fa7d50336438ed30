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

/// How long an answer counts, from when it was asked for.
pub(super) const SPAN: Duration = Duration::from_secs(5);

/// How long no other question is asked after one that failed, or that got no answer yet: its
/// request may be gone.
const LOST: Duration = Duration::from_secs(1);

/// Turns at once, before those of requests that are gone are forgotten.
const TURNS_MAX: usize = 256;

/// Bytes of one earlier root and its extent.
const EARLIER_BYTES: usize = 80;

/// Bytes of answers that are kept: some hundred pointers, or some thousand names without one.
const ANSWERS_BYTES: usize = 512 * 1024;

/// The answers of spaces about their channels, and the questions under way.
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
    /// The newest pointer.
    Found(Pointer),
    /// There is no such channel.
    Absent,
    /// Nothing: the question failed.
    Failed,
}

#[derive(Default)]
struct Asking {
    turns: HashMap<Channel, (u64, Timestamp)>,
    last: u64,
}

/// The next step of a request.
pub(super) enum Step<'a> {
    /// Nothing more: the pointer to use instead of the one that it has, if there is a newer one.
    Known(Result<Option<Pointer>, Problem>),
    /// Ask the space.
    Ask(QueryPermit<'a>),
    /// Wait until another request has asked, whose turn has this number.
    Wait(u64),
}

/// The right to ask of a channel, until it is dropped.
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
    ) -> Step<'_> {
        if let Some(answer) = self.answers.find(channel)
            && let Some(known) = answer.counts(shown, now)
        {
            return Step::Known(known);
        }
        let mut asking = self.asking();
        match asking.turns.get(channel) {
            Some((number, begun)) if is_within(LOST, *begun, now) => return Step::Wait(*number),
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
        Step::Ask(QueryPermit {
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
    /// The answer to a request that has the pointer `shown`. `None` if the space has to be asked.
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
            // The pointer came after the answer, and who knows what came after the pointer.
            (Some(_), _) => None,
        }
    }
}

impl Drop for QueryPermit<'_> {
    fn drop(&mut self) {
        self.newest.end(&self.channel, self.number);
    }
}

/// Whether a pointer follows another one, or is another space's that has its name now.
pub(super) fn is_newer(pointer: &Pointer, than: &Pointer) -> bool {
    pointer.space != than.space || pointer.order() > than.order()
}

/// Whether two moments are no further apart. Requests that came at once may be out of order.
pub(super) fn is_within(span: Duration, one: Timestamp, other: Timestamp) -> bool {
    let apart = one.as_millis().abs_diff(other.as_millis());
    u128::from(apart) < span.as_millis()
}

pub(super) fn busy() -> Problem {
    let detail = "the space of this site did not say in time what its newest deploy is";
    Problem::new(Code::SpaceBusy, detail)
}
