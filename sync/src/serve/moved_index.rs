//! Moved indices: a repair or a compaction rewrites the serving index of a deploy, and pointers
//! written before it still name the old place.

use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::Backend;
use super::numbered::Numbered;
use super::server::Server;
use crate::pointer::Pointer;

impl<B: Backend> Server<B> {
    /// Replaces the place of a pointer's serving index by the last one that the space reported.
    pub(super) fn at_its_place(&self, space: &SpaceName, pointer: Pointer) -> Pointer {
        match self.pinned().find(&(space.clone(), pointer.deploy)) {
            Some((Numbered::Kept(learned), _))
                if learned.root == pointer.root && learned.revision >= pointer.revision =>
            {
                Pointer {
                    index: learned.index,
                    ..pointer
                }
            }
            Some(_) | None => pointer,
        }
    }

    /// Asks the space, within the budget of anonymous questions, whether a deploy whose content was
    /// not found has moved. The server caches the answer only if the place differs.
    pub(super) async fn has_moved(
        &self,
        space: &SpaceName,
        pointer: &Pointer,
        now: Timestamp,
    ) -> Result<bool, Problem> {
        let key = (space.clone(), pointer.deploy);
        self.pinned().remove(&key);
        let found = self.numbered(space, pointer.deploy, now).await?;
        let has_moved =
            found.is_some_and(|found| found.root == pointer.root && found.index != pointer.index);
        if !has_moved {
            self.pinned().remove(&key);
        }
        Ok(has_moved)
    }
}
