//! Scan errors: the reasons that keep a folder from being published.
//!
//! A scan continues after a problem and reports the first twenty in path order. So the report does
//! not depend on the threads, and a user need not fix a site's bad names one by one.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pmx_core::code::Code;
use thiserror::Error;

use crate::path::InvalidPath;

use super::own::OwnFolder;

/// Problems that a report lists.
const LISTED_MAX: usize = 20;

/// The folder cannot be published unchanged. Lists problems in path order, at least one.
#[derive(Debug)]
pub struct ScanError {
    problems: Vec<ScanFault>,
    unlisted: u64,
}

impl ScanError {
    /// The code of the first problem.
    pub fn code(&self) -> Code {
        self.problems.first().map_or(Code::Local, ScanFault::code)
    }

    /// The problems, in path order.
    pub fn problems(&self) -> &[ScanFault] {
        &self.problems
    }

    /// The number of problems beyond those.
    pub const fn unlisted(&self) -> u64 {
        self.unlisted
    }
}

impl From<ScanFault> for ScanError {
    fn from(problem: ScanFault) -> Self {
        Self {
            problems: vec![problem],
            unlisted: 0,
        }
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for ScanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problems.first().and_then(std::error::Error::source)
    }
}

/// One reason that keeps a folder from being published. Paths are escaped for terminals.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScanFault {
    /// The folder to publish is missing or not a folder.
    #[error(
        "can't publish {}: it is not a folder that can be opened: {source}",
        shown_path(.folder)
    )]
    SourceMissing {
        /// The folder that the caller named.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A name cannot be part of a site path.
    #[error(transparent)]
    PathInvalid(#[from] InvalidPath),
    /// Two paths that some file systems can't distinguish.
    #[error("\"{path}\" and \"{other}\" differ only in case or Unicode normalisation")]
    Collision {
        /// One path.
        path: String,
        /// The other, later in byte order.
        other: String,
    },
    /// A symbolic link has a target that cannot be published.
    #[error("\"{path}\" is a symbolic link that {fault}")]
    SymlinkEscape {
        /// The link.
        path: String,
        /// The fault of its target.
        fault: LinkFault,
    },
    /// An entry that is neither a file nor a folder.
    #[error("\"{path}\" is a FIFO, a socket or a device")]
    NotRegular {
        /// The entry.
        path: String,
    },
    /// The system refuses an operation.
    #[error("can't {doing} \"{path}\": {source}")]
    Unreadable {
        /// The file or folder.
        path: String,
        /// The operation that failed.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// A file that changed during every read.
    #[error("\"{path}\" changed while it was read")]
    ChangedDuringRead {
        /// The file or folder.
        path: String,
    },
    /// A count exceeds its limit.
    #[error("\"{path}\" has {actual} {unit}, above the limit of {limit}")]
    TooLarge {
        /// The file or folder.
        path: String,
        /// The unit of the count.
        unit: &'static str,
        /// The actual count (at least).
        actual: u64,
        /// The limit.
        limit: u64,
    },
    /// PathMX's build output is incomplete.
    #[error("the build output is incomplete: \"{path}\" {fault}")]
    BuildIncomplete {
        /// The missing or invalid file.
        path: String,
        /// The fault.
        fault: String,
    },
    /// The lists of PathMX's build output can't be published.
    #[error("the build output can't be published: \"{path}\" {fault}")]
    BuildInvalid {
        /// The invalid file, or the path in question.
        path: String,
        /// The fault.
        fault: String,
    },
    /// The user chose a Path of a folder that has none.
    #[error("there is no Path \"{path}\": the folder is no PathMX build with a paths.json")]
    NoPaths {
        /// The id.
        path: String,
    },
    /// A file of the folder differs from the one that settings give.
    #[error("\"{path}\" is in the folder, and the settings give another one")]
    GeneratedDiffers {
        /// The file.
        path: String,
    },
    /// A pattern of `.pmxignore` or `--exclude` is invalid.
    #[error("{place}: {pattern:?} is not a pattern: {fault}")]
    Pattern {
        /// The pattern's origin.
        place: &'static str,
        /// The pattern.
        pattern: String,
        /// The fault.
        fault: String,
    },
    /// `.pmxignore` is not a valid list of patterns.
    #[error("\".pmxignore\" {fault}")]
    IgnoreFile {
        /// The fault.
        fault: String,
    },
    /// The folder to publish belongs to pmx itself.
    #[error("\"{path}\" is part of {own}, which is never published")]
    Own {
        /// The folder.
        path: String,
        /// The kind of pmx folder.
        own: OwnFolder,
    },
    /// A path with the name of a file of settings.
    #[error("\"{path}\" has the name of a file of pmx's settings, which is never published")]
    Settings {
        /// The path.
        path: String,
    },
    /// Files whose content must not be published.
    #[error(
        "{count} {} private keys, or secrets of pmx itself",
        if *.count == 1 { "file holds" } else { "files hold" }
    )]
    Secrets {
        /// The first of them, sorted.
        paths: Vec<String>,
        /// The number of files.
        count: u64,
    },
    /// The system refused to start the threads of the scan.
    #[error("can't start the threads that read the folder: {0}")]
    Threads(String),
}

