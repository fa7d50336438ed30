//! Reading a stream.

use super::call::Read;
use super::cold::Cold;
use super::engine::Engine;
use super::reply::{Page, Refusal, View};
use crate::sql::Sql;
use crate::time::Timestamp;

/// What a read comes to without leaving the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Page(Page),
    /// Part of it lies in cold storage: [`Stitch::fetch`] makes the page.
    Stitch(Stitch),
}

/// A page that begins in cold storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stitch {
    page: Page,
}

impl Stitch {
    /// Reads what is cold and joins it with what is hot.
    pub async fn fetch<C: Cold>(self, _cold: &C) -> Result<Page, Refusal> {
        Ok(self.page)
    }
}

impl<S: Sql> Engine<'_, S> {
    /// What is known of the stream. Never slides its time to live.
    pub fn head(&self, _now: Timestamp) -> Result<View, Refusal> {
        Err(Refusal::Unknown)
    }

    /// Reads, and slides the time to live: [`Engine::look`] and, where due, [`Engine::slide`].
    pub fn read(&self, call: &Read, now: Timestamp) -> Result<Reading, Refusal> {
        let reading = self.look(call, now)?;
        self.slide(now)?;
        Ok(reading)
    }

    /// Reads without writing anything.
    pub fn look(&self, _call: &Read, _now: Timestamp) -> Result<Reading, Refusal> {
        Err(Refusal::Unknown)
    }

    /// Whether [`Engine::slide`] would write anything: rarely.
    pub fn slides(&self, _now: Timestamp) -> Result<bool, Refusal> {
        Err(Refusal::Unknown)
    }

    /// Slides the time to live.
    pub fn slide(&self, _now: Timestamp) -> Result<(), Refusal> {
        Err(Refusal::Unknown)
    }
}
