//! `pmx restore`: brings a space of a backup back.

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use serde_json::json;

use super::{Context, Ended};
use crate::args::{RestoreArgs, ScanArgs};
use crate::backup::{BackupDir, Snapshot};
use crate::client::restore::{Restore, Restored};
use crate::error::Failure;
use crate::ui::{self, Counting};

pub(super) fn run(args: &RestoreArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context.layers.folder_at(None, &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let dir = BackupDir::open(&args.dir)?;
    let (number, snapshot) = snapshot(args, &site.space, &dir)?;
    let bar = |bytes| context.ui.bar(Counting::Bytes, bytes);
    let checked = dir.check([&snapshot], bar, &context.interrupt)?;
    let checked = checked.whole(&args.dir)?;
    let client = context.client(&site);
    let restore = Restore {
        client: &client,
        space: &site.space,
        dir: &dir,
        snapshot: &snapshot,
        site: &context
            .cache
            .site(&site.server, &Channel::from(site.space.clone())),
        interrupt: &context.interrupt,
        ui: context.ui,
    };
    let restored = restore.run()?;
    report(&restored, number, &snapshot, &site.space, context);
    let active = snapshot.active().map_or(0, |it| it.number + restored.shift);
    let body = json!({
        "space": site.space, "snapshot": number, "of": snapshot.head.space,
        "deploys": restored.deploys, "before": restored.before, "shift": restored.shift,
        "active": active, "blobs": checked.blobs, "bytes": checked.bytes,
    });
    context.ui.object("restored", &body);
    Ok(Ended::Done)
}

/// The snapshot that the user named, and its number.
fn snapshot(
    args: &RestoreArgs,
    space: &SpaceName,
    dir: &BackupDir,
) -> Result<(u64, Snapshot), Failure> {
    let from = match &args.from {
        Some(name) => SpaceName::parse(name)?,
        None => space.clone(),
    };
    let numbers = dir.snapshots(&from)?;
    let found = match args.snapshot {
        Some(number) => Some(number).filter(|number| numbers.contains(number)),
        None => numbers.last().copied(),
    };
    let Some(number) = found else {
        let has = numbers.iter().map(u64::to_string).collect::<Vec<_>>();
        let has = match &has[..] {
            [] => format!("no snapshot of {from}"),
            numbers => format!("snapshots {} of {from} only", numbers.join(", ")),
        };
        let spaces = dir.spaces()?;
        let spaces: Vec<_> = spaces.iter().map(SpaceName::as_str).collect();
        let message = format!("{} has {has}", dir.dir().display());
        let hint = format!(
            "It has these spaces: {}. `--from NAME` names one.",
            spaces.join(", ")
        );
        return Err(Failure::new(Code::NotFound, message).with_hint(hint));
    };
    Ok((number, dir.snapshot(&from, number)?))
}

fn report(
    restored: &Restored,
    number: u64,
    snapshot: &Snapshot,
    space: &SpaceName,
    context: &Context<'_>,
) {
    let (from, shift) = (&snapshot.head.space, restored.shift);
    let ui = context.ui;
    if restored.before > 0 {
        let before = ui::count(restored.before, "deploy", "deploys");
        ui.note(format!("an earlier try had restored {before}"));
    }
    ui.note(format!(
        "{space} has {} of snapshot {number} of {from} at {}",
        ui::count(restored.deploys + restored.before, "deploy", "deploys"),
        snapshot.head.server
    ));
    if !restored.lacks.is_empty() {
        let numbers = restored.lacks.iter().map(u64::to_string);
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        ui.warn(format!(
            "{space} has given up the content of deploys {numbers} since it was restored"
        ));
    }
    if shift > 0 {
        let first = snapshot.head.base + 1;
        ui.note(format!(
            "an earlier space of the name had such numbers: deploy {first} is deploy {} now, and \
             so on",
            first + shift
        ));
    }
    if !snapshot.head.domains.is_empty() {
        let domains = snapshot.head.domains.join(", ");
        ui.warn(format!(
            "add its domains again with `pmx domain add`: {domains}"
        ));
    }
}
