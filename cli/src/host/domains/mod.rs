//! Custom domains on the embedded host: a durable registry, with its routes in memory.
//!
//! The registry is in `access.db`, which, unlike `host.db`, is no cache: nothing restores it. One
//! connection executes its commands. Page views read the routes in memory and wait for no command.

mod alarm;
mod doh;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use pmx_core::backend::BackendError;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::domains::{
    CustomHost, DomainCommand, DomainRegistry, DomainReply, Resolver, Route, execute,
};
use pmx_sync::serve::DomainRoutes;
use tokio::sync::Notify;

pub(super) use alarm::watch_domains;
pub use doh::{DohUrl, InvalidDohUrl};

use super::access_log::Log;
use super::sql::Database;
use doh::DohClient;

/// The domains of all spaces.
pub(crate) struct LocalDomains {
    path: PathBuf,
    /// The registry's connection; `None` before its first use.
    registry: Mutex<Option<Database>>,
    routes: Arc<RouteTable>,
    resolver: DohClient,
    /// Wakes the alarm after a command that may change when a record is due.
    changed: Notify,
}

impl LocalDomains {
    /// Opens the registry, if there is one, and reads its routes. A registry that cannot be opened
    /// closes the domains, and nothing else.
    pub(crate) fn open(data: &Path, resolver: DohUrl, log: Log) -> Self {
        let domains = Self {
            path: data.join("access.db"),
            registry: Mutex::default(),
            routes: Arc::default(),
            resolver: DohClient::new(resolver),
            changed: Notify::new(),
        };
        if domains.path.exists()
            && let Err(problem) = domains.load()
        {
            log.fault("opening access.db, whose domains show nothing", &problem);
        }
        domains
    }

    /// The routes, as page views read them.
    pub(crate) const fn routes(&self) -> &Arc<RouteTable> {
        &self.routes
    }

    fn load(&self) -> Result<(), Problem> {
        let now = super::now();
        match self.run(DomainCommand::Routes, now)? {
            DomainReply::Routes(routes) => self.routes.set(routes),
            other => return Err(foreign(&other)),
        }
        self.deliver(now)
    }

    /// Brings the routes in memory up to date.
    fn deliver(&self, now: Timestamp) -> Result<(), Problem> {
        loop {
            let routes = match self.run(DomainCommand::PendingRoutes, now)? {
                DomainReply::Routes(routes) if routes.is_empty() => return Ok(()),
                DomainReply::Routes(routes) => routes,
                other => return Err(foreign(&other)),
            };
            self.routes.set(routes.clone());
            for (host, route) in routes {
                self.run(DomainCommand::AckRoute { host, route }, now)?;
            }
        }
    }

    fn run(&self, command: DomainCommand, now: Timestamp) -> Result<DomainReply, Problem> {
        let mut kept = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match kept.take() {
            Some(database) => database,
            None => self.database()?,
        };
        let reply = execute(&database, command, now);
        *kept = Some(database);
        reply
    }

    fn database(&self) -> Result<Database, Problem> {
        let opened = Database::open(&self.path);
        let opened =
            opened.or_else(|error| Database::open_read_only(&self.path).map_err(|_| error));
        opened.map_err(|error| {
            let detail = format!("opening {}: {error}", self.path.display());
            Problem::new(Code::Storage, detail)
        })
    }
}

impl DomainRegistry for LocalDomains {
    async fn call(&self, command: DomainCommand, now: Timestamp) -> Result<DomainReply, Problem> {
        // A host without any domain keeps its data folder as it is.
        let is_reading = matches!(command, DomainCommand::List { .. } | DomainCommand::Due);
        if is_reading && !self.path.exists() {
            let (server, claims) = (None, Vec::new());
            return Ok(DomainReply::Claims { server, claims });
        }
        let reply = self.run(command, now)?;
        self.deliver(now)?;
        if !is_reading {
            self.changed.notify_one();
        }
        Ok(reply)
    }
}

impl DomainRoutes for LocalDomains {
    async fn route(&self, host: &CustomHost, _: Timestamp) -> Result<Option<Route>, BackendError> {
        Ok(self.routes.find(host))
    }
}

impl Resolver for LocalDomains {
    async fn exchange(&self, query: Bytes) -> Result<Bytes, BackendError> {
        self.resolver.exchange(query)
    }
}

/// The routes of all custom hosts. The registry bounds their number.
#[derive(Debug, Default)]
pub(crate) struct RouteTable(RwLock<HashMap<CustomHost, Route>>);

impl RouteTable {
    /// The route of a host.
    pub(crate) fn find(&self, host: &CustomHost) -> Option<Route> {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(host).cloned()
    }

    fn set(&self, routes: Vec<(CustomHost, Option<Route>)>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (host, route) in routes {
            match route {
                Some(route) => known.insert(host, route),
                None => known.remove(&host),
            };
        }
    }
}

fn foreign(reply: &DomainReply) -> Problem {
    let detail = format!("the registry of domains answered another question: {reply:?}");
    Problem::new(Code::Storage, detail)
}
