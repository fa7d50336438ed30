//! Single file: a scan of one file, wherever it is on disk, as the only file of a site.

use std::io;
use std::path::Path;

use pmx_core::time::Timestamp;

use super::error::{ScanError, ScanFault, shown};
use super::job::KnownFiles;
use super::own::OwnFolder;
use super::pathmx::PathmxBuild;
use super::walk::Unknown;
use super::{Options, Progress, Scan, rules, run};
use crate::path::SitePath;

/// Includes every name, also one that starts with a dot: the user named the path.
const EVERY_NAME: &str = "!*";

/// Scans the file on disk `file` as the file at `path`, with all checks of a scan of a folder. The
/// scan reads no other file of its folder.
pub fn scan_file(
    path: &SitePath,
    file: &Path,
    options: &Options,
    progress: &dyn Progress,
    now: Timestamp,
) -> Result<Scan, ScanError> {
    if rules::is_settings(path.name().as_bytes()) {
        let path = shown(path.as_str());
        return Err(ScanFault::Settings { path }.into());
    }
    let on_disk = || shown(&file.to_string_lossy());
    let real = file
        .canonicalize()
        .map_err(|source| ScanFault::Unreadable {
            path: on_disk(),
            doing: "open",
            source,
        })?;
    if let Some(own) = OwnFolder::above(&real) {
        let path = on_disk();
        return Err(ScanFault::Own { path, own }.into());
    }
    let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(ScanFault::NotRegular { path: on_disk() }.into());
    };
    let name = SitePath::parse_bytes(name.as_encoded_bytes()).map_err(ScanFault::from)?;
    let options = Options {
        exclude: vec![EVERY_NAME.to_owned()],
        ..options.clone()
    };
    let known = KnownFiles {
        cache: None,
        unknown: Unknown::Read(None),
    };
    let build = |_: &Path| PathmxBuild::of_file(path, name.clone());
    let scan = run(folder, &options, known, progress, now, build)?;
    match &scan.rows()[..] {
        [row] if row.path == *path => Ok(scan),
        _ => Err(ScanFault::Unreadable {
            path: on_disk(),
            doing: "publish",
            source: io::Error::other("the scan left the file out"),
        }
        .into()),
    }
}
