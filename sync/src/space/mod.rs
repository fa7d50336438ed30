//! Space: one site, its deploys, and the single writer that records them.
//!
//! A space takes commands and returns replies. It reads and writes its state through [`Sql`] in
//! synchronous transactions. Only the write of a commit's index object is asynchronous, between two
//! transactions: it relies on immutable data only, and the second transaction decides anew.

mod aliases;
mod arrivals;
mod begun;
mod blob_index;
mod call;
mod closure;
mod collect;
mod columns;
mod command;
mod conflict_text;
mod decide;
mod event_log;
mod events;
mod history;
mod holds;
mod index_object;
mod lease;
mod ledger;
mod meta;
mod outbox;
mod pending;
mod preconditions;
mod previews;
mod publish;
mod removal;
mod repair;
mod reply;
mod restore;
mod retention;
mod stored_bytes;
mod tables;
mod verify;

pub use call::{SpaceCall, SpaceResponse};
pub use command::{ArrivedPart, Command, Loss, Lost, Offer, PublishCommand, SmallPack, VerifyStep};
pub use lease::{LEASE, parse_lease};
pub use reply::{Due, Outbox, Removal, Reply};

use pmx_core::backend::Blobs;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::id::{Root, SpaceId};
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;
use pmx_streams::Read;

use crate::limits::LIVE_PATHS_MAX;
use ledger::Ledger;

/// Carries out a command on the ledger of a space. The platform ensures that the space has one
/// writer: another command never interleaves with the code between two awaits.
///
/// [`Command::Open`] creates the ledger's tables if they do not exist. On a ledger without tables,
/// every other command returns `E_NOT_FOUND`.
pub async fn execute<S: Sql, B: Blobs>(
    sql: &S,
    blobs: &B,
    name: &SpaceName,
    command: Command,
    now: Timestamp,
) -> Result<Reply, Problem> {
    let ledger = Ledger::new(sql).at(now);
    if let Command::Open { fresh } = command {
        return Ok(Reply::Space(ledger.open(name, fresh)?));
    }
    let Some(space) = ledger.space()? else {
        return after_removal(&ledger, name, &command);
    };
    match command {
        _ if command.is_of_another(space) => Ok(Reply::Space(space)),
        Command::Open { .. } => Ok(Reply::Space(space)),
        Command::Publish(publish) => {
            let reply = publish::publish(&ledger, blobs, space, *publish, now).await?;
            Ok(Reply::Publish(Box::new(reply)))
        }
        Command::RecordPack {
            pack,
            object,
            toc,
            files_max,
            ..
        } => {
            let kept = pending::record_pack(&ledger, &pack, &object, &toc, files_max, now);
            kept.map(Reply::Recorded)
        }
        Command::RecordPart(part) => record_part(&ledger, &part, now),
        Command::Rollback(head) => {
            history::rollback(&ledger, &head, now).map(|made| Reply::Deploy(Box::new(made)))
        }
        Command::Resume => Ok(Reply::Resumed(
            ledger.atomically(|ledger| ledger.lift_hold(None))?,
        )),
        Command::DeleteAlias { alias } => Ok(Reply::AliasDeleted(
            ledger.atomically(|ledger| ledger.unalias(&alias))?,
        )),
        Command::ExpirePreviews => previews::expire(&ledger),
        Command::DeleteSpace { expect, purge } => {
            removal::delete(&ledger, name, space, (expect, purge))
        }
        Command::ForgetRemoved { space } => forgotten(&ledger, space),
        Command::Pin { .. }
        | Command::RemoveDeploy { .. }
        | Command::Retention
        | Command::SetRetention(_)
        | Command::Collect { .. }
        | Command::Verify(_) => lifecycle(&ledger, blobs, space, command).await,
        Command::Previews
        | Command::Deploys { .. }
        | Command::Diff { .. }
        | Command::Nodes { .. } => read_history(&ledger, command),
        Command::Events { alias, read } => read_events(&ledger, alias.as_ref(), &read, now),
        Command::DiffSince { from, to, most } => net(&ledger, from, to, most),
        Command::Locate { deploy } => located(&ledger, space, &deploy),
        Command::Index { root } => indexed(&ledger, space, &root),
        Command::Lost(loss) => repair::note(&ledger, &loss).map(|()| Reply::Noted),
        Command::PendingPointers => Ok(Reply::Due(outbox::outbox(&ledger, Some(space))?)),
        Command::AckPointer {
            alias,
            order,
            revision,
        } => acknowledged(&ledger, Some(space), alias.as_ref(), (order, revision)),
    }
}

/// Carries out a command that reads the history.
fn read_history<S: Sql>(ledger: &Ledger<'_, S>, command: Command) -> Result<Reply, Problem> {
    match command {
        Command::Previews => previews::list(ledger),
        Command::Deploys {
            before,
            limit,
            backup,
        } => history::deploys(ledger, (before, limit), backup),
        Command::Diff { from, to } => {
            Ok(Reply::Diff(Box::new(history::compare(ledger, from, to)?)))
        }
        Command::Nodes { ids } => Ok(Reply::Nodes(history::nodes(ledger, &ids)?)),
        other => Err(misplaced(&other)),
    }
}

