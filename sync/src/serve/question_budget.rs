//! Question budget: token buckets for requests of anonymous clients to spaces, one for each space
//! and one for all names without a pointer.
//!
//! A space has one writer in all the world, so each process or isolate bounds the questions of
//! anonymous clients. The read path reads pointers and objects, and asks a space only before a 404.
//! Where a site has a pointer, that is bounded without a budget (`newest`). Requests with the
//! publish secret and reads that follow a new deploy are not counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use crate::limits::{QUESTION_BUCKETS_MAX, QUESTIONS_BURST, QUESTIONS_PER_SECOND};

/// Question of an anonymous client that the server must ask a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Something that exists: a page of the event log, or a deploy not above the pointer's.
    Known,
    /// A deploy number that may not exist. It never takes the last half of the budget.
    Guess,
    /// The difference of two deploys, which may read whole manifests.
    Difference,
}

/// For each space, the time at which its bucket is full again, in milliseconds since the Unix
/// epoch. `None` is the bucket of all unknown names.
#[derive(Default)]
pub(super) struct QuestionBudget(Mutex<HashMap<Option<SpaceName>, u64>>);

/// Milliseconds in which a bucket regains one question.
const INTERVAL: u64 = 1_000 / QUESTIONS_PER_SECOND;

impl Question {
    /// Questions that this kind costs.
    const fn weight(self) -> u64 {
        match self {
            Self::Known | Self::Guess => 1,
            Self::Difference => 8,
        }
    }

    /// Questions of the burst that this kind may use.
    const fn room(self) -> u64 {
        match self {
            Self::Known | Self::Difference => QUESTIONS_BURST,
            Self::Guess => QUESTIONS_BURST / 2,
        }
    }
}

impl QuestionBudget {
    /// Takes a question out of a space's budget, or refuses it with `E_SPACE_BUSY`.
    pub(super) fn take(
        &self,
        space: Option<&SpaceName>,
        question: Question,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let now = now.as_millis();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= QUESTION_BUCKETS_MAX {
            // A full bucket equals an absent one.
            buckets.retain(|_, full_at| *full_at > now);
        }
        if buckets.len() >= QUESTION_BUCKETS_MAX {
            buckets.clear();
        }
        let full_at = buckets.entry(space.cloned()).or_insert(now);
        let start = (*full_at).clamp(now, now + QUESTIONS_BURST * INTERVAL);
        *full_at = start;
        let after = start + question.weight() * INTERVAL;
        if after - now > question.room() * INTERVAL {
            let detail = "too many anonymous questions about this site; this one was not asked";
            return Err(Problem::new(Code::SpaceBusy, detail));
        }
        *full_at = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 1_000_000_000;

    fn granted(questions: &QuestionBudget, space: &str, question: Question, at: u64) -> bool {
        let space = SpaceName::parse(space).unwrap();
        let now = Timestamp::from_millis(AT + at);
        questions.take(Some(&space), question, now).is_ok()
    }

    #[test]
    fn questions_are_bounded_for_each_space() {
        let questions = QuestionBudget::default();
        let hostile = |at| {
            let asked = (0..10_000).filter(|_| granted(&questions, "one", Question::Guess, at));
            asked.count() as u64
        };
        assert_eq!(hostile(0), QUESTIONS_BURST / 2);
        // Guesses leave the other half to known questions.
        let known = (0..10_000).filter(|_| granted(&questions, "one", Question::Known, 0));
        assert_eq!(known.count() as u64, QUESTIONS_BURST / 2);
        assert!(granted(&questions, "two", Question::Difference, 0));
        assert_eq!(hostile(0), 0);
        assert_eq!(hostile(2_000), QUESTIONS_BURST / 2);
    }

    #[test]
    fn buckets_are_bounded() {
        let questions = QuestionBudget::default();
        for number in 0..QUESTION_BUCKETS_MAX * 2 {
            assert!(granted(
                &questions,
                &format!("s{number}"),
                Question::Known,
                0
            ));
        }
        assert!(questions.0.lock().unwrap().len() <= QUESTION_BUCKETS_MAX);
    }

    #[test]
    fn clock_that_goes_back_locks_no_client_out() {
        let questions = QuestionBudget::default();
        while granted(&questions, "one", Question::Known, 100_000) {}
        assert!(granted(&questions, "one", Question::Known, 101_000));
        assert!(!granted(&questions, "one", Question::Known, 0));
        assert!(granted(&questions, "one", Question::Known, 1_000));
    }
}
