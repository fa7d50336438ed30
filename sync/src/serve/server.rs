//! Server state: the settings of a server over a platform, and what it keeps in memory.

use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::domain::Domain;
use pmx_core::id::{BlobId, SpaceId};
use pmx_core::name::SpaceName;
use pmx_core::time::Timestamp;

use super::backend::Backend;
use super::caches::{Bodies, Differences, Verdicts};
use super::codecs::Codecs;
use super::loss_reports::LossReports;
use super::pointer_answers::Newest;
use super::questions::QuestionBudget;
use super::revalidation_limiter::RevalidationLimiter;
use super::token::DeployTokens;
use crate::bounded_cache::BoundedCache;
use crate::index::Index;
use crate::live::ChangeMessage;
use crate::pointer::Pointer;
use crate::site::{Hosts, SniffedContent};

/// The operator's decisions.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The hosts of the API and of sites.
    pub hosts: Hosts,
    /// The token that may publish; without one the publish API is closed.
    pub publish_secret: Option<String>,
    /// How to spell the address of a site.
    pub urls: SiteUrls,
    /// Which pages receive change events.
    pub live: LivePages,
    /// Whether differences to what browsers kept get to them.
    pub dictionaries: DictionaryPolicy,
    /// How long uploads wait for their commit.
    pub lease: Duration,
    /// Files of a site that the platform's memory has room for.
    pub files_max: u64,
    /// Raw bytes of a patch or of nodes in one request that it has room for.
    pub section_raw_bytes_max: usize,
}

/// What becomes of Compression Dictionary Transport (RFC 9842) between the server and browsers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DictionaryPolicy {
    /// Whatever lies between passes its headers and its coding on.
    Passed,
    /// It does not, or this is unknown.
    Stopped,
}

/// Which pages get the live script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LivePages {
    /// Those of deploys that were published so.
    Chosen,
    /// All.
    All,
}

/// How to spell the address of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteUrls {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The port, if it is not the scheme's own.
    pub port: Option<u16>,
}

/// The server of all spaces of one platform.
pub struct Server<B> {
    backend: B,
    pub(super) settings: ServerSettings,
    index: Index,
    bodies: Bodies,
    verdicts: Verdicts,
    marks: LossReports,
    differences: Differences,
    pinned: Pinned,
    unnumbered: Unnumbered,
    newest: Newest,
    nets: Nets,
    natures: BoundedCache<BlobId, SniffedContent>,
    claims: RevalidationLimiter,
    questions: QuestionBudget,
    tokens: DeployTokens,
    codecs: Codecs,
    space_ids: BoundedCache<SpaceName, SpaceId>,
}

/// Where deploys lie that are asked for by number; `None` is one that is not kept.
type Pinned = BoundedCache<(SpaceName, u64), Option<Pointer>>;

/// Numbers that a space said it has no deploy of, and when it was asked.
type Unnumbered = BoundedCache<(SpaceName, u64), Timestamp>;

/// Differences of two deploys, which never change: by space, both numbers, and paths named at most.
type Nets = BoundedCache<(SpaceName, u64, u64, usize), ChangeMessage>;

/// Default byte size of the server's caches.
const CACHE_BYTES: usize = 48 * 1024 * 1024;

/// Bytes of pointers of deploys that are asked for by number.
const PINNED_CACHE_BYTES: usize = 256 * 1024;

/// Bytes of numbers that have no deploy: some hundred.
const UNNUMBERED_CACHE_BYTES: usize = 64 * 1024;

/// Bytes of what is known of the bytes of blobs: some ten thousand of them.
const NATURES_CACHE_BYTES: usize = 1024 * 1024;

/// Bytes of the ids of spaces that something was published to: about a thousand.
const SPACE_IDS_CACHE_BYTES: usize = 128 * 1024;

/// Bytes of differences of deploys that are kept for readers who catch up.
const NETS_CACHE_BYTES: usize = 2 * 1024 * 1024;

impl<B: Backend> Server<B> {
    /// Puts a server over a platform.
    pub fn new(backend: B, settings: ServerSettings) -> Self {
        Self::keeping(CACHE_BYTES, backend, settings)
    }

    /// The same where memory is dear: it keeps at most about `bytes`, decoded nodes of serving
    /// indices in one half, small bodies and differences in the other.
    pub fn keeping(bytes: usize, backend: B, settings: ServerSettings) -> Self {
        let tokens = DeployTokens::of(settings.publish_secret.as_deref());
        Self {
            backend,
            settings,
            index: Index::new(bytes / 2),
            bodies: BoundedCache::new(bytes / 16 * 5),
            verdicts: BoundedCache::new(bytes / 16),
            marks: LossReports::default(),
            differences: BoundedCache::new(bytes / 8),
            pinned: BoundedCache::new(PINNED_CACHE_BYTES),
            unnumbered: BoundedCache::new(UNNUMBERED_CACHE_BYTES),
            newest: Newest::default(),
            nets: BoundedCache::new(NETS_CACHE_BYTES),
            natures: BoundedCache::new(NATURES_CACHE_BYTES),
            claims: RevalidationLimiter::default(),
            questions: QuestionBudget::default(),
            tokens,
            codecs: Codecs::default(),
            space_ids: BoundedCache::new(SPACE_IDS_CACHE_BYTES),
        }
    }

    /// The platform.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The ids of spaces, as they were named last.
    pub(super) const fn space_ids(&self) -> &BoundedCache<SpaceName, SpaceId> {
        &self.space_ids
    }

    pub(super) const fn index(&self) -> &Index {
        &self.index
    }

    pub(super) const fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    pub(super) const fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    pub(super) const fn marks(&self) -> &LossReports {
        &self.marks
    }

    pub(super) const fn differences(&self) -> &Differences {
        &self.differences
    }

    pub(super) const fn dictionaries(&self) -> DictionaryPolicy {
        self.settings.dictionaries
    }

    pub(super) const fn files_max(&self) -> u64 {
        self.settings.files_max
    }

    pub(super) const fn section_raw_bytes_max(&self) -> usize {
        self.settings.section_raw_bytes_max
    }

    pub(super) const fn lease(&self) -> Duration {
        self.settings.lease
    }

    pub(super) const fn live(&self) -> LivePages {
        self.settings.live
    }

    pub(super) fn publish_secret(&self) -> Option<&str> {
        self.settings.publish_secret.as_deref()
    }

    pub(super) const fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    pub(super) const fn unnumbered(&self) -> &Unnumbered {
        &self.unnumbered
    }

    pub(super) const fn newest(&self) -> &Newest {
        &self.newest
    }

    pub(super) const fn natures(&self) -> &BoundedCache<BlobId, SniffedContent> {
        &self.natures
    }

    pub(super) const fn nets(&self) -> &Nets {
        &self.nets
    }

    pub(super) const fn questions(&self) -> &QuestionBudget {
        &self.questions
    }

    pub(super) const fn tokens(&self) -> &DeployTokens {
        &self.tokens
    }

    pub(super) const fn revalidation_limiter(&self) -> &RevalidationLimiter {
        &self.claims
    }

    pub(super) const fn codecs(&self) -> &Codecs {
        &self.codecs
    }

    /// The domain under which sites live.
    pub(super) const fn domain(&self) -> &Domain {
        self.settings.hosts.domain()
    }

    /// The address of a site or a preview.
    pub fn url_of(&self, channel: &Channel) -> String {
        let SiteUrls { scheme, port } = self.settings.urls;
        let domain = self.domain();
        match port {
            Some(port) => format!("{scheme}://{channel}.{domain}:{port}/"),
            None => format!("{scheme}://{channel}.{domain}/"),
        }
    }
}
