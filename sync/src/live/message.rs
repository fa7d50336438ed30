//! What a deploy changed, as readers get it.

use serde::{Deserialize, Serialize};

use crate::id::Root;
use crate::manifest::Change;
use crate::site::page_address;
use crate::time::Timestamp;
use crate::wire::DeployKind;

/// One message of a space's event log, or the net of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The deploy that is active after it.
    pub deploy: u64,
    /// Its root.
    pub root: Root,
    /// The root it is compared with.
    pub prev_root: Option<Root>,
    /// In a net message: the deploy it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// How the deploy came to be.
    pub kind: DeployKind,
    /// When.
    pub at: Timestamp,
    /// What changed.
    pub events: Vec<Event>,
}

/// Changes of one kind. `paths` are what a browser asks for; the others are files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "artifacts-changed")]
pub struct Event {
    /// The addresses of all files below, percent-encoded, clean where the site has clean ones.
    pub paths: Vec<String>,
    /// Files that were not there.
    pub added: Vec<String>,
    /// Files that hold something else.
    pub modified: Vec<String>,
    /// Files that are not there any more.
    pub removed: Vec<String>,
    /// Whether more changed than is named.
    pub truncated: bool,
}

impl Event {
    /// What is said of changes, of which at most `most` are named. Where nothing was before, nobody
    /// can tell one by one what is new.
    pub fn of(changes: Option<&[Change]>, most: usize) -> Self {
        let Some(changes) = changes else {
            return Self {
                truncated: true,
                ..Self::default()
            };
        };
        let mut event = Self {
            truncated: changes.len() > most,
            ..Self::default()
        };
        for change in changes.iter().take(most) {
            let file = change.path.as_str().to_owned();
            event.paths.push(page_address(&change.path));
            match (&change.before, &change.after) {
                (None, _) => event.added.push(file),
                (Some(_), None) => event.removed.push(file),
                (Some(_), Some(_)) => event.modified.push(file),
            }
        }
        event
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.truncated
    }
}
