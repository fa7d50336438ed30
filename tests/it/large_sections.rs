//! Largest section of a request to the Worker, which passes two isolates.

use std::ops::Range;

use pmx_core::codec::Encoder;
use pmx_core::encode::write_bytes;
use pmx_core::id::BlobId;
use pmx_sync::limits::PATCH_RAW_BYTES_MAX;
use pmx_sync::manifest::{Built, Entry, Row, build};
use pmx_sync::media::Media;
use pmx_sync::path::SitePath;
use pmx_sync::wire::{Envelope, Section, SectionKind};
use serde_json::json;

use crate::access_log::AccessLog;
use crate::world::{Answer, World, or_skip};

/// Bytes of the module's memory: half of what an isolate has. Here the request and the space are in
/// one isolate.
const MEMORY_MAX: u64 = 64 * 1024 * 1024;

/// A manifest of files with long paths. With 70,000 files, its nodes exceed the largest section.
pub(crate) fn manifest(files: Range<u32>) -> Built {
    let row = |number: u32| {
        let name = |salt: u8| blake3::hash(&[&number.to_le_bytes()[..], &[salt]].concat()).to_hex();
        Row {
            path: SitePath::parse(&format!("{}/{}/{}", name(0), name(1), name(2))).unwrap(),
            entry: Entry {
                blob: BlobId::of(&number.to_le_bytes()),
                size: 4,
                media: Media::parse("text/html").unwrap(),
            },
        }
    };
    let mut rows: Vec<Row> = files.map(row).collect();
    rows.sort_by(|a, b| a.path.cmp(&b.path));
    build(rows).unwrap()
}

/// Sends as many nodes as fit in `bytes`.
fn tell(world: &World, manifest: &Built, bytes: usize) -> Answer {
    let mut section = Vec::with_capacity(bytes);
    for node in &manifest.nodes {
        if section.len() + node.bytes.len() + 4 > bytes {
            break;
        }
        write_bytes(&mut section, &node.bytes);
    }
    assert!(section.len() > bytes - 64 * 1024, "{}", section.len());
    let head = json!({"v": 1, "space": "docs", "root": manifest.root.to_hex()});
    let envelope = Envelope {
        head: serde_json::to_vec(&head).unwrap().into(),
        sections: vec![Section {
            kind: SectionKind::Nodes,
            bytes: section.into(),
        }],
    };
    let body = envelope.encode(&mut Encoder::new());
    let token = world.token();
    let headers = [("Authorization", &*token)];
    world.request("POST", "", "/api/publish/begin", &headers, &body)
}

#[test]
fn largest_section_passes_through_half_an_isolate() {
    let world = or_skip!(World::worker());
    let manifest = manifest(0..70_000);
    let mut log = AccessLog::new(&world);
    let before = log.memory;
    for _ in 0..3 {
        let answer = tell(&world, &manifest, PATCH_RAW_BYTES_MAX);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for line in log.lines(&world) {
        println!("{} {} ms", line["path"], line["ms"]);
    }
    println!("memory {before} before, {} after", log.memory);
    assert!(
        (1..=MEMORY_MAX).contains(&log.memory),
        "{} bytes",
        log.memory
    );
    let refused = tell(&world, &manifest, PATCH_RAW_BYTES_MAX + 1024 * 1024);
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.text().contains("E_TOO_LARGE"), "{}", refused.text());
}
