//! Local backend: a folder, a table and a ledger for each space.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_sync::serve::{Backend, Spaces as _};
use pmx_sync::space::{Command, Reply};
use tokio::sync::mpsc::UnboundedSender;

use super::access_log::Log;
use super::blocking::{block_on, blocking};
use super::domains::{DohUrl, LocalDomains};
use super::error::HostError;
use super::objects::Objects;
use super::pointers::{PointerTable, TableState};
use super::spaces::LocalSpaces;

/// The three ports, over a data folder.
pub(crate) struct LocalBackend {
    pub(crate) blobs: Arc<Objects>,
    pointers: PointerTable,
    pub(crate) spaces: LocalSpaces,
    pub(crate) domains: LocalDomains,
}

impl LocalBackend {
    /// Opens existing stores and creates missing ones. The spaces' ledgers restore lost pointers.
    pub(crate) fn open(
        data: &Path,
        blobs: Arc<Objects>,
        changed: UnboundedSender<SpaceName>,
        pointer_lag: Option<Duration>,
        resolver: DohUrl,
        log: Log,
    ) -> Result<Self, HostError> {
        let path = data.join("host.db");
        let opened = PointerTable::open(&path);
        let (pointers, found) = opened.map_err(|source| HostError::Schema { path, source })?;
        let local = Self {
            pointers: pointers.lagging(pointer_lag),
            spaces: LocalSpaces::open(&data.join("spaces"), Arc::clone(&blobs), changed)?,
            domains: LocalDomains::open(data, resolver, log),
            blobs,
        };
        match &found {
            TableState::Whole => return Ok(local),
            TableState::New => {}
            TableState::Damaged(why) => log.fault("opening host.db, which is made anew", why),
            TableState::Unwritable(why) => {
                log.fault("opening host.db, which is kept in memory", why);
            }
        }
        let mut whole = true;
        for space in local.spaces.names()? {
            if let Err(problem) = blocking(|| local.restore(&space)) {
                log.fault(&format!("restoring the pointers of {space}"), &problem);
                whole = false;
            }
        }
        if whole && let Err(error) = local.pointers.complete() {
            log.fault("completing host.db", &error);
        }
        Ok(local)
    }

    /// Restores the pointers of a space and of its previews.
    fn restore(&self, space: &SpaceName) -> Result<(), Problem> {
        let now = super::now();
        let ask = |command| block_on(self.spaces.call(space, command, now));
        let list = Command::Deploys {
            before: None,
            limit: 1,
            backup: false,
        };
        let listed = match ask(list) {
            // The space was deleted.
            Err(problem) if problem.code == Code::NotFound => return Ok(()),
            listed => listed?,
        };
        let Reply::Deploys {
            active, aliases, ..
        } = listed
        else {
            return Ok(());
        };
        let own = (active > 0).then_some((None, Selector::Active));
        let previews = aliases.into_keys();
        let previews = previews.map(|alias| (Some(alias.clone()), Selector::Alias(alias)));
        for (alias, deploy) in own.into_iter().chain(previews) {
            if let Reply::Pointer(pointer) = ask(Command::Locate { deploy })? {
                let space = space.clone();
                self.pointers.restore(&Channel { space, alias }, &pointer);
            }
        }
        Ok(())
    }
}

impl Backend for LocalBackend {
    type Blobs = Objects;
    type Pointers = PointerTable;
    type Spaces = LocalSpaces;
    type Domains = LocalDomains;

    fn blobs(&self) -> &Objects {
        &self.blobs
    }

    fn pointers(&self) -> &PointerTable {
        &self.pointers
    }

    fn spaces(&self) -> &LocalSpaces {
        &self.spaces
    }

    fn domains(&self) -> &LocalDomains {
        &self.domains
    }
}
