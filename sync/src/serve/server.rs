//! Server state: the settings of a server over a platform, and its caches.

use std::sync::Arc;
use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::domain::Domain;
use pmx_core::id::{BlobId, SpaceId};
use pmx_core::name::SpaceName;
use pmx_core::time::Timestamp;

use super::backend::Backend;
use super::caches::{Bodies, CompiledRules, DictionaryBodies, Verdicts};
use super::codecs::Codecs;
use super::loss_reports::LossReports;
use super::numbered::Numbered;
use super::pointer_answers::Newest;
use super::question_budget::QuestionBudget;
use super::revalidation_limiter::RevalidationLimiter;
use super::token::DeployTokens;
use crate::bounded_cache::BoundedCache;
use crate::index::Index;
use crate::live::ChangeMessage;
use crate::rules::SiteRules;
use crate::site::{Hosts, SniffedContent};

/// The operator's decisions.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The hosts of the API and of sites.
    pub hosts: Hosts,
    /// The token for the publish API; without one the API is closed.
    pub publish_secret: Option<String>,
    /// Format of a site's address.
    pub urls: SiteUrls,
    /// Which pages receive change events.
    pub live: LivePages,
    /// Whether responses of a live site name the rule that answered; those of previews always do.
    pub shows_rules: bool,
    /// Whether dictionary-compressed responses reach browsers.
    pub dictionaries: DictionaryPolicy,
    /// Time that uploads wait for their commit.
    pub lease: Duration,
    /// Largest number of a site's files that fits the platform's memory.
    pub files_max: u64,
    /// Largest raw size of a patch or of nodes in one request that fits the platform's memory.
    pub section_raw_bytes_max: usize,
}

/// Treatment of Compression Dictionary Transport (RFC 9842) between the server and browsers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DictionaryPolicy {
    /// Every intermediary passes the headers and the coding on.
    Passed,
    /// An intermediary does not, or this is unknown.
    Stopped,
}

/// Which pages get the live script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LivePages {
    /// Pages of deploys that were published with it.
    Chosen,
    /// All pages.
    All,
}

/// Format of a site's address.
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
    dictionary_bodies: DictionaryBodies,
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
    compiled_rules: CompiledRules,
    no_rules: Arc<SiteRules>,
}

/// Pointers of deploys by number, and when the space named them; `None` is a number that never gets
/// a deploy again.
type Pinned = BoundedCache<(SpaceName, u64), (Numbered, Timestamp)>;

/// Numbers for which a space has no deploy, and the time of the question.
type Unnumbered = BoundedCache<(SpaceName, u64), Timestamp>;

/// Changes between two deploys, which are immutable: by space, both numbers, and most paths named.
type Nets = BoundedCache<(SpaceName, u64, u64, usize), ChangeMessage>;

/// Default byte size of the server's caches.
const CACHE_BYTES: usize = 48 * 1024 * 1024;

/// Bytes of cached pointers of numbered deploys.
const PINNED_CACHE_BYTES: usize = 256 * 1024;

/// Bytes of cached numbers without a deploy: some hundred.
const UNNUMBERED_CACHE_BYTES: usize = 64 * 1024;

/// Bytes of cached sniffing verdicts: some ten thousand blobs.
const NATURES_CACHE_BYTES: usize = 1024 * 1024;

/// Bytes of cached ids of spaces that received a publish: about a thousand.
const SPACE_IDS_CACHE_BYTES: usize = 128 * 1024;

/// Bytes of cached rules: the largest set and many small ones.
const RULES_CACHE_BYTES: usize = SiteRules::BYTES_MAX / 4 * 5;

/// Bytes of cached changes between deploys, for readers that catch up.
const NETS_CACHE_BYTES: usize = 2 * 1024 * 1024;

impl<B: Backend> Server<B> {
    /// Makes a server over a platform.
    pub fn new(backend: B, settings: ServerSettings) -> Self {
        Self::keeping(CACHE_BYTES, backend, settings)
    }

    /// Makes a server for little memory. It keeps about `bytes` at most: one half holds decoded
    /// nodes of serving indices, the other small bodies and dictionary-compressed ones.
    pub fn keeping(bytes: usize, backend: B, settings: ServerSettings) -> Self {
        let tokens = DeployTokens::of(settings.publish_secret.as_deref());
        Self {
            backend,
            settings,
            index: Index::new(bytes / 2),
            bodies: BoundedCache::new(bytes / 16 * 5),
            verdicts: BoundedCache::new(bytes / 16),
            marks: LossReports::default(),
            dictionary_bodies: BoundedCache::new(bytes / 8),
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
            compiled_rules: BoundedCache::new(RULES_CACHE_BYTES),
            no_rules: Arc::default(),
        }
    }

    pub(super) const fn compiled_rules(&self) -> &CompiledRules {
        &self.compiled_rules
    }

    pub(super) const fn no_rules(&self) -> &Arc<SiteRules> {
        &self.no_rules
    }

    /// The platform.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The ids of spaces, as last reported.
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

    pub(super) const fn dictionary_bodies(&self) -> &DictionaryBodies {
        &self.dictionary_bodies
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
