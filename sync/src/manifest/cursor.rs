//! Manifest cursor: a position that can skip a whole subtree without reading it.

use std::sync::Arc;

use pmx_core::id::Root;

use super::error::ManifestError;
use super::node::Node;
use super::row::{Child, Row};
use super::source::NodeSource;
use crate::path::SitePath;

/// The item at a cursor.
#[derive(Debug, Clone, Copy)]
pub enum CursorItem<'a> {
    /// A file.
    Row(&'a Row),
    /// A subtree that the cursor has not entered, and its level.
    Subtree(&'a Child, u8),
}

/// Cursor that walks a manifest from left to right.
pub struct Cursor<'s, S> {
    source: &'s S,
    stack: Vec<(Arc<Node>, usize)>,
    rank: u64,
    passed: Option<SitePath>,
}

impl<'s, S: NodeSource> Cursor<'s, S> {
    /// Starts at the first row of `root`.
    pub fn new(source: &'s S, root: Root) -> Result<Self, ManifestError> {
        let node = source.node(&root)?;
        let stack = if node.is_empty() {
            Vec::new()
        } else {
            vec![(node, 0)]
        };
        Ok(Self {
            source,
            stack,
            rank: 0,
            passed: None,
        })
    }

    /// The item at this position; `None` at the end.
    pub fn head(&self) -> Option<CursorItem<'_>> {
        let (node, at) = self.stack.last()?;
        match &**node {
            Node::Leaf(rows) => rows.get(*at).map(CursorItem::Row),
            Node::Interior { level, children } => children
                .get(*at)
                .map(|child| CursorItem::Subtree(child, level - 1)),
        }
    }

    /// Rows before this position.
    pub const fn rank(&self) -> u64 {
        self.rank
    }

    /// The path of the row before this position.
    pub const fn passed(&self) -> Option<&SitePath> {
        self.passed.as_ref()
    }

    /// Passes the row or the whole subtree at this position.
    pub fn advance(&mut self) {
        let (files, last) = match self.head() {
            None => return,
            Some(CursorItem::Row(row)) => (1, row.path.clone()),
            Some(CursorItem::Subtree(child, _)) => (child.totals.files, child.last.clone()),
        };
        self.rank += files;
        self.passed = Some(last);
        while let Some((node, at)) = self.stack.last_mut() {
            *at += 1;
            if *at < node.len() {
                break;
            }
            self.stack.pop();
        }
    }

    /// Enters the subtree at this position; a row stays unchanged.
    pub fn descend(&mut self) -> Result<(), ManifestError> {
        if let Some(CursorItem::Subtree(child, _)) = self.head() {
            let node = self.source.node(&child.id)?;
            if node.is_empty() {
                let (id, why) = (child.id, "an empty node stands beneath another");
                return Err(ManifestError::Misplaced { id, why });
            }
            self.stack.push((node, 0));
        }
        Ok(())
    }

    /// Moves to the first row whose path is `path` or follows it.
    pub fn seek(&mut self, path: &str) -> Result<(), ManifestError> {
        loop {
            match self.head() {
                None => return Ok(()),
                Some(CursorItem::Row(row)) if row.path.as_str() >= path => return Ok(()),
                Some(CursorItem::Subtree(child, _)) if child.last.as_str() >= path => {
                    self.descend()?;
                }
                Some(CursorItem::Row(_) | CursorItem::Subtree(..)) => self.advance(),
            }
        }
    }

    /// Moves to the row with `rank` rows before it, or to the end.
    pub fn seek_rank(&mut self, rank: u64) -> Result<(), ManifestError> {
        loop {
            match self.head() {
                Some(CursorItem::Row(_)) if self.rank < rank => self.advance(),
                Some(CursorItem::Subtree(child, _)) if self.rank + child.totals.files <= rank => {
                    self.advance();
                }
                Some(CursorItem::Subtree(..)) => self.descend()?,
                None | Some(CursorItem::Row(_)) => return Ok(()),
            }
        }
    }

    /// Returns the row at this position and passes it; enters subtrees to reach it.
    pub fn next_row(&mut self) -> Result<Option<Row>, ManifestError> {
        loop {
            match self.head() {
                None => return Ok(None),
                Some(CursorItem::Subtree(..)) => self.descend()?,
                Some(CursorItem::Row(row)) => {
                    let row = row.clone();
                    self.advance();
                    return Ok(Some(row));
                }
            }
        }
    }
}