/// Fault of a link's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LinkFault {
    /// The target is outside of the folder.
    #[error("leads out of the folder")]
    Outside,
    /// The target does not exist, or cannot be opened.
    #[error("leads to nothing that can be read")]
    Dangling,
    /// The link leads to a folder above itself.
    #[error("leads in a circle")]
    Circle,
}

impl ScanFault {
    /// The code of this problem.
    pub fn code(&self) -> Code {
        match self {
            Self::SourceMissing { .. } => Code::SourceMissing,
            Self::PathInvalid(_) => Code::PathInvalid,
            Self::Collision { .. } => Code::PathCollision,
            Self::SymlinkEscape { .. } => Code::SymlinkEscape,
            Self::NotRegular { .. } => Code::NotRegular,
            Self::Unreadable { .. } => Code::Unreadable,
            Self::ChangedDuringRead { .. } => Code::ChangedDuringRead,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::BuildIncomplete { .. } | Self::BuildInvalid { .. } => Code::BuildIncomplete,
            Self::Pattern { .. }
            | Self::IgnoreFile { .. }
            | Self::Own { .. }
            | Self::NoPaths { .. }
            | Self::Settings { .. }
            | Self::GeneratedDiffers { .. } => Code::Usage,
            Self::Secrets { .. } => Code::Secret,
            Self::Threads(_) => Code::Local,
        }
    }

    /// The problem's own hint, where the code's does not fit.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::IgnoreFile { .. } => Some("Make .pmxignore a file of patterns, saved as UTF-8."),
            Self::BuildInvalid { .. } => {
                Some("Build again with the newest PathMX, and update pmx if that does not help.")
            }
            Self::NoPaths { .. } => Some("Leave --path out, or name the output of pathmx build."),
            Self::GeneratedDiffers { .. } => Some("Remove one of the two."),
            Self::Settings { .. } => Some("Choose another name for it in the site."),
            Self::Own { .. } => {
                Some("Publish a folder beside it, or move it elsewhere with --data.")
            }
            _ => None,
        }
    }

    /// The files that the problem names beside its text.
    pub fn items(&self) -> &[String] {
        match self {
            Self::Secrets { paths, .. } => paths,
            _ => &[],
        }
    }

    /// Whether the rest of a folder can be published without the path of this problem.
    fn is_of_one_path(&self, faults: FaultPolicy) -> bool {
        match self {
            Self::PathInvalid(_)
            | Self::Collision { .. }
            | Self::SymlinkEscape { .. }
            | Self::NotRegular { .. } => true,
            Self::Unreadable { path, .. } => path != TOP,
            Self::TooLarge { unit, .. } => *unit == "bytes",
            Self::ChangedDuringRead { .. } => faults == FaultPolicy::LeaveOutChanging,
            Self::SourceMissing { .. }
            | Self::BuildIncomplete { .. }
            | Self::BuildInvalid { .. }
            | Self::NoPaths { .. }
            | Self::GeneratedDiffers { .. }
            | Self::Pattern { .. }
            | Self::IgnoreFile { .. }
            | Self::Own { .. }
            | Self::Settings { .. }
            | Self::Secrets { .. }
            | Self::Threads(_) => false,
        }
    }

    /// The problem of a failed operation on `path`.
    pub(super) fn from_io(path: &str, doing: &'static str, source: io::Error) -> Self {
        let path = shown(path);
        match source.kind() {
            // The listing had the name a moment ago: if it is gone or of another kind, it was
            // replaced.
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => Self::ChangedDuringRead { path },
            // A link that was not one before.
            _ if is_loop(&source) => Self::ChangedDuringRead { path },
            _ if is_no_device(&source) => Self::NotRegular { path },
            _ => Self::Unreadable {
                path,
                doing,
                source,
            },
        }
    }
}

