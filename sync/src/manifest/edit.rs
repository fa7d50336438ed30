//! Manifest edit: reads and rebuilds only the nodes around the edits.

use pmx_core::id::{NodeId, Root};

use super::build::{Built, TreeBuilder};
use super::error::ManifestError;
use super::node::Node;
use super::row::{Entry, Row};
use super::source::NodeSource;
use crate::path::SitePath;

/// The new entry of a path, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The path.
    pub path: SitePath,
    /// The new entry; `None` removes the path.
    pub entry: Option<Entry>,
}

/// Applies edits to the manifest `base`. The edits are in path order, without duplicates.
///
/// The result is identical to a full rebuild of the edited rows. It reads and makes `O(edits x
/// depth)` nodes. A subtree without edits is reused by its id, unless an edit before it removed the
/// boundary at its start.
pub fn edit(source: &impl NodeSource, base: Root, edits: &[Edit]) -> Result<Built, ManifestError> {
    if let Some(pair) = edits.windows(2).find(|pair| pair[0].path >= pair[1].path) {
        return Err(ManifestError::Disordered(pair[1].path.clone()));
    }
    let mut merge = Merge {
        source,
        builder: TreeBuilder::default(),
    };
    merge.node(&base, edits)?;
    merge.builder.finish(source)
}

struct Merge<'a, S> {
    source: &'a S,
    builder: TreeBuilder,
}

impl<S: NodeSource> Merge<'_, S> {
    /// Merges `edits`, which all belong beneath the node, into the builder.
    fn node(&mut self, id: &NodeId, edits: &[Edit]) -> Result<(), ManifestError> {
        let node = self.source.node(id)?;
        let (level, children) = match &*node {
            Node::Leaf(rows) => return self.leaf(rows, edits),
            Node::Interior { level, children } => (*level, children),
        };
        let mut rest = edits;
        for (at, child) in children.iter().enumerate() {
            let is_last = at + 1 == children.len();
            let here = if is_last {
                rest.len()
            } else {
                rest.partition_point(|edit| edit.path <= child.last)
            };
            let (mine, later) = rest.split_at(here);
            rest = later;
            if mine.is_empty() && self.builder.is_aligned(level) {
                self.builder.push_subtree(level, child.clone())?;
            } else {
                self.node(&child.id, mine)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, rows: &[Row], edits: &[Edit]) -> Result<(), ManifestError> {
        let mut edits = edits.iter().peekable();
        for row in rows {
            while let Some(edit) = edits.next_if(|edit| edit.path < row.path) {
                self.push(edit)?;
            }
            match edits.next_if(|edit| edit.path == row.path) {
                Some(edit) => self.push(edit)?,
                None => self.builder.push_row(row.clone())?,
            }
        }
        edits.try_for_each(|edit| self.push(edit))
    }

    fn push(&mut self, edit: &Edit) -> Result<(), ManifestError> {
        match &edit.entry {
            Some(entry) => {
                let row = Row {
                    path: edit.path.clone(),
                    entry: entry.clone(),
                };
                self.builder.push_row(row)
            }
            None => Ok(()),
        }
    }
}
