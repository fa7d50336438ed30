//! Newest pointers: the server asks a space for the newest deploy of a channel.
//!
//! A pointer may lag behind its space. Before the server answers that something does not exist, it
//! asks the space for the channel's newest pointer. It caches the answer for
//! [`SPAN`](super::pointer_answers::SPAN), and one request asks for all that wait. An anonymous
//! client thus causes at most one question per channel and span. One span after a publish, no
//! answer from before that publish counts.

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::{Backend, Pointers, Spaces};
use super::pointer_answers::{PointerLookup, SpaceAnswer, busy, is_newer};
use super::question_budget::Question;
use super::server::Server;
use crate::pointer::Pointer;
use crate::space::{Command, Reply};

/// Pauses after which a request stops waiting for the turn of another one, and the most pauses that
/// it waits in all.
const TURN_PAUSES_MAX: usize = 200;
const PAUSES_MAX: usize = 1_000;

impl<B: Backend> Server<B> {
    /// The pointer of a channel to the deploy that the client has seen, or to a newer one.
    pub(super) async fn pointer_at_least(
        &self,
        channel: &Channel,
        known: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<Pointer>, Problem> {
        let read = self.backend().pointers().read(channel).await?;
        let is_stale = |known: &u64| read.as_ref().is_none_or(|read| read.deploy < *known);
        let late = known.filter(is_stale);
        let read = read.filter(|read| read.is_shown(now));
        let Some(known) = late else {
            return Ok(read);
        };
        if !self.revalidation_limiter().allow(channel, known, now) {
            return Ok(read);
        }
        let found = self.located(channel, now).await?;
        if found.as_ref().is_none_or(|found| found.deploy < known) {
            self.revalidation_limiter().record_miss(channel, known, now);
        }
        Ok(found.or(read))
    }

    /// The newest pointer of a channel, if pointers may lag and it is newer than `shown`. An `Err`
    /// says that the server does not know it yet.
    pub(super) async fn newer_pointer(
        &self,
        channel: &Channel,
        shown: Option<&Pointer>,
        now: Timestamp,
    ) -> Result<Option<Pointer>, Problem> {
        let pointers = self.backend().pointers();
        if !pointers.may_lag() {
            return Ok(None);
        }
        let (mut waits_for, mut pauses) = (0, 0);
        for _ in 0..PAUSES_MAX {
            match self.newest().step(channel, shown, now) {
                PointerLookup::Known(known) => {
                    return known.map(|known| known.filter(|found| found.is_shown(now)));
                }
                PointerLookup::Ask(_turn) => return self.ask(channel, shown, now).await,
                PointerLookup::Wait(turn) => {
                    if waits_for != turn {
                        (waits_for, pauses) = (turn, 0);
                    }
                    pauses += 1;
                    if pauses > TURN_PAUSES_MAX {
                        self.newest().end(channel, turn);
                    } else {
                        pointers.pause().await;
                    }
                }
            }
        }
        Err(busy())
    }

    /// Asks the space for all requests that wait for this channel.
    async fn ask(
        &self,
        channel: &Channel,
        shown: Option<&Pointer>,
        now: Timestamp,
    ) -> Result<Option<Pointer>, Problem> {
        if shown.is_none() {
            // All names without a pointer share one budget.
            self.questions().take(None, Question::Guess, now)?;
        }
        let located = self.located(channel, now).await;
        if located.is_err() {
            self.newest().keep(channel, now, SpaceAnswer::Failed);
        }
        let found = located?;
        Ok(found.filter(|found| shown.is_none_or(|shown| is_newer(found, shown))))
    }

    /// Asks the space for the newest pointer of a channel.
    async fn located(&self, channel: &Channel, now: Timestamp) -> Result<Option<Pointer>, Problem> {
        let alias = channel.alias.clone();
        let deploy = alias.map_or(Selector::Active, Selector::Alias);
        let command = Command::Locate { deploy };
        let found = match self
            .backend()
            .spaces()
            .call(&channel.space, command, now)
            .await
        {
            Ok(Reply::Pointer(pointer)) => Some(*pointer),
            Ok(_) => None,
            Err(problem) if problem.code == Code::NotFound => None,
            Err(problem) => return Err(problem),
        };
        let said = match &found {
            Some(pointer) => {
                self.backend().pointers().note(channel, pointer);
                SpaceAnswer::Found(pointer.clone())
            }
            None => SpaceAnswer::Absent,
        };
        self.newest().keep(channel, now, said);
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
