//! pmx contender: the real client and the real host, with a counting relay between them.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pmx_core::name::SpaceName;
use pmx_sync::push::Mode;
use pmx_sync::scan::{Collisions, Secrets};
use pmx_sync::serve::LivePages;

use super::report::{BodyBytes, Cost};
use super::wire::Wire;
use super::{Contender, Version};
use crate::args::{Compression, OutputArgs, ScanArgs};
use crate::cache::CacheFolder;
use crate::client::publish::Terms;
use crate::config::{FolderConfig, Layers, SiteConfig};
use crate::env::Environment;
use crate::error::Failure;
use crate::host::{Host, HostConfig, Log, Running, StreamConfig};
use crate::interrupt::Interrupt;
use crate::run::Context;
use crate::run::sync::SyncJob;
use crate::source_tree::AllowEmpty;
use crate::token::Token;
use crate::trust::Trust;
use crate::ui::Ui;

/// A host in a temporary folder, behind a counting relay.
pub(super) struct BenchServer {
    running: Running,
    wire: Wire,
}

impl BenchServer {
    /// Starts the host.
    pub(super) fn start(work: &Path) -> Result<Self, Failure> {
        let running = Host::start(HostConfig {
            data: work.join("host"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            domain: "localhost".to_owned(),
            home: None,
            api_host: None,
            public_url: None,
            proxies: Vec::new(),
            publish_secret: None,
            streams: StreamConfig::of(&Environment::default())?,
            live: LivePages::Chosen,
            shows_rules: false,
            country_header: None,
            pointer_lag: None,
            tls: Vec::new(),
            resolver: crate::host::DohUrl::default(),
            lease: pmx_sync::space::LEASE,
            objects: None,
            log: Log::Quiet,
        })?;
        let wire = Wire::to(running.addr())
            .map_err(|error| Failure::local("can't listen for", &work.join("host"), &error))?;
        Ok(Self { running, wire })
    }

    fn site(&self, space: &str) -> Result<SiteConfig, Failure> {
        Ok(SiteConfig {
            server: crate::server::ServerUrl::parse(&self.wire.url())?,
            space: SpaceName::parse(space)?,
            token: Some(Token::parse(self.running.publish_secret())?),
            trust: Trust::default(),
        })
    }
}

/// The client's cache of earlier publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// The whole cache.
    Kept,
    /// No cache, as on a fresh machine.
    None,
}

/// The pmx client as a contender.
pub(super) struct Ours {
    server: Rc<BenchServer>,
    site: SiteConfig,
    memory: Memory,
    compression: Compression,
    caches: PathBuf,
    publishes: Cell<u32>,
    layers: Layers,
    interrupt: Interrupt,
    quiet: Ui,
}

impl Ours {
    /// A client with a space and a cache of its own.
    pub(super) fn new(
        server: &Rc<BenchServer>,
        (memory, compression): (Memory, Compression),
        work: &Path,
        context: &Context<'_>,
    ) -> Result<Self, Failure> {
        let space = match memory {
            Memory::Kept => "kept",
            Memory::None => "fresh",
        };
        let output = OutputArgs {
            quiet: true,
            ..OutputArgs::default()
        };
        Ok(Self {
            server: Rc::clone(server),
            site: server.site(space)?,
            memory,
            compression,
            caches: work.join("caches").join(space),
            publishes: Cell::new(0),
            layers: context.layers.clone(),
            interrupt: context.interrupt.clone(),
            quiet: Ui::new(&output, &Environment::default()),
        })
    }

    /// The cache folder of the next publish.
    fn cache(&self) -> CacheFolder {
        let number = match self.memory {
            Memory::Kept => 0,
            Memory::None => self.publishes.replace(self.publishes.get() + 1),
        };
        CacheFolder::at(&self.caches.join(number.to_string()))
    }

    fn job(&self, folder: &Path) -> SyncJob {
        let folder = FolderConfig {
            dir: folder.to_owned(),
            exclude: Vec::new(),
            // The reading of the versions has refused or allowed them already.
            collisions: Collisions::Allow,
            secrets: Secrets::Allow,
            path: None,
            settings: None,
        };
        let terms = Terms::plain(Mode::Publish, self.compression);
        let site = self.site.clone();
        SyncJob::new(folder, ScanArgs::default(), site, terms, AllowEmpty::Yes)
    }
}

impl Contender for Ours {
    fn publish(&mut self, version: &Version<'_>) -> Result<Cost, Failure> {
        let context = Context {
            ui: &self.quiet,
            layers: self.layers.clone(),
            cache: self.cache(),
            interrupt: self.interrupt.clone(),
        };
        let job = self.job(version.folder);
        let client = job.client(&context);
        self.server.wire.take();
        let traffic = job.once(&client, &context)?.traffic();
        drop(client);
        let passed = self.server.wire.take();
        Ok(Cost {
            sent: passed.sent,
            received: passed.received,
            requests: Some(passed.requests),
            files: None,
            bodies: Some(BodyBytes {
                sent: traffic.sent,
                received: traffic.received,
            }),
        })
    }
}
