//! A reader that comes back is sent the difference to what its browser kept (RFC 9842).
//!
//! What the browser says it has is looked up by our own name for it, in one of the deploys that
//! readers are shown or were lately, and hashed. Whatever is not as it should be, the answer is the
//! one that everybody gets.

use std::iter::once;

use bytes::Bytes;
use pmx_core::codec::Level;
use pmx_core::problem::Problem;
use sha2::{Digest, Sha256};

use super::backend::Backend;
use super::server::{Dictionaries, Server};
use super::stored::Scope;
use crate::pointer::Pointer;
use crate::site::{DIFFERENCE_MAGIC, Offered, Plan, SiteRequest, is_dictionary};

impl<B: Backend> Server<B> {
    /// A request as it concerns this server: one behind an edge that does not pass differences on
    /// hears nothing of them.
    pub(super) fn passed(&self, request: &SiteRequest) -> SiteRequest {
        let request = request.clone();
        match self.dictionaries() {
            Dictionaries::Passed => request,
            Dictionaries::Stopped => request.without_dictionaries(),
        }
    }

    /// The body that makes what a plan sends out of what the client has, if there is one and it is
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
        if let Some(body) = self.differences().find(&key) {
            return Ok(Some(body));
        }
        // What nobody needs for the page itself can't fail it.
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
        self.differences()
            .insert(key, body.clone(), body.len() + 128);
        Ok(Some(body))
    }

    /// The bytes that the client says it has, if we have them as well.
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
