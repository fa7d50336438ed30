//! Cache folder of the client: it only saves time, and may be deleted at any moment.
//!
//! Each folder, with its scan options, has two files: the stat cache of the last scan, and the
//! manifest nodes of the last roots. Each site has a file with the deploy that was active when it
//! was last seen: the next patch starts from it. A site also has a folder of local packs and
//! signatures. Local packs hold the published bytes; signatures describe big blobs. The next pack
//! starts from them. The reader of a cache file treats an invalid file as missing.
//!
//! A publish takes its content from the published folder, whatever this cache contains. A stat
//! cache counts only if this user's `pmx` wrote it (`key`). Readers verify nodes and packs by their
//! hashes. The server verifies the result of a signature; if it is wrong, the client sends the
//! whole content.

mod active;
mod decoded_packs;
mod key;
mod nodes;
mod packs;
mod signatures;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use pmx_core::channel::Channel;
use pmx_core::hash::Hash;
use pmx_core::id::Root;
use pmx_sync::scan;

pub use active::Active;
use key::CacheKey;
pub use nodes::{NodeStore, Nodes};
pub use packs::LocalPacks;
pub use signatures::{Chunk, ChunkHash, Signatures};

use crate::config::FolderConfig;
use crate::env::Environment;
use crate::server::ServerUrl;

/// Bytes of a cache file: the caches of 2,000,000 files with long paths.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// The cache folder, or none.
#[derive(Debug, Clone)]
pub struct CacheFolder {
    folder: Option<PathBuf>,
    key: CacheKey,
}

/// The cache of one folder.
#[derive(Debug, Clone)]
pub struct FolderCache {
    key: CacheKey,
    scan: Option<PathBuf>,
    nodes: Option<PathBuf>,
}

/// The cache of one site, or of one of its previews.
#[derive(Debug, Clone)]
pub struct SiteCache {
    own: Option<PathBuf>,
    /// With a preview: the file of the site.
    beside: Option<PathBuf>,
}

impl CacheFolder {
    /// The folder that `PMX_CACHE` names, or the user's.
    pub fn of(env: &Environment) -> Self {
        let named = env.path("PMX_CACHE");
        let users = || {
            Some(
                etcetera::choose_base_strategy()
                    .ok()?
                    .cache_dir()
                    .join("pmx"),
            )
        };
        let folder = named.or_else(users).map(|folder| folder.join("v1"));
        if let Some(folder) = &folder {
            mark(folder);
        }
        let key = CacheKey::of_user(folder.as_deref());
        Self { folder, key }
    }

    /// A cache folder at this path.
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: Some(folder.to_owned()),
            key: CacheKey::of_run(),
        }
    }

    /// The cache of a folder with its scan options.
    pub fn folder(&self, folder: &FolderConfig) -> FolderCache {
        let place = folder.dir.canonicalize().ok();
        let base = self.folder.as_ref().zip(place).map(|(cache, place)| {
            let policy = match (folder.collisions, folder.secrets) {
                (scan::Collisions::Warn, scan::Secrets::Refuse) => "warn",
                (scan::Collisions::Refuse, scan::Secrets::Refuse) => "refuse",
                (scan::Collisions::Allow, scan::Secrets::Refuse) => "allow",
                (scan::Collisions::Warn, scan::Secrets::Allow) => "warn, with secrets",
                (scan::Collisions::Refuse, scan::Secrets::Allow) => "refuse, with secrets",
                (scan::Collisions::Allow, scan::Secrets::Allow) => "allow, with secrets",
            };
            let mut parts = vec![place.as_os_str().as_encoded_bytes(), policy.as_bytes()];
            parts.extend(folder.exclude.iter().map(String::as_bytes));
            cache.join("folders").join(name_of(&parts))
        });
        FolderCache {
            key: self.key.clone(),
            scan: base.as_ref().map(|base| base.with_extension("scan")),
            nodes: base.as_ref().map(|base| base.with_extension("nodes")),
        }
    }

    /// The cache of a site's nodes, for publishes without its folder. It has no scan.
    pub fn edited(&self, server: &ServerUrl, channel: &Channel) -> FolderCache {
        let label = channel.to_string();
        let parts = [server.as_str().as_bytes(), label.as_bytes(), b"edited"];
        let base = self.folder.as_ref();
        let base = base.map(|cache| cache.join("folders").join(name_of(&parts)));
        FolderCache {
            key: self.key.clone(),
            scan: None,
            nodes: base.map(|base| base.with_extension("nodes")),
        }
    }

    /// The cache of a site, or of a preview.
    pub fn site(&self, server: &ServerUrl, channel: &Channel) -> SiteCache {
        let file = |label: &str| {
            let name = name_of(&[server.as_str().as_bytes(), label.as_bytes()]);
            let cache = self.folder.as_ref()?;
            Some(cache.join("sites").join(name).with_extension("json"))
        };
        let preview = channel.alias.as_ref();
        SiteCache {
            own: file(&channel.to_string()),
            beside: preview.and_then(|_| file(channel.space.as_str())),
        }
    }
}

