//! Damaged objects: sites of one file in memory, whose buffers are counted.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::{Request, StatusCode};
use pmx_core::channel::Channel;
use pmx_core::codec::{Encoder, Level};
use pmx_core::id::{NodeId, ObjectId};
use pmx_core::location::Extent;

use super::*;
use crate::index::IndexNode;
use crate::limits::QUESTIONS_BURST;
use crate::manifest::{Entry, Row};
use crate::media::Media;
use crate::pack::part::{BlobParts, PartTable};
use crate::path::SitePath;
use crate::pointer::Pointer;
use crate::serve::{DictionaryPolicy, Nonce, Pointers, ServerSettings, Spaces};
use crate::space::{Command, Reply};
use crate::testing::{Platform, pointer, settings};

const SPACE: SpaceId = SpaceId::from_bytes([1; 16]);
const OBJECT: ObjectId = ObjectId::from_bytes([2; 16]);
const INDEX: ObjectId = ObjectId::from_bytes([3; 16]);

/// Objects whose reads return buffers that are counted while they live.
#[derive(Default)]
struct Objects {
    all: Mutex<std::collections::BTreeMap<ObjectKey, Vec<u8>>>,
    alive: Arc<AtomicUsize>,
    reads: AtomicUsize,
}

struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

impl Blobs for Objects {
    async fn read(
        &self,
        key: ObjectKey,
        range: std::ops::Range<u64>,
    ) -> Result<Option<Bytes>, BackendError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let all = self.all.lock().unwrap();
        let Some(object) = all.get(&key) else {
            return Ok(None);
        };
        // A platform may read more than the server asked for, and return a slice of it.
        let buffer = object.clone();
        let range = range.start as usize..range.end as usize;
        if range.end > buffer.len() {
            return Ok(None);
        }
        self.alive.fetch_add(buffer.len(), Ordering::Relaxed);
        let counted = Counted(buffer, Arc::clone(&self.alive));
        Ok(Some(Bytes::from_owner(counted).slice(range)))
    }

    async fn write(&self, key: ObjectKey, body: Bytes) -> Result<(), BackendError> {
        self.all.lock().unwrap().insert(key, body.to_vec());
        Ok(())
    }

    async fn delete(&self, _keys: &[ObjectKey]) -> Result<(), BackendError> {
        Ok(())
    }

    async fn delete_some(&self, _: SpaceId, _: usize) -> Result<usize, BackendError> {
        Ok(0)
    }
}

struct Fixed(Pointer);

impl Pointers for Fixed {
    async fn read(&self, _channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        Ok(Some(self.0.clone()))
    }

    fn may_lag(&self) -> bool {
        false
    }

    async fn write(&self, _channel: &Channel, _pointer: &Pointer) -> Result<(), BackendError> {
        Ok(())
    }
}

/// A space that records its commands.
#[derive(Default)]
struct Asked(Mutex<Vec<Command>>);

impl Spaces for Asked {
    async fn call(
        &self,
        _space: &SpaceName,
        command: Command,
        _now: Timestamp,
    ) -> Result<Reply, Problem> {
        self.0.lock().unwrap().push(command);
        Ok(Reply::Noted)
    }
}

type Site = Server<Platform<Objects, Fixed, Asked>>;

const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A site with the one file `f.bin`, stored in a codec.
fn site(content: &[u8], codec: Codec) -> Site {
    let (stored, at) = stored(content, codec);
    let index_node = IndexNode::Leaf(vec![(
        Row {
            path: SitePath::parse("f.bin").unwrap(),
            entry: Entry {
                blob: BlobId::of(content),
                size: content.len() as u64,
                media: Media::parse("application/octet-stream").unwrap(),
            },
        },
        at,
    )]);
    let (root, index_node) = (NodeId::of(&index_node.node().encode()), index_node.encode());
    let index = Extent {
        object: INDEX,
        offset: 0,
        len: index_node.len() as u64,
    };
    let blobs = Objects::default();
    let mut all = blobs.all.lock().unwrap();
    let key = |object| ObjectKey {
        space: SPACE,
        object,
    };
    all.insert(key(OBJECT), stored);
    all.insert(key(INDEX), index_node);
    drop(all);
    let pointer = Pointer {
        space: SPACE,
        root,
        index,
        ..pointer(1)
    };
    let platform = Platform {
        blobs,
        pointers: Fixed(pointer),
        spaces: Asked::default(),
    };
    let settings = ServerSettings {
        dictionaries: DictionaryPolicy::Stopped,
        ..settings()
    };
    Server::keeping(CACHE_BYTES, platform, settings)
}

