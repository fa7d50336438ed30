//! Log reader: one JSON object per line of a server's log.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::world::{World, eventually};

/// Counts of operations, by name.
pub(crate) type Costs = BTreeMap<String, u64>;

/// Reads the lines that the Worker logged since the last read.
pub(crate) struct AccessLog {
    read: usize,
    marks: usize,
    /// The most memory that the module had, in bytes.
    pub(crate) memory: u64,
}

impl AccessLog {
    /// A log that skips all lines so far.
    pub(crate) fn new(world: &World) -> Self {
        let mut log = Self {
            read: 0,
            marks: 0,
            memory: 0,
        };
        log.lines(world);
        log
    }

    /// The new lines, up to that of a request that marks the end. The request costs nothing, and
    /// its line includes the operations of alarms since the last read.
    pub(crate) fn lines(&mut self, world: &World) -> Vec<Value> {
        self.marks += 1;
        let marker = format!("/marker-{}\"", self.marks);
        world.get("", marker.trim_end_matches('"'));
        let mut text = String::new();
        eventually("the log reaches its marker", || {
            text = fs::read_to_string(world.temp.path().join("data.log")).unwrap();
            text.find(&marker)
                .is_some_and(|at| text[at..].contains('\n'))
        });
        let at = text.find(&marker).unwrap();
        let end = at + text[at..].find('\n').unwrap();
        let new = text[self.read..end].lines();
        let new = new.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let new: Vec<Value> = new.collect();
        let memory = new.iter().filter_map(|line| line["memory"].as_u64());
        self.memory = memory.fold(self.memory, u64::max);
        self.read = end;
        new
    }

    /// The operations until a deploy is visible to readers, which may take a second because of KV.
    pub(crate) fn announced(&mut self, world: &World) -> Costs {
        let mut all = Costs::new();
        eventually("KV is written", || {
            for (name, count) in self.costs(world) {
                *all.entry(name).or_default() += count;
            }
            all.contains_key("kv_write")
        });
        all
    }

    /// The operations of the new lines.
    pub(crate) fn costs(&mut self, world: &World) -> Costs {
        let mut costs = Costs::new();
        for line in self.lines(world) {
            for (name, count) in line["ops"].as_object().into_iter().flatten() {
                *costs.entry(name.clone()).or_default() += count.as_u64().unwrap();
            }
        }
        costs
    }
}
