//! Manifest lookups: one path, or the clashes of new paths.

use pmx_core::id::Root;

use super::cursor::Cursor;
use super::error::ManifestError;
use super::node::Node;
use super::recent::CachedSource;
use super::row::{Entry, Row};
use super::source::NodeSource;
use crate::path::SitePath;

/// The entry at `path`. Reads at most depth nodes.
pub fn lookup(
    source: &impl NodeSource,
    root: Root,
    path: &SitePath,
) -> Result<Option<Entry>, ManifestError> {
    let mut id = root;
    loop {
        let node = source.node(&id)?;
        match &*node {
            Node::Leaf(rows) => {
                let found = rows.binary_search_by(|row| row.path.cmp(path));
                return Ok(found.ok().map(|at| rows[at].entry.clone()));
            }
            Node::Interior { children, .. } => {
                let at = children.partition_point(|child| child.last < *path);
                match children.get(at) {
                    Some(child) => id = child.id,
                    None => return Ok(None),
                }
            }
        }
    }
}

/// The rows from `from` on, in order, while `wanted` accepts them; at most `max` of them.
pub fn range(
    source: &impl NodeSource,
    root: Root,
    from: &str,
    max: usize,
    wanted: impl Fn(&SitePath) -> bool,
) -> Result<Vec<Row>, ManifestError> {
    let mut cursor = Cursor::new(source, root)?;
    cursor.seek(from)?;
    let mut rows = Vec::new();
    while rows.len() < max {
        match cursor.next_row()? {
            Some(row) if wanted(&row.path) => rows.push(row),
            Some(_) | None => break,
        }
    }
    Ok(rows)
}

/// Checks that none of `paths` is both a file and a folder. The paths are in order, and in `root`.
pub fn check_clashes<'a>(
    source: &impl NodeSource,
    root: Root,
    paths: impl IntoIterator<Item = &'a SitePath>,
) -> Result<(), ManifestError> {
    let source = &CachedSource::new(source);
    let mut before = "";
    for path in paths {
        let within = |folder: &str| {
            before
                .strip_prefix(folder)
                .is_some_and(|r| r.starts_with('/'))
        };
        for folder in path.folders().take_while(|folder| !within(folder)) {
            let file = SitePath::parse(folder)?;
            if lookup(source, root, &file)?.is_some() {
                return Err(ManifestError::Clash {
                    file,
                    beneath: path.clone(),
                });
            }
        }
        let folder = format!("{path}/");
        let beneath = range(source, root, &folder, 1, |p| {
            p.as_str().starts_with(&folder)
        })?;
        if let Some(row) = beneath.into_iter().next() {
            return Err(ManifestError::Clash {
                file: path.clone(),
                beneath: row.path,
            });
        }
        before = path.as_str();
    }
    Ok(())
}

/// Clash check of ordered paths, in one pass without lookups.
#[derive(Default)]
pub(crate) struct Clashes {
    /// Earlier paths that are prefixes of the last one: only they can clash with the next.
    prefixes: Vec<SitePath>,
}

impl Clashes {
    /// Checks the next path.
    pub(crate) fn push(&mut self, path: &SitePath) -> Result<(), ManifestError> {
        let text = path.as_str();
        while self
            .prefixes
            .last()
            .is_some_and(|before| !text.starts_with(before.as_str()))
        {
            self.prefixes.pop();
        }
        let clash = self
            .prefixes
            .iter()
            .find(|before| text[before.as_str().len()..].starts_with('/'));
        if let Some(file) = clash {
            return Err(ManifestError::Clash {
                file: file.clone(),
                beneath: path.clone(),
            });
        }
        self.prefixes.push(path.clone());
        Ok(())
    }
}
