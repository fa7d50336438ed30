//! Every space has one file and one writer.
//!
//! A command holds its space's turn from its first look at the ledger to its answer, so nothing
//! comes between. Ledgers are opened when they are first needed and a few are kept open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use pmx_sync::channel::Channel;
use pmx_sync::code::Code;
use pmx_sync::name::SpaceName;
use pmx_sync::serve::Spaces;
use pmx_sync::space::{Command, Reply, execute};
use pmx_sync::time::Timestamp;
use pmx_sync::wire::Problem;
use tokio::sync::mpsc::UnboundedSender;

use super::blobs::Folder;
use super::durable;
use super::error::{HostError, disk};
use super::live::ring;
use super::ready::block_on;
use super::sql::Ledger;
use super::streams::topics::Topics;

/// Ledgers as files: `<space>.db`.
pub struct LocalSpaces {
    folder: PathBuf,
    blobs: Arc<Folder>,
    open: Mutex<Shelf>,
    changed: UnboundedSender<SpaceName>,
    topics: Arc<Topics>,
}

impl LocalSpaces {
    /// Opens a folder of ledgers, making it if there is none. Spaces whose outbox may have
    /// something new are named to `changed`.
    pub fn open(
        folder: &Path,
        blobs: Arc<Folder>,
        changed: UnboundedSender<SpaceName>,
    ) -> Result<Self, HostError> {
        durable::make_folder(folder).map_err(disk("make", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            blobs,
            open: Mutex::default(),
            changed,
            topics: Arc::default(),
        })
    }

    /// Those who wait for new deploys.
    pub(crate) const fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// The names of all spaces.
    pub fn names(&self) -> Result<Vec<SpaceName>, HostError> {
        let listed = |folder: &Path| -> io::Result<Vec<SpaceName>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(folder)? {
                let file = entry?.file_name();
                let stem = file.to_str().and_then(|file| file.strip_suffix(".db"));
                // Whatever else lies there is none of ours.
                names.extend(stem.and_then(|stem| SpaceName::parse(stem).ok()));
            }
            Ok(names)
        };
        listed(&self.folder).map_err(disk("list", &self.folder))
    }

    fn call_now(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let file = self.folder.join(format!("{space}.db"));
        let turn = self.turn(space, &file, command.creates())?;
        let announced = command.may_announce().then(|| Channel {
            space: space.clone(),
            alias: command.alias().cloned(),
        });
        let reply = {
            let mut kept = take(&turn);
            let ledger = match &mut *kept {
                Some(ledger) => ledger,
                empty @ None => empty.insert(open_ledger(&file)?),
            };
            block_on(execute(ledger, &*self.blobs, space, command, now))
        };
        if let Some(channel) = announced {
            ring(&self.topics, &channel);
            // Nobody listens only while the host stops; the next start looks at every outbox.
            let _ = self.changed.send(space.clone());
        }
        reply
    }

    fn turn(&self, space: &SpaceName, file: &Path, creates: bool) -> Result<Arc<Turn>, Problem> {
        let mut shelf = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.uses += 1;
        let uses = shelf.uses;
        if let Some(slot) = shelf.slots.get_mut(space) {
            slot.used = uses;
            return Ok(Arc::clone(&slot.turn));
        }
        // Asked before a slot is made, so that names nobody has push no ledger out.
        if !creates && !file.exists() {
            let absent = format!("there is no space {space}");
            return Err(Problem::new(Code::NotFound, absent));
        }
        shelf.make_room();
        let turn = Arc::new(Turn::default());
        let slot = Slot {
            turn: Arc::clone(&turn),
            used: uses,
        };
        shelf.slots.insert(space.clone(), slot);
        Ok(turn)
    }
}

impl Spaces for LocalSpaces {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        // Waiting for the space's turn must not hold up the requests of others on this thread.
        tokio::task::block_in_place(|| self.call_now(space, command, now))
    }
}

/// Ledgers kept open, each with up to 2 MiB of cached pages and three files.
const OPEN_MAX: usize = 24;

