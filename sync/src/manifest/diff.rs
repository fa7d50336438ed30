//! Manifest diff: compares two manifests, and reads only nodes whose ids differ.

use pmx_core::id::Root;

use super::cursor::{Cursor, CursorItem};
use super::edit::Edit;
use super::error::ManifestError;
use super::row::{Entry, Row};
use super::source::NodeSource;
use crate::path::SitePath;

/// One path whose entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub path: SitePath,
    /// The entry before.
    pub before: Option<Entry>,
    /// The entry after.
    pub after: Option<Entry>,
    /// Rows of the old manifest before this path.
    pub rank: u64,
    /// The last path of the old manifest before this one.
    pub neighbour: Option<SitePath>,
}

impl Change {
    /// The edit that makes this change.
    pub fn edit(&self) -> Edit {
        Edit {
            path: self.path.clone(),
            entry: self.after.clone(),
        }
    }
}

/// Finds every path that differs between `from` and `to`, in order.
///
/// Subtrees with equal ids are skipped unread, so the cost is O(changes x depth).
pub fn diff<A: NodeSource, B: NodeSource>(
    old: &A,
    from: Root,
    new: &B,
    to: Root,
) -> Result<Vec<Change>, ManifestError> {
    let mut changes = Vec::new();
    if from == to {
        return Ok(changes);
    }
    let mut a = Cursor::new(old, from)?;
    let mut b = Cursor::new(new, to)?;
    while let Some(step) = step(a.head(), b.head()) {
        match step {
            Step::PassBoth => {
                a.advance();
                b.advance();
            }
            Step::EnterOld => a.descend()?,
            Step::EnterNew => b.descend()?,
            Step::EnterBoth => {
                a.descend()?;
                b.descend()?;
            }
            Step::Removed(row) => {
                changes.push(changed(row, &a, None));
                a.advance();
            }
            Step::Added(row) => {
                changes.push(Change {
                    before: None,
                    after: Some(row.entry.clone()),
                    ..changed(row, &a, None)
                });
                b.advance();
            }
            Step::Modified(row, entry) => {
                changes.push(changed(row, &a, Some(entry)));
                a.advance();
                b.advance();
            }
        }
    }
    Ok(changes)
}

enum Step<'a> {
    PassBoth,
    EnterOld,
    EnterNew,
    EnterBoth,
    Removed(&'a Row),
    Added(&'a Row),
    Modified(&'a Row, &'a Entry),
}

fn step<'a>(old: Option<CursorItem<'a>>, new: Option<CursorItem<'a>>) -> Option<Step<'a>> {
    use CursorItem::{Row, Subtree};
    Some(match (old, new) {
        (None, None) => return None,
        (Some(Subtree(a, _)), Some(Subtree(b, _))) if a.id == b.id => Step::PassBoth,
        (Some(Subtree(_, above)), Some(Subtree(_, below))) if above > below => Step::EnterOld,
        (Some(Subtree(_, below)), Some(Subtree(_, above))) if above > below => Step::EnterNew,
        (Some(Subtree(..)), Some(Subtree(..))) => Step::EnterBoth,
        (Some(Subtree(..)), Some(Row(_)) | None) => Step::EnterOld,
        (Some(Row(_)) | None, Some(Subtree(..))) => Step::EnterNew,
        (Some(Row(a)), None) => Step::Removed(a),
        (None, Some(Row(b))) => Step::Added(b),
        (Some(Row(a)), Some(Row(b))) if a.path < b.path => Step::Removed(a),
        (Some(Row(a)), Some(Row(b))) if a.path > b.path => Step::Added(b),
        (Some(Row(a)), Some(Row(b))) if a.entry == b.entry => Step::PassBoth,
        (Some(Row(a)), Some(Row(b))) => Step::Modified(a, &b.entry),
    })
}

fn changed<S: NodeSource>(row: &Row, old: &Cursor<'_, S>, after: Option<&Entry>) -> Change {
    Change {
        path: row.path.clone(),
        before: Some(row.entry.clone()),
        after: after.cloned(),
        rank: old.rank(),
        neighbour: old.passed().cloned(),
    }
}
