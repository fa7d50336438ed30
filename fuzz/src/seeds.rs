//! Fuzz seeds: valid inputs, most of them from the golden vectors and from recorded answers.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use pmx_streams::segment::{SegmentBuilder, StreamKind};
use serde_json::Value;

const VECTORS: &str = include_str!("../../tests/golden/vectors.json");

/// Requests to sites with rules, as a test sends them to both hosts.
const HOSTING: &str = include_str!("../../tests/hosting/cases.json");

pub(crate) fn nodes() -> Vec<Vec<u8>> {
    golden("exact", |name| name.contains("/node/"))
}

pub(crate) fn patches() -> Vec<Vec<u8>> {
    golden("exact", |name| name.starts_with("patch/"))
}

pub(crate) fn packs() -> Vec<Vec<u8>> {
    let mut packs = golden("exact", |name| name == "pack/stored");
    packs.extend(golden("decoded", |name| name == "pack"));
    packs
}

pub(crate) fn parts() -> Vec<Vec<u8>> {
    let is_part = |name: &str| matches!(name, "part/copies" | "part/stored");
    let mut parts = golden("exact", is_part);
    parts.extend(golden("decoded", |name| name == "part"));
    parts
}

pub(crate) fn envelopes() -> Vec<Vec<u8>> {
    let is_one = |name: &str| match name.strip_prefix("conversation/") {
        Some(rest) => rest.ends_with("/request") && !rest.contains("pack"),
        None => name == "envelope/stored",
    };
    let mut envelopes = golden("exact", is_one);
    envelopes.extend(golden("decoded", |name| name == "envelope"));
    envelopes
}

pub(crate) fn segments() -> Vec<Vec<u8>> {
    let messages: [&[u8]; 3] = [b"{\"a\":1}", b"2", b"[\"three\"]"];
    let segments = [StreamKind::Bytes, StreamKind::Json].map(|kind| {
        let mut builder = SegmentBuilder::new(kind, 7);
        for message in messages {
            builder.push(message).expect("a segment takes a message");
        }
        builder.finish().expect("a segment has messages").bytes
    });
    segments.into()
}

pub(crate) fn events_messages() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"page":"/guide/","uses":["/app.css","/logo.svg"],"offset":"-1"}"#,
        r#"{"all":true,"compact":false}"#,
        r#"{"offset":"0000000000000000_0000000000000003"}"#,
    ])
}

pub(crate) fn stream_heads() -> Vec<Vec<u8>> {
    texts(&[
        "PUT /v1/stream/a\ncontent-type: application/json\nstream-ttl: 60",
        "PUT /v1/stream/b\nstream-forked-from: /v1/stream/a\nstream-fork-offset: 0000000000000000_0000000000000007",
        "POST /v1/stream/a\ncontent-type: text/plain\nproducer-id: p\nproducer-epoch: 0\nproducer-seq: 1",
        "GET /v1/stream/a?offset=-1&live=long-poll&cursor=7\nif-none-match: \"x\"",
        "GET /v1/stream/a?offset=now&live=sse",
        "DELETE /v1/stream/a",
    ])
}

pub(crate) fn pages() -> Vec<Vec<u8>> {
    texts(&[
        "<!doctype html><html><head><title>a</title></head><body>b</body></html>",
        "<!-- c --><p><script nonce=\"n\">let a = '</p>';</script>",
        "<textarea><head></textarea><svg><title></svg>",
        "plain text",
        "\u{feff}<!DOCTYPE html><head lang=\"a>b\"><base href=/x>",
    ])
}

/// One request for each pair of rule files that the recorded cases have, and some for the others.
pub(crate) fn rules() -> Vec<Vec<u8>> {
    let hosting: Value = serde_json::from_str(HOSTING).expect("recorded cases are JSON");
    let text = |name: &Value| {
        let text = name
            .as_str()
            .and_then(|name| hosting["texts"][name].as_str());
        text.unwrap_or_default()
    };
    let cases = hosting["cases"].as_array().expect("a list of cases");
    let mut seeds = BTreeMap::new();
    for case in cases {
        let files = (text(&case["redirects_file"]), text(&case["headers_file"]));
        let path = case["request"]["path"].as_str().unwrap_or("/");
        seeds.entry(files).or_insert(path);
    }
    let seeds = seeds.iter();
    let seeds = seeds.map(|((redirects, headers), path)| format!("{path}\n{redirects}\0{headers}"));
    let mut seeds: Vec<_> = seeds.map(String::into_bytes).collect();
    seeds.extend(texts(&[
        "/a/x\n/a/* /b/:splat\n/b/:x /a/:x 301\n/* /about 200\0\0html = \"both\"\nmissing = \"spa\"",
        "/x\n\0\0html = \"no-slash\"\nmissing = \"none\"\ncanonical = 308\n[types]\n\".x\" = \"a/b\"",
        "/\n\0\0\0{\"cache\":{\"assets/app.js\":\"immutable\"},\"html\":\"exact\",\"routes\":{\"/\":\
         {\"status\":308,\"to\":\"/index.path\"},\"/index.path\":{\"file\":\"index.path.html\"}},\
         \"version\":1}",
    ]));
    seeds
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The golden vector with a name.
pub(crate) fn exact(name: &str) -> Vec<u8> {
    let mut found = golden("exact", |known| known == name);
    found.pop().expect("a golden vector has this name")
}

fn golden(group: &str, wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let vectors: Value = serde_json::from_str(VECTORS).expect("golden vectors are JSON");
    let group = vectors[group].as_object().expect("a group of vectors");
    let wanted = group.iter().filter(|(name, _)| wanted(name));
    let texts = wanted.filter_map(|(_, value)| value.as_str());
    let bytes = texts.map(|text| HEXLOWER.decode(text.as_bytes()));
    bytes
        .collect::<Result<_, _>>()
        .expect("vectors are hexadecimal")
}
