//! Dictionary compression (RFC 9842): returning browsers receive a delta to a version that they
//! cached.
//!
//! The server looks the dictionary up by the id that it gave the browser, and hashes it. It looks
//! in the deploys that readers see or saw lately. On any mismatch it sends the ordinary response.

use std::iter::once;

use bytes::Bytes;
use pmx_core::codec::Level;
use pmx_core::problem::Problem;
use sha2::{Digest, Sha256};

use super::backend::Backend;
use super::server::{DictionaryPolicy, Server};
use super::stored::Scope;
use crate::pointer::Pointer;
use crate::site::{DIFFERENCE_MAGIC, Offered, Plan, SiteRequest, is_dictionary};

impl<B: Backend> Server<B> {
    /// The request as this server treats it: without its dictionary headers, if the edge in front
    /// of the server does not pass dictionary responses on.
    pub(super) fn passed(&self, request: &SiteRequest) -> SiteRequest {
        let request = request.clone();
        match self.dictionaries() {
            DictionaryPolicy::Passed => request,
            DictionaryPolicy::Stopped => request.without_dictionaries(),
        }
    }

    /// The body compressed against the client's dictionary, if there is one and the result is
    /// smaller.
    pub(super) async fn dictionary_compressed(
        &self,
        scope: Scope<'_>,
        pointer: &Pointer,
        request: &SiteRequest,
        plan: &Plan,
    ) -> Result<Option<Bytes>, Problem> {
        let sent = plan.coded();
        let Some((held, offered)) = sent.and_then(|held| Some((held, request.offered(held)?)))
        else {
            return Ok(None);
        };
        let key = (offered.sha256, held.entry.blob);
        if let Some(body) = self.dictionary_bodies().find(&key) {
            return Ok(Some(body));
        }
        // A failed dictionary read does not fail the response.
        let Some(old) = self
            .offered(scope, pointer, offered)
            .await
            .unwrap_or_default()
        else {
            return Ok(None);
        };
        let new = self.whole_blob(scope, held).await?;
        let frame = self
            .codecs()
            .encode(|encoder| encoder.compress_with_prefix(&old, &new, Level::WIRE));
        let body = [&DIFFERENCE_MAGIC[..], &offered.sha256, &frame].concat();
        if body.len() as u64 >= held.at.extent.len {
            return Ok(None);
        }
        let body = Bytes::from(body);
        self.dictionary_bodies()
            .insert(key, body.clone(), body.len() + 128);
        Ok(Some(body))
    }

    /// Reads the dictionary that the client names, if the server still has it.
    async fn offered(
        &self,
        scope: Scope<'_>,
        pointer: &Pointer,
        offered: &Offered,
    ) -> Result<Option<Bytes>, Problem> {
        let active = (pointer.root, pointer.index);
        let mut deploys = once(&active).chain(&pointer.earlier);
        let Some(at) = deploys.find(|(root, _)| offered.is_of(root)) else {
            return Ok(None);
        };
        let blobs = self.backend().blobs();
        let found = self.index().find(blobs, pointer.space, *at, &offered.path);
        let Some(held) = found.await?.filter(is_dictionary) else {
            return Ok(None);
        };
        let old = self.whole_blob(scope, &held).await?;
        let is_the_same = Sha256::digest(&old)[..] == offered.sha256;
        Ok(is_the_same.then_some(old))
    }
}
