//! Moved indices: a repair writes the serving index of a deploy anew, and pointers that were
//! written before the repair still name the old place.

use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::backend::Backend;
use super::server::Server;
use crate::pointer::Pointer;

impl<B: Backend> Server<B> {
    /// The pointer with the place of its deploy's serving index that this server learned last.
    pub(super) fn at_its_place(&self, space: &SpaceName, pointer: Pointer) -> Pointer {
        match self.pinned().find(&(space.clone(), pointer.deploy)) {
            Some(Some(learned)) if learned.root == pointer.root => Pointer {
                index: learned.index,
                ..pointer
            },
            Some(_) | None => pointer,
        }
    }

    /// Whether a deploy whose content was not found has moved: the server asks the space, within
    /// the budget of anonymous questions. It keeps the answer only if it is another place.
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
