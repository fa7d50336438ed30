//! Body budget: memory for the bodies of appends, taken as their bytes arrive.
//!
//! A request that announces much and sends little holds little. A small body needs no room at all,
//! so that small appends go on while large ones wait.

use std::sync::Arc;
use std::time::Duration;

use pmx_sync::code::Code;
use pmx_sync::wire::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::host::inbound::Budget;

/// Memory for bodies of requests.
pub(super) struct Room {
    kib: Arc<Semaphore>,
    /// How long a body waits for room before its client is sent away.
    wait: Duration,
}

/// KiB of bodies in memory at once: four of the largest.
const ROOM_KIB: usize = 64 * 1024;

/// Bytes of each body that need no room: 32 MiB on all connections together.
const FREE_BYTES: usize = 64 * 1024;

const WAIT_TIME: Duration = Duration::from_secs(2);

impl Room {
    pub(super) fn new() -> Self {
        Self::waiting(WAIT_TIME)
    }

    fn waiting(wait: Duration) -> Self {
        let kib = Arc::new(Semaphore::new(ROOM_KIB));
        Self { kib, wait }
    }

    /// The part of the room that one body takes.
    pub(super) const fn part(&self) -> Part<'_> {
        Part {
            room: self,
            held: None,
            kib: 0,
        }
    }
}

/// What one body holds of the room, until it is dropped.
pub(super) struct Part<'a> {
    room: &'a Room,
    held: Option<OwnedSemaphorePermit>,
    kib: usize,
}

impl Budget for Part<'_> {
    async fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let kib = bytes.saturating_sub(FREE_BYTES).div_ceil(1024);
        let Some(more) = kib.checked_sub(self.kib).filter(|more| *more > 0) else {
            return Ok(());
        };
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.room.kib).acquire_many_owned(more);
        let Ok(Ok(taken)) = timeout(self.room.wait, taken).await else {
            return Err(full());
        };
        match &mut self.held {
            Some(held) => held.merge(taken),
            None => self.held = Some(taken),
        }
        self.kib = kib;
        Ok(())
    }

    fn is_scarce(&self) -> bool {
        self.kib > 0 && self.room.kib.available_permits() < ROOM_KIB / 2
    }
}

fn full() -> Problem {
    let detail = "the server has no room for the body: too many large ones arrive at once";
    let mut problem = Problem::new(Code::TooMany, detail);
    problem.status = http::StatusCode::SERVICE_UNAVAILABLE.as_u16();
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_taken_as_bytes_arrive_and_given_back() {
        let room = Room::waiting(Duration::from_millis(5));
        let mut parts: Vec<_> = (0..4).map(|_| room.part()).collect();
        for part in &mut parts {
            part.grow(FREE_BYTES).await.unwrap();
            assert!(!part.is_scarce());
        }
        assert_eq!(room.kib.available_permits(), ROOM_KIB);
        for part in &mut parts {
            for bytes in [FREE_BYTES + 1, FREE_BYTES + 1025, 16 << 20] {
                part.grow(bytes).await.unwrap();
            }
        }
        assert_eq!(room.kib.available_permits(), 4 * FREE_BYTES / 1024);
        assert!(parts.iter().all(Budget::is_scarce));
        let mut late = room.part();
        late.grow(FREE_BYTES).await.unwrap();
        let problem = late.grow(16 << 20).await.unwrap_err();
        assert_eq!((problem.status, problem.code), (503, Code::TooMany));
        drop(parts);
        late.grow(16 << 20).await.unwrap();
        drop(late);
        assert_eq!(room.kib.available_permits(), ROOM_KIB);
    }
}
