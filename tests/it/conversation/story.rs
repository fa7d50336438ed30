//! Story of a publisher and a server in memory: it counts the requests.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, StatusCode};
use pmx_core::code::Code;
use pmx_core::codec::{Bounds, Decoder};
use pmx_core::hash::Hash;
use pmx_core::limits::PART_BYTES;
use pmx_core::time::Timestamp;
use pmx_sync::manifest::NodeMap;
use pmx_sync::push::{Base, BaseBlobs, Intent, Mode, PushOutcome};
use pmx_sync::serve::{Nonce, Server};
use pmx_sync::testing::{MemoryBlobs, MemoryPointers, MemorySpaces, Platform};
use pmx_sync::wire::{DeployMeta, Replace, RollbackHead, VERSION};
use pmx_tests::sql::Sqlite;

use crate::sim::model::{Catalogue, Site};
use crate::sim::platform::{space, url_path};
use pmx_sync::testing::client::{Broken, Client, Network, WholeResponse};
use pmx_sync::testing::host::{block_on, read, settings};

type Backend = Platform<MemoryBlobs, MemoryPointers, MemorySpaces<Sqlite, MemoryBlobs>>;

/// A server in memory, and how many requests it got.
pub(super) struct Host {
    backend: Backend,
    server: Server<Backend>,
    pub(super) blobs: MemoryBlobs,
    requests: Cell<u64>,
}

impl Host {
    pub(super) fn new() -> Self {
        let blobs = MemoryBlobs::default();
        let backend = Platform {
            blobs: blobs.clone(),
            pointers: MemoryPointers::default(),
            spaces: MemorySpaces::new(blobs.clone(), |_| Sqlite::new()),
        };
        Self {
            server: Server::new(backend.clone(), settings()),
            backend,
            blobs,
            requests: Cell::new(0),
        }
    }

    /// Replaces the server by one with empty caches.
    pub(super) fn forget(&mut self) {
        self.server = Server::new(self.backend.clone(), settings());
    }

