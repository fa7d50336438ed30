//! What each deploy changed, told in the turn that made it active.
//!
//! The log is a JSON stream of its own in the space's ledger, one message a deploy. So its offsets
//! are the deploys' numbers: whoever was served deploy 7 and reads on from offset 7 misses nothing
//! and repeats nothing.

use bytes::Bytes;

use super::ledger::Ledger;
use crate::code::Code;
use crate::id::{Root, SpaceId};
use crate::limits::{
    EVENT_PATHS_MAX, STREAM_APPEND_BYTES_MAX, STREAM_CHUNK_BYTES, STREAM_READ_BYTES,
    STREAM_SEGMENT_BYTES, STREAM_SEGMENT_MESSAGES,
};
use crate::live::{Event, Message};
use crate::manifest::{Change, diff};
use crate::sql::{Sql, SqlError};
use crate::stream::{
    Append, Create, Engine, From, Generation, MediaType, Offset, Page, Read, Reading, Refusal,
    Shape,
};
use crate::time::Timestamp;
use crate::wire::{DeployView, Problem};

/// The log's key among the streams of the ledger; it is the only one.
const KEY: i64 = 1;

const SHAPE: Shape = Shape {
    chunk_bytes: STREAM_CHUNK_BYTES,
    segment_bytes: STREAM_SEGMENT_BYTES,
    segment_messages: STREAM_SEGMENT_MESSAGES,
    read_bytes: STREAM_READ_BYTES,
    append_bytes_max: STREAM_APPEND_BYTES_MAX,
    cold_reads: false,
};

const MEDIA: &str = "application/json";

/// What a deploy changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The root that was active before.
    pub(super) since: Option<Root>,
    /// Every path that holds something else, in order.
    pub(super) all: Vec<Change>,
}

/// Makes the log of a new space.
pub(super) fn install<S: Sql>(sql: &S, space: SpaceId) -> Result<(), SqlError> {
    Engine::install(sql)?;
    let create = Create {
        media_type: Some(MediaType::new(MEDIA)),
        expiry: None,
        expiry_text: None,
        closed: false,
        body: Bytes::new(),
        fork: None,
    };
    let life = Generation::from_bytes(*space.as_bytes());
    let made = Engine::new(sql, KEY, &SHAPE).create(&create, BEGINNING, life);
    made.map(drop)
        .map_err(|refusal| SqlError(refusal.to_string()))
}

/// The log never ends, so it does not matter when it began.
const BEGINNING: Timestamp = Timestamp::from_millis(0);

/// Appends what a deploy changed. Part of the turn that activates it.
pub(super) fn tell<S: Sql>(
    ledger: &Ledger<'_, S>,
    deploy: &DeployView,
    changes: &Changes,
) -> Result<(), Problem> {
    let message = Message {
        deploy: deploy.number,
        root: deploy.root,
        prev_root: changes.since,
        kind: deploy.kind,
        at: deploy.at,
        since: None,
        events: vec![Event::of(
            changes.since.and(Some(&*changes.all)),
            EVENT_PATHS_MAX,
        )],
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

/// Reads the log.
pub(super) fn read<S: Sql>(
    ledger: &Ledger<'_, S>,
    read: &Read,
    now: Timestamp,
) -> Result<Page, Problem> {
    match Engine::new(ledger.sql(), KEY, &SHAPE).look(read, now) {
        Ok(Reading::Page(page)) => Ok(page),
        // Nothing moves this log to cold storage.
        Ok(Reading::Stitch(_)) => Err(Problem::new(Code::Storage, "an event log that is cold")),
        Err(refusal) => Err(failed(&refusal)),
    }
}

/// Reads the log as [`read`] does, but all that lies behind the place as one net message: the
/// difference between the deploy there and the active one.
pub(super) fn read_net<S: Sql>(
    ledger: &Ledger<'_, S>,
    asked: &Read,
    now: Timestamp,
) -> Result<Page, Problem> {
    let tail = read(ledger, &Read { from: From::Now }, now)?;
    let start = match asked.from {
        From::Now => return Ok(tail),
        From::Start => Offset::ZERO,
        From::At(offset) => offset,
    };
    let (from, to) = (start.position(), tail.end.position());
    if from >= to {
        return read(ledger, asked, now);
    }
    let message = net(ledger, from, to, EVENT_PATHS_MAX)?;
    let body = written(&message)?.into();
    Ok(Page {
        start,
        body,
        ..tail
    })
}

/// What deploy `to` changed against deploy `from`; against nothing if that is 0.
pub(super) fn net<S: Sql>(
    ledger: &Ledger<'_, S>,
    from: u64,
    to: u64,
    most: usize,
) -> Result<Message, Problem> {
    let find = |number| {
        let gone = || {
            let detail = format!("deploy {number} is not kept any more");
            Problem::new(Code::EventsGone, detail)
        };
        ledger.deploy(number)?.ok_or_else(gone)
    };
    let after = find(to)?;
    let before = match from {
        0 => None,
        number => Some(find(number)?),
    };
    let changes = before.as_ref().map(|before| before.root);
    let changes = changes.map(|before| diff(ledger, before, ledger, after.root));
    let changes = changes.transpose()?;
    Ok(Message {
        deploy: after.number,
        root: after.root,
        prev_root: before.map(|before| before.root),
        since: Some(from),
        kind: after.kind,
        at: after.at,
        events: vec![Event::of(changes.as_deref(), most)],
    })
}

fn written(message: &Message) -> Result<Vec<u8>, Problem> {
    let failed = |error| Problem::new(Code::Storage, format!("writing an event: {error}"));
    serde_json::to_vec(message).map_err(failed)
}

fn failed(refusal: &Refusal) -> Problem {
    Problem::new(refusal.code(), format!("the event log: {refusal}"))
}
