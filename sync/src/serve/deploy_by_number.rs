//! Deploys by number: an immutable pointer for each, which only the space holds.

use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::{Backend, Pointers, Spaces};
use super::numbered::Numbered;
use super::pointer_answers::{SPAN, is_within};
use super::question_budget::Question;
use super::server::Server;
use crate::pointer::Pointer;
use crate::space::{Command, Reply};

/// How long an answer counts, although it never changes: the space may be removed.
const PINNED_TIME: Duration = Duration::from_secs(30);

/// How long it counts where the space cannot be asked: as long as a removed one keeps its objects.
const KEPT_TIME: Duration = Duration::from_hours(24);

impl<B: Backend> Server<B> {
    /// The pointer of the deploy with this number. The deploy's URL never shows anything else, so
    /// the server asks the space once, within the budget of anonymous questions.
    ///
    /// The site's pointer is a lower bound of the newest number. A number up to it exists or never
    /// will again, so the server caches either answer. A greater number may be a preview's, or
    /// newer than the pointer; only the space knows. Where pointers may lag, its "no" counts for
    /// [`SPAN`].
    pub(super) async fn numbered(
        &self,
        space: &SpaceName,
        number: u64,
        now: Timestamp,
    ) -> Result<Option<Pointer>, Problem> {
        let key = (space.clone(), number);
        let kept = self.pinned().find(&key);
        if let Some((pinned, asked)) = &kept
            && is_within(PINNED_TIME, *asked, now)
        {
            return pinned.clone().found(number);
        }
        let site = Channel::from(space.clone());
        let shown = self.backend().pointers().read(&site).await?;
        let is_past = shown.as_ref().is_some_and(|shown| number <= shown.deploy);
        let is_refused = |asked: Timestamp| is_within(SPAN, asked, now);
        if !is_past && self.unnumbered().find(&key).is_some_and(is_refused) {
            return Ok(None);
        }
        let question = if is_past {
            Question::Known
        } else {
            Question::Guess
        };
        // All names without a pointer share one budget, however many a client makes up.
        let granted = self
            .questions()
            .take(shown.is_some().then_some(space), question, now);
        let kept = kept.filter(|(_, asked)| is_within(KEPT_TIME, *asked, now));
        match (granted, &kept) {
            (Ok(()), _) => {}
            (Err(_), Some((pinned, _))) => return pinned.clone().found(number),
            (Err(busy), None) => return Err(busy),
        }
        let command = Command::Locate {
            deploy: Selector::Number(number),
        };
        let found = match self.backend().spaces().call(space, command, now).await {
            Ok(Reply::Pointer(pointer)) => Numbered::Kept(*pointer),
            Ok(_) => Numbered::Absent,
            Err(problem) if matches!(problem.code, Code::NotFound | Code::DeployUnknown) => {
                Numbered::Absent
            }
            // Not the pinned pointer: its content is about to go.
            Err(gone) if gone.code == Code::DeployGone => Numbered::GivenUp,
            Err(problem) => {
                return kept.map_or(Err(problem), |(pinned, _)| pinned.found(number));
            }
        };
        if !matches!(found, Numbered::Absent) || is_past {
            let bytes = size_of::<Pointer>() + space.as_str().len() + 64;
            self.pinned().insert(key, (found.clone(), now), bytes);
        } else if self.backend().pointers().may_lag() {
            let bytes = space.as_str().len() + 64;
            self.unnumbered().insert(key, now, bytes);
        }
        found.found(number)
    }
}
