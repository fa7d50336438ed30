//! Spaces API: lists the spaces of a server, and deletes one.

use http::Response;
use pmx_core::backend::Blobs as _;
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::id::SpaceId;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::answer::json;
use super::backend::{Backend, Pointers as _, Spaces as _};
use super::body::Body;
use super::publish::unexpected;
use super::route::{ApiRoute, Query};
use super::server::Server;
use crate::limits::{PURGED_AT_ONCE_MAX, SPACES_PAGE_MAX};
use crate::space::{Command, Removal, Reply};
use crate::wire::{DeleteSpaceReply, SpaceView, SpacesReply};

impl<B: Backend> Server<B> {
    /// Answers an authorised request for the spaces of the server.
    pub(super) async fn space_route(
        &self,
        route: ApiRoute,
        query: &Query,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let ApiRoute::DeleteSpace(space) = route else {
            return self.spaces(query.text("after"), now).await;
        };
        let command = Command::DeleteSpace {
            expect: query.required_number("expect")?,
            purge: query.number("purge")?.is_some_and(|purge| purge > 0),
        };
        self.delete_space(&space, command, now).await
    }

    /// Answers with a page of the server's spaces. Readers' pointers tell which ones exist; a space
    /// without one is asked.
    async fn spaces(&self, after: Option<&str>, now: Timestamp) -> Result<Response<Body>, Problem> {
        let page = self
            .backend()
            .spaces()
            .names(after, SPACES_PAGE_MAX)
            .await?;
        let mut spaces = Vec::new();
        for name in page.names {
            let channel = Channel::from(name.clone());
            let shown = self.backend().pointers().read(&channel).await?;
            let deploy = match shown.filter(|pointer| !pointer.gone) {
                Some(pointer) => Some(pointer.deploy),
                // The pointer may be late, or the name may have a space again.
                None => match self.active(&name, now).await {
                    Some(active) => Some(active).filter(|active| *active > 0),
                    None => continue,
                },
            };
            let url = self.url_of(&channel);
            spaces.push(SpaceView { name, deploy, url });
        }
        json(&SpacesReply {
            spaces,
            next: page.next,
        })
    }

    /// The number of a space's active deploy, or 0; `None` if the name has no space. A space that
    /// cannot be asked exists.
    async fn active(&self, space: &SpaceName, now: Timestamp) -> Option<u64> {
        let question = Command::Deploys {
            before: None,
            limit: 0,
            backup: false,
        };
        match self.call(space, question, now).await {
            Ok(Reply::Deploys { active, .. }) => Some(active),
            Err(problem) if problem.code == Code::NotFound => None,
            Ok(_) | Err(_) => Some(0),
        }
    }

    /// Deletes a space and its domains.
    async fn delete_space(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let deleted = self.call(space, command, now).await;
        let removal = match deleted {
            Ok(Reply::SpaceDeleted(removal)) => Ok(removal),
            Ok(other) => return Err(unexpected(&other)),
            Err(absent) if absent.code == Code::NotFound => Err(absent),
            Err(problem) => return Err(problem),
        };
        self.space_ids().remove(space);
        self.pinned().clear();
        // Also without a space: an earlier request may have ended between the two.
        let domains = self.remove_domains(space, now).await?;
        self.deliver_soon(space, now).await;
        let removal = match removal {
            Err(absent) if domains == 0 => return Err(absent),
            Err(_) => Removal::default(),
            Ok(removal) => removal,
        };
        json(&DeleteSpaceReply {
            space: space.clone(),
            deploys: removal.deploys,
            previews: removal.previews.len() as u64,
            domains,
            purge: removal.purge,
        })
    }

    /// Deletes some objects of a removed space, and says whether any are left.
    pub async fn purge(&self, removed: SpaceId) -> Result<bool, Problem> {
        let blobs = self.backend().blobs();
        let deleted = blobs.delete_some(removed, PURGED_AT_ONCE_MAX).await?;
        Ok(deleted > 0)
    }

    /// Deletes some objects of a removed space; once none is left, the space forgets it.
    pub(super) async fn purge_of(
        &self,
        space: &SpaceName,
        removed: SpaceId,
        now: Timestamp,
    ) -> Result<(), Problem> {
        if self.purge(removed).await? {
            return Ok(());
        }
        let forget = Command::ForgetRemoved { space: removed };
        match self.call(space, forget, now).await? {
            Reply::Noted => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}
