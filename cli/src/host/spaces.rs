//! Space ledgers on disk: every space has one file and one writer.
//!
//! A command holds its space's lock from its first read of the ledger to its answer, so commands
//! never interleave. The first command opens a ledger, and a few ledgers stay open. A caller on an
//! asynchronous thread waits for the lock without a thread. So any number of callers of one space
//! leave the threads to the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use pmx_core::sql::Sql as _;
use pmx_core::time::Timestamp;
use pmx_sync::serve::{NamesPage, Spaces};
use pmx_sync::space::{Command, Reply, execute};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

use super::blocking::{block_on, blocking, may_block};
use super::durable;
use super::error::{HostError, disk};
use super::live::notify;
use super::objects::Objects;
use super::sql::Database;
use super::streams::broadcast::Topics;

/// Ledgers as files: `<space>.db`.
pub struct LocalSpaces {
    folder: PathBuf,
    blobs: Arc<Objects>,
    open: Mutex<LedgerCache>,
    at_work: Arc<Semaphore>,
    changed: UnboundedSender<SpaceName>,
    topics: Arc<Topics>,
}

impl LocalSpaces {
    /// Opens a folder of ledgers, and creates it if needed. `changed` gets each space whose outbox
    /// may have new entries.
    pub fn open(
        folder: &Path,
        blobs: Arc<Objects>,
        changed: UnboundedSender<SpaceName>,
    ) -> Result<Self, HostError> {
        match durable::make_folder(folder) {
            Err(error) if !durable::is_unwritable(&error) => {
                return Err(disk("make", folder)(error));
            }
            Ok(()) | Err(_) => {}
        }
        Ok(Self {
            folder: folder.to_owned(),
            blobs,
            open: Mutex::default(),
            at_work: Arc::new(Semaphore::new(AT_WORK_MAX)),
            changed,
            topics: Arc::default(),
        })
    }

    /// The topics of readers that wait for new deploys.
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
                // Other files are ignored.
                names.extend(stem.and_then(|stem| SpaceName::parse(stem).ok()));
            }
            Ok(names)
        };
        match listed(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(disk("list", &self.folder)),
        }
    }

    fn space_lock(
        &self,
        space: &SpaceName,
        file: &Path,
        creates: bool,
    ) -> Result<Arc<SpaceLock>, Problem> {
        if let Some(lock) = self.cache().find(space) {
            return Ok(lock);
        }
        // Checked before the cache gets an entry, so that names of missing spaces evict no ledger.
        if !creates && !file.exists() {
            let absent = format!("there is no space {space}");
            return Err(Problem::new(Code::NotFound, absent));
        }
        let (lock, closed) = self.cache().add(space);
        if let Some(closed) = closed {
            close(closed);
        }
        Ok(lock)
    }

    fn cache(&self) -> MutexGuard<'_, LedgerCache> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spaces for LocalSpaces {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        if command.is_changing() {
            self.blobs.check_changes().await?;
        }
        let file = self.folder.join(format!("{space}.db"));
        let lock = self.space_lock(space, &file, command.creates())?;
        let announced = command.may_announce().then(|| Channel {
            space: space.clone(),
            alias: command.alias().cloned(),
        });
        let work = Work {
            file,
            blobs: Arc::clone(&self.blobs),
            space: space.clone(),
            command,
            now,
        };
        let reply = if may_block() {
            let mut kept = lock.lock().await;
            work.run(&mut kept)
        } else {
            let mut kept = lock.lock_owned().await;
            let at_work = Arc::clone(&self.at_work).acquire_owned().await;
            let done = tokio::task::spawn_blocking(move || {
                let reply = blocking(|| work.run(&mut kept));
                drop(at_work);
                reply
            });
            done.await
                .unwrap_or_else(|error| Err(Problem::new(Code::Storage, error.to_string())))
        };
        let removed: &[AliasName] = match &reply {
            Ok(Reply::Expired { removed, .. }) => removed,
            Ok(Reply::SpaceDeleted(removal)) => &removal.previews,
            _ => &[],
        };
        for alias in removed {
            let (space, alias) = (space.clone(), Some(alias.clone()));
            notify(&self.topics, &Channel { space, alias });
        }
        if let Some(channel) = announced {
            notify(&self.topics, &channel);
            // The receiver is gone only while the host stops; the next start checks every outbox.
            let _ = self.changed.send(space.clone());
        }
        reply
    }

    async fn names(&self, after: Option<&str>, most: usize) -> Result<NamesPage, Problem> {
        let listed = Self::names(self);
        let mut names = listed.map_err(|error| Problem::new(Code::Storage, error.to_string()))?;
        names.sort_unstable();
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        let is_last = names.len() <= most;
        names.truncate(most);
        let last = names.last().map(|name| name.as_str().to_owned());
        let next = last.filter(|_| !is_last);
        Ok(NamesPage { names, next })
    }
}