impl FolderCache {
    /// The stat cache of the last scan.
    pub fn scan(&self) -> Option<scan::StatCache> {
        scan::StatCache::parse(read(self.scan.as_deref()?)?, self.key.bytes())
    }

    /// Whether the cache has a scan of this folder.
    pub fn has_scan(&self) -> bool {
        self.scan.as_deref().is_some_and(Path::exists)
    }

    /// The nodes of the last roots.
    pub fn nodes(&self) -> Option<Nodes> {
        Nodes::parse(read(self.nodes.as_deref()?)?)
    }

    /// Stores a stat cache.
    pub fn keep_scan(&self, scan: &scan::Scan, root: Root) {
        keep(self.scan.as_deref(), &scan.cache(root, self.key.bytes()));
    }

    /// Stores nodes.
    pub fn keep_nodes(&self, bytes: &[u8]) {
        keep(self.nodes.as_deref(), bytes);
    }
}

impl SiteCache {
    /// The deploy that was active when the site was last seen. A preview that was never seen counts
    /// as new, and starts with the site's.
    pub fn active(&self) -> Option<Active> {
        let new = |site: Active| Active { deploy: 0, ..site };
        active(self.own.as_deref()).or_else(|| self.site().map(new))
    }

    /// The deploy that was active, or that the preview named, when it was last seen.
    pub fn seen(&self) -> Option<u64> {
        active(self.own.as_deref()).map(|active| active.deploy)
    }

    /// With a preview: the deploy that was active when the site was last seen.
    pub fn site(&self) -> Option<Active> {
        active(self.beside.as_deref())
    }

    /// The published bytes, for the site and its previews: both belong to one space.
    pub fn packs(&self) -> LocalPacks {
        let file = self.beside.as_ref().or(self.own.as_ref());
        LocalPacks::open(file.map(|file| file.with_extension("packs")))
    }

    /// The manifest nodes of the last published folder, wherever that was.
    pub fn nodes(&self) -> Option<Nodes> {
        let mut files = [&self.own, &self.beside].into_iter().flatten();
        files.find_map(|file| nodes_of(file))
    }

    /// Stores the active deploy.
    pub fn keep(&self, active: &Active) {
        keep(self.own.as_deref(), &active.encode());
    }

    /// Roots whose publish got no answer: the server may have committed them.
    pub fn unanswered(&self) -> Vec<Root> {
        let bytes = self
            .own
            .as_deref()
            .and_then(|own| read(&own.with_extension(UNANSWERED)));
        let roots = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        roots.unwrap_or_default()
    }

    /// Keeps these roots as the ones without an answer.
    pub fn keep_unanswered(&self, roots: &[Root]) {
        let Some(file) = self.own.as_ref().map(|own| own.with_extension(UNANSWERED)) else {
            return;
        };
        if roots.is_empty() {
            // Best effort: a root that stays here costs a question after a conflict.
            let _ = std::fs::remove_file(file);
        } else {
            keep(Some(&file), &serde_json::to_vec(roots).unwrap_or_default());
        }
    }

    /// Stores the folder from which the site was published.
    pub fn keep_folder(&self, folder: &FolderCache) {
        let name = folder.nodes.as_deref().and_then(Path::file_name);
        if let (Some(file), Some(name)) = (&self.own, name) {
            keep(Some(&file.with_extension(FOLDER)), name.as_encoded_bytes());
        }
    }
}

