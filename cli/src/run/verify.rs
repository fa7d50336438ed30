//! `pmx verify`: compares what a site's space records with its objects, and says what is damaged.

use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_sync::wire::{VerifyCursor, VerifyData, VerifyReply};
use serde::Serialize;

use super::{Context, Ended};
use crate::args::{ScanArgs, VerifyArgs};
use crate::error::Failure;
use crate::ui;

/// What the command prints with `--json`.
#[derive(Debug, Default, Serialize)]
struct Verified {
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<SpaceName>,
    nodes: u64,
    objects: u64,
    blobs: u64,
    bytes: u64,
    faults: u64,
    damaged: Vec<u64>,
}

/// Faults that the command prints one by one.
const PRINTED_MAX: u64 = 100;

pub(super) fn run(args: &VerifyArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let client = context.client(&site);
    let data = args
        .read_data_subset
        .or_else(|| args.read_data.then_some(VerifyData::ALL));
    let mut sum = Verified {
        space: Some(site.space.clone()),
        ..Verified::default()
    };
    let mut after = VerifyCursor::Nodes(None).to_string();
    loop {
        let step = client.verify(&site.space, &after, data, args.repair)?;
        print(&step, sum.faults, context);
        sum.add(&step);
        match step.next {
            Some(next) if next != after => after = next,
            Some(_) => {
                let message = format!("the server's verification stays at {after}");
                return Err(Failure::new(Code::Protocol, message));
            }
            None => break,
        }
    }
    describe(&sum, args, context);
    context.ui.object("verified", &sum);
    Ok(if sum.faults > 0 || !sum.damaged.is_empty() {
        Ended::Failed
    } else {
        Ended::Done
    })
}

impl Verified {
    fn add(&mut self, step: &VerifyReply) {
        let sums = [
            (&mut self.nodes, step.nodes),
            (&mut self.objects, step.objects),
            (&mut self.blobs, step.blobs),
            (&mut self.bytes, step.bytes),
            (&mut self.faults, step.faults.len() as u64),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        self.damaged.extend_from_slice(&step.damaged);
    }
}

fn print(step: &VerifyReply, printed: u64, context: &Context<'_>) {
    for (fault, number) in step.faults.iter().zip(printed..) {
        context.ui.object("fault", fault);
        if !context.ui.is_json() && number < PRINTED_MAX {
            context.ui.warn(format!("{}: {}", fault.what, fault.why));
        }
    }
}

fn describe(sum: &Verified, args: &VerifyArgs, context: &Context<'_>) {
    context.ui.note(summary(sum));
    if sum.faults > PRINTED_MAX {
        let more = sum.faults - PRINTED_MAX;
        context
            .ui
            .note(format!("{more} of the faults are not listed"));
    }
    if !sum.damaged.is_empty() {
        let numbers: Vec<_> = sum.damaged.iter().map(u64::to_string).collect();
        context
            .ui
            .warn(format!("deploys that lack content: {}", numbers.join(", ")));
        context.ui.note(
            "`pmx sync` of a folder with this content heals them; content that no folder has any \
             more stays lost",
        );
    } else if sum.faults > 0 && !args.repair {
        let next = "`pmx verify --repair` marks it, and the next `pmx sync` sends it again";
        context.ui.note(next);
    }
}

fn summary(sum: &Verified) -> String {
    let nodes = ui::count(sum.nodes, "node", "nodes");
    let objects = ui::count(sum.objects, "object", "objects");
    let read = match sum.blobs {
        0 => String::new(),
        blobs => format!(
            ", {} read and hashed ({})",
            ui::count(blobs, "blob or part", "blobs and parts"),
            ui::bytes(sum.bytes)
        ),
    };
    let faults = match sum.faults {
        0 => "no fault".to_owned(),
        faults => ui::count(faults, "fault", "faults"),
    };
    format!("{nodes} and {objects} checked{read}: {faults}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_counts_all_steps() {
        let mut sum = Verified::default();
        let step = VerifyReply {
            nodes: 3,
            objects: 1,
            ..VerifyReply::default()
        };
        sum.add(&step);
        insta::assert_snapshot!(summary(&sum), @"3 nodes and 1 object checked: no fault");
        sum.add(&VerifyReply {
            blobs: 7,
            bytes: 4_100_000,
            damaged: vec![2],
            ..step
        });
        sum.faults = 1;
        insta::assert_snapshot!(summary(&sum), @"6 nodes and 2 objects checked, 7 blobs and parts read and hashed (4.1 MB): 1 fault");
        assert_eq!(sum.damaged, [2]);
    }
}
