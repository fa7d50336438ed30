//! Live page bodies: HTML with the live script injected.
//!
//! The server assembles a page in memory. Of a large page it reads only the beginning, where the
//! script goes; the platform streams the rest from the object store.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use pmx_core::coding::Coding;
use pmx_core::problem::Problem;

use super::backend::Backend;
use super::body::Body;
use super::server::Server;
use super::stored::Scope;
use crate::limits::{LIVE_OPENING_BYTES, LIVE_PAGE_BYTES_MAX};
use crate::live::{Served, inject, opening};
use crate::site::LocatedFile;

/// Injects the live script into a page in memory.
pub(super) fn live(page: &Bytes, served: Served<'_>, headers: &mut HeaderMap) -> Body {
    let page = inject(page, served);
    headers.insert(CONTENT_LENGTH, page.len().into());
    Body::Bytes(page)
}

impl<B: Backend> Server<B> {
    /// Injects the live script into a page that is a blob.
    pub(super) async fn live_page(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
        served: Served<'_>,
        headers: &mut HeaderMap,
    ) -> Result<Body, Problem> {
        let size = held.entry.size;
        if size <= LIVE_PAGE_BYTES_MAX {
            return Ok(live(&self.whole_blob(scope, held).await?, served, headers));
        }
        let start = self.beginning(scope, held, LIVE_OPENING_BYTES).await?;
        let Some((opening, at)) = opening(&start, served) else {
            return self.blob(scope, held, Coding::Identity, None).await;
        };
        let at = at as u64;
        let rest = Some((at, size.saturating_sub(at)));
        let rest = self.blob(scope, held, Coding::Identity, rest).await?;
        headers.insert(CONTENT_LENGTH, (size - at + opening.len() as u64).into());
        Ok(Body::Led(opening, rest.split().1))
    }
}
