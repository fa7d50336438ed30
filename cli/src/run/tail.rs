//! `pmx tail`: the changes of each deploy, as they happen, one line of JSON each.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use pmx_core::code::Code;
use pmx_streams::Offset;
use pmx_sync::live::ChangeMessage;

use super::{Context, Ended};
use crate::args::{ScanArgs, TailArgs};
use crate::client::http::Client;
use crate::error::Failure;

/// Interval at which the command checks for an interrupt.
const TICK: Duration = Duration::from_millis(100);

pub(super) fn run(args: &TailArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = context
        .layers
        .folder_at(args.dir.as_deref(), &ScanArgs::default())?;
    let site = context.site(&args.site, &folder.dir)?;
    let client = Client::of(&site, context.interrupt.clone());
    let reply = client.deploys(&site.space, None, 1)?;
    let from = args.from.unwrap_or(reply.active);
    context.ui.note(format!(
        "waiting for deploys of {} after {from}; press Ctrl-C to stop",
        site.space
    ));
    print(&listen(client, reply.url, from), context)
}

/// Listens on a separate thread, so that an interrupt need not wait for an answer.
fn listen(client: Client, url: String, from: u64) -> Receiver<Result<Vec<ChangeMessage>, Failure>> {
    let (sender, messages) = sync_channel(1);
    std::thread::spawn(move || {
        let mut offset = Offset::at(from).to_string();
        loop {
            let received = client.events(&url, &offset);
            let failed = received.is_err();
            let received = received.map(|(messages, next)| {
                offset = next;
                messages
            });
            // The receiver is gone if the command has ended.
            if sender.send(received).is_err() || failed {
                return;
            }
        }
    });
    messages
}

fn print(
    messages: &Receiver<Result<Vec<ChangeMessage>, Failure>>,
    context: &Context<'_>,
) -> Result<Ended, Failure> {
    while !context.interrupt.is_raised() && !context.ui.is_broken() {
        match messages.recv_timeout(TICK) {
            Ok(received) => {
                for mut message in received? {
                    // This value is for a reader's next request, and differs between servers.
                    message.know = None;
                    if context.ui.is_json() {
                        context.ui.object("deployed", &message);
                    } else {
                        let line = serde_json::to_string(&message);
                        let unfit = |error: serde_json::Error| Failure::usage(error.to_string());
                        context.ui.result(line.map_err(unfit)?);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let why = "the thread that waits for deploys ended without a reason";
                return Err(Failure::new(Code::Local, why));
            }
        }
    }
    context.interrupt.check()?;
    Ok(Ended::Done)
}
