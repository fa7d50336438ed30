//! Lifecycle requests: retention and collection of a space, and pinned and removed deploys.

use pmx_core::name::SpaceName;
use pmx_sync::wire::{CollectReply, DeployView, Repack, Retention, VerifyData, VerifyReply};

use super::{ApiRequest, Client, JSON_MEDIA};
use crate::error::Failure;

impl Client {
    /// `POST /api/spaces/<name>/gc`: one step of a collection, which begins if `start` says what
    /// it may copy.
    pub fn collect(
        &self,
        space: &SpaceName,
        start: Option<&Repack>,
    ) -> Result<CollectReply, Failure> {
        let start = start.map_or_else(|| "start=0".to_owned(), |repack| query("start", repack));
        let path = format!("/api/spaces/{space}/gc?{start}");
        self.json(&ApiRequest::post(&path, JSON_MEDIA, &[]))
    }

    /// `POST /api/spaces/<name>/gc?dry=1`: what a whole collection would do.
    pub fn rehearse_collection(
        &self,
        space: &SpaceName,
        repack: &Repack,
    ) -> Result<CollectReply, Failure> {
        let path = format!("/api/spaces/{space}/gc?{}", query("dry", repack));
        self.json(&ApiRequest::post(&path, JSON_MEDIA, &[]))
    }

    /// `POST /api/spaces/<name>/verify`: one step of a verification.
    pub fn verify(
        &self,
        space: &SpaceName,
        after: &str,
        data: Option<VerifyData>,
        repair: bool,
    ) -> Result<VerifyReply, Failure> {
        let data = data.map_or_else(String::new, |VerifyData { group, groups }| {
            format!("&group={group}&groups={groups}")
        });
        let repair = u8::from(repair);
        let path = format!("/api/spaces/{space}/verify?after={after}{data}&repair={repair}");
        self.json(&ApiRequest::post(&path, JSON_MEDIA, &[]))
    }

    /// `GET /api/spaces/<name>/retention`.
    pub fn retention(&self, space: &SpaceName) -> Result<Retention, Failure> {
        let path = format!("/api/spaces/{space}/retention");
        self.json(&ApiRequest::get(&path))
    }

    /// `PUT /api/spaces/<name>/retention`.
    pub fn set_retention(
        &self,
        space: &SpaceName,
        retention: &Retention,
    ) -> Result<Retention, Failure> {
        let body = serde_json::to_vec(retention);
        let body = body.map_err(|error| Failure::usage(error.to_string()))?;
        let path = format!("/api/spaces/{space}/retention");
        self.json(&ApiRequest::put_json(&path, &body))
    }

    /// `PUT /api/deploys/<n>/pin`.
    pub fn pin(&self, space: &SpaceName, number: u64) -> Result<DeployView, Failure> {
        let path = format!("/api/deploys/{number}/pin?space={space}");
        self.json(&ApiRequest::put_json(&path, &[]))
    }

    /// `DELETE /api/deploys/<n>/pin`.
    pub fn unpin(&self, space: &SpaceName, number: u64) -> Result<DeployView, Failure> {
        let path = format!("/api/deploys/{number}/pin?space={space}");
        self.json(&ApiRequest::delete(&path))
    }

    /// `DELETE /api/deploys/<n>`.
    pub fn remove_deploy(
        &self,
        space: &SpaceName,
        number: u64,
        purge: bool,
    ) -> Result<DeployView, Failure> {
        let purge = if purge { "&purge=1" } else { "" };
        let path = format!("/api/deploys/{number}?space={space}{purge}");
        self.json(&ApiRequest::delete(&path))
    }
}

/// The query of a collection that may copy.
fn query(switch: &str, repack: &Repack) -> String {
    let (unused, bytes) = (repack.max_unused, repack.max_bytes);
    format!("{switch}=1&max_unused={unused}&max_repack={bytes}")
}
