//! What each deploy changed, told in the turn that made it active.
//!
//! The log is a JSON stream of its own in the space's ledger, one message a deploy. So its offsets
//! are the deploys' numbers: whoever was served deploy 7 and reads on from offset 7 misses nothing
//! and repeats nothing.

use bytes::Bytes;
use serde::Serialize;

use super::ledger::Ledger;
use crate::code::Code;
use crate::id::{Root, SpaceId};
use crate::limits::{
    EVENT_PATHS_MAX, STREAM_APPEND_BYTES_MAX, STREAM_CHUNK_BYTES, STREAM_READ_BYTES,
    STREAM_SEGMENT_BYTES, STREAM_SEGMENT_MESSAGES,
};
use crate::manifest::Change;
use crate::site::page_address;
use crate::sql::{Sql, SqlError};
use crate::stream::{
    Append, Create, Engine, Generation, MediaType, Page, Read, Reading, Refusal, Shape,
};
use crate::time::Timestamp;
use crate::wire::{DeployKind, DeployView, Problem};

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

/// One message of the log.
#[derive(Serialize)]
struct Message<'a> {
    deploy: u64,
    root: Root,
    prev_root: Option<Root>,
    kind: DeployKind,
    at: Timestamp,
    events: [Event<'a>; 1],
}

/// `paths` are what a browser asks for; the others are files.
#[derive(Serialize)]
#[serde(tag = "type", rename = "artifacts-changed")]
struct Event<'a> {
    paths: Vec<String>,
    added: Vec<&'a str>,
    modified: Vec<&'a str>,
    removed: Vec<&'a str>,
    truncated: bool,
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
        events: [event(changes)],
    };
    let body = serde_json::to_vec(&message)
        .map_err(|error| Problem::new(Code::Storage, format!("writing an event: {error}")))?;
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

/// What is said of changes. Where nothing was before, nobody can tell one by one what is new.
fn event(changes: &Changes) -> Event<'_> {
    let mut event = Event {
        paths: Vec::new(),
        added: Vec::new(),
        modified: Vec::new(),
        removed: Vec::new(),
        truncated: changes.since.is_none() || changes.all.len() > EVENT_PATHS_MAX,
    };
    for change in changes.all.iter().take(EVENT_PATHS_MAX) {
        let file = change.path.as_str();
        event.paths.push(page_address(&change.path));
        match (&change.before, &change.after) {
            (None, _) => event.added.push(file),
            (Some(_), None) => event.removed.push(file),
            (Some(_), Some(_)) => event.modified.push(file),
        }
    }
    event
}

fn failed(refusal: &Refusal) -> Problem {
    Problem::new(refusal.code(), format!("the event log: {refusal}"))
}
