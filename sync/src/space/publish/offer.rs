//! Publish offer: turns the client's part of a manifest into verified nodes.

use std::collections::BTreeSet;

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId, Root};
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;

use super::super::command::{Offer, PublishCommand};
use super::super::ledger::{Ledger, NodeState};
use crate::manifest::{
    Edit, Layered, ManifestError, NewNode, Node, check_clashes, decode_patch, edit, lookup,
};
use crate::pack::stored::Toc;
use crate::path::SitePath;
use crate::wire::{PublishState, Ranges};

/// The manifest nodes that a client's offer yields.
pub(super) enum ManifestUpdate {
    /// The nodes that the offer contains or yields.
    Nodes(Vec<NewNode>),
    /// The client must send more first.
    Incomplete(PublishState, Ranges),
}

/// Reads the client's part of its manifest.
pub(super) fn read_offer<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
) -> Result<ManifestUpdate, Problem> {
    let nothing = Ranges::default();
    match &publish.offer {
        Offer::Nodes(nodes) => {
            let nodes = nodes.iter().map(verify_node).collect::<Result<_, _>>()?;
            Ok(ManifestUpdate::Nodes(nodes))
        }
        Offer::Outline(ids) => {
            if ids.first() != Some(&publish.root) {
                let detail = "an outline begins with another node than the root";
                return Err(Problem::new(Code::RequestMalformed, detail));
            }
            let (mut missing, mut seen) = (Ranges::default(), BTreeSet::new());
            for (id, place) in ids.iter().zip(0..) {
                if seen.insert(id) && ledger.node_state(id)? == NodeState::Absent {
                    missing.push(place);
                }
            }
            let complete = missing.is_empty();
            Ok(if complete {
                ManifestUpdate::Nodes(Vec::new())
            } else {
                ManifestUpdate::Incomplete(PublishState::Nodes, missing)
            })
        }
        Offer::Root | Offer::Patch(_) if is_known(ledger, &publish.root)? => {
            Ok(ManifestUpdate::Nodes(Vec::new()))
        }
        Offer::Root | Offer::Patch(_) => match (publish.base, &publish.offer) {
            (Some(base), offer) if ledger.node_extent(&base)?.is_some() => {
                let Offer::Patch(patch) = offer else {
                    return Ok(ManifestUpdate::Incomplete(PublishState::Base, nothing));
                };
                let uploaded = uploaded_blobs(ledger, publish)?;
                let nodes = apply_patch(ledger, (base, patch), &uploaded, publish.root)?;
                Ok(ManifestUpdate::Nodes(nodes))
            }
            (Some(_) | None, _) => Ok(ManifestUpdate::Incomplete(PublishState::Outline, nothing)),
        },
    }
}

/// The blobs that a patch references: those of the packs that it names, or of the inline pack.
fn uploaded_blobs<S: Sql>(
    ledger: &Ledger<'_, S>,
    publish: &PublishCommand,
) -> Result<Vec<(BlobId, u64)>, Problem> {
    let unreadable = |e| Problem::new(Code::PackMalformed, format!("reading a pack: {e}"));
    let mut uploaded = Vec::new();
    let mut add = |toc: &[u8]| {
        let toc = Toc::decode(toc).map_err(unreadable)?;
        uploaded.extend(toc.entries().iter().map(|entry| (entry.blob, entry.raw)));
        Ok::<_, Problem>(())
    };
    for pack in &publish.packs {
        let toc = ledger.pending_toc(pack)?.ok_or_else(|| {
            let detail =
                format!("the patch counts blobs of pack {pack}, which the space does not hold");
            Problem::new(Code::MissingObjects, detail)
        })?;
        add(&toc)?;
    }
    if let Some(pack) = &publish.pack {
        add(&pack.toc)?;
    }
    Ok(uploaded)
}

fn is_known<S: Sql>(ledger: &Ledger<'_, S>, root: &Root) -> Result<bool, Problem> {
    Ok(ledger.node_state(root)? != NodeState::Absent)
}

fn verify_node(bytes: &Bytes) -> Result<NewNode, ManifestError> {
    let id = NodeId::of(bytes);
    Node::verify(bytes, id)?;
    Ok(NewNode {
        id,
        bytes: bytes[..].into(),
    })
}

/// Applies a patch to the space's own copy of its base. The announced root proves the result.
fn apply_patch<S: Sql>(
    ledger: &Ledger<'_, S>,
    (base, patch): (Root, &Bytes),
    uploaded: &[(BlobId, u64)],
    announced: Root,
) -> Result<Vec<NewNode>, Problem> {
    let edits = decode_patch(patch, ledger, base, uploaded)?;
    let built = edit(ledger, base, &edits)?;
    if built.root != announced {
        let arrived = built.root;
        return Err(ManifestError::WrongRoot { announced, arrived }.into());
    }
    let mut nodes = crate::manifest::NodeMap::default();
    nodes.extend(built.nodes.iter().cloned());
    let source = Layered {
        new: &nodes,
        old: ledger,
    };
    check_clashes(&source, announced, new_paths(ledger, base, &edits)?)?;
    Ok(built.nodes)
}

fn new_paths<'e, S: Sql>(
    ledger: &Ledger<'_, S>,
    base: Root,
    edits: &'e [Edit],
) -> Result<Vec<&'e SitePath>, ManifestError> {
    let mut paths = Vec::new();
    for edit in edits.iter().filter(|edit| edit.entry.is_some()) {
        if lookup(ledger, base, &edit.path)?.is_none() {
            paths.push(&edit.path);
        }
    }
    Ok(paths)
}
