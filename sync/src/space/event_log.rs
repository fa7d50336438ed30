//! Event log of a space: the one stream in its ledger.

use bytes::Bytes;
use pmx_core::id::SpaceId;
use pmx_core::sql::{Sql, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::limits::{
    STREAM_APPEND_BYTES_MAX, STREAM_CHUNK_BYTES, STREAM_READ_BYTES, STREAM_SEGMENT_BYTES,
    STREAM_SEGMENT_MESSAGES,
};
use pmx_streams::{Create, Engine, EngineConfig, Generation, MediaType};

/// The log's key among the streams of the ledger; it is the only one.
pub(super) const KEY: i64 = 1;

pub(super) const SHAPE: EngineConfig = EngineConfig {
    chunk_bytes: STREAM_CHUNK_BYTES,
    segment_bytes: STREAM_SEGMENT_BYTES,
    segment_messages: STREAM_SEGMENT_MESSAGES,
    read_bytes: STREAM_READ_BYTES,
    append_bytes_max: STREAM_APPEND_BYTES_MAX,
    cold_reads: false,
};

pub(super) const MEDIA: &str = "application/json";

/// The log never ends, so its start time does not matter.
pub(super) const BEGINNING: Timestamp = Timestamp::from_millis(0);

/// Creates the log of a new space.
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

/// Migrates the log of an older space to the schema of streams; a space without a log stays so.
pub(super) fn upgrade<S: Sql>(sql: &S) -> Result<(), SqlError> {
    if Engine::is_installed(sql)? {
        Engine::install(sql)?;
    }
    Ok(())
}
