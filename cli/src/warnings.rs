//! Scan warnings: names that cause trouble on other systems, suspicious names, and own folders.

use std::sync::Once;

use pmx_sync::scan::{NameFault, OwnFolder, Scan, Warning};

use crate::ui::Ui;

/// Names that a warning lists in JSON.
const LISTED_MAX: usize = 100;

/// Prints one warning for each kind of finding of a scan.
pub(crate) fn report(scan: &Scan, ui: &Ui) {
    if scan.is_mere_folder() {
        // A watch scans again and again.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            ui.warn(
                "this .pathmx has neither paths.json nor roots.json, so it is no PathMX build; \
                 all its files are published as they are",
            );
        });
    }
    let stats = scan.stats();
    for (own, what) in [
        (OwnFolder::Data, "left out, as the data of a pmx host"),
        (OwnFolder::Cache, "left out, as a cache folder of pmx"),
    ] {
        let paths = stats.own.iter().filter(|(_, is)| **is == own);
        about(ui, what, paths.map(|(path, _)| path.clone()));
    }
    let suspects = &stats.suspects;
    if suspects.count() > 0 {
        let paths: Vec<_> = suspects.paths().map(str::to_owned).collect();
        let what = "these names are rarely meant to be public, and are published";
        ui.warn_about(what, &paths, suspects.count());
    }
    let warnings = &stats.warnings;
    let pairs = warnings.iter().filter_map(collision_pair);
    about_collisions(ui, pairs);
    let decomposed = warnings
        .iter()
        .filter(|warning| warning.fault == NameFault::Decomposed)
        .map(|warning| warning.path.clone());
    about(
        ui,
        "these names are not in composed form (NFC); requests for the composed name find them too",
        decomposed,
    );
    let others = warnings.iter().filter(|warning| !is_grouped(warning));
    for warning in others {
        ui.warn(format!("{}: {}", warning.path, warning.fault));
    }
}

/// Warns about pairs of paths that some file systems can't store both.
pub(crate) fn about_collisions(ui: &Ui, pairs: impl Iterator<Item = String>) {
    about(
        ui,
        "these pairs differ only in case or Unicode normalisation, and macOS and Windows can't hold both",
        pairs,
    );
}

fn about(ui: &Ui, what: &str, items: impl Iterator<Item = String>) {
    let mut items: Vec<_> = items.collect();
    let count = items.len() as u64;
    items.truncate(LISTED_MAX);
    if count > 0 {
        ui.warn_about(what, &items, count);
    }
}

fn collision_pair(warning: &Warning) -> Option<String> {
    match &warning.fault {
        NameFault::Collision { other } => Some(format!("{} and {other}", warning.path)),
        _ => None,
    }
}

fn is_grouped(warning: &Warning) -> bool {
    matches!(
        warning.fault,
        NameFault::Collision { .. } | NameFault::Decomposed
    )
}
