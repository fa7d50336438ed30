//! Uploads: verifies packs and parts that arrive, and stores them.

use bytes::Bytes;
use http::Response;
use pmx_core::backend::ObjectKey;
use pmx_core::code::Code;
use pmx_core::codec::{Decoder, Level};
use pmx_core::id::{BlobId, PackId};
use pmx_core::location::{Extent, Location};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::super::backend::Backend;
use super::super::body::Body;
use super::super::nonce::Nonce;
use super::super::server::Server;
use crate::limits::BLOB_BYTES_MAX;
use crate::pack::part::Arrived;
use crate::pack::{part, wire};
use crate::space::{ArrivedPart, Command, SmallPack};

pub(super) struct PartSent {
    pub(super) blob: BlobId,
    pub(super) size: u64,
    pub(super) number: u32,
}

impl<B: Backend> Server<B> {
    /// Decodes a pack, with its reference prefix, and encodes it for storage.
    pub(super) async fn small_pack(
        &self,
        pack: Bytes,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<SmallPack, Problem> {
        let prefix = match wire::reference_of(&pack)? {
            Some(reference) => Some(self.prefix(reference, space, now).await?),
            None => None,
        };
        let verified = self
            .codecs()
            .decode(|decoder| wire::verify_with_prefix(&pack, prefix.as_ref(), decoder))?;
        // Many uploads wait at once, so each keeps only the bytes that it will write.
        drop((prefix, pack));
        let rest = self
            .codecs()
            .encode(|encoder| verified.rest(encoder, Level::STORED));
        let mut toc = Vec::new();
        rest.toc.encode(&mut toc);
        Ok(SmallPack {
            object: rest.bytes.into(),
            toc: toc.into(),
        })
    }

    pub(super) async fn pack(
        &self,
        id: PackId,
        space: &SpaceName,
        body: Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let actual = PackId::of(&body);
        if actual != id {
            let detail = format!("the pack sent as {id} hashes to {actual}");
            return Err(Problem::new(Code::HashMismatch, detail));
        }
        let pack = self.small_pack(body, space, now).await?;
        let arrived = |key: ObjectKey| Command::RecordPack {
            pack: id,
            space: key.space,
            object: key.object,
            files_max: self.files_max(),
            toc: pack.toc.clone(),
        };
        self.keep(pack.object, space, arrived, now, nonce).await
    }

    pub(super) async fn part(
        &self,
        sent: PartSent,
        space: &SpaceName,
        body: Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let PartSent { blob, size, number } = sent;
        if size > BLOB_BYTES_MAX {
            let detail = format!("blob {blob} has {size} bytes; the limit is {BLOB_BYTES_MAX}");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        let place = part::BlobParts::of(size)?.part(number)?;
        let open = |decoder: &mut Decoder| part::open(&body, place, decoder);
        let arrived = self.codecs().decode(open)?;
        drop(body);
        let verified = match arrived {
            Arrived::Whole(verified) => verified,
            Arrived::Pending(pending) => self.apply_part_delta(pending, space, now).await?,
        };
        let chaining_value = *verified.chaining_value().as_bytes();
        let rest = self
            .codecs()
            .encode(|encoder| verified.rest(encoder, Level::STORED));
        let (len, codec) = (rest.bytes.len() as u64, rest.codec);
        let arrived = |ObjectKey { space, object }: ObjectKey| {
            let offset = 0;
            let extent = Extent {
                object,
                offset,
                len,
            };
            Command::RecordPart(ArrivedPart {
                space,
                blob,
                size,
                number: number.into(),
                chaining_value,
                location: Location { extent, codec },
            })
        };
        self.keep(rest.bytes.into(), space, arrived, now, nonce)
            .await
    }
}

impl From<wire::PackError> for Problem {
    fn from(error: wire::PackError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
