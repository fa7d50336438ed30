//! Snapshot: the history of a space at one moment, as lines of JSON.
//!
//! The first line is the head, each further one a deploy, and the last one the hash of all bytes
//! before it. There is one spelling of a snapshot: a reader refuses every other.

use std::collections::BTreeMap;

use pmx_core::code::Code;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::time::Timestamp;
use pmx_sync::wire::{DeployView, HoldView, RetentionPolicy};
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// The version of the format.
pub const VERSION: u8 = 1;

/// A space at one moment, but for its deploys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotHead {
    /// The version of the format.
    pub v: u8,
    /// The server.
    pub server: String,
    /// The space.
    pub space: SpaceName,
    /// When the client began to read the history.
    pub at: Timestamp,
    /// The number before the first deploy.
    pub base: u64,
    /// The deploy that each preview shows.
    pub aliases: BTreeMap<AliasName, u64>,
    /// When previews end, of those that do.
    pub expires: BTreeMap<AliasName, Timestamp>,
    /// The hold on the active deploy, if there is one.
    pub hold: Option<HoldView>,
    /// The retention policy, if there is one.
    pub policy: Option<RetentionPolicy>,
    /// The domains of the site. A restore does not bring them back: their owners prove them anew.
    pub domains: Vec<String>,
}

/// A deploy and its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedDeploy {
    /// The deploy.
    pub deploy: DeployView,
    /// Its key.
    pub key: String,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sum {
    blake3: String,
}

/// A space at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All but its deploys.
    pub head: SnapshotHead,
    /// All deploys, in the order of their numbers, also those whose content was given up.
    pub deploys: Vec<SavedDeploy>,
}

impl Snapshot {
    /// The active deploy: the newest with content that is no preview.
    pub fn active(&self) -> Option<&DeployView> {
        let deploys = self.deploys.iter().rev().map(|saved| &saved.deploy);
        let mut kept = deploys.filter(|deploy| deploy.content.is_kept());
        kept.find(|deploy| deploy.alias.is_none())
    }

    /// The deploys whose content is kept, newest first.
    pub fn kept(&self) -> impl Iterator<Item = &DeployView> {
        let deploys = self.deploys.iter().rev().map(|saved| &saved.deploy);
        deploys.filter(|deploy| deploy.content.is_kept())
    }

    /// The deploy of a number.
    pub fn deploy(&self, number: u64) -> Option<&DeployView> {
        let at = number.checked_sub(self.head.base)?.checked_sub(1)?;
        let saved = self.deploys.get(usize::try_from(at).ok()?)?;
        Some(&saved.deploy)
    }

    /// Takes out what refers to content that was given up after the head was read.
    pub fn settle(&mut self) {
        let kept: BTreeMap<u64, Option<AliasName>> = self
            .kept()
            .map(|deploy| (deploy.number, deploy.alias.clone()))
            .collect();
        let active = self.active().map(|deploy| deploy.number);
        let head = &mut self.head;
        let shows = |alias: &AliasName, number: &u64| {
            kept.get(number).and_then(Option::as_ref) == Some(alias)
        };
        head.aliases.retain(|alias, number| shows(alias, number));
        let aliases = &head.aliases;
        head.expires.retain(|alias, _| aliases.contains_key(alias));
        head.hold = head.hold.filter(|hold| active == Some(hold.deploy));
    }

    /// The bytes of the snapshot.
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        let spelt = || -> serde_json::Result<Vec<u8>> {
            let mut out = serde_json::to_vec(&self.head)?;
            out.push(b'\n');
            for saved in &self.deploys {
                serde_json::to_writer(&mut out, saved)?;
                out.push(b'\n');
            }
            let blake3 = blake3::hash(&out).to_hex().to_string();
            serde_json::to_writer(&mut out, &Sum { blake3 })?;
            out.push(b'\n');
            Ok(out)
        };
        spelt().map_err(|error| Failure::new(Code::Local, format!("writing a snapshot: {error}")))
    }

    /// Reads the bytes of a snapshot. An `Err` says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let body = checked_body(bytes)?;
        let mut lines = body.split(|&byte| byte == b'\n');
        let head = lines.next().unwrap_or_default();
        let head: SnapshotHead =
            serde_json::from_slice(head).map_err(|error| format!("its head: {error}"))?;
        if head.v != VERSION {
            return Err(format!("it has version {}; update pmx", head.v));
        }
        let mut deploys = Vec::new();
        // The last line end is that of the last deploy.
        for line in lines.filter(|line| !line.is_empty()) {
            let deploy = serde_json::from_slice(line).map_err(|error| format!("a deploy: {error}"));
            deploys.push(deploy?);
        }
        let snapshot = Self { head, deploys };
        snapshot.check()?;
        match snapshot.encode() {
            Ok(spelt) if spelt == bytes => Ok(snapshot),
            Ok(_) | Err(_) => Err("it is spelt in another way than pmx does".to_owned()),
        }
    }

    /// Refuses a history that no space can have.
    fn check(&self) -> Result<(), String> {
        for (saved, before) in self.deploys.iter().zip(self.head.base..) {
            let number = saved.deploy.number;
            if before.checked_add(1) != Some(number) {
                return Err(format!("deploy {number} follows {before}"));
            }
        }
        for (alias, number) in &self.head.aliases {
            let shown = self
                .deploy(*number)
                .filter(|deploy| deploy.content.is_kept() && deploy.alias.as_ref() == Some(alias));
            if shown.is_none() {
                return Err(format!("preview {alias} shows deploy {number}"));
            }
        }
        let mut ends = self.head.expires.keys();
        if let Some(alias) = ends.find(|alias| !self.head.aliases.contains_key(*alias)) {
            return Err(format!("preview {alias} ends and is none"));
        }
        let active = self.active().map(|deploy| deploy.number);
        match self.head.hold {
            Some(hold) if active != Some(hold.deploy) => Err(format!(
                "a hold is on deploy {}, which is not active",
                hold.deploy
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// The bytes before the last line, which is their hash.
fn checked_body(bytes: &[u8]) -> Result<&[u8], String> {
    let inner = bytes.strip_suffix(b"\n").ok_or("it ends too early")?;
    let end = inner.iter().rposition(|&byte| byte == b'\n');
    let (body, last) = bytes.split_at(end.ok_or("it has one line only")? + 1);
    let sum: Sum = serde_json::from_slice(last).map_err(|error| format!("its hash: {error}"))?;
    if blake3::hash(body).to_hex().as_str() != sum.blake3 {
        return Err("its bytes do not have the hash of its last line".to_owned());
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
