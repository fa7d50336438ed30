//! Publish request parsing: turns an envelope into an offer, an inline pack and a list of pack ids.

use pmx_core::code::Code;
use pmx_core::encode::ByteReader;
use pmx_core::id::{NodeId, PackId};
use pmx_core::limits::OUTLINE_NODES_MAX;
use pmx_core::problem::Problem;
use serde::de::DeserializeOwned;

use crate::limits::{NODE_BYTES_MAX, PACKS_NAMED_MAX};
use crate::space::{Offer, SmallPack};
use crate::wire::{Envelope, EnvelopeError, SectionKind, VERSION};

/// The sections of a publish request.
pub(super) struct PublishContent {
    pub(super) offer: Offer,
    pub(super) pack: Option<SmallPack>,
    pub(super) packs: Vec<PackId>,
    /// Whether the space remembers the active deploy for the commit.
    pub(super) begun: bool,
}

impl PublishContent {
    pub(super) const fn nothing() -> Self {
        Self {
            offer: Offer::Root,
            pack: None,
            packs: Vec::new(),
            begun: false,
        }
    }
}

pub(super) fn head<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    Ok(serde_json::from_slice(bytes).map_err(EnvelopeError::Head)?)
}

pub(super) fn check_version(version: u8) -> Result<(), Problem> {
    if version == VERSION {
        return Ok(());
    }
    let detail = format!("the request is of version {version}, this server speaks {VERSION}");
    Err(Problem::new(Code::RequestMalformed, detail))
}

pub(super) fn offer(envelope: &Envelope) -> Result<Offer, Problem> {
    let outline = envelope.section(SectionKind::Outline);
    let nodes = envelope.section(SectionKind::Nodes);
    match (envelope.section(SectionKind::Patch), outline, nodes) {
        (None, None, None) => Ok(Offer::Root),
        (Some(patch), None, None) => Ok(Offer::Patch(patch.clone())),
        (None, Some(ids), None) => {
            let (ids, rest) = ids.as_chunks::<32>();
            if !rest.is_empty() {
                let detail = "an outline is not a list of node ids";
                return Err(Problem::new(Code::RequestMalformed, detail));
            }
            let count = ids.len();
            if count > OUTLINE_NODES_MAX {
                let detail =
                    format!("the outline has {count} nodes; the limit is {OUTLINE_NODES_MAX}");
                return Err(Problem::new(Code::TooLarge, detail));
            }
            Ok(Offer::Outline(
                ids.iter().map(|id| NodeId::from_bytes(*id)).collect(),
            ))
        }
        (None, None, Some(section)) => {
            let mut reader = ByteReader::new(section);
            let mut nodes = Vec::new();
            while reader.remaining() > 0 {
                let node = reader.bytes(NODE_BYTES_MAX, "a node's bytes");
                let node = node.map_err(EnvelopeError::from)?;
                nodes.push(section.slice_ref(node));
            }
            if nodes.len() > OUTLINE_NODES_MAX {
                let count = nodes.len();
                let detail =
                    format!("the request has {count} nodes; the limit is {OUTLINE_NODES_MAX}");
                return Err(Problem::new(Code::TooLarge, detail));
            }
            Ok(Offer::Nodes(nodes))
        }
        _ => {
            let detail = "a request has a patch, an outline or nodes, not several of them";
            Err(Problem::new(Code::RequestMalformed, detail))
        }
    }
}

/// The packs whose blobs the patch references.
pub(super) fn packs(envelope: &Envelope) -> Result<Vec<PackId>, Problem> {
    let Some(section) = envelope.section(SectionKind::Packs) else {
        return Ok(Vec::new());
    };
    let (ids, rest) = section.as_chunks::<32>();
    if !rest.is_empty() || envelope.section(SectionKind::Patch).is_none() {
        let detail = "packs are named by a list of their ids, beside a patch";
        return Err(Problem::new(Code::RequestMalformed, detail));
    }
    let count = ids.len();
    if count > PACKS_NAMED_MAX {
        let detail = format!("{count} packs are named; the limit is {PACKS_NAMED_MAX}");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok(ids.iter().map(|id| PackId::from_bytes(*id)).collect())
}
