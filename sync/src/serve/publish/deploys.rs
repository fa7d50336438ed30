//! Deploys API: history, differences, rollback, resume and deleted previews.

use http::Response;
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::encode::write_bytes;
use pmx_core::id::NodeId;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::super::answer::{json, octets};
use super::super::backend::Backend;
use super::super::body::Body;
use super::super::server::Server;
use super::unexpected;
use crate::limits::NODES_ASKED_MAX;
use crate::space::{Command, Reply};
use crate::wire::{
    DeploysReply, PreviewsReply, ResumeReply, RollbackHead, RollbackReply, UnaliasReply,
};

impl<B: Backend> Server<B> {
    pub(super) async fn deploy(
        &self,
        space: &SpaceName,
        number: u64,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let command = Command::Deploys {
            before: Some(number.saturating_add(1)),
            limit: 1,
            backup: false,
        };
        match self.call(space, command, now).await? {
            Reply::Deploys { deploys, .. } => match deploys.first() {
                Some(deploy) if deploy.number == number => json(deploy),
                Some(_) | None => {
                    let detail = format!("there is no deploy {number}");
                    Err(Problem::new(Code::DeployUnknown, detail))
                }
            },
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn diff(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self.call(space, command, now).await? {
            Reply::Diff(diff) => json(&diff),
            other => Err(unexpected(&other)),
        }
    }

    /// Answers with nodes in the order of the request, each after its length.
    pub(super) async fn nodes(
        &self,
        space: &SpaceName,
        ids: Vec<NodeId>,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self.call(space, Command::Nodes { ids }, now).await? {
            Reply::Nodes(nodes) => {
                let mut section = Vec::new();
                for node in &nodes {
                    write_bytes(&mut section, node);
                }
                Ok(octets(section))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn rollback(
        &self,
        head: RollbackHead,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let space = head.space.clone();
        match self.call(&space, Command::Rollback(head), now).await? {
            Reply::Deploy(deploy) => {
                self.deliver_soon(&space, now).await;
                json(&RollbackReply {
                    deploy: *deploy,
                    url: self.url_of(&space.into()),
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn resume(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self.call(space, Command::Resume, now).await? {
            Reply::Resumed(deploy) => {
                let url = self.url_of(&space.clone().into());
                json(&ResumeReply { deploy, url })
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn unalias(
        &self,
        space: &SpaceName,
        alias: AliasName,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self
            .call(space, Command::DeleteAlias { alias }, now)
            .await?
        {
            Reply::AliasDeleted(deploy) => {
                self.deliver_soon(space, now).await;
                json(&UnaliasReply { deploy })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Answers with the previews of a space, each with its address.
    pub(super) async fn previews(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let Reply::Previews(mut previews) = self.call(space, Command::Previews, now).await? else {
            let detail = "a space answered a list of its previews with something else";
            return Err(Problem::new(Code::Storage, detail));
        };
        for preview in &mut previews {
            preview.url = Some(self.url_of(&Channel {
                space: space.clone(),
                alias: Some(preview.name.clone()),
            }));
        }
        let url = self.url_of(&space.clone().into());
        json(&PreviewsReply { previews, url })
    }

    pub(super) async fn deploys(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        match self.call(space, command, now).await? {
            Reply::Deploys {
                active,
                aliases,
                hold,
                deploys,
                backup,
            } => json(&DeploysReply {
                active,
                aliases,
                hold,
                deploys,
                backup: backup.map(|backup| *backup),
                url: self.url_of(&space.clone().into()),
            }),
            other => Err(unexpected(&other)),
        }
    }
}

/// Parses node ids separated by commas.
pub(super) fn node_ids(text: &str) -> Result<Vec<NodeId>, Problem> {
    let ids: Result<Vec<_>, _> = text
        .split(',')
        .take(NODES_ASKED_MAX + 1)
        .map(NodeId::from_hex)
        .collect();
    let ids = ids.map_err(|error| Problem::new(Code::HashInvalid, error.to_string()))?;
    if ids.len() > NODES_ASKED_MAX {
        let detail = format!("a request asks for at most {NODES_ASKED_MAX} nodes");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok(ids)
}