/// The failure of a command that reached the part of another.
fn misplaced(command: &Command) -> Problem {
    let detail = format!("{} is a command of another kind", command.name());
    Problem::new(Code::Storage, detail)
}

fn located<S: Sql>(
    ledger: &Ledger<'_, S>,
    space: SpaceId,
    deploy: &Selector,
) -> Result<Reply, Problem> {
    let pointer = history::locate(ledger, space, deploy)?;
    Ok(Reply::Pointer(Box::new(pointer)))
}

fn indexed<S: Sql>(ledger: &Ledger<'_, S>, space: SpaceId, root: &Root) -> Result<Reply, Problem> {
    let index = index_object::indexed_at(ledger, root)?;
    Ok(Reply::Index { space, index })
}

/// Carries out a command about what the space keeps.
async fn lifecycle<S: Sql, B: Blobs>(
    ledger: &Ledger<'_, S>,
    blobs: &B,
    space: SpaceId,
    command: Command,
) -> Result<Reply, Problem> {
    match command {
        Command::Pin { number, pinned } => {
            let deploy = retention::pin(ledger, number, pinned)?;
            Ok(Reply::Deploy(Box::new(deploy)))
        }
        Command::RemoveDeploy { number, purge } => {
            let deploy = retention::remove(ledger, number, purge)?;
            Ok(Reply::Deploy(Box::new(deploy)))
        }
        Command::Retention => Ok(Reply::Retention(retention::get(ledger)?)),
        Command::SetRetention(policy) => {
            retention::set(ledger, &policy)?;
            Ok(Reply::Retention(policy))
        }
        Command::Collect {
            dry: true, repack, ..
        } => {
            let reply = collect::dry_run(ledger, blobs, space, repack).await?;
            Ok(Reply::Collected(reply))
        }
        Command::Collect { start, repack, .. } => {
            let reply = collect::step(ledger, blobs, space, start.then_some(repack)).await?;
            Ok(Reply::Collected(reply))
        }
        Command::Verify(step) => {
            let reply = verify::step(ledger, blobs, space, step).await?;
            Ok(Reply::Verified(Box::new(reply)))
        }
        other => Err(misplaced(&other)),
    }
}

/// Carries out a command on a ledger without a space: of a removed one there is only what readers
/// must still learn, and the objects.
fn after_removal<S: Sql>(
    ledger: &Ledger<'_, S>,
    name: &SpaceName,
    command: &Command,
) -> Result<Reply, Problem> {
    if ledger.has_tables()? {
        match command {
            Command::ExpirePreviews => return previews::expire(ledger),
            Command::PendingPointers => return Ok(Reply::Due(outbox::outbox(ledger, None)?)),
            Command::AckPointer {
                alias,
                order,
                revision,
            } => return acknowledged(ledger, None, alias.as_ref(), (*order, *revision)),
            Command::ForgetRemoved { space } => return forgotten(ledger, *space),
            Command::DeleteSpace { expect, .. } => {
                if let Some(reply) = removal::repeated(ledger, *expect)? {
                    return Ok(reply);
                }
            }
            _ => {}
        }
    }
    let detail = format!("there is no space {name}");
    Err(Problem::new(Code::NotFound, detail))
}

fn acknowledged<S: Sql>(
    ledger: &Ledger<'_, S>,
    space: Option<SpaceId>,
    alias: Option<&AliasName>,
    place: (u64, Option<u64>),
) -> Result<Reply, Problem> {
    ledger.ack_pointer(alias, place)?;
    Ok(Reply::Due(outbox::outbox(ledger, space)?))
}

fn forgotten<S: Sql>(ledger: &Ledger<'_, S>, removed: SpaceId) -> Result<Reply, Problem> {
    ledger.forget_removed(removed)?;
    Ok(Reply::Noted)
}

fn net<S: Sql>(ledger: &Ledger<'_, S>, from: u64, to: u64, most: usize) -> Result<Reply, Problem> {
    let net = events::diff_since(ledger, from, to, most.min(LIVE_PATHS_MAX))?;
    Ok(Reply::DiffSince(Box::new(net)))
}

/// The name under which a space was last opened, for a platform that wakes it without one.
pub fn name_of<S: Sql>(sql: &S) -> Result<Option<SpaceName>, Problem> {
    Ok(Ledger::new(sql).name()?)
}

fn read_events<S: Sql>(
    ledger: &Ledger<'_, S>,
    alias: Option<&AliasName>,
    read: &Read,
    now: Timestamp,
) -> Result<Reply, Problem> {
    Ok(Reply::Events {
        page: Box::new(events::read(ledger, alias, read, now)?),
        is_open: events::is_open(ledger, alias)?,
    })
}

fn record_part<S: Sql>(
    ledger: &Ledger<'_, S>,
    part: &ArrivedPart,
    now: Timestamp,
) -> Result<Reply, Problem> {
    lease::touch(ledger, now)?;
    let mut location = Vec::new();
    part.location.encode(&mut location);
    let blob = (&part.blob, part.size);
    let extent = part.location.extent;
    ledger.atomically(|turn| {
        turn.record_object(&extent.object, extent.len)?;
        turn.insert_part(blob, part.number, &part.chaining_value, location, now)?;
        Ok::<_, Problem>(())
    })?;
    Ok(Reply::Recorded(extent.object))
}
