//! Unkind-platform controls of a story, and changes to the objects of a stopped Worker.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::json;

use super::{Host, Server, World, skipped, worker_lacks};

impl World {
    /// A world on the Worker with these settings; `None` if it can't run here.
    pub(crate) fn of_worker(host: Host, settings: &[(&str, &str)]) -> Option<Self> {
        match worker_lacks() {
            None => Some(Self::with_settings(host, settings)),
            Some(lack) => {
                skipped("the Worker", lack);
                None
            }
        }
    }

    /// Sum of a counter over all isolates.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let report = self.ask("GET", "", "/.unkind/report", &[], b"").json();
        let isolates = report.as_object().unwrap().values();
        let counts = isolates.filter_map(|isolate| isolate["faults"][name].as_u64());
        counts.sum()
    }

    /// Makes the next operations of a kind fail in an isolate.
    pub(crate) fn fail(&self, isolate: &str, kind: &str, times: u32, words: &str, flag: &str) {
        let plan =
            json!({"kind": kind, "times": times, "message": words, "properties": {flag: true}});
        let (headers, plan) = ([("x-unkind-isolate", isolate)], plan.to_string());
        let planned = self.ask("POST", "", "/.unkind/fail", &headers, plan.as_bytes());
        assert_eq!(planned.status, 200, "{planned:?}");
    }

    /// Kills the server, changes its objects by `between`, and restarts it with settings.
    pub(crate) fn reborn(&mut self, settings: &[(&str, &str)], between: impl FnOnce(&Objects)) {
        let (host, port) = (self.server.host, self.server.port);
        self.server.kill();
        between(&self.objects());
        let data = self.temp.path().join("data");
        self.server = Server::start_with(host, &data, port, settings);
    }

    /// The objects that the runtime stores.
    pub(crate) fn objects(&self) -> Objects {
        Objects {
            folder: self.temp.path().join("data/spaces"),
        }
    }
}

/// The databases of objects, as workerd lays them out.
pub(crate) struct Objects {
    folder: PathBuf,
}

const CLASSES: [&str; 4] = ["SpaceDO", "StreamDO", "HubDO", "DomainsDO"];

impl Objects {
    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let folders = std::fs::read_dir(&self.folder).unwrap().flatten();
        folders.map(|entry| entry.path()).filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            CLASSES.iter().any(|class| name.ends_with(class))
        })
    }

    /// The alarm's time of an object with this name, in milliseconds.
    pub(crate) fn alarm(&self, name: &str) -> Option<u64> {
        let rows = self.folders().flat_map(|folder| alarms(&folder));
        let mut named = rows.filter(|(_, _, known)| known.as_deref() == Some(name));
        named
            .next()
            .map(|(_, nanos, _)| nanos.cast_unsigned() / 1_000_000)
    }

    /// Runs a statement in the database of each existing object of a class.
    pub(crate) fn run_in(&self, class: &str, statement: &str) {
        let all = self.folders();
        let own = all.filter(|folder| folder.to_string_lossy().ends_with(class));
        for entry in own.flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten()) {
            let path = entry.path();
            let is_database = path.extension().is_some_and(|it| it == "sqlite");
            if is_database && !path.ends_with("metadata.sqlite") {
                let own = Connection::open(path).unwrap();
                own.execute_batch(statement).unwrap();
            }
        }
    }

    /// Makes all alarms due. `are_named` decides whether the woken objects have names.
    pub(crate) fn wake_all(&self, are_named: bool) {
        for folder in self.folders() {
            let rows = alarms(&folder);
            let all = Connection::open(folder.join("metadata.sqlite")).unwrap();
            for (id, ..) in rows {
                let own = Connection::open(folder.join(format!("{id}.sqlite"))).unwrap();
                // The times of the object and of the runtime must agree.
                own.execute("UPDATE _cf_METADATA SET value = 1 WHERE key = 1", [])
                    .unwrap();
                all.execute(
                    "UPDATE _cf_ALARM SET scheduled_time = 1 WHERE actor_id = ?",
                    [&id],
                )
                .unwrap();
            }
            if !are_named {
                all.execute("UPDATE _cf_ALARM SET actor_name = NULL", [])
                    .unwrap();
            }
        }
    }
}

/// Ids, times in nanoseconds, and names.
fn alarms(folder: &Path) -> Vec<(String, i64, Option<String>)> {
    let all = Connection::open(folder.join("metadata.sqlite")).unwrap();
    all.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let select = "SELECT actor_id, scheduled_time, actor_name FROM _cf_ALARM";
    let mut select = all.prepare(select).unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.unwrap().map(Result::unwrap).collect()
}