/// A command, and everything that its execution needs.
struct Work {
    file: PathBuf,
    blobs: Arc<Objects>,
    space: SpaceName,
    command: Command,
    now: Timestamp,
}

impl Work {
    /// Executes the command; blocks. After a panic, the next command opens the ledger again.
    fn run(self, kept: &mut Option<Database>) -> Result<Reply, Problem> {
        let (ledger, keep) = match kept.take() {
            Some(ledger) => (ledger, true),
            None => match open_ledger(&self.file) {
                Ok(ledger) => (ledger, true),
                // The next command opens it for writing.
                Err(problem) => (
                    Database::open_read_only(&self.file).map_err(|_| problem)?,
                    false,
                ),
            },
        };
        let Self {
            blobs,
            space,
            command,
            now,
            ..
        } = self;
        let reply = block_on(execute(&ledger, &*blobs, &space, command, now));
        if matches!(reply, Ok(Reply::SpaceDeleted(_))) {
            // Gives the room of all tables back to the disk. Without it, the file is only larger.
            let _ = ledger.run("VACUUM", &[]);
            let _ = ledger.run("PRAGMA wal_checkpoint(TRUNCATE)", &[]);
        }
        *kept = keep.then_some(ledger);
        reply
    }
}

/// Closes a ledger on a thread where its last flush delays no request.
fn close(lock: Arc<SpaceLock>) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(lock))),
        Err(_) => drop(lock),
    }
}

/// Open ledgers, each with up to 2 MiB of cached pages and three files.
const OPEN_MAX: usize = 24;

/// Ledgers in use for callers that wait without a thread: far fewer than the blocking threads.
const AT_WORK_MAX: usize = 8;

/// The right to write to a space, and its ledger after the first use.
type SpaceLock = tokio::sync::Mutex<Option<Database>>;

#[derive(Default)]
struct LedgerCache {
    slots: BTreeMap<SpaceName, Slot>,
    uses: u64,
}

struct Slot {
    lock: Arc<SpaceLock>,
    used: u64,
}

impl LedgerCache {
    fn find(&mut self, space: &SpaceName) -> Option<Arc<SpaceLock>> {
        self.uses += 1;
        let slot = self.slots.get_mut(space)?;
        slot.used = self.uses;
        Some(Arc::clone(&slot.lock))
    }

    /// The lock of a space, and the ledger that must close for it.
    fn add(&mut self, space: &SpaceName) -> (Arc<SpaceLock>, Option<Arc<SpaceLock>>) {
        if let Some(lock) = self.find(space) {
            return (lock, None);
        }
        let closed = self.evict();
        let lock = Arc::new(SpaceLock::default());
        let slot = Slot {
            lock: Arc::clone(&lock),
            used: self.uses,
        };
        self.slots.insert(space.clone(), slot);
        (lock, closed)
    }

    /// Takes out the least recently used ledger, if there are many. It leaves one in use: a space
    /// never has two.
    fn evict(&mut self) -> Option<Arc<SpaceLock>> {
        if self.slots.len() < OPEN_MAX {
            return None;
        }
        let idle = self
            .slots
            .iter()
            .filter(|(_, slot)| Arc::strong_count(&slot.lock) == 1);
        let oldest = idle.min_by_key(|(_, slot)| slot.used);
        let oldest = oldest.map(|(name, _)| name.clone())?;
        self.slots.remove(&oldest).map(|slot| slot.lock)
    }
}