    /// A site's answer to a GET.
    pub(super) fn site(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> WholeResponse {
        let mut request = Request::builder()
            .uri(path)
            .header("host", format!("{host}.localhost"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        block_on(self.send(request.body(Bytes::new()).unwrap())).unwrap()
    }

    /// Compares every page with its source, decoded and as stored.
    pub(super) fn check(&self, host: &str, site: &Site) {
        for (path, bytes) in &site.files {
            let plain = self.follow(host, path, &[]);
            assert_eq!(plain.status, StatusCode::OK, "{path}");
            assert!(plain.body == bytes, "{path} differs");
            assert!(!plain.headers.contains_key("content-encoding"), "{path}");
            let zstd = self.follow(host, path, &[("accept-encoding", "zstd")]);
            assert!(decoded(&zstd) == bytes, "{path} differs with zstd");
            for answer in [plain, zstd] {
                let length = answer.headers.get("content-length");
                let length = length.map(|text| text.to_str().unwrap().parse::<usize>().unwrap());
                assert!(
                    length.is_none_or(|length| length == answer.body.len()),
                    "{path}"
                );
                let etag = answer.headers["etag"].to_str().unwrap();
                assert!(etag.contains(&Hash::of(bytes).to_hex()), "{path}: {etag}");
            }
        }
    }

    fn follow(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> WholeResponse {
        let answer = self.site(host, &url_path(path), headers);
        if answer.status != StatusCode::TEMPORARY_REDIRECT {
            return answer;
        }
        self.site(host, answer.headers["location"].to_str().unwrap(), headers)
    }

    pub(super) fn count<T>(&self, run: impl FnOnce() -> T) -> (T, u64) {
        let before = self.requests.get();
        (run(), self.requests.get() - before)
    }
}

pub(super) fn decoded(answer: &WholeResponse) -> Bytes {
    if !answer.headers.contains_key("content-encoding") {
        return answer.body.clone();
    }
    // A blob in parts is a sequence of frames.
    let mut decoder = Decoder::new();
    let mut rest = &answer.body[..];
    let mut whole = Vec::new();
    while !rest.is_empty() {
        let frame = zstd_safe::find_frame_compressed_size(rest).unwrap();
        whole.extend(decoder.frame_up_to(&rest[..frame], Bounds::STORED).unwrap());
        rest = &rest[frame..];
    }
    whole.into()
}

impl Network for &Host {
    async fn send(&self, request: Request<Bytes>) -> Result<WholeResponse, Broken> {
        self.requests.set(self.requests.get() + 1);
        let nonce = Nonce(*Hash::of(&self.requests.get().to_le_bytes()).as_bytes());
        let coding = request.headers().get("accept-encoding").cloned();
        let coding = coding.as_ref().and_then(|coding| coding.to_str().ok());
        let now = Timestamp::from_millis(self.requests.get());
        let response = self.server.handle(request, coding, now, nonce).await;
        read(&self.blobs, response).await
    }
}

pub(super) struct Story {
    pub(super) host: Host,
    catalogue: Catalogue,
    keys: Cell<u64>,
}

impl Story {
    pub(super) fn new() -> Self {
        let catalogue = Catalogue {
            sites: Vec::new(),
            nodes: NodeMap::default(),
            blobs: BTreeMap::new(),
        };
        let keys = Cell::new(0);
        Self {
            host: Host::new(),
            catalogue,
            keys,
        }
    }

    pub(super) fn site(&mut self, files: &BTreeMap<String, Bytes>) -> Site {
        self.catalogue.add(files.clone());
        self.catalogue.sites.last().unwrap().clone()
    }

    fn key(&self) -> String {
        self.keys.set(self.keys.get() + 1);
        format!("key {}", self.keys.get())
    }

    pub(super) fn client(&self) -> Client<'_, &Host> {
        Client {
            network: &self.host,
            space: space("docs"),
            nodes: &self.catalogue.nodes,
            blobs: &self.catalogue.blobs,
            tries: 1,
        }
    }

    pub(super) fn intent(&self, site: &Site, base: Option<Base>, mode: Mode) -> Intent {
        Intent {
            space: space("docs"),
            alias: None,
            root: site.root,
            base,
            replace: Replace::Seen,
            expect: None,
            max_delete: None,
            key: self.key(),
            order: None,
            meta: DeployMeta::default(),
            expires: None,
            mode,
            base_blobs: BaseBlobs::Available,
            restore: Vec::new(),
        }
    }

    /// Publishes, and returns the outcome and the number of requests.
    pub(super) fn publish(&self, site: &Site, base: Option<Base>) -> (PushOutcome, u64) {
        let intent = self.intent(site, base, Mode::Publish);
        let run = || block_on(self.client().publish(intent)).unwrap();
        self.host.count(run)
    }

    pub(super) fn rollback(&self, to: Option<u64>) -> Result<u64, Code> {
        let head = RollbackHead {
            v: VERSION,
            space: space("docs"),
            to,
            expect: None,
            key: self.key(),
            meta: DeployMeta::default(),
        };
        let deploy = block_on(self.client().rollback(&head));
        // The hold does not matter to later publishes of a story.
        let _held = block_on(self.client().resume());
        deploy
            .map(|deploy| deploy.number)
            .map_err(|failure| failure.code())
    }
}

pub(super) fn base(site: &Site, deploy: u64) -> Option<Base> {
    let root = site.root;
    Some(Base { root, deploy })
}

pub(super) fn three_hundred_files() -> BTreeMap<String, Bytes> {
    let page = |n: u32| {
        let body = "a paragraph that every page has, ".repeat(n as usize % 50);
        Bytes::from(format!("<h1>page {n}</h1>{body}"))
    };
    let mut files: BTreeMap<String, Bytes> = (0..290)
        .map(|n| (format!("docs/{}/{}/page-{n}.html", n % 7, n % 3), page(n)))
        .collect();
    files.insert("index.html".into(), page(1000));
    files.insert("404.html".into(), page(1001));
    files.insert("docs/index.html".into(), page(1002));
    files.insert("empty.css".into(), Bytes::new());
    files.insert("same.css".into(), page(5));
    files.insert("img/noise.png".into(), noise(70_000, 1));
    files.insert(
        "a name with spaces/é.json".into(),
        Bytes::from_static(b"{}"),
    );
    files.insert("exactly.bin".into(), noise(PART_BYTES as usize, 2));
    let mut big = noise(PART_BYTES as usize, 3).to_vec();
    big.extend(b"compressible ".repeat(700_000));
    files.insert("big.bin".into(), big.into());
    files.insert(
        "text.bin".into(),
        b"very compressible ".repeat(600_000).into(),
    );
    files
}

/// Bytes that zstd can't compress.
pub(super) fn noise(len: usize, seed: u64) -> Bytes {
    crate::world::noise(seed, len).into()
}
