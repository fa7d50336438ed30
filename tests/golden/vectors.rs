//! Golden vectors: every byte of the formats, in a file that is checked in.
//!
//! Each run generates everything under `exact` again, and it must be equal. The vectors under
//! `decoded` contain zstd frames, which another version of zstd may encode differently: they only
//! have to decode to the same content.
//!
//! A difference means that existing sites, clients and servers no longer agree with this code. An
//! intended difference is a new version of the format, with a new version number and, for a hash, a
//! new context. Then, and for additions, `PMX_BLESS=1 cargo test -p pmx-tests golden` writes the
//! file again.

use std::collections::BTreeMap;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use pmx_core::codec::{Decoder, Encoder, Level};
use pmx_core::id::{BlobId, NodeId, ObjectId, PackId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_sync::index::IndexNode;
use pmx_sync::manifest::{Change, Child, NodeMap, Totals, build, diff, encode_patch};
use pmx_sync::pack::part::{self, BlobParts, ChainingValue, PartDelta, PartTable, Run, WirePart};
use pmx_sync::pack::{PackCoding, stored, wire};
use pmx_sync::path::SitePath;
use pmx_sync::wire::{Envelope, Section, SectionKind};
use serde::{Deserialize, Serialize};

use super::conversation;
use super::fixtures::rows;
use super::reference::{self, File};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/vectors.json");

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Vectors {
    note: String,
    exact: BTreeMap<String, String>,
    decoded: BTreeMap<String, String>,
}

#[test]
fn golden_vectors_are_unchanged() {
    let exact = exact();
    if is_blessing() {
        return bless(exact);
    }
    let checked_in = read();
    for (name, value) in &checked_in.exact {
        let now = exact.get(name).map_or("nothing", String::as_str);
        assert!(
            now == value || is_same_json(now, value),
            "{name} changed: a new version of a format, or a defect"
        );
    }
    for name in exact.keys() {
        assert!(
            checked_in.exact.contains_key(name),
            "{name} is not checked in: bless it"
        );
    }
}

#[test]
fn golden_frames_can_still_be_decoded() {
    let checked_in = read().decoded;
    assert_eq!(checked_in.len(), 4);
    for (name, value) in checked_in {
        check_decoded(&name, &HEXLOWER.decode(value.as_bytes()).unwrap());
    }
}

/// Replies are JSON, in which the order of fields has no meaning.
fn is_same_json(now: &str, before: &str) -> bool {
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    parse(now).is_some_and(|now| Some(now) == parse(before))
}

fn read() -> Vectors {
    serde_json::from_str(&std::fs::read_to_string(PATH).unwrap()).unwrap()
}

/// Writes the file. Checked-in frames stay, because old bytes have to remain readable for ever.
fn bless(exact: BTreeMap<String, String>) {
    eprintln!(
        "PMX_BLESS=1: writing {PATH}. A vector that changes or goes is a new version of its \
         format: sites and clients that exist no longer agree with this code."
    );
    let before = std::fs::read_to_string(PATH).unwrap_or_default();
    let before: Vectors = serde_json::from_str(&before).unwrap_or_default();
    for (name, value) in &before.exact {
        if exact.get(name) != Some(value) {
            eprintln!("changed or gone: {name}");
        }
    }
    let mut decoded = frames();
    decoded.extend(before.decoded);
    let note = "Made by PMX_BLESS=1 cargo test -p pmx-tests golden. Changing a value under exact, \
                or any under decoded, is a new version of a format: see vectors.rs.";
    let vectors = Vectors {
        note: note.to_owned(),
        exact,
        decoded,
    };
    let text = serde_json::to_string_pretty(&vectors).unwrap();
    std::fs::write(PATH, text + "\n").unwrap();
}

fn exact() -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    blobs(&mut out);
    manifests(&mut out);
    patches(&mut out);
    index_nodes(&mut out);
    packs(&mut out);
    parts(&mut out);
    envelopes(&mut out);
    conversation::vectors(&mut out);
    out
}

pub(crate) type Out = BTreeMap<String, String>;

