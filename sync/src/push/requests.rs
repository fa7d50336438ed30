//! Push requests: sends the manifest as a patch, an outline or nodes, with its preconditions.

use bytes::Bytes;
use pmx_core::encode::write_bytes;
use pmx_core::id::{PackId, Root};

use super::{Action, Intent, Mode, Push, PushError, Request, outline};
use crate::limits::{NODES_BATCH_RAW_BYTES, PATCH_RAW_BYTES_MAX};
use crate::manifest::{NodeSource, diff, encode_patch};
use crate::wire::{BeginHead, CommitPreconditions, Section, SectionKind, VERSION};

/// The client sends a manifest below this size at once, without an outline.
const SMALL_MANIFEST_BYTES: usize = 64 * 1024;

impl<S: NodeSource> Push<'_, S> {
    pub(super) fn commit_with_packs(
        &self,
        patch: Vec<u8>,
        packs: &[PackId],
    ) -> Result<Action, PushError> {
        let Some(base) = self.intent.base else {
            return Err(PushError::Protocol("packs were sent without a base"));
        };
        let patch = patch_section(patch);
        let ids: Vec<u8> = packs.iter().flat_map(|pack| *pack.as_bytes()).collect();
        let packs = Section {
            kind: SectionKind::Packs,
            bytes: ids.into(),
        };
        Ok(Action::Begin(
            self.request(Some(base.root), vec![patch, packs]),
        ))
    }

    pub(super) fn send_patch(&mut self, base: Root) -> Result<Action, PushError> {
        let changes = diff(self.source, base, self.source, self.intent.root)?;
        let patch = encode_patch(&changes);
        if patch.len() > PATCH_RAW_BYTES_MAX {
            return self.send_outline();
        }
        let request = self.request(Some(base), vec![patch_section(patch)]);
        Ok(Action::Begin(request))
    }

    pub(super) fn send_outline(&mut self) -> Result<Action, PushError> {
        let nodes = outline::nodes(self.source, self.intent.root)?;
        let bytes: usize = nodes.iter().map(|node| node.bytes.len()).sum();
        if bytes <= SMALL_MANIFEST_BYTES {
            // Sending the nodes themselves is cheaper than a round trip.
            self.nodes.clone_from(&nodes);
            self.outline = Some(nodes);
            return Ok(self.send_nodes());
        }
        let ids: Vec<u8> = nodes.iter().flat_map(|node| *node.id.as_bytes()).collect();
        self.outline = Some(nodes);
        let section = Section {
            kind: SectionKind::Outline,
            bytes: ids.into(),
        };
        Ok(Action::Begin(self.request(None, vec![section])))
    }

    /// Sends the next nodes, as many as fit one request.
    pub(super) fn send_nodes(&mut self) -> Action {
        let mut bytes = Vec::new();
        let mut count = 0;
        for node in &self.nodes {
            if count > 0 && bytes.len() + node.bytes.len() > NODES_BATCH_RAW_BYTES {
                break;
            }
            write_bytes(&mut bytes, &node.bytes);
            count += 1;
        }
        self.nodes.drain(..count);
        let section = Section {
            kind: SectionKind::Nodes,
            bytes: bytes.into(),
        };
        Action::Begin(self.request(None, vec![section]))
    }

    pub(super) fn request(&self, base: Option<Root>, sections: Vec<Section>) -> Request {
        let head = BeginHead {
            v: VERSION,
            space: self.intent.space.clone(),
            alias: self.intent.alias.clone(),
            root: self.intent.root,
            base,
            dry: self.intent.mode == Mode::Dry,
            commit: (self.intent.mode == Mode::Publish).then(|| self.preconditions()),
        };
        Request {
            head,
            sections,
            pack: None,
        }
    }

    fn preconditions(&self) -> CommitPreconditions {
        let Intent {
            replace,
            expect,
            key,
            order,
            max_delete,
            meta,
            expires,
            ..
        } = &self.intent;
        CommitPreconditions {
            expect: *expect,
            replace: *replace,
            key: key.clone(),
            order: order.clone(),
            max_delete: *max_delete,
            meta: meta.clone(),
            expires: *expires,
            restore: self.intent.restore.clone(),
        }
    }
}

pub(super) fn patch_section(patch: Vec<u8>) -> Section {
    Section {
        kind: SectionKind::Patch,
        bytes: Bytes::from(patch),
    }
}
