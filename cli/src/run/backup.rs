//! `pmx backup`: saves spaces into a folder, or checks one.

use std::path::Path;

use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use serde_json::json;

use super::{Context, Ended};
use crate::args::{BackupArgs, ScanArgs};
use crate::backup::{BackupDir, SnapshotHead};
use crate::client::backup::{Backup, Saved};
use crate::client::http::Client;
use crate::error::Failure;
use crate::ui::{self, Counting};

/// The name of no space: a backup of all needs a server only.
const ANY: &str = "any";

pub(super) fn run(args: &BackupArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    if args.check {
        return check(args, context);
    }
    let site = if args.all {
        context.site(&args.site.at.site(ANY), Path::new("."))?
    } else {
        let folder = context.layers.folder_at(None, &ScanArgs::default())?;
        context.site(&args.site, &folder.dir)?
    };
    let client = context.client(&site);
    let spaces = if args.all {
        client.spaces()?.into_iter().map(|it| it.name).collect()
    } else {
        vec![site.space.clone()]
    };
    let dir = BackupDir::create(&args.dir)?;
    let mut failures = Vec::new();
    for space in &spaces {
        let head = SnapshotHead {
            v: crate::backup::VERSION,
            server: site.server.to_string(),
            space: space.clone(),
            at: crate::source_tree::now(),
            base: 0,
            aliases: std::collections::BTreeMap::new(),
            expires: std::collections::BTreeMap::new(),
            hold: None,
            policy: None,
            domains: Vec::new(),
        };
        if let Err(failure) = save(head, &client, &dir, context) {
            context.interrupt.check()?;
            if spaces.len() == 1 {
                return Err(failure);
            }
            context
                .ui
                .warn(format!("{space} is not saved: {}", failure.message));
            failures.push((space, failure));
        }
    }
    context.ui.result(args.dir.display());
    let names = failures.iter().map(|(space, _)| space.as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    match failures.pop() {
        Some((_, last)) => Err(Failure {
            message: format!(
                "not saved, or not whole: {names}; the last: {}",
                last.message
            ),
            ..last
        }),
        None => Ok(Ended::Done),
    }
}

fn save(
    head: SnapshotHead,
    client: &Client,
    dir: &BackupDir,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let space = head.space.clone();
    let backup = Backup {
        client,
        dir,
        interrupt: &context.interrupt,
        ui: context.ui,
    };
    let Saved {
        snapshot,
        deploys,
        left_out,
        damaged,
        files,
        bytes,
        nodes,
    } = backup.run(head)?;
    context.ui.note(format!(
        "snapshot {snapshot} of {space}: {}; {} fetched ({})",
        ui::count(deploys, "deploy", "deploys"),
        ui::count(files, "file", "files"),
        ui::bytes(bytes),
    ));
    let body = json!({
        "space": space, "snapshot": snapshot, "deploys": deploys, "left_out": left_out,
        "damaged": damaged, "files": files, "bytes": bytes, "nodes": nodes,
    });
    context.ui.object("saved", &body);
    if damaged.is_empty() {
        return Ok(());
    }
    let numbers = damaged.iter().map(u64::to_string).collect::<Vec<_>>();
    let message = format!(
        "snapshot {snapshot} of {space} is without deploys {}: the server has lost their content",
        numbers.join(", ")
    );
    let hint = "Run `pmx verify --repair`, and `pmx sync` a folder that has the content.";
    Err(Failure::new(Code::Corrupt, message).with_hint(hint))
}

/// Checks all snapshots of a backup, or those of one space.
fn check(args: &BackupArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let dir = BackupDir::open(&args.dir)?;
    let spaces = match &args.site.space {
        Some(name) => vec![SpaceName::parse(name)?],
        None => dir.spaces()?,
    };
    let mut snapshots = Vec::new();
    for space in &spaces {
        for number in dir.snapshots(space)? {
            snapshots.push(dir.snapshot(space, number)?);
        }
    }
    if snapshots.is_empty() {
        let message = format!("{} has no snapshots of that name", args.dir.display());
        return Err(Failure::new(Code::NotFound, message));
    }
    let bar = |bytes| context.ui.bar(Counting::Bytes, bytes);
    let checked = dir.check(&snapshots, bar, &context.interrupt)?;
    let checked = checked.whole(&args.dir)?;
    context.ui.note(format!(
        "{} and {} ({}) have their hashes",
        ui::count(snapshots.len() as u64, "snapshot", "snapshots"),
        ui::count(checked.blobs, "blob", "blobs"),
        ui::bytes(checked.bytes),
    ));
    let body = json!({
        "snapshots": snapshots.len(), "nodes": checked.nodes, "blobs": checked.blobs,
        "bytes": checked.bytes,
    });
    context.ui.object("checked", &body);
    Ok(Ended::Done)
}
