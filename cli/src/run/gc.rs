//! `pmx gc`: gives up what the retention policy does not keep, and collects what only that needed.

use std::time::{Duration, Instant};

use pmx_core::name::SpaceName;
use pmx_sync::wire::{CollectReply, Repack};
use serde::Serialize;

use super::deploys::when;
use super::{Context, Ended};
use crate::args::{GcArgs, ScanArgs};
use crate::client::http::Client;
use crate::error::Failure;
use crate::ui;

/// What the command prints with `--json`.
#[derive(Debug, Serialize)]
struct Collected<'a> {
    space: &'a SpaceName,
    dry_run: bool,
    #[serde(flatten)]
    reply: &'a CollectReply,
}

pub(super) fn run(args: &GcArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let client = context.client(&site);
    let space = &site.space;
    let limit = Limit::new(args.max_time);
    let repack = Repack {
        max_unused: args.max_unused,
        max_bytes: args.max_repack_size,
        ..Repack::default()
    };
    let reply = if args.dry_run {
        rehearsed(&client, space, &repack, &limit)?
    } else {
        collected(&client, space, &repack, &limit)?
    };
    if args.dry_run {
        describe_rehearsal(&reply, context);
    } else {
        describe(&reply, context);
    }
    let body = Collected {
        space,
        dry_run: args.dry_run,
        reply: &reply,
    };
    context.ui.object("collected", &body);
    Ok(Ended::Done)
}

/// Waits for pointers that readers do not have yet: a platform writes one a second.
const WAITS_MAX: usize = 20;
const WAIT: Duration = Duration::from_secs(1);

/// The time that the command may take.
struct Limit {
    begun: Instant,
    max: Option<Duration>,
}

impl Limit {
    fn new(max: Option<Duration>) -> Self {
        let begun = Instant::now();
        Self { begun, max }
    }

    fn is_over(&self) -> bool {
        self.max.is_some_and(|max| self.begun.elapsed() >= max)
    }
}

/// Takes steps until none has work to do, or the time is over. Returns the sum of what they did.
fn collected(
    client: &Client,
    space: &SpaceName,
    repack: &Repack,
    limit: &Limit,
) -> Result<CollectReply, Failure> {
    let mut sum = client.collect(space, Some(repack))?;
    let mut waits = 0;
    while (sum.more || sum.is_waiting && waits < WAITS_MAX) && !limit.is_over() {
        if sum.is_waiting {
            waits += 1;
            std::thread::sleep(WAIT);
        }
        sum = after(&sum, client.collect(space, None)?);
    }
    Ok(sum)
}

/// Asks what a collection would do until the server has read all of it, or the time is over.
fn rehearsed(
    client: &Client,
    space: &SpaceName,
    repack: &Repack,
    limit: &Limit,
) -> Result<CollectReply, Failure> {
    let mut reply = client.rehearse_collection(space, repack)?;
    while reply.more && !limit.is_over() {
        reply = client.rehearse_collection(space, repack)?;
    }
    Ok(reply)
}

/// Adds a step to the sum of those before. What waits is what the step found.
const fn after(sum: &CollectReply, step: CollectReply) -> CollectReply {
    CollectReply {
        dropped: sum.dropped.saturating_add(step.dropped),
        doomed: sum.doomed.saturating_add(step.doomed),
        doomed_bytes: sum.doomed_bytes.saturating_add(step.doomed_bytes),
        deleted: sum.deleted.saturating_add(step.deleted),
        deleted_bytes: sum.deleted_bytes.saturating_add(step.deleted_bytes),
        repacked: sum.repacked.saturating_add(step.repacked),
        repacked_bytes: sum.repacked_bytes.saturating_add(step.repacked_bytes),
        ..step
    }
}

fn describe(reply: &CollectReply, context: &Context<'_>) {
    context.ui.note(summary(reply));
    if reply.is_waiting {
        let why = "readers do not have the newest pointers yet; the server continues automatically";
        context.ui.note(why);
    }
    if reply.more {
        context
            .ui
            .note("the time is over; the server continues automatically");
    }
}

fn describe_rehearsal(reply: &CollectReply, context: &Context<'_>) {
    if reply.more {
        // The deploys are counted first, and the rest is not known yet.
        let dropped = ui::count(reply.dropped, "deploy", "deploys");
        context.ui.note(format!(
            "{dropped} would be given up; the time was over before the objects were counted"
        ));
        context
            .ui
            .note("the next `pmx gc --dry-run` resumes where this one stopped");
    } else {
        context.ui.note(rehearsal(reply));
    }
}