/// Whether the system met too many symbolic links.
pub(super) fn is_loop(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    #[cfg(not(unix))]
    return {
        let _ = error;
        false
    };
}

/// Whether the system refused to open a socket, or a device that does not exist.
fn is_no_device(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error());
    #[cfg(not(unix))]
    return {
        let _ = error;
        false
    };
}

/// A path for display: control characters are escaped for terminals.
pub(super) fn shown(path: &str) -> String {
    path.chars().flat_map(char::escape_debug).collect()
}

fn shown_path(path: &Path) -> String {
    format!("\"{}\"", shown(&path.to_string_lossy()))
}

/// The folder's own name in problems.
pub(super) const TOP: &str = ".";

/// Policy for a path that cannot be published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FaultPolicy {
    /// The scan publishes nothing.
    #[default]
    Refuse,
    /// The scan leaves the path out and names it. A file that changes during a read is still an
    /// error: the next scan may read it whole.
    LeaveOut,
    /// Like `LeaveOut`, but also for files that change.
    LeaveOutChanging,
}

/// Paths that a scan left out, in path order.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// The problems of the first of them.
    pub problems: Vec<ScanFault>,
    /// The number of paths beyond those.
    pub unlisted: u64,
}

/// Collects problems from all threads, and keeps the first in path order.
#[derive(Debug, Default)]
pub(super) struct Problems {
    faults: FaultPolicy,
    any: AtomicBool,
    found: Mutex<Found>,
    left_out: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    first: BTreeMap<(String, String), ScanFault>,
    all: u64,
}

impl Problems {
    pub(super) fn new(faults: FaultPolicy) -> Self {
        Self {
            faults,
            ..Self::default()
        }
    }

    /// Records a problem at a path.
    pub(super) fn add(&self, path: &str, problem: ScanFault) {
        if self.faults != FaultPolicy::Refuse && problem.is_of_one_path(self.faults) {
            lock(&self.left_out).add(path, problem);
            return;
        }
        self.any.store(true, Ordering::Relaxed);
        lock(&self.found).add(path, problem);
    }

    /// Whether a problem keeps the folder from being published.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Fails if a problem keeps the folder from being published. Otherwise returns the problems of
    /// paths that are left out.
    pub(super) fn check(&self) -> Result<LeftOut, ScanError> {
        let (problems, unlisted) = std::mem::take(&mut *lock(&self.found)).listed();
        if !problems.is_empty() {
            return Err(ScanError { problems, unlisted });
        }
        let (problems, unlisted) = std::mem::take(&mut *lock(&self.left_out)).listed();
        Ok(LeftOut { problems, unlisted })
    }
}

impl Found {
    fn add(&mut self, path: &str, problem: ScanFault) {
        let key = (path.to_owned(), problem.to_string());
        if self.first.insert(key, problem).is_none() {
            self.all += 1;
        }
        if self.first.len() > LISTED_MAX {
            self.first.pop_last();
        }
    }

    fn listed(self) -> (Vec<ScanFault>, u64) {
        let problems: Vec<_> = self.first.into_values().collect();
        let unlisted = self.all.saturating_sub(problems.len() as u64);
        (problems, unlisted)
    }
}

fn lock(found: &Mutex<Found>) -> std::sync::MutexGuard<'_, Found> {
    found
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