pub(crate) fn put(out: &mut Out, name: impl Into<String>, value: impl Into<String>) {
    let name = name.into();
    let before = out.insert(name.clone(), value.into());
    assert_eq!(before, None, "two vectors are called {name}");
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

/// The input of BLAKE3's own test vectors: 0, 1, .. 250, 0, 1, ..
fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

const BIG: usize = 20 << 20;

fn blobs(out: &mut Out) {
    let inputs = [
        ("empty", Vec::new()),
        ("abc", b"abc".to_vec()),
        ("1-mib", pattern(1 << 20)),
    ];
    for (name, bytes) in inputs {
        put(out, format!("blob/{name}"), BlobId::of(&bytes).to_hex());
    }
    let bytes = pattern(BIG);
    let whole = BlobParts::of(BIG as u64).unwrap();
    let mut values = Vec::new();
    for part in whole.all() {
        let bytes = &bytes[part.offset() as usize..][..part.len() as usize];
        let value = ChainingValue::of(part, bytes).unwrap();
        let name = format!("blob/20-mib/part/{}", part.number());
        put(out, name, hex(value.as_bytes()));
        values.push(value);
    }
    let merged = whole.merge(&values).unwrap();
    assert_eq!(merged, BlobId::of(&bytes), "parts merge to another id");
    put(out, "blob/20-mib", merged.to_hex());
}

/// A file of the vectors, with a content that its number determines.
fn numbered(path: String, number: usize) -> File {
    let bytes = format!("content {number}\n");
    let media = [
        "text/html; charset=utf-8",
        "text/css; charset=utf-8",
        "image/png",
    ][number % 3];
    File {
        path,
        id: *blake3::hash(bytes.as_bytes()).as_bytes(),
        size: bytes.len() as u64,
        media: media.to_owned(),
    }
}

fn flat(count: usize) -> Vec<File> {
    let path = |number| format!("docs/page-{number:05}.html");
    (0..count)
        .map(|number| numbered(path(number), number))
        .collect()
}

/// One file in each of 100 nested folders.
fn deep() -> Vec<File> {
    let path = |depth| format!("{}index.html", "d/".repeat(depth));
    let mut files: Vec<File> = (0..100).map(|depth| numbered(path(depth), depth)).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// A run without boundaries: only the cap ends its nodes.
fn capped() -> Vec<File> {
    let paths = (0..).map(|number| format!("run/{number:05}"));
    let paths = paths
        .filter(|path| reference::level_of(path) == 0)
        .take(600);
    paths
        .enumerate()
        .map(|(number, path)| numbered(path, number))
        .collect()
}

fn manifests(out: &mut Out) {
    let sites = [
        ("empty", Vec::new()),
        ("one-file", vec![numbered("index.html".to_owned(), 0)]),
        ("65-files", flat(65)),
        ("5000-files", flat(5_000)),
        ("100-levels", deep()),
        ("600-files-without-a-boundary", capped()),
    ];
    for (name, files) in sites {
        let built = build(rows(&files)).unwrap();
        let by_reference = reference::build(&files);
        assert_eq!(
            by_reference.last().unwrap().id,
            *built.root.as_bytes(),
            "{name}"
        );
        assert_eq!(by_reference.len(), built.nodes.len(), "{name}");
        put(out, format!("manifest/{name}/root"), built.root.to_hex());
        put(
            out,
            format!("manifest/{name}/nodes"),
            built.nodes.len().to_string(),
        );
        if files.len() <= 100 {
            for (number, node) in built.nodes.iter().enumerate() {
                put(
                    out,
                    format!("manifest/{name}/node/{number}"),
                    hex(&node.bytes),
                );
            }
        }
    }
    for path in ["index.html", "docs/page-00041.html", "run/00000"] {
        put(
            out,
            format!("boundary/level/{path}"),
            reference::level_of(path).to_string(),
        );
    }
    let first = |level| {
        (0..1_000_000)
            .map(|number| format!("k{number}"))
            .find(|key| reference::level_of(key) == level)
    };
    for level in 1..=3 {
        put(
            out,
            format!("boundary/first-k-of-level/{level}"),
            first(level).unwrap(),
        );
    }
}

/// The site of 65 files after an edit: it loses a page and gets two, and one page changes its
/// content and its type.
fn edited() -> Vec<File> {
    let mut files = flat(65);
    "image/png".clone_into(&mut files[64].media);
    files[20] = numbered(files[20].path.clone(), 1_000);
    files.remove(10);
    files.insert(0, numbered("css/é.css".to_owned(), 1_001));
    files.insert(1, numbered("css/é/日本.html".to_owned(), 1_002));
    files
}

fn changes() -> Vec<Change> {
    let (before, after) = (
        build(rows(&flat(65))).unwrap(),
        build(rows(&edited())).unwrap(),
    );
    let mut nodes = NodeMap::default();
    nodes.extend(before.nodes);
    nodes.extend(after.nodes);
    diff(&nodes, before.root, &nodes, after.root).unwrap()
}

fn patches(out: &mut Out) {
    let patch = encode_patch(&changes());
    assert_eq!(patch, reference::encode_patch(&flat(65), &edited()));
    put(out, "patch/65-files", hex(patch));
    put(out, "patch/nothing", hex(encode_patch(&[])));
}

fn object(number: u8) -> ObjectId {
    ObjectId::from_bytes([number; 16])
}

fn location(number: u8, offset: u64, len: u64, codec: Codec) -> Location {
    Location {
        extent: Extent {
            object: object(number),
            offset,
            len,
        },
        codec,
    }
}

fn index_nodes(out: &mut Out) {
    let files = flat(4);
    let places = [
        location(7, 0, 10, Codec::Stored),
        location(9, 300, 9, Codec::Zstd),
        location(7, 10, 10, Codec::Stored),
        location(9, 70_000, 99, Codec::ZstdParts),
    ];
    let leaf = IndexNode::Leaf(rows(&files).into_iter().zip(places).collect());
    put(out, "twin/leaf", hex(leaf.encode()));
    let child = |path: &str, seed: u8| Child {
        last: SitePath::parse(path).unwrap(),
        id: NodeId::from_bytes([seed; 32]),
        totals: Totals {
            files: 64,
            bytes: 1 << 33,
        },
    };
    let children = vec![
        (
            child("a/m.html", 1),
            location(7, 20, 4_000, Codec::Stored).extent,
        ),
        (
            child("a/z.html", 2),
            location(9, 0, 5_000, Codec::Stored).extent,
        ),
    ];
    let interior = IndexNode::Interior { level: 1, children };
    put(out, "twin/interior", hex(interior.encode()));
}

const PAGES: [&[u8]; 3] = [
    b"<html><head><title>one</title></head><body>words, words, words, words, one</body></html>",
    b"",
    b"<html><head><title>two</title></head><body>words, words, words, words, two</body></html>",
];

pub(crate) fn packed(blobs: &[&[u8]], coding: PackCoding) -> Vec<u8> {
    let mut builder = wire::PackBuilder::new();
    for blob in blobs {
        builder.push(blob).unwrap();
    }
    builder
        .finish(&mut Encoder::new(), coding)
        .unwrap()
        .into_bytes()
}

fn at_rest(wire: &[u8]) -> stored::StoredPack {
    let verified = wire::verify(wire, &mut Decoder::new()).unwrap();
    verified.rest(&mut Encoder::new(), Level::STORED)
}

fn packs(out: &mut Out) {
    let stored = packed(&PAGES, PackCoding::Stored);
    put(out, "pack/stored/id", PackId::of(&stored).to_hex());
    put(out, "pack/stored", hex(&stored));
    let rest = at_rest(&stored);
    let mut toc = Vec::new();
    rest.toc.encode(&mut toc);
    put(out, "object/stored/contents", hex(toc));
    put(out, "object/stored", hex(rest.bytes));
}

fn parts(out: &mut Out) {
    // The last part of a blob of 8 MiB and three bytes.
    let parts = BlobParts::of((8 << 20) + 3).unwrap();
    let last = parts.part(1).unwrap();
    let wire = WirePart::of(last, b"abc", &mut Encoder::new(), PackCoding::Stored).unwrap();
    put(out, "part/stored", hex(wire.bytes));
    put(
        out,
        "part/stored/chaining-value",
        hex(wire.chaining_value.as_bytes()),
    );
    let mut copies = PartDelta::of(last, NodeId::of(b"base"), 300);
    let (at, from, len) = (1, 9_000_000, 2);
    assert!(copies.push(Run { at, from, len }));
    let wire = WirePart::build_with_delta(&copies, b"abc", &mut Encoder::new(), PackCoding::Stored)
        .unwrap();
    put(out, "part/copies", hex(wire.bytes));
    let locations = vec![
        location(7, 0, 4_000_000, Codec::Zstd),
        location(9, 0, 3, Codec::Stored),
    ];
    let mut table = Vec::new();
    PartTable::new(parts, locations).unwrap().encode(&mut table);
    put(out, "part-table", hex(table));
}

pub(crate) fn envelope(head: &impl Serialize, sections: Vec<(SectionKind, Vec<u8>)>) -> Vec<u8> {
    let section = |(kind, bytes): (SectionKind, Vec<u8>)| Section {
        kind,
        bytes: bytes.into(),
    };
    let envelope = Envelope {
        head: serde_json::to_vec(head).unwrap().into(),
        sections: sections.into_iter().map(section).collect(),
    };
    envelope.encode(&mut Encoder::new())
}

fn envelopes(out: &mut Out) {
    let sections = vec![
        (SectionKind::Patch, b"patch".to_vec()),
        (SectionKind::Outline, vec![0xab; 32]),
        (SectionKind::Nodes, b"\x04node".to_vec()),
        (SectionKind::Pack, b"pack".to_vec()),
    ];
    let all = envelope(&serde_json::json!({"v": 1}), sections);
    put(out, "envelope/stored", hex(all));
}

/// Whether to write the checked-in files again.
pub(crate) fn is_blessing() -> bool {
    std::env::var_os("PMX_BLESS").is_some_and(|value| value == "1")
}

/// The vectors with zstd frames, as this version of zstd encodes them.
fn frames() -> BTreeMap<String, String> {
    let solid = packed(&PAGES, PackCoding::Zstd(Level::WIRE));
    let page = PAGES.concat();
    let rest = at_rest(&packed(&[&page], PackCoding::Zstd(Level::WIRE))).bytes;
    let parts = BlobParts::of((8 << 20) + page.len() as u64).unwrap();
    let coding = PackCoding::Zstd(Level::WIRE);
    let part = WirePart::of(parts.part(1).unwrap(), &page, &mut Encoder::new(), coding).unwrap();
    let nodes = vec![(SectionKind::Nodes, vec![b'n'; 1_000])];
    let envelope = envelope(&serde_json::json!({"v": 1}), nodes);
    let all = [
        ("pack", solid),
        ("object", rest),
        ("part", part.bytes),
        ("envelope", envelope),
    ];
    all.into_iter()
        .map(|(name, bytes)| (name.to_owned(), hex(bytes)))
        .collect()
}

fn check_decoded(name: &str, bytes: &[u8]) {
    let mut decoder = Decoder::new();
    let page = PAGES.concat();
    match name {
        "pack" => {
            let pack = wire::verify(bytes, &mut decoder).unwrap();
            assert!(pack.blobs().map(|blob| blob.bytes()).eq(PAGES));
            assert_eq!(bytes[5], 1, "the vector is not a solid pack");
        }
        "object" => {
            let toc = stored::open_object(bytes).unwrap();
            let [entry] = toc.entries() else {
                panic!("{toc:?}")
            };
            assert_eq!((entry.blob, entry.codec), (BlobId::of(&page), Codec::Zstd));
            stored::verify_at_rest(entry.slice(bytes).unwrap(), entry, &mut decoder).unwrap();
        }
        "part" => {
            let parts = BlobParts::of((8 << 20) + page.len() as u64).unwrap();
            let part = part::verify(bytes, parts.part(1).unwrap(), &mut decoder).unwrap();
            assert_eq!(part.raw(), page);
            assert_eq!(bytes[5], 1, "the vector is not a compressed part");
        }
        "envelope" => {
            let body = Bytes::copy_from_slice(bytes);
            let envelope = Envelope::decode(&body, usize::MAX, &mut decoder).unwrap();
            assert_eq!(
                envelope.section(SectionKind::Nodes).unwrap()[..],
                [b'n'; 1_000]
            );
            assert!(bytes.len() < 100, "the vector is not compressed");
        }
        name => panic!("there is no reader for {name}"),
    }
}