fn open_ledger(file: &Path) -> Result<Database, Problem> {
    let failed = |why: &dyn std::fmt::Display| {
        let detail = format!("opening the ledger {}: {why}", file.display());
        Problem::new(Code::Storage, detail)
    };
    let fresh = !file.exists();
    let ledger = Database::open(file).map_err(|error| failed(&error))?;
    if fresh && let Some(folder) = file.parent() {
        durable::flush_folder(folder).map_err(|error| failed(&error))?;
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use pmx_core::id::SpaceId;
    use tokio::sync::mpsc::unbounded_channel;

    use super::super::blobs::ObjectFolder;
    use super::*;

    fn spaces(home: &Path) -> LocalSpaces {
        let blobs = ObjectFolder::open(&home.join("objects")).unwrap();
        let blobs = Arc::new(Objects::Folder(blobs));
        LocalSpaces::open(&home.join("spaces"), blobs, unbounded_channel().0).unwrap()
    }

    fn call(spaces: &LocalSpaces, name: &str, command: Command) -> Result<Reply, Problem> {
        let name = SpaceName::parse(name).unwrap();
        blocking(|| block_on(spaces.call(&name, command, Timestamp::from_millis(1))))
    }

    fn create(fresh: u8) -> Command {
        Command::Open {
            fresh: SpaceId::from_bytes([fresh; 16]),
        }
    }

    #[test]
    fn space_is_made_by_a_creating_command_only() {
        let home = tempfile::tempdir().unwrap();
        let spaces = spaces(home.path());
        let refused = call(&spaces, "docs", Command::PendingPointers).unwrap_err();
        assert_eq!(refused.code, Code::NotFound);
        assert_eq!(spaces.names().unwrap(), []);
        call(&spaces, "docs", create(1)).unwrap();
        assert_eq!(spaces.names().unwrap(), [SpaceName::parse("docs").unwrap()]);
    }

    #[test]
    fn ledger_cache_reopens_closed_spaces() {
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
    fn panic_in_a_turn_does_not_close_the_space() {
        let home = tempfile::tempdir().unwrap();
        let spaces = spaces(home.path());
        call(&spaces, "docs", create(1)).unwrap();
        let name = SpaceName::parse("docs").unwrap();
        let lock = spaces
            .space_lock(&name, Path::new("unused"), false)
            .unwrap();
        let panics = std::panic::AssertUnwindSafe(|| {
            let mut kept = block_on(lock.lock());
            let _ledger = kept.take();
            panic!("on purpose");
        });
        std::panic::catch_unwind(panics).unwrap_err();
        call(&spaces, "docs", create(1)).unwrap();
    }

    /// With one thread that may block and a space whose lock is taken, callers of another space
    /// still get their answers.
    #[test]
    fn space_lock_takes_no_thread_of_callers_that_wait() {
        let home = tempfile::tempdir().unwrap();
        let spaces = Arc::new(spaces(home.path()));
        for name in ["docs", "blog"] {
            call(&spaces, name, create(1)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let name = |text: &str| SpaceName::parse(text).unwrap();
        let lock = spaces
            .space_lock(&name("docs"), Path::new("unused"), false)
            .unwrap();
        runtime.block_on(async {
            let taken = lock.lock_owned().await;
            let ask = |space: SpaceName| {
                let spaces = Arc::clone(&spaces);
                tokio::spawn(async move {
                    let now = Timestamp::from_millis(1);
                    spaces.call(&space, Command::PendingPointers, now).await
                })
            };
            let waiting: Vec<_> = (0..100).map(|_| ask(name("docs"))).collect();
            for _ in 0..3 {
                let answered = tokio::time::timeout(ANSWER_TIME, ask(name("blog"))).await;
                answered.unwrap().unwrap().unwrap();
            }
            drop(taken);
            for waiting in waiting {
                waiting.await.unwrap().unwrap();
            }
        });
    }

    const ANSWER_TIME: std::time::Duration = std::time::Duration::from_secs(20);
}
