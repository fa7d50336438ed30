//! Verification messages: what a step of a verification checks and finds, on the wire.

use std::fmt;

use pmx_core::code::Code;
use pmx_core::id::{NodeId, ObjectId};
use pmx_core::problem::Problem;
use serde::{Deserialize, Serialize};

use crate::limits::VERIFY_GROUPS_MAX;

/// Where a step begins. A client passes on what the step before answered.
///
/// As text: `nodes` or `objects`, then `-<id>` if the step begins behind a node or an object, or
/// `-<id>-<n>` if it begins behind so many checks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VerifyCursor {
    /// At the nodes, or among them.
    Nodes(Option<Reached<NodeId>>),
    /// At the objects, or among them.
    Objects(Option<Reached<ObjectId>>),
}

/// What the step before checked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached<I> {
    /// The node or object.
    pub id: I,
    /// How many of its checks are done; `None` for all.
    pub checks: Option<u64>,
}

impl<I> Reached<I> {
    /// All of a node or object.
    pub const fn all(id: I) -> Self {
        Self { id, checks: None }
    }
}

impl<I: PartialEq> Reached<I> {
    /// The checks of `id` that are done already.
    pub fn done_of(this: Option<&Self>, id: &I) -> u64 {
        let same = this.filter(|reached| reached.id == *id);
        same.and_then(|reached| reached.checks).unwrap_or_default()
    }
}

impl VerifyCursor {
    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let cursor = read(text).filter(|cursor| cursor.to_string() == text);
        cursor.ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            let detail = format!("{shown:?} is no place to go on from");
            Problem::new(Code::RequestMalformed, detail)
        })
    }
}

fn read(text: &str) -> Option<VerifyCursor> {
    let mut words = text.split('-');
    let (stage, id, checks) = (words.next()?, words.next(), words.next());
    let checks = checks.map(|checks| checks.parse().ok());
    let checks = match checks {
        Some(number) => Some(number?),
        None => None,
    };
    if words.next().is_some() {
        return None;
    }
    match (stage, id) {
        ("nodes", None) => Some(VerifyCursor::Nodes(None)),
        ("objects", None) => Some(VerifyCursor::Objects(None)),
        ("nodes", Some(id)) => {
            let id = NodeId::from_hex(id).ok()?;
            Some(VerifyCursor::Nodes(Some(Reached { id, checks })))
        }
        ("objects", Some(id)) => {
            let id = ObjectId::from_hex(id).ok()?;
            Some(VerifyCursor::Objects(Some(Reached { id, checks })))
        }
        _ => None,
    }
}

impl fmt::Display for VerifyCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(reached) => written(f, "nodes", reached.as_ref()),
            Self::Objects(reached) => written(f, "objects", reached.as_ref()),
        }
    }
}

fn written<I: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    stage: &str,
    reached: Option<&Reached<I>>,
) -> fmt::Result {
    f.write_str(stage)?;
    let Some(Reached { id, checks }) = reached else {
        return Ok(());
    };
    write!(f, "-{id}")?;
    checks.map_or(Ok(()), |checks| write!(f, "-{checks}"))
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
        let checks = Some(12);
        for cursor in [
            VerifyCursor::Nodes(None),
            VerifyCursor::Nodes(Some(Reached::all(node))),
            VerifyCursor::Nodes(Some(Reached { id: node, checks })),
            VerifyCursor::Objects(None),
            VerifyCursor::Objects(Some(Reached::all(object))),
            VerifyCursor::Objects(Some(Reached { id: object, checks })),
        ] {
            assert_eq!(VerifyCursor::parse(&cursor.to_string()).unwrap(), cursor);
        }
        let good = format!("objects-{object}-1");
        for bad in [
            "",
            "nodes-",
            "nodes-12",
            "objects-12-0",
            "objects-",
            "objects--3",
            "blobs",
        ] {
            assert!(VerifyCursor::parse(bad).is_err(), "{bad}");
        }
        for bad in ["-2", "2-", ".", "+"] {
            assert!(
                VerifyCursor::parse(&format!("{good}{bad}")).is_err(),
                "{bad}"
            );
        }
        assert!(VerifyCursor::parse(&format!("objects-{object}-+1")).is_err());
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
