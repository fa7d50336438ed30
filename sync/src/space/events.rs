//! Event log writes and reads: one change message for each deploy, in the deploy's transaction.
//!
//! The log is a JSON stream in the space's ledger, with one message per deploy. So its offsets are
//! the deploys' numbers: a client that received deploy 7 and reads from offset 7 misses nothing and
//! repeats nothing. Previews are in the same log, and each reader sees one channel of it: the
//! deploys that were active, or those of one alias.

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::id::Root;
use pmx_core::name::AliasName;
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;
use pmx_streams::{Append, Engine, From, MediaType, Offset, Page, Read, ReadResult, Refusal};

use super::aliases::current;
use super::event_log::{KEY, MEDIA, SHAPE};
use super::ledger::Ledger;
use crate::limits::EVENT_PATHS_MAX;
use crate::live::{ChangeMessage, Event};
use crate::manifest::{Change, diff};
use crate::wire::DeployView;

/// The changes of a deploy.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The root of the replaced deploy.
    pub(super) since: Option<Root>,
    /// Every path whose content changed, in order.
    pub(super) all: Vec<Change>,
}

/// Appends the changes of a deploy. Part of the transaction that activates it.
pub(super) fn append_event<S: Sql>(
    ledger: &Ledger<'_, S>,
    deploy: &DeployView,
    changes: &Changes,
) -> Result<(), Problem> {
    let message = ChangeMessage {
        deploy: deploy.number,
        alias: deploy.alias.clone(),
        root: deploy.root,
        prev_root: changes.since,
        kind: deploy.kind,
        at: deploy.at,
        since: None,
        events: vec![Event::of(
            changes.since.and(Some(&*changes.all)),
            EVENT_PATHS_MAX,
        )],
        know: None,
    };
    let body = written(&message)?;
    let append = Append {
        media_type: Some(MediaType::new(MEDIA)),
        body: body.into(),
        seq: None,
        producer: None,
        close: false,
    };
    let appended = Engine::new(ledger.sql(), KEY, &SHAPE).append(&append, deploy.at);
    appended.map(drop).map_err(|refusal| failed(&refusal))
}

/// Reads a channel's messages, up to its current deploy.
pub(super) fn read<S: Sql>(
    ledger: &Ledger<'_, S>,
    alias: Option<&AliasName>,
    asked: &Read,
    now: Timestamp,
) -> Result<Page, Problem> {
    let base = ledger.base()?;
    let tail = match alias {
        // The channel has no deploy, or never had one.
        None => ledger.active()?.map_or(base, |active| active.number),
        Some(_) => current(ledger, alias)?.number,
    };
    let tail = Offset::at(tail);
    let start = match asked.from {
        From::Start => Offset::at(base),
        From::Now => tail,
        From::At(offset) if offset > tail => return Err(failed(&Refusal::Beyond)),
        From::At(offset) if offset == Offset::ZERO => Offset::at(base),
        From::At(offset) if offset.position() < base => {
            let detail = format!("{offset} is of a space that was removed");
            return Err(Problem::new(Code::EventsGone, detail));
        }
        From::At(offset) => offset,
    };
    if start == tail {
        let mut page = look(ledger, &Read { from: From::Now }, now)?;
        (page.start, page.end, page.view.next) = (tail, tail, tail);
        return Ok(page);
    }
    let mut page = look(ledger, &from_base(asked, start, base), now)?;
    (page.start, page.end) = (after(page.start, base), after(page.end, base));
    if ledger.has_others(alias, start.position(), page.end.position())? {
        page.body = of_channel(&page, alias)?;
    }
    (page.end, page.view.next) = (page.end.min(tail), tail);
    Ok(page)
}

/// The log begins anew with each space of the name, and its offsets do not.
fn from_base(asked: &Read, start: Offset, base: u64) -> Read {
    match (base, asked.from) {
        (0, _) | (_, From::Now) => *asked,
        (_, From::Start | From::At(_)) => Read {
            from: From::At(start.moved_to(start.position() - base)),
        },
    }
}

fn after(offset: Offset, base: u64) -> Offset {
    match base {
        0 => offset,
        _ => offset.moved_to(offset.position() + base),
    }
}

/// Keeps only the channel's messages of a page.
fn of_channel(page: &Page, alias: Option<&AliasName>) -> Result<Bytes, Problem> {
    let array = [b"[", &page.body[..], b"]"].concat();
    let messages: Vec<ChangeMessage> = serde_json::from_slice(&array)
        .map_err(|error| Problem::new(Code::Corrupt, format!("reading events: {error}")))?;
    let mut body = Vec::new();
    for message in messages
        .iter()
        .filter(|message| message.alias.as_ref() == alias)
    {
        if !body.is_empty() {
            body.push(b',');
        }
        body.append(&mut written(message)?);
    }
    Ok(body.into())
}

fn look<S: Sql>(ledger: &Ledger<'_, S>, read: &Read, now: Timestamp) -> Result<Page, Problem> {
    match Engine::new(ledger.sql(), KEY, &SHAPE).peek(read, now) {
        Ok(ReadResult::Page(page)) => Ok(page),
        // Nothing moves this log to cold storage.
        Ok(ReadResult::Cold(_)) => Err(Problem::new(Code::Storage, "an event log that is cold")),
        Err(refusal) => Err(failed(&refusal)),
    }
}

/// Whether visitors may read lists of a channel's paths: its deploy allows it, or it is a preview.
pub(super) fn is_open<S: Sql>(
    ledger: &Ledger<'_, S>,
    alias: Option<&AliasName>,
) -> Result<bool, Problem> {
    if alias.is_some() {
        return Ok(true);
    }
    let active = ledger.active()?;
    Ok(active.is_some_and(|active| active.meta.live || active.meta.events))
}

/// The changes from deploy `from` to deploy `to`. If `from` is of another channel, the newest
/// earlier deploy of `to`'s channel replaces it; without one, there is nothing to compare.
pub(super) fn diff_since<S: Sql>(
    ledger: &Ledger<'_, S>,
    from: u64,
    to: u64,
    most: usize,
) -> Result<ChangeMessage, Problem> {
    let find = |number| {
        let gone = || {
            let detail = format!("deploy {number} is not kept any more");
            Problem::new(Code::EventsGone, detail)
        };
        let deploy = ledger.deploy(number)?;
        deploy
            .filter(|deploy| deploy.content.is_kept())
            .ok_or_else(gone)
    };
    let after = find(to)?;
    let base = ledger.base()?;
    let before = match from {
        // Before the first deploy of the space.
        number if number <= base => None,
        number => {
            let before = find(number)?;
            if before.alias == after.alias {
                Some(before)
            } else {
                let before = ledger.newest_up_to(after.alias.as_ref(), number)?;
                before.map(|before| find(before.number)).transpose()?
            }
        }
    };
    let changes = before.as_ref().map(|before| before.root);
    let changes = changes.map(|before| diff(ledger, before, ledger, after.root));
    let changes = changes.transpose()?;
    Ok(ChangeMessage {
        deploy: after.number,
        alias: after.alias,
        root: after.root,
        prev_root: before.map(|before| before.root),
        since: Some(from),
        kind: after.kind,
        at: after.at,
        events: vec![Event::of(changes.as_deref(), most)],
        know: None,
    })
}

fn written(message: &ChangeMessage) -> Result<Vec<u8>, Problem> {
    let failed = |error| Problem::new(Code::Storage, format!("writing an event: {error}"));
    serde_json::to_vec(message).map_err(failed)
}

fn failed(refusal: &Refusal) -> Problem {
    Problem::new(refusal.code(), format!("the event log: {refusal}"))
}
