//! Parallel manifest builder: each key alone decides where a node ends, so threads make the leaves
//! in any order. Leaves are nearly all the work.

use rayon::prelude::*;

use super::boundary;
use super::build::{Built, TreeBuilder};
use super::error::ManifestError;
use super::node::{NewNode, Node};
use super::row::{Child, Row};
use super::source::NodeMap;
use crate::limits::NODE_ROWS_MAX;

/// Builds the same manifest as [`build`](super::build) on rayon's threads.
pub fn build_parallel(rows: Vec<Row>) -> Result<Built, ManifestError> {
    let disordered = rows
        .par_windows(2)
        .find_first(|pair| pair[0].path >= pair[1].path);
    if let Some(pair) = disordered {
        return Err(ManifestError::Disordered(pair[1].path.clone()));
    }
    let leaves: Vec<_> = leaves(rows).into_par_iter().filter_map(leaf).collect();
    let mut builder = TreeBuilder::default();
    for (made, child) in leaves {
        builder.push_leaf(made, child)?;
    }
    builder.finish(&NodeMap::default())
}

/// Splits the rows by leaf.
fn leaves(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let ends: Vec<bool> = rows
        .par_iter()
        .map(|row| boundary::ends(&row.path, 0))
        .collect();
    let mut leaves = Vec::new();
    let mut leaf = Vec::new();
    for (row, ends) in rows.into_iter().zip(ends) {
        leaf.push(row);
        if ends || leaf.len() == NODE_ROWS_MAX {
            leaves.push(std::mem::take(&mut leaf));
        }
    }
    if !leaf.is_empty() {
        leaves.push(leaf);
    }
    leaves
}

fn leaf(rows: Vec<Row>) -> Option<(NewNode, Child)> {
    let node = Node::Leaf(rows);
    let made = NewNode::of(&node);
    let child = Child {
        last: node.last()?.clone(),
        id: made.id,
        totals: node.totals(),
    };
    Some((made, child))
}
