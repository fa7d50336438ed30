//! Malformed publish requests and uploads: each gets its own error.

use pmx_core::codec::Encoder;
use pmx_core::id::PackId;
use pmx_sync::wire::{Envelope, Section, SectionKind};
use serde_json::json;

use super::{api, check, live, nothing_is_lost};
use crate::world::{World, on_both_hosts};

on_both_hosts! {
    publish_requests_that_are_malformed_are_refused,
    uploads_that_are_malformed_are_refused,
}

fn begin(head: &serde_json::Value, sections: Vec<(SectionKind, Vec<u8>)>) -> Vec<u8> {
    let sections = sections.into_iter();
    let sections = sections
        .map(|(kind, bytes)| Section {
            kind,
            bytes: bytes.into(),
        })
        .collect();
    let head = serde_json::to_vec(head).unwrap().into();
    Envelope { head, sections }.encode(&mut Encoder::new())
}

fn publish_requests_that_are_malformed_are_refused(world: World) {
    let world = live(world);
    let root = "ab".repeat(32);
    let head = |more: &[(&str, serde_json::Value)]| {
        let mut head = json!({"v": 1, "space": "docs", "root": root});
        for (name, value) in more {
            head[name] = value.clone();
        }
        head
    };
    let terms = |expect: u64| ("commit", json!({"expect": expect, "key": "k"}));
    let live = api(&world, "GET", "/api/deploys?space=docs", &[], b"").json()["deploys"][0]["root"]
        .as_str()
        .unwrap()
        .to_owned();
    let base = ("base", json!(live));
    let nodes = |bytes: &[u8]| {
        let mut section = Vec::new();
        pmx_core::encode::write_bytes(&mut section, bytes);
        begin(&head(&[]), vec![(SectionKind::Nodes, section)])
    };
    let commit = "/api/publish/commit";
    let start = "/api/publish/begin";
    let patch = |bytes: &[u8]| {
        begin(
            &head(std::slice::from_ref(&base)),
            vec![(SectionKind::Patch, bytes.to_vec())],
        )
    };
    let long_key = json!({"expect": 1, "key": "k".repeat(5000)});
    for (story, path, body, status, code) in [
        ("nothing", start, vec![], 400, "E_REQUEST_MALFORMED"),
        (
            "no envelope",
            start,
            b"{}".to_vec(),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "a head that is no JSON",
            start,
            vec![1, b'{'],
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "an unknown field",
            start,
            begin(&head(&[("evil", json!(1))]), vec![]),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "another version",
            start,
            begin(&head(&[("v", json!(9))]), vec![]),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "a root in capitals",
            start,
            begin(&head(&[("root", json!("AB".repeat(32)))]), vec![]),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "a name with a dot",
            start,
            begin(&head(&[("space", json!("a.b"))]), vec![]),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "an unknown section",
            start,
            [begin(&head(&[]), vec![]), vec![9, 0, 0]].concat(),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "a section longer than the body",
            start,
            [begin(&head(&[]), vec![]), vec![1, 0, 100]].concat(),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "a section of 2^60 bytes",
            start,
            [
                begin(&head(&[]), vec![]),
                vec![1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
            ]
            .concat(),
            413,
            "E_TOO_LARGE",
        ),
        (
            "a section that is no zstd",
            start,
            [begin(&head(&[]), vec![]), vec![1, 1, 9, 4, 1, 2, 3, 4]].concat(),
            422,
            "E_COMPRESSION",
        ),
        (
            "an outline of odd length",
            start,
            begin(&head(&[]), vec![(SectionKind::Outline, vec![0; 33])]),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "an outline of another root",
            start,
            begin(&head(&[]), vec![(SectionKind::Outline, vec![0; 32])]),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "an outline of a million nodes",
            start,
            begin(
                &head(&[]),
                vec![(SectionKind::Outline, vec![0; 32 * 1_000_000])],
            ),
            413,
            "E_TOO_LARGE",
        ),
        (
            "a patch that is none",
            start,
            patch(&[7, 7, 7]),
            422,
            "E_MANIFEST_MALFORMED",
        ),
        (
            "a patch that leads elsewhere",
            start,
            patch(&[1, 0, 0]),
            422,
            "E_MANIFEST_MISMATCH",
        ),
        (
            "a patch behind its base",
            start,
            patch(&[1, 0, 1, 0x80 | 0x78, 0x7f]),
            422,
            "E_MANIFEST_MISMATCH",
        ),
        (
            "a node that is none",
            start,
            nodes(&[1, 0, 0xff]),
            422,
            "E_MANIFEST_MALFORMED",
        ),
        (
            "a node of 2^32 rows",
            start,
            nodes(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            422,
            "E_MANIFEST_MALFORMED",
        ),
        (
            "a pack that is none",
            start,
            begin(&head(&[]), vec![(SectionKind::Pack, vec![0; 40])]),
            422,
            "E_PACK_MALFORMED",
        ),
        (
            "a commit of a root that is not here",
            commit,
            begin(&head(&[terms(1)]), vec![]),
            409,
            "E_MISSING_OBJECTS",
        ),
        (
            "a commit without terms",
            commit,
            begin(&head(&[]), vec![]),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "a key of 5,000 bytes",
            commit,
            begin(&head(&[("commit", long_key)]), vec![]),
            413,
            "E_TOO_LARGE",
        ),
    ] {
        check(&api(&world, "POST", path, &[], &body), status, code, story);
    }
    // The server requests a node once, even if an outline names it twice.
    let id = |byte: u8| [byte; 32];
    let outline = [id(0xab), id(1), id(1), id(0xab)].concat();
    let answer = api(
        &world,
        "POST",
        start,
        &[],
        &begin(&head(&[]), vec![(SectionKind::Outline, outline)]),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["nodes"], json!([[0, 2]]));
    nothing_is_lost(&world);
}

fn uploads_that_are_malformed_are_refused(world: World) {
    let world = live(world);
    let body = b"PMXW\x01\x00\x01\x03abc".to_vec();
    let good = PackId::of(&body).to_hex();
    let wrong = "00".repeat(32);
    let pack = |id: &str| format!("/api/publish/packs/{id}?space=docs");
    let part = |id: &str, n: &str, size: &str| {
        format!("/api/publish/blobs/{id}/{n}?space=docs&size={size}")
    };
    for (story, path, body, status, code) in [
        (
            "a hash in capitals",
            pack(&good.to_uppercase()),
            body.clone(),
            400,
            "E_HASH_INVALID",
        ),
        (
            "a short hash",
            pack(&good[1..]),
            body.clone(),
            400,
            "E_HASH_INVALID",
        ),
        (
            "a path for a hash",
            pack("..%2f..%2fetc"),
            body.clone(),
            400,
            "E_HASH_INVALID",
        ),
        (
            "another hash",
            pack(&wrong),
            body.clone(),
            422,
            "E_HASH_MISMATCH",
        ),
        (
            "no space",
            format!("/api/publish/packs/{good}"),
            body.clone(),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "a space with a bad name",
            pack(&good).replace("docs", "Do_cs"),
            body.clone(),
            422,
            "E_NAME_INVALID",
        ),
        (
            "a reserved name",
            pack(&good).replace("docs", "api"),
            body.clone(),
            403,
            "E_NAME_RESERVED",
        ),
        (
            "a part without a size",
            format!("/api/publish/blobs/{wrong}/0?space=docs"),
            body.clone(),
            400,
            "E_REQUEST_MALFORMED",
        ),
        (
            "a part of a blob that is too large",
            part(&wrong, "0", "99999999999999"),
            body.clone(),
            413,
            "E_TOO_LARGE",
        ),
    ] {
        check(&api(&world, "PUT", &path, &[], &body), status, code, story);
    }
    let gzip = [("Content-Encoding", "gzip")];
    check(
        &api(&world, "PUT", &pack(&good), &gzip, &body),
        400,
        "E_REQUEST_MALFORMED",
        "gzip",
    );
    // The server accepts a valid pack, also twice.
    for _ in 0..2 {
        assert_eq!(api(&world, "PUT", &pack(&good), &[], &body).status, 200);
    }
    nothing_is_lost(&world);
}
