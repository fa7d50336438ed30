//! `pmx hash`: the root of a folder.

use serde_json::json;

use super::{Context, Ended};
use crate::args::HashArgs;
use crate::error::Failure;
use crate::source_tree::SourceTree;
use crate::ui;

pub(super) fn run(args: &HashArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context.layers.folder(&args.folder)?;
    let cache = context.cache.folder(&folder);
    let tree = SourceTree::read(&folder, &args.folder.scan, cache, context.ui)?;
    let totals = tree.totals();
    context.ui.note(format!(
        "{}, {}",
        ui::count(totals.files, "file", "files"),
        ui::bytes(totals.bytes)
    ));
    context.ui.result(tree.root());
    let body = json!({ "root": tree.root(), "files": totals.files, "bytes": totals.bytes });
    context.ui.object("hash", &body);
    tree.keep(&[]);
    Ok(Ended::Done)
}
