//! Own-folder filter: events in pmx's own data and cache folders, which every publish writes to.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmx_sync::scan::OwnFolder;

/// How long it counts whether a folder is pmx's own.
const OWN_FOR: Duration = Duration::from_secs(1);

/// Folders of which that is remembered.
const OWN_MAX: usize = 4_096;

/// Which folders below the watched one were found to be pmx's own, or not, lately: a build writes
/// many files to the same few.
#[derive(Default)]
pub(super) struct Own(HashMap<PathBuf, (bool, Instant)>);

impl Own {
    /// Whether a path lies in one.
    pub(super) fn holds(&mut self, top: &Path, path: &Path) -> bool {
        let parent = path.parent().unwrap_or(top);
        // In the top itself only some names are.
        if parent == top {
            return OwnFolder::around(top, path).is_some();
        }
        let known = self
            .0
            .get(parent)
            .filter(|(_, then)| then.elapsed() < OWN_FOR);
        if let Some((is_own, _)) = known {
            return *is_own;
        }
        let is_own = OwnFolder::around(top, parent).is_some();
        if self.0.len() >= OWN_MAX {
            self.0.clear();
        }
        self.0.insert(parent.to_owned(), (is_own, Instant::now()));
        is_own
    }
}
