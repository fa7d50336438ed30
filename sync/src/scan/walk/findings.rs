//! Findings of a scan: reports of all its threads, beside the trees.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::super::error::ScanFault;
use super::super::own::OwnFolder;
use super::super::suspect::Suspects;
use super::super::{PathChange, Stats, Warning};
use crate::manifest::Totals;

/// Findings of the threads of a scan, beside the trees.
#[derive(Debug, Default)]
pub(in crate::scan) struct ScanFindings {
    pub(in crate::scan) changes: Mutex<Vec<PathChange>>,
    pub(in crate::scan) warnings: Mutex<Vec<Warning>>,
    pub(in crate::scan) suspects: Mutex<Suspects>,
    pub(in crate::scan) secrets: Mutex<Suspects>,
    pub(in crate::scan) own: Mutex<BTreeMap<String, OwnFolder>>,
    pub(in crate::scan) files: AtomicU64,
    pub(in crate::scan) folders: AtomicU64,
    pub(in crate::scan) read_files: AtomicU64,
    pub(in crate::scan) read_bytes: AtomicU64,
    pub(in crate::scan) reused_files: AtomicU64,
}

impl ScanFindings {
    /// Fails if the scan found files that must not be published.
    pub(in crate::scan) fn check_secrets(&self) -> Result<(), ScanFault> {
        let secrets = lock(&self.secrets);
        if secrets.count() == 0 {
            return Ok(());
        }
        Err(ScanFault::Secrets {
            paths: secrets.paths().map(str::to_owned).collect(),
            count: secrets.count(),
        })
    }

    /// The changes and the statistics of a scan.
    pub(in crate::scan) fn results(self) -> (Vec<PathChange>, Stats) {
        fn inner<T>(mutex: Mutex<T>) -> T {
            mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
        }
        let read = Totals {
            files: self.read_files.load(Ordering::Relaxed),
            bytes: self.read_bytes.load(Ordering::Relaxed),
        };
        let mut changes = inner(self.changes);
        // A file that became a folder, or the reverse, has different paths, so each path is unique.
        changes.par_sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut warnings = inner(self.warnings);
        warnings.sort_unstable_by(|a, b| (&a.path, &a.fault).cmp(&(&b.path, &b.fault)));
        warnings.dedup();
        let stats = Stats {
            read,
            reused_files: self.reused_files.load(Ordering::Relaxed),
            warnings,
            suspects: inner(self.suspects),
            own: inner(self.own),
        };
        (changes, stats)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