/// What a collection did.
fn summary(reply: &CollectReply) -> String {
    let waiting = objects(reply.waiting, reply.waiting_bytes);
    let (are, go) = if reply.waiting == 1 {
        ("is", "goes")
    } else {
        ("are", "go")
    };
    let garbage = match reply.next_deletion {
        Some(at) => format!("{waiting} {are} garbage and {go} from {} on", when(at)),
        None => format!("{waiting} {are} garbage"),
    };
    let dropped = ui::count(reply.dropped, "deploy", "deploys");
    let deleted = objects(reply.deleted, reply.deleted_bytes);
    let repacked = match reply.repacked {
        0 => String::new(),
        _ => format!(
            "; {} repacked",
            objects(reply.repacked, reply.repacked_bytes)
        ),
    };
    format!("{dropped} given up; {garbage}; {deleted} deleted{repacked}")
}

/// What a collection would do.
fn rehearsal(reply: &CollectReply) -> String {
    let dropped = ui::count(reply.dropped, "deploy", "deploys");
    let doomed = objects(reply.doomed, reply.doomed_bytes);
    let mut text = format!("{dropped} would be given up; {doomed} would be garbage");
    if reply.repacked > 0 {
        let repacked = objects(reply.repacked, reply.repacked_bytes);
        text = format!("{text}; {repacked} would be repacked");
    }
    if reply.waiting > 0 {
        let waiting = objects(reply.waiting, reply.waiting_bytes);
        let verb = if reply.waiting == 1 { "is" } else { "are" };
        text = format!("{text}; {waiting} {verb} garbage already");
    }
    text
}

/// A number of objects and their bytes. A server may not know the bytes.
fn objects(number: u64, bytes: u64) -> String {
    let number = ui::count(number, "object", "objects");
    match bytes {
        0 => number,
        bytes => format!("{number} ({})", ui::bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::time::Timestamp;

    use super::*;

    #[test]
    fn summary_counts_all_steps_and_what_waits_at_the_end() {
        let first = CollectReply {
            dropped: 3,
            doomed: 7,
            doomed_bytes: 4_000_000,
            waiting: 7,
            waiting_bytes: 4_000_000,
            more: true,
            ..CollectReply::default()
        };
        let second = CollectReply {
            doomed: 5,
            doomed_bytes: 200_000,
            waiting: 12,
            waiting_bytes: 4_200_000,
            next_deletion: Some(Timestamp::from_millis(1_700_000_000_000)),
            ..CollectReply::default()
        };
        let third = CollectReply {
            repacked: 2,
            repacked_bytes: 9_000_000,
            ..second
        };
        insta::assert_snapshot!(summary(&after(&first, third)), @"3 deploys given up; 12 objects (4.2 MB) are garbage and go from 2023-11-14 22:13:20Z on; 0 objects deleted; 2 objects (9.0 MB) repacked");
        insta::assert_snapshot!(rehearsal(&third), @"0 deploys would be given up; 5 objects (200.0 kB) would be garbage; 2 objects (9.0 MB) would be repacked; 12 objects (4.2 MB) are garbage already");
        let sum = after(&first, second);
        assert_eq!((sum.dropped, sum.doomed, sum.more), (3, 12, false));
        insta::assert_snapshot!(summary(&sum), @"3 deploys given up; 12 objects (4.2 MB) are garbage and go from 2023-11-14 22:13:20Z on; 0 objects deleted");
        insta::assert_snapshot!(rehearsal(&first), @"3 deploys would be given up; 7 objects (4.0 MB) would be garbage; 7 objects (4.0 MB) are garbage already");
    }

    #[test]
    fn unknown_bytes_are_not_printed() {
        let reply = CollectReply {
            dropped: 1,
            doomed: 2,
            waiting: 1,
            deleted: 1,
            deleted_bytes: 12,
            ..CollectReply::default()
        };
        insta::assert_snapshot!(summary(&reply), @"1 deploy given up; 1 object is garbage; 1 object (12 B) deleted");
        insta::assert_snapshot!(rehearsal(&CollectReply::default()), @"0 deploys would be given up; 0 objects would be garbage");
    }
}