/// The bytes of the object, and the location of the content in it.
fn stored(content: &[u8], codec: Codec) -> (Vec<u8>, Location) {
    let at = |offset, bytes: usize, codec| Location {
        extent: Extent {
            object: OBJECT,
            offset,
            len: bytes as u64,
        },
        codec,
    };
    match codec {
        Codec::Stored => (content.to_vec(), at(0, content.len(), codec)),
        Codec::Zstd => {
            let frame = Encoder::new().frame(content, Level::STORED);
            let location = at(0, frame.len(), codec);
            (frame, location)
        }
        Codec::Parts | Codec::ZstdParts => {
            let parts = BlobParts::of(content.len() as u64).unwrap();
            let bytes = |part: crate::pack::part::Part| {
                &content[part.offset() as usize..][..part.len() as usize]
            };
            let locations = parts.all();
            let locations =
                locations.map(|part| at(part.offset(), part.len() as usize, Codec::Stored));
            let table = PartTable::new(parts, locations.collect()).unwrap();
            let values = parts.all();
            let values = values.map(|part| ChainingValue::of(part, bytes(part)).unwrap());
            let table = table.with_values(values.collect()).unwrap();
            let mut object = content.to_vec();
            let start = object.len();
            table.encode(&mut object);
            let location = at(start as u64, object.len() - start, codec);
            (object, location)
        }
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Status and body; `pieces` opens the pieces as a platform does.
fn get(site: &Site, headers: &[(&str, &str)]) -> (StatusCode, Result<Bytes, Problem>) {
    let mut request = Request::get("/f.bin").header("host", "s.localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Bytes::new()).unwrap();
    let now = Timestamp::from_millis(1_000_000);
    let answer = block_on(site.handle(request, None, now, Nonce([0; 32])));
    let (head, body) = answer.into_parts();
    let (first, pieces) = body.split();
    let pieces = pieces.iter().map(|piece| {
        block_on(site.verify(piece, now))?;
        block_on(site.opened(piece))
    });
    let body = std::iter::once(Ok(first)).chain(pieces);
    let body = body.collect::<Result<Vec<_>, Problem>>();
    (head.status, body.map(|all| all.concat().into()))
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

fn text(bytes: usize) -> Vec<u8> {
    b"Words of a page. "
        .iter()
        .copied()
        .cycle()
        .take(bytes)
        .collect()
}

const RANGES: usize = 10_000;

#[test]
fn ranges_keep_no_more_than_the_whole_body_alive() {
    for (content, codec) in [
        (text(250_000), Codec::Zstd),
        (noise(250_000), Codec::Stored),
        (text(2_000_000), Codec::Zstd),
        (noise(2_000_000), Codec::Stored),
    ] {
        let site = site(&content, codec);
        let mut sent = Vec::new();
        let ranges = if content.len() > 1_000_000 {
            100
        } else {
            RANGES
        };
        for at in 0..ranges {
            let range = format!("bytes={at}-{at}");
            let (status, body) = get(&site, &[("range", &range)]);
            assert_eq!(status, StatusCode::PARTIAL_CONTENT);
            let body = body.unwrap();
            assert_eq!(body[..], content[at..=at]);
            // A client that never reads its answer keeps only the answer in memory.
            sent.push(body);
        }
        let alive = site.backend().blobs.alive.load(Ordering::Relaxed);
        let index = site.backend().pointers.0.index.len as usize;
        assert!(
            alive <= index,
            "{alive} bytes of buffers are alive: {codec:?}"
        );
        assert!(site.bodies().charged() <= 250_000 + 1_000, "{codec:?}");
    }
}

#[test]
fn damaged_bytes_are_never_sent() {
    let big = noise(9 * 1024 * 1024);
    for (content, codec) in [
        (text(3_000), Codec::Zstd),
        (noise(3_000), Codec::Stored),
        (text(2_000_000), Codec::Zstd),
        (noise(2_000_000), Codec::Stored),
        (big, Codec::Parts),
    ] {
        let (whole, _) = stored(&content, codec);
        let ends = content.len().min(whole.len());
        for at in [0, ends / 2, ends - 1] {
            for headers in [
                &[][..],
                &[("accept-encoding", "zstd")],
                &[("range", "bytes=0-9")],
            ] {
                let site = site(&content, codec);
                let key = ObjectKey {
                    space: SPACE,
                    object: OBJECT,
                };
                let mut all = site.backend().blobs.all.lock().unwrap();
                all.get_mut(&key).unwrap()[at] ^= 1;
                drop(all);
                let (status, body) = get(&site, headers);
                let is_range_of_another_part = codec == Codec::Parts
                    && headers.first().is_some_and(|(name, _)| *name == "range")
                    && at >= 8 * 1024 * 1024;
                if is_range_of_another_part {
                    assert_eq!(body.unwrap()[..], content[..10]);
                    continue;
                }
                let failed = status == StatusCode::INTERNAL_SERVER_ERROR || body.is_err();
                assert!(failed, "{codec:?} at {at}, {headers:?}: {status}");
                let asked = site.backend().spaces.0.lock().unwrap();
                let id = BlobId::of(&content);
                let is_marked = |command: &Command| match command {
                    Command::Lost(loss) if !loss.is_absent => {
                        matches!(loss.lost, Lost::Blob { blob, .. } if blob == id)
                    }
                    _ => false,
                };
                assert_eq!(asked.iter().filter(|c| is_marked(c)).count(), 1);
            }
        }
    }
}

#[test]
fn absent_object_is_marked_once_and_an_error_is_not() {
    let site = site(&noise(3_000), Codec::Stored);
    site.backend().blobs.all.lock().unwrap().remove(&ObjectKey {
        space: SPACE,
        object: OBJECT,
    });
    for _ in 0..50 {
        let (status, _) = get(&site, &[]);
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let asked = site.backend().spaces.0.lock().unwrap();
    let (marks, questions): (Vec<_>, Vec<_>) = asked
        .iter()
        .partition(|command| matches!(command, Command::Lost(_)));
    assert_eq!(marks.len(), 1);
    assert!(matches!(marks[0], Command::Lost(loss) if loss.is_absent && loss.object == OBJECT));
    // Each request asks whether a repair moved the content, within the budget.
    assert!(questions.len() as u64 <= QUESTIONS_BURST, "{questions:?}");
    let is_locate = |command: &&Command| matches!(command, Command::Locate { .. });
    assert!(questions.iter().all(is_locate), "{questions:?}");
}

#[test]
fn content_is_verified_once_and_then_streamed() {
    let content = noise(2_000_000);
    let site = site(&content, Codec::Stored);
    let reads = || site.backend().blobs.reads.load(Ordering::Relaxed);
    assert_eq!(get(&site, &[]).1.unwrap(), content);
    let first = reads();
    assert_eq!(get(&site, &[]).1.unwrap(), content);
    assert_eq!(reads() - first, 1, "the body alone is read");
}

#[test]
fn part_table_of_the_first_version_serves_without_values() {
    let parts = BlobParts::of(9 * 1024 * 1024).unwrap();
    let content = noise(9 * 1024 * 1024);
    let (object, at) = stored(&content, Codec::Parts);
    let table = &object[at.extent.offset as usize..];
    let old = &table[..table.len() - 2 * Hash::LEN];
    let old = PartTable::decode(old, parts).unwrap();
    assert!(old.is_of(parts, &BlobId::of(&content)));
    assert_eq!(old.value(parts.part(0).unwrap()), None);
    let new = PartTable::decode(table, parts).unwrap();
    assert!(!new.is_of(parts, &BlobId::of(b"another")));
}
