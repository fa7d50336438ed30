//! Content sniffing: headers that depend on a blob's bytes (charset of text, coding of `.svgz`).
//!
//! Each process or isolate inspects a blob once and caches the verdict by the blob's id. A body
//! that is sent whole is first read through the body cache, which saves a second read. HEAD and
//! range responses have the same headers as GET.

use bytes::Bytes;
use http::HeaderMap;
use pmx_core::code::Code;
use pmx_core::codec::Bounds;
use pmx_core::coding::Coding;
use pmx_core::location::Codec;
use pmx_core::problem::Problem;

use super::backend::Backend;
use super::body::Body;
use super::server::Server;
use super::stored::Scope;
use crate::limits::NATURE_BYTES_MAX;
use crate::site::{Described, LocatedFile, SniffedContent};

impl<B: Backend> Server<B> {
    /// Completes the headers of a response from the bytes that it describes.
    pub(super) async fn describe(
        &self,
        scope: Scope<'_>,
        described: &Described,
        headers: &mut HeaderMap,
    ) -> Result<(), Problem> {
        if !described.depends_on_bytes() {
            return Ok(());
        }
        let Described { held, coding, .. } = described;
        let nature = match self.natures().find(&held.entry.blob) {
            Some(nature) => nature,
            None => self.look_into(scope, held, *coding).await?,
        };
        described.complete(nature, headers);
        Ok(())
    }

    async fn look_into(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
        coding: Coding,
    ) -> Result<SniffedContent, Problem> {
        let sample = self.sample(scope, held, coding).await?;
        let is_whole = sample.len() as u64 == held.entry.size;
        let nature = SniffedContent::of(&sample, is_whole);
        self.natures().insert(held.entry.blob, nature, NATURE_BYTES);
        Ok(nature)
    }

    /// The first bytes of a blob, decoded.
    async fn sample(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
        coding: Coding,
    ) -> Result<Bytes, Problem> {
        let size = held.entry.size;
        if coding == Coding::Zstd
            && held.at.codec == Codec::Zstd
            && let Body::Bytes(frame) = self.blob(scope, held, coding, None).await?
        {
            let decoded = self
                .codecs()
                .decode(|decoder| decoder.frame(&frame, size, Bounds::STORED));
            let unread = |error| {
                let detail = format!("decoding blob {}: {error}", held.entry.blob);
                Problem::new(Code::Corrupt, detail)
            };
            return Ok(decoded.map_err(unread)?.into());
        }
        self.beginning(scope, held, NATURE_BYTES_MAX).await
    }

    /// At most so many decoded bytes from the beginning of a blob. The caller asks for at most one
    /// part.
    pub(super) async fn beginning(
        &self,
        scope: Scope<'_>,
        held: &LocatedFile,
        bytes: u64,
    ) -> Result<Bytes, Problem> {
        let range = (held.entry.size > bytes).then_some((0, bytes));
        let body = self.blob(scope, held, Coding::Identity, range).await?;
        let (first, pieces) = body.split();
        match pieces.first() {
            Some(piece) => self.opened(piece).await,
            None => Ok(first),
        }
    }
}

/// Bytes that a verdict and its key take in the cache.
const NATURE_BYTES: usize = 96;
