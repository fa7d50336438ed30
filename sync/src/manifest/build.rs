//! Manifest builder: from sorted rows, alone or around unchanged subtrees.

use pmx_core::id::Root;

use super::boundary;
use super::error::ManifestError;
use super::node::{NewNode, Node};
use super::row::{Child, Row, Totals};
use super::source::{NodeMap, NodeSource};
use crate::limits::{FILES_MAX, LEVELS_MAX, NODE_ROWS_MAX};
use crate::path::SitePath;

/// A new manifest: its root and its new nodes, leaves before roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The root.
    pub root: Root,
    /// Files and bytes of the whole manifest.
    pub totals: Totals,
    /// The new nodes.
    pub nodes: Vec<NewNode>,
}

/// Builds the manifest of rows in path order, without duplicates.
pub fn build(rows: impl IntoIterator<Item = Row>) -> Result<Built, ManifestError> {
    let mut builder = TreeBuilder::default();
    for row in rows {
        builder.push_row(row)?;
    }
    builder.finish(&NodeMap::default())
}

/// Builder that takes rows and subtrees from left to right and makes nodes of them.
#[derive(Default)]
pub(crate) struct TreeBuilder {
    leaf: Vec<Row>,
    /// Pending rows of the interior levels: `interior[0]` is level 1.
    interior: Vec<Vec<Child>>,
    last: Option<SitePath>,
    totals: Totals,
    nodes: Vec<NewNode>,
}

impl TreeBuilder {
    /// Appends a file.
    pub(crate) fn push_row(&mut self, row: Row) -> Result<(), ManifestError> {
        self.follow(&row.path, Totals::of_file(row.entry.size))?;
        let ends = boundary::ends(&row.path, 0);
        self.leaf.push(row);
        if ends || self.leaf.len() == NODE_ROWS_MAX {
            self.flush_leaf()
        } else {
            Ok(())
        }
    }

    /// Appends a leaf from another thread, with the rows that this builder would put in it.
    #[cfg(feature = "scan")]
    pub(super) fn push_leaf(&mut self, made: NewNode, child: Child) -> Result<(), ManifestError> {
        self.follow(&child.last, child.totals)?;
        self.nodes.push(made);
        self.push_child(1, child)
    }

    /// Whether a node whose parent is of `level` would start here, so that an unchanged one fits.
    pub(crate) fn is_aligned(&self, level: u8) -> bool {
        let below = usize::from(level)
            .saturating_sub(1)
            .min(self.interior.len());
        self.leaf.is_empty() && self.interior[..below].iter().all(Vec::is_empty)
    }

    /// Appends an unchanged subtree to a node of `level`. The builder must be aligned there.
    pub(crate) fn push_subtree(&mut self, level: u8, child: Child) -> Result<(), ManifestError> {
        self.follow(&child.last, child.totals)?;
        self.push_child(level, child)
    }

    fn follow(&mut self, path: &SitePath, totals: Totals) -> Result<(), ManifestError> {
        if self.last.as_ref() >= Some(path) {
            return Err(ManifestError::Disordered(path.clone()));
        }
        self.last = Some(path.clone());
        self.totals = self.totals.plus(totals);
        if self.totals.files > FILES_MAX {
            let (value, max) = (self.totals.files, FILES_MAX);
            return Err(ManifestError::TooLarge {
                what: "the site's files are",
                value,
                max,
            });
        }
        Ok(())
    }

    fn flush_leaf(&mut self) -> Result<(), ManifestError> {
        let rows = std::mem::take(&mut self.leaf);
        self.emit(&Node::Leaf(rows))
    }

    fn flush_interior(&mut self, level: u8) -> Result<(), ManifestError> {
        let children = std::mem::take(&mut self.interior[usize::from(level) - 1]);
        self.emit(&Node::Interior { level, children })
    }

    fn emit(&mut self, node: &Node) -> Result<(), ManifestError> {
        let made = NewNode::of(node);
        let Some(last) = node.last().cloned() else {
            return Ok(());
        };
        let child = Child {
            last,
            id: made.id,
            totals: node.totals(),
        };
        self.nodes.push(made);
        self.push_child(node.level() + 1, child)
    }

    fn push_child(&mut self, level: u8, child: Child) -> Result<(), ManifestError> {
        if level > LEVELS_MAX {
            let (value, max) = (level.into(), LEVELS_MAX.into());
            return Err(ManifestError::TooLarge {
                what: "the manifest's levels are",
                value,
                max,
            });
        }
        let at = usize::from(level) - 1;
        if self.interior.len() <= at {
            self.interior.resize_with(at + 1, Vec::new);
        }
        let ends = boundary::ends(&child.last, level);
        self.interior[at].push(child);
        if ends || self.interior[at].len() == NODE_ROWS_MAX {
            self.flush_interior(level)
        } else {
            Ok(())
        }
    }

    /// Ends every open node and returns the manifest. `source` has the unchanged subtrees.
    pub(crate) fn finish(mut self, source: &impl NodeSource) -> Result<Built, ManifestError> {
        if self.last.is_none() {
            let empty = NewNode::of(&Node::Leaf(Vec::new()));
            let root = empty.id;
            return Ok(Built {
                root,
                totals: self.totals,
                nodes: vec![empty],
            });
        }
        if !self.leaf.is_empty() {
            self.flush_leaf()?;
        }
        let mut level = 1u8;
        let top = loop {
            let at = usize::from(level) - 1;
            let is_top = self.interior[at + 1..].iter().all(Vec::is_empty);
            match self.interior[at].as_slice() {
                [only] if is_top => break only.id,
                [] => {}
                _ => self.flush_interior(level)?,
            }
            level += 1;
        };
        self.collapse(top, source)
    }

    /// Descends from nodes with a single row: the root is the lowest node above all rows.
    fn collapse(mut self, top: Root, source: &impl NodeSource) -> Result<Built, ManifestError> {
        let mut root = top;
        loop {
            let made = self.nodes.iter().rposition(|node| node.id == root);
            let node = match made {
                Some(at) => Node::decode(&self.nodes[at].bytes)?.into(),
                None => source.node(&root)?,
            };
            match &*node {
                Node::Interior { children, .. } if children.len() == 1 => {
                    if let Some(at) = made {
                        self.nodes.remove(at);
                    }
                    root = children[0].id;
                }
                Node::Interior { .. } | Node::Leaf(_) => break,
            }
        }
        Ok(Built {
            root,
            totals: self.totals,
            nodes: self.nodes,
        })
    }
}
