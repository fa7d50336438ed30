//! Lifecycle API: retention and collection of a space, and pinned and removed deploys.

use bytes::Bytes;
use http::Response;
use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::answer::json;
use super::backend::Backend;
use super::body::Body;
use super::publish::unexpected;
use super::publish_request::head;
use super::route::Query;
use super::server::Server;
use crate::space::{Command, Reply, VerifyStep};
use crate::wire::{DeployView, Repack, VerifyCursor, VerifyData};

impl<B: Backend> Server<B> {
    /// Takes one step of a collection, or says what a whole one would do.
    pub(super) async fn collection_step(
        &self,
        space: &SpaceName,
        query: &Query,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let command = Command::Collect {
            start: flag(query, "start")?,
            dry: flag(query, "dry")?,
            repack: repack(query)?,
        };
        // Pointers first, as an alarm does: a collection may wait for them.
        self.deliver_soon(space, now).await;
        match self.call(space, command, now).await? {
            Reply::Collected(step) => json(&step),
            other => Err(unexpected(&other)),
        }
    }

    /// Takes one step of a verification.
    pub(super) async fn verify_step(
        &self,
        space: &SpaceName,
        query: &Query,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let (group, groups) = (query.number("group")?, query.number("groups")?);
        let data = match (flag(query, "data")?, group, groups) {
            (all, None, None) => all.then_some(VerifyData::ALL),
            (false, Some(group), Some(groups)) => Some(VerifyData::of(group, groups)?),
            _ => {
                let detail = "the query has data=1, or group and groups";
                return Err(Problem::new(Code::RequestMalformed, detail));
            }
        };
        let step = VerifyStep {
            after: query.find("after").map(VerifyCursor::parse).transpose()?,
            data,
            repair: flag(query, "repair")?,
        };
        match self.call(space, Command::Verify(step), now).await? {
            Reply::Verified(reply) => json(&*reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Answers with the retention policy of a space.
    pub(super) async fn retention(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        self.retention_after(space, Command::Retention, now).await
    }

    /// Sets the retention policy of a space.
    pub(super) async fn set_retention(
        &self,
        space: &SpaceName,
        body: &Bytes,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let command = Command::SetRetention(head(body)?);
        self.retention_after(space, command, now).await
    }

    async fn retention_after(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self.call(space, command, now).await? {
            Reply::Retention(retention) => json(&retention),
            other => Err(unexpected(&other)),
        }
    }

    /// Pins a deploy, or unpins it.
    pub(super) async fn pin(
        &self,
        space: &SpaceName,
        number: u64,
        pinned: bool,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let command = Command::Pin { number, pinned };
        json(&self.changed_deploy(space, command, now).await?)
    }

    /// Gives up the content of a deploy.
    pub(super) async fn remove_deploy(
        &self,
        space: &SpaceName,
        number: u64,
        query: &Query,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let purge = flag(query, "purge")?;
        let command = Command::RemoveDeploy { number, purge };
        let deploy = self.changed_deploy(space, command, now).await?;
        self.pinned().remove(&(space.clone(), number));
        self.deliver_soon(space, now).await;
        json(&deploy)
    }

    async fn changed_deploy(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<DeployView, Problem> {
        match self.call(space, command, now).await? {
            Reply::Deploy(deploy) => Ok(*deploy),
            other => Err(unexpected(&other)),
        }
    }
}

/// What a collection may copy, as the query says it.
fn repack(query: &Query) -> Result<Repack, Problem> {
    let usual = Repack::default();
    Ok(Repack {
        max_unused: query.number("max_unused")?.unwrap_or(usual.max_unused),
        max_bytes: query.number("max_repack")?.unwrap_or(usual.max_bytes),
        ..usual
    })
}

/// A switch of the query: any number above 0.
fn flag(query: &Query, name: &str) -> Result<bool, Problem> {
    Ok(query.number(name)?.is_some_and(|number| number > 0))
}
