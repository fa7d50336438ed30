//! Space requests: the spaces of a server.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_sync::wire::{DeleteSpaceReply, SpaceView, SpacesReply};

use super::{ApiRequest, Client};
use crate::error::Failure;

/// Pages that a list reads: 200,000 spaces.
const PAGES_MAX: usize = 1_000;

impl Client {
    /// `GET /api/spaces`: all pages, each space once, in the order of the names.
    pub fn spaces(&self) -> Result<Vec<SpaceView>, Failure> {
        let mut all = BTreeMap::new();
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let query = after.map(|after| {
                let after = utf8_percent_encode(&after, NON_ALPHANUMERIC);
                format!("?after={after}")
            });
            let path = format!("/api/spaces{}", query.unwrap_or_default());
            let page: SpacesReply = self.json(&ApiRequest::get(&path))?;
            all.extend(page.spaces.into_iter().map(|it| (it.name.clone(), it)));
            after = page.next;
            if after.is_none() {
                return Ok(all.into_values().collect());
            }
        }
        let message = format!("the server's list of spaces has no end after {PAGES_MAX} pages");
        Err(Failure::new(Code::Protocol, message))
    }

    /// `DELETE /api/spaces/<name>`, if the active deploy is `expect`.
    pub fn delete_space(
        &self,
        space: &SpaceName,
        expect: u64,
        purge: bool,
    ) -> Result<DeleteSpaceReply, Failure> {
        let purge = if purge { "&purge=1" } else { "" };
        let path = format!("/api/spaces/{space}?expect={expect}{purge}");
        self.json(&ApiRequest::delete(&path))
    }
}
