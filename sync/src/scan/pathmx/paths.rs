//! Today's build output: `paths.json`, and for each Path its `artifacts.json` and
//! `serve-routes.json`.
//!
//! Only declared artifacts are the site, with those two lists themselves. A Path's files are at the
//! top of the site if it is the default one or chosen, and below its id otherwise. An artifact is
//! published at its public path and at its artifact path. Routes and cache policies become the
//! rules of the site.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use super::super::error::{ScanFault, shown};
use super::declared::{Declared, PathEntry};
use super::json::{self, Members, PATHS_FILE, invalid};
use super::rules::raw_path;
use super::{FolderKind, Mount, PathmxBuild};
use crate::path::SitePath;

/// Paths of one build: each is a course of its own, with lists that the scan reads.
const PATHS_MAX: usize = 1_000;

/// Ids that an error names.
const NAMED_MAX: usize = 10;

/// The members that tell PathMX's file from others of its name.
#[derive(Deserialize)]
struct Sketch {
    #[serde(default)]
    version: serde_json::Value,
    #[serde(default)]
    paths: serde_json::Value,
}

#[derive(Deserialize)]
struct PathsFile {
    #[serde(default, rename = "defaultPath")]
    default_path: Option<String>,
    paths: Members<PathEntry>,
}

/// Reads a build. `None` if the folder is no build of this form.
pub(super) fn read(
    place: &Path,
    is_named: bool,
    chosen: Option<&str>,
) -> Result<Option<PathmxBuild>, ScanFault> {
    let bytes = match json::read(&place.join(PATHS_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if is_named && error.kind() != ErrorKind::NotFound => {
            let (path, fault) = (PATHS_FILE.to_owned(), format!("can't be read: {error}"));
            return Err(ScanFault::BuildIncomplete { path, fault });
        }
        Err(_) => return Ok(None),
    };
    let sketch: Sketch = match json::parse(PATHS_FILE, &bytes) {
        Ok(sketch) => sketch,
        Err(fault) if is_named && !is_json(&bytes) => return Err(fault),
        // A site may have an unrelated file of that name.
        Err(_) => return Ok(None),
    };
    if !sketch.paths.is_object() || sketch.version.is_null() {
        return Ok(None);
    }
    let paths = chosen_paths(json::parse_list(PATHS_FILE, &bytes)?, chosen)?;
    let mut declared = Declared::new(place);
    for (prefix, entry) in &paths {
        declared.add(prefix, entry)?;
    }
    Ok(Some(PathmxBuild {
        kind: FolderKind::Build,
        mounts: vec![Mount::of_virtual_files()],
        files: declared.finish()?,
        paths: paths.iter().map(|(prefix, _)| raw_path(prefix)).collect(),
    }))
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(crate::text::without_mark(bytes)).is_ok()
}

/// The published Paths with their prefixes, the one at the top first.
fn chosen_paths(
    file: PathsFile,
    chosen: Option<&str>,
) -> Result<Vec<(String, PathEntry)>, ScanFault> {
    let entries = distinct(file.paths)?;
    let only = match &entries[..] {
        [(id, _)] => Some(id.as_str()),
        _ => None,
    };
    let top = chosen.or(file.default_path.as_deref()).or(only);
    let ids = || {
        let ids = entries.iter().take(NAMED_MAX).map(|(id, _)| shown(id));
        ids.collect::<Vec<_>>().join(", ")
    };
    let Some(top) = top else {
        let fault = format!("has no default Path; choose one with --path: {}", ids());
        return Err(invalid(PATHS_FILE, fault));
    };
    let Some((_, first)) = entries.iter().find(|(id, _)| id == top) else {
        let fault = format!("has no Path \"{}\"; it has: {}", shown(top), ids());
        return Err(invalid(PATHS_FILE, fault));
    };
    let mut paths = vec![(String::new(), first.clone())];
    if chosen.is_none() {
        let others = entries.iter().filter(|(id, _)| id != top);
        for (id, entry) in others {
            SitePath::parse(id).map_err(|fault| {
                invalid(
                    PATHS_FILE,
                    format!("has a Path whose id is no path: {fault}"),
                )
            })?;
            paths.push((format!("{id}/"), entry.clone()));
        }
    }
    Ok(paths)
}

fn distinct(paths: Members<PathEntry>) -> Result<Vec<(String, PathEntry)>, ScanFault> {
    if paths.0.len() > PATHS_MAX {
        return Err(ScanFault::TooLarge {
            path: PATHS_FILE.to_owned(),
            unit: "Paths",
            actual: paths.0.len() as u64,
            limit: PATHS_MAX as u64,
        });
    }
    let mut entries: Vec<(String, PathEntry)> = Vec::new();
    for (id, entry) in paths.0 {
        match entries.iter().find(|(known, _)| *known == id) {
            Some((_, known)) if *known == entry => {}
            Some(_) => {
                let fault = format!("has two Paths \"{}\" that disagree", shown(&id));
                return Err(invalid(PATHS_FILE, fault));
            }
            None => entries.push((id, entry)),
        }
    }
    Ok(entries)
}
