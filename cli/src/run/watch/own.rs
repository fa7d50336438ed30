//! Own-folder filter: events in pmx's data and cache folders, to which every publish writes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pmx_sync::scan::OwnFolder;

/// How long a result counts.
const OWN_FOR: Duration = Duration::from_secs(1);

/// Most results in memory.
const OWN_MAX: usize = 4_096;

/// Recent results for folders below the watched one, whether they are pmx's own. A build writes
/// many files to the same few folders.
#[derive(Default)]
pub(super) struct Own(HashMap<PathBuf, (bool, Instant)>);

impl Own {
    /// Whether a path is in one of pmx's own folders.
    pub(super) fn holds(&mut self, top: &Path, path: &Path) -> bool {
        let parent = path.parent().unwrap_or(top);
        // In the top folder itself, only some names are pmx's own.
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