/// The right to write to a space, and its ledger once it was opened.
type Turn = Mutex<Option<Ledger>>;

#[derive(Default)]
struct Shelf {
    slots: BTreeMap<SpaceName, Slot>,
    uses: u64,
}

struct Slot {
    turn: Arc<Turn>,
    used: u64,
}

impl Shelf {
    /// Closes the ledger unused for longest, if there are many. One in use is left: a space never
    /// has two.
    fn make_room(&mut self) {
        if self.slots.len() < OPEN_MAX {
            return;
        }
        let idle = self
            .slots
            .iter()
            .filter(|(_, slot)| Arc::strong_count(&slot.turn) == 1);
        let oldest = idle.min_by_key(|(_, slot)| slot.used);
        if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
            self.slots.remove(&oldest);
        }
    }
}

/// Waits for the turn. If whoever had it last panicked, the ledger is opened anew.
fn take(turn: &Turn) -> MutexGuard<'_, Option<Ledger>> {
    turn.lock().unwrap_or_else(|poisoned| {
        turn.clear_poison();
        let mut kept = poisoned.into_inner();
        *kept = None;
        kept
    })
}

fn open_ledger(file: &Path) -> Result<Ledger, Problem> {
    let failed = |why: &dyn std::fmt::Display| {
        let detail = format!("opening the ledger {}: {why}", file.display());
        Problem::new(Code::Storage, detail)
    };
    let fresh = !file.exists();
    let ledger = Ledger::open(file).map_err(|error| failed(&error))?;
    if fresh && let Some(folder) = file.parent() {
        durable::flush_folder(folder).map_err(|error| failed(&error))?;
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use pmx_sync::id::SpaceId;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn spaces(home: &Path) -> LocalSpaces {
        let blobs = Arc::new(Folder::open(&home.join("objects")).unwrap());
        LocalSpaces::open(&home.join("spaces"), blobs, unbounded_channel().0).unwrap()
    }

    fn call(spaces: &LocalSpaces, name: &str, command: Command) -> Result<Reply, Problem> {
        let name = SpaceName::parse(name).unwrap();
        block_on(spaces.call(&name, command, Timestamp::from_millis(1)))
    }

    fn create(fresh: u8) -> Command {
        Command::Open {
            fresh: SpaceId::from_bytes([fresh; 16]),
        }
    }

    #[test]
    fn only_a_creating_command_makes_a_space() {
        let home = tempfile::tempdir().unwrap();
        let spaces = spaces(home.path());
        let refused = call(&spaces, "docs", Command::Undelivered).unwrap_err();
        assert_eq!(refused.code, Code::NotFound);
        assert_eq!(spaces.names().unwrap(), []);
        call(&spaces, "docs", create(1)).unwrap();
        assert_eq!(spaces.names().unwrap(), [SpaceName::parse("docs").unwrap()]);
    }

    #[test]
    fn more_spaces_than_are_kept_open() {
        let home = tempfile::tempdir().unwrap();
        let spaces = spaces(home.path());
        let count = OPEN_MAX as u8 + 3;
        for n in (0..count).chain(0..count) {
            call(&spaces, &format!("s{n}"), create(n)).unwrap();
        }
        assert_eq!(spaces.names().unwrap().len(), usize::from(count));
        assert_eq!(spaces.open.lock().unwrap().slots.len(), OPEN_MAX);
    }

    #[test]
    fn a_panic_in_a_turn_does_not_close_the_space() {
        let home = tempfile::tempdir().unwrap();
        let spaces = spaces(home.path());
        call(&spaces, "docs", create(1)).unwrap();
        let name = SpaceName::parse("docs").unwrap();
        let turn = spaces.turn(&name, Path::new("unused"), false).unwrap();
        let panics = std::panic::AssertUnwindSafe(|| {
            let _turn = take(&turn);
            panic!("on purpose");
        });
        std::panic::catch_unwind(panics).unwrap_err();
        call(&spaces, "docs", create(1)).unwrap();
    }
}
