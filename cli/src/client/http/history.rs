//! History requests: pages of a site's deploys.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pmx_core::code::Code;
use pmx_core::encode::{ByteReader, Malformed};
use pmx_core::id::NodeId;
use pmx_core::name::{AliasName, SpaceName};
use pmx_sync::limits::NODE_BYTES_MAX;
use pmx_sync::path::SitePath;
use pmx_sync::wire::{DeployView, DeploysReply, DiffReply, HoldView, UnaliasReply};

use super::{ApiRequest, Client, media};
use crate::error::Failure;

/// The live deploy of a site.
#[derive(Debug, Clone)]
pub struct LiveDeploy {
    /// The active deploy.
    pub deploy: DeployView,
    /// The site's address.
    pub url: String,
    /// The hold on it, if one is set.
    pub hold: Option<HoldView>,
}

impl Client {
    /// `GET /api/deploys`.
    pub fn deploys(
        &self,
        space: &SpaceName,
        before: Option<u64>,
        limit: u64,
    ) -> Result<DeploysReply, Failure> {
        self.history_part(space, before, limit, "")
    }

    /// `GET /api/deploys?backup=1`.
    pub fn deploys_for_backup(
        &self,
        space: &SpaceName,
        before: Option<u64>,
        limit: u64,
    ) -> Result<DeploysReply, Failure> {
        self.history_part(space, before, limit, "&backup=1")
    }

    fn history_part(
        &self,
        space: &SpaceName,
        before: Option<u64>,
        limit: u64,
        more: &str,
    ) -> Result<DeploysReply, Failure> {
        let before = before
            .map(|number| format!("&before={number}"))
            .unwrap_or_default();
        self.json(&ApiRequest::get(&format!(
            "/api/deploys?space={space}&limit={limit}{more}{before}"
        )))
    }

    /// `GET /api/deploys/<n>`.
    pub fn deploy(&self, space: &SpaceName, number: u64) -> Result<DeployView, Failure> {
        self.json(&ApiRequest::get(&format!(
            "/api/deploys/{number}?space={space}"
        )))
    }

    /// `GET /api/diff`.
    pub fn diff(&self, space: &SpaceName, from: u64, to: u64) -> Result<DiffReply, Failure> {
        self.json(&ApiRequest::get(&format!(
            "/api/diff?space={space}&from={from}&to={to}"
        )))
    }

    /// `GET /api/nodes`: the first of some nodes of a manifest, each as its bytes.
    pub fn nodes(&self, space: &SpaceName, ids: &[NodeId]) -> Result<Vec<Vec<u8>>, Failure> {
        let ids: Vec<_> = ids.iter().map(NodeId::to_hex).collect();
        let path = format!("/api/nodes?space={space}&ids={}", ids.join(","));
        let call = ApiRequest::get(&path);
        let answer = self.send(&call)?;
        let malformed = |error: Malformed| {
            let media = media(&answer.headers);
            self.no_answer(&call, &error.to_string(), &answer.seen(&media))
        };
        let mut reader = ByteReader::new(&answer.bytes);
        let mut nodes = Vec::new();
        while reader.remaining() > 0 {
            let node = reader.bytes(NODE_BYTES_MAX, "a node's bytes");
            nodes.push(node.map_err(malformed)?.to_vec());
        }
        Ok(nodes)
    }

    /// `GET /api/deploys/<n>/file`: a small file of a deploy.
    pub fn file(
        &self,
        space: &SpaceName,
        number: u64,
        path: &SitePath,
    ) -> Result<Vec<u8>, Failure> {
        let path = utf8_percent_encode(path.as_str(), NON_ALPHANUMERIC);
        let path = format!("/api/deploys/{number}/file?space={space}&path={path}");
        Ok(self.send(&ApiRequest::get(&path))?.bytes)
    }

    /// The active deploy of a site; `None` if the site has none yet.
    pub fn active(&self, space: &SpaceName) -> Result<Option<LiveDeploy>, Failure> {
        let reply = match self.deploys(space, None, 1) {
            Err(failure) if failure.code == Code::NotFound && failure.problem.is_some() => {
                return Ok(None);
            }
            reply => reply?,
        };
        // The newest one may be a preview.
        let newest = reply.deploys.into_iter().next();
        let active = match newest.filter(|newest| newest.number == reply.active) {
            Some(active) => active,
            None if reply.active == 0 => return Ok(None),
            None => self.deploy(space, reply.active)?,
        };
        Ok(Some(LiveDeploy {
            deploy: active,
            url: reply.url,
            hold: reply.hold,
        }))
    }

    /// `DELETE /api/aliases/<name>`.
    pub fn unalias(&self, space: &SpaceName, alias: &AliasName) -> Result<UnaliasReply, Failure> {
        self.json(&ApiRequest::delete(&format!(
            "/api/aliases/{alias}?space={space}"
        )))
    }
}
