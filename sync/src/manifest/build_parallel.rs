//! Parallel manifest builder: each key alone decides where a node ends, so threads make the leaves,
//! which are nearly all the work, in any order.

use rayon::prelude::*;

use super::boundary;
use super::build::{Builder, Built};
use super::error::ManifestError;
use super::node::{NewNode, Node};
use super::row::{Child, Row};
use super::source::NodeMap;
use crate::limits::NODE_ROWS_MAX;

/// Builds what [`build`](super::build) builds, by rayon's threads.
pub fn build_parallel(rows: Vec<Row>) -> Result<Built, ManifestError> {
    let disordered = rows
        .par_windows(2)
        .find_first(|pair| pair[0].path >= pair[1].path);
    if let Some(pair) = disordered {
        return Err(ManifestError::Disordered(pair[1].path.clone()));
    }
    let leaves: Vec<_> = leaves(rows).into_par_iter().filter_map(leaf).collect();
    let mut builder = Builder::default();
    for (made, child) in leaves {
        builder.push_leaf(made, child)?;
    }
    builder.finish(&NodeMap::default())
}

/// Cuts the rows into those of each leaf.
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