/// Name of the file with the folder from which a site was published.
const FOLDER: &str = "folder";

/// Extension of the file of roots whose publish got no answer.
const UNANSWERED: &str = "unanswered";

fn nodes_of(site: &Path) -> Option<Nodes> {
    let name = String::from_utf8(read(&site.with_extension(FOLDER))?).ok()?;
    let is_ours = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    let folders = site.parent()?.parent()?.join("folders");
    Nodes::parse(read(&folders.join(is_ours.then_some(name)?))?)
}

/// Marks a cache folder before it gets any file, so that no scan takes it for content.
fn mark(folder: &Path) {
    let marker = folder.join(scan::CACHE_MARKER);
    if !marker.exists() {
        keep(Some(&marker), scan::CACHE_MARKER_TEXT.as_bytes());
    }
}

fn active(file: Option<&Path>) -> Option<Active> {
    Active::parse(&read(file?)?)
}

fn name_of(parts: &[&[u8]]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    Hash::of(&bytes).to_hex()[..32].to_owned()
}

/// A cache file: its type, the hash of its content, and the content.
fn sealed(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    [&magic[..], Hash::of(body).as_bytes(), body].concat()
}

/// The content of such a file, if it is intact.
fn unsealed(magic: [u8; 8], bytes: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = bytes.split_first_chunk::<8>()?;
    let (sum, body) = rest.split_first_chunk::<32>()?;
    (*kind == magic && sum == Hash::of(body).as_bytes()).then_some(body)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut file = std::fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    if len > FILE_BYTES_MAX {
        return None;
    }
    // A file that shrinks during the read is invalid. A file that grew was replaced, not appended
    // to.
    let mut bytes = vec![0; len as usize];
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Replaces a file whole. It does not flush the file to the disk: a reader checks the result of a
/// crash. Best effort.
fn keep(path: Option<&Path>, bytes: &[u8]) {
    let Some((path, folder)) = path.and_then(|path| Some((path, path.parent()?))) else {
        return;
    };
    let written = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    let _ = written();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dir: &Path, exclude: &[&str]) -> FolderConfig {
        FolderConfig {
            dir: dir.to_owned(),
            exclude: exclude.iter().map(ToString::to_string).collect(),
            collisions: scan::Collisions::default(),
            secrets: scan::Secrets::default(),
            path: None,
            settings: None,
        }
    }

    #[test]
    fn cache_is_separate_for_each_way_to_read_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let cache = CacheFolder::at(&place.path().join("new"));
        let plain = cache.folder(&folder(place.path(), &[]));
        let other = cache.folder(&folder(place.path(), &["*.map"]));
        plain.keep_nodes(b"a");
        assert!(read(plain.nodes.as_deref().unwrap()).is_some());
        assert_ne!(plain.nodes, other.nodes);
        assert!(read(other.nodes.as_deref().unwrap()).is_none());
    }

    #[test]
    fn cache_names_keep_their_parts_apart() {
        assert_ne!(name_of(&[b"ab", b"c"]), name_of(&[b"a", b"bc"]));
    }

    #[test]
    fn cache_that_can_not_be_written_is_ignored() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let server = ServerUrl::parse("localhost").unwrap();
        let docs = Channel::of_label("docs").unwrap();
        let site = CacheFolder::at(&file).site(&server, &docs);
        let active = Active {
            root: pmx_core::id::NodeId::of(b"x"),
            deploy: 3,
        };
        site.keep(&active);
        assert_eq!(site.active(), None);
        let cache = CacheFolder::at(place.path());
        let site = cache.site(&server, &docs);
        site.keep(&active);
        assert_eq!(site.active(), Some(active));
        let preview = cache.site(&server, &Channel::of_label("next--docs").unwrap());
        let new = Active {
            deploy: 0,
            ..active
        };
        assert_eq!(preview.active(), Some(new));
        assert_eq!(
            preview.seen(),
            None,
            "a deploy of the site is none of a preview"
        );
        let fourth = Active {
            deploy: 4,
            ..active
        };
        preview.keep(&fourth);
        assert_eq!(preview.active(), Some(fourth));
        assert_eq!(site.active(), Some(active), "a preview is not active");
    }
}
