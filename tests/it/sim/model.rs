//! Site model: the sites that publishers intend, with which the simulation compares every response.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use pmx_core::id::{BlobId, Root};
use pmx_sync::manifest::{Entry, NodeMap, Row, build};
use pmx_sync::media::Media;
use pmx_sync::path::SitePath;
use pmx_tests::rng::Rng;

/// The files of a site and its manifest.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) files: BTreeMap<String, Bytes>,
    pub(crate) root: Root,
    pub(crate) bytes: u64,
}

impl Site {
    /// Builds the manifest of the files, and adds its nodes to `nodes`.
    pub(crate) fn of(files: BTreeMap<String, Bytes>, nodes: &mut NodeMap) -> Self {
        let rows = files.iter().map(|(path, bytes)| Row {
            path: SitePath::parse(path).unwrap(),
            entry: Entry {
                blob: BlobId::of(bytes),
                size: bytes.len() as u64,
                media: media(path),
            },
        });
        let built = build(rows).unwrap();
        nodes.extend(built.nodes);
        let (root, bytes) = (built.root, built.totals.bytes);
        Self { files, root, bytes }
    }
}

pub(crate) fn media(path: &str) -> Media {
    let text = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    Media::parse(text).unwrap()
}

/// Every site that the publishers of a schedule may publish.
pub(crate) struct Catalogue {
    pub(crate) sites: Vec<Site>,
    pub(crate) nodes: NodeMap,
    pub(crate) blobs: BTreeMap<BlobId, Bytes>,
}

impl Catalogue {
    /// Grows a tree of sites: each is an earlier site with a few changes.
    pub(crate) fn grow(rng: &mut Rng, count: usize) -> Self {
        let mut catalogue = Self {
            sites: Vec::new(),
            nodes: NodeMap::default(),
            blobs: BTreeMap::new(),
        };
        let mut files = BTreeMap::new();
        for _ in 0..3 + rng.below(4) {
            change(rng, &mut files);
        }
        files.insert("index.html".into(), content(rng));
        catalogue.add(files);
        for _ in 1..count {
            let mut files = rng.pick(&catalogue.sites).files.clone();
            for _ in 0..=rng.below(3) {
                change(rng, &mut files);
            }
            catalogue.add(files);
        }
        catalogue
    }

    pub(crate) fn add(&mut self, files: BTreeMap<String, Bytes>) {
        let blobs = files
            .values()
            .map(|bytes| (BlobId::of(bytes), bytes.clone()));
        self.blobs.extend(blobs);
        self.sites.push(Site::of(files, &mut self.nodes));
    }

    /// The site of a root.
    pub(crate) fn site(&self, root: &Root) -> Option<&Site> {
        self.sites.iter().find(|site| site.root == *root)
    }
}

fn change(rng: &mut Rng, files: &mut BTreeMap<String, Bytes>) {
    let pool = pool();
    let path = rng.pick(pool).clone();
    match rng.below(6) {
        0 if files.len() > 1 => {
            files.remove(&path);
        }
        1 => {
            // A rename: the same bytes under another path.
            if let Some(from) = files.keys().nth(rng.below(files.len().max(1))).cloned() {
                let bytes = files.remove(&from).unwrap();
                files.insert(path, bytes);
            }
        }
        2 => {
            // A duplicate.
            if let Some(bytes) = files.values().next().cloned() {
                files.insert(path, bytes);
            }
        }
        _ => {
            files.insert(path, content(rng));
        }
    }
}

fn content(rng: &mut Rng) -> Bytes {
    let words = ["<p>", "path ", "site ", "leaf ", "root ", "</p>", "\n", "é"];
    let mut text = String::new();
    for _ in 0..rng.below(4) * rng.below(24) {
        text.push_str(words[rng.below(words.len())]);
    }
    if rng.below(3) > 0 {
        text.push_str(&rng.next().to_string());
    }
    text.into()
}

/// Paths of the sites. Some of them end a manifest node, so that small sites have several nodes.
fn pool() -> &'static [String] {
    static POOL: OnceLock<Vec<String>> = OnceLock::new();
    POOL.get_or_init(|| {
        let plain = [
            "index.html",
            "404.html",
            "a.html",
            "b/index.html",
            "b/deep/er/page.html",
            "style.css",
            "img/x.png",
            "feed.json",
            "empty",
        ];
        let ends = (0..)
            .map(|n| format!("n{n}.html"))
            .filter(|path| ends_a_node(path));
        plain
            .into_iter()
            .map(String::from)
            .chain(ends.take(4))
            .collect()
    })
}

/// Whether a path alone ends a node.
fn ends_a_node(path: &str) -> bool {
    let files = [path, "zzz"].map(|path| (path.to_owned(), Bytes::new()));
    let mut nodes = NodeMap::default();
    Site::of(files.into(), &mut nodes);
    nodes.len() > 1
}
