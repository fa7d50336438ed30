//! Verification messages: what a step of a verification checks and finds, on the wire.

use std::fmt;

use pmx_core::code::Code;
use pmx_core::id::{NodeId, ObjectId};
use pmx_core::problem::Problem;
use serde::{Deserialize, Serialize};

use crate::limits::VERIFY_GROUPS_MAX;

/// Where a step begins. A client passes on what the step before answered.
///
/// As text: `nodes`, `nodes-<id>` behind a node, `objects`, or `objects-<id>-<n>` behind an object
/// and so many checks of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VerifyCursor {
    /// Behind this node; `None` for the first one.
    Nodes(Option<NodeId>),
    /// Behind this object, and behind so many checks of the next one.
    Objects(Option<ObjectId>, u64),
}

impl VerifyCursor {
    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        read(text).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            let detail = format!("{shown:?} is no place to go on from");
            Problem::new(Code::RequestMalformed, detail)
        })
    }
}

fn read(text: &str) -> Option<VerifyCursor> {
    match text.split('-').collect::<Vec<_>>()[..] {
        ["nodes"] => Some(VerifyCursor::Nodes(None)),
        ["nodes", id] => Some(VerifyCursor::Nodes(Some(NodeId::from_hex(id).ok()?))),
        ["objects"] => Some(VerifyCursor::Objects(None, 0)),
        ["objects", id, skip] => {
            let id = match id {
                "" => None,
                id => Some(ObjectId::from_hex(id).ok()?),
            };
            Some(VerifyCursor::Objects(id, skip.parse().ok()?))
        }
        _ => None,
    }
}

impl fmt::Display for VerifyCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(None) => f.write_str("nodes"),
            Self::Nodes(Some(id)) => write!(f, "nodes-{id}"),
            Self::Objects(None, 0) => f.write_str("objects"),
            Self::Objects(None, skip) => write!(f, "objects--{skip}"),
            Self::Objects(Some(id), skip) => write!(f, "objects-{id}-{skip}"),
        }
    }
}

/// The objects whose bytes are read and hashed: one of `groups` groups, by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyData {
    /// The group, from 1.
    pub group: u64,
    /// The number of groups.
    pub groups: u64,
}

impl VerifyData {
    /// Every object.
    pub const ALL: Self = Self {
        group: 1,
        groups: 1,
    };

    /// A group of objects; refuses one that does not exist.
    pub fn of(group: u64, groups: u64) -> Result<Self, Problem> {
        if groups <= VERIFY_GROUPS_MAX && (1..=groups).contains(&group) {
            return Ok(Self { group, groups });
        }
        let detail = format!(
            "group {group} of {groups}: there are up to {VERIFY_GROUPS_MAX} groups, counted from 1"
        );
        Err(Problem::new(Code::RequestMalformed, detail))
    }

    /// Whether an object is in the group.
    pub const fn has(self, object: &ObjectId) -> bool {
        let [first, second, ..] = *object.as_bytes();
        u16::from_be_bytes([first, second]) as u64 % self.groups == self.group - 1
    }
}

/// The answer of `POST /api/spaces/<name>/verify`: what one step checked and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReply {
    /// Manifest nodes whose index nodes were read.
    pub nodes: u64,
    /// Objects that were looked for.
    pub objects: u64,
    /// Blobs and parts that were read and hashed.
    pub blobs: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// What is not as it should be.
    pub faults: Vec<VerifyFault>,
    /// With the last step: kept deploys that lack content, as far as the space knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<u64>,
    /// Where the next step begins; `None` if this was the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyFault {
    /// What: `node <id>`, `object <id>`, `blob <id>`, or `deploy <number>`.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_were_written() {
        let (node, object) = (NodeId::of(b"node"), ObjectId::from_bytes([7; 16]));
        for cursor in [
            VerifyCursor::Nodes(None),
            VerifyCursor::Nodes(Some(node)),
            VerifyCursor::Objects(None, 0),
            VerifyCursor::Objects(None, 3),
            VerifyCursor::Objects(Some(object), 0),
            VerifyCursor::Objects(Some(object), 12),
        ] {
            assert_eq!(VerifyCursor::parse(&cursor.to_string()).unwrap(), cursor);
        }
        for bad in [
            "",
            "nodes-",
            "nodes-12",
            "objects-12-0",
            "objects-",
            "blobs",
        ] {
            assert!(VerifyCursor::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_object_is_in_one_group() {
        assert!(VerifyData::of(0, 7).is_err() && VerifyData::of(8, 7).is_err());
        assert!(VerifyData::of(1, 0).is_err());
        for byte in 0..=255 {
            let object = ObjectId::from_bytes([byte; 16]);
            let groups = (1..=7).filter(|n| VerifyData::of(*n, 7).unwrap().has(&object));
            assert_eq!(groups.count(), 1);
            assert!(VerifyData::ALL.has(&object));
        }
    }
}
