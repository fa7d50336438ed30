//! Conversations without faults: client and server halves in memory.

mod story;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{Method, Request, StatusCode};
use pmx_core::backend::Blobs;
use pmx_core::code::Code;
use pmx_core::limits::PART_BYTES;
use pmx_sync::push::{Mode, PushOutcomeKind};
use pmx_sync::wire::{DeploysReply, DiffReply};
use sha2::{Digest, Sha256};

use self::story::{Story, base, decoded, noise, three_hundred_files};
use pmx_sync::testing::client::Network;
use pmx_sync::testing::host::block_on;

#[test]
fn publishes_and_rollbacks_make_a_history() {
    let mut story = Story::new();
    let mut files = three_hundred_files();
    let first = story.site(&files);

    // The site does not exist yet.
    assert_eq!(
        story.host.site("docs", "/", &[]).status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(story.rollback(None), Err(Code::NotFound));
    let dry = block_on(
        story
            .client()
            .publish(story.intent(&first, None, Mode::Dry)),
    )
    .unwrap();
    assert_eq!(dry.kind, PushOutcomeKind::Planned);
    assert_eq!(story.host.blobs.all().len(), 0, "a dry run wrote something");

    let (outcome, _) = story.publish(&first, None);
    let deploy = outcome.deploy.unwrap();
    assert_eq!(
        (outcome.kind, deploy.number),
        (PushOutcomeKind::Published, 1)
    );
    assert_eq!(deploy.files, files.len() as u64);
    assert_eq!(deploy.bytes, first.bytes);
    assert_eq!(deploy.summary.added, deploy.files);
    assert_eq!(outcome.url.as_deref(), Some("http://docs.localhost/"));
    story.host.check("docs", &first);

    // Nothing changed: the client sends one request, whether it knows that or not.
    let (outcome, requests) = story.publish(&first, base(&first, 1));
    assert_eq!((outcome.kind, requests), (PushOutcomeKind::Unchanged, 1));
    let (outcome, requests) = story.publish(&first, None);
    assert_eq!((outcome.kind, requests), (PushOutcomeKind::Unchanged, 1));

    // One file.
    files.insert("docs/index.html".into(), "<h1>changed</h1>".into());
    let second = story.site(&files);
    let (outcome, requests) = story.publish(&second, base(&first, 1));
    let deploy = outcome.deploy.unwrap();
    assert_eq!(
        (outcome.kind, deploy.number, requests),
        (PushOutcomeKind::Published, 2, 1)
    );
    assert_eq!((deploy.summary.modified, deploy.summary.added), (1, 0));
    assert_eq!(deploy.new_bytes, "<h1>changed</h1>".len() as u64);
    story.host.check("docs", &second);

    // A rename and a removal: the client sends no content, not even of the big file.
    let big = files.remove("big.bin").unwrap();
    files.insert("renamed/big.bin".into(), big);
    files.remove("docs/3/0/page-3.html").unwrap();
    let third = story.site(&files);
    let (outcome, requests) = story.publish(&third, base(&second, 2));
    let deploy = outcome.deploy.unwrap();
    assert_eq!(
        (outcome.kind, deploy.number, requests),
        (PushOutcomeKind::Published, 3, 1)
    );
    assert_eq!((deploy.summary.added, deploy.summary.removed), (1, 2));
    assert_eq!(deploy.new_bytes, 0);
    story.host.check("docs", &third);
    let gone = story.host.site("docs", "/docs/3/0/page-3", &[]);
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert_eq!(gone.body, files["404.html"]);

    // An asset of an earlier deploy still resolves, except at the deploy's own URL.
    let kept = story.host.site("docs", "/big.bin", &[]);
    assert_eq!(kept.status, StatusCode::OK);
    assert_eq!(
        story.host.site("3--docs", "/big.bin", &[]).status,
        StatusCode::NOT_FOUND
    );

    // Every deploy has its own URL.
    story.host.check("1--docs", &first);
    story.host.check("2--docs", &second);
    story.host.check("3--docs", &third);
    assert_eq!(
        story.host.site("4--docs", "/", &[]).status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        story.host.site("other", "/", &[]).status,
        StatusCode::NOT_FOUND
    );

    // Two rollbacks return to the same deploy.
    assert_eq!(story.rollback(None), Ok(4));
    story.host.check("docs", &second);
    assert_eq!(story.rollback(None), Ok(5));
    story.host.check("docs", &first);
    assert_eq!(story.rollback(None), Err(Code::DeployUnknown));
    assert_eq!(story.rollback(Some(3)), Ok(6));
    story.host.check("docs", &third);
    assert_eq!(story.rollback(Some(9)), Err(Code::DeployUnknown));
    // The space knows the older root: the client sends one request and no upload.
    let (outcome, requests) = story.publish(&second, base(&third, 6));
    assert_eq!((outcome.kind, requests), (PushOutcomeKind::Published, 1));
    story.host.check("docs", &second);

    let history: DeploysReply = block_on(story.client().deploys()).unwrap();
    assert_eq!(history.active, 7);
    let numbers: Vec<u64> = history.deploys.iter().map(|deploy| deploy.number).collect();
    assert_eq!(numbers, [7, 6, 5, 4, 3, 2, 1]);
    let restored: Vec<_> = history
        .deploys
        .iter()
        .map(|deploy| deploy.restores)
        .collect();
    assert_eq!(
        restored,
        [None, Some(3), Some(1), Some(2), None, None, None]
    );

    let diff: DiffReply = block_on(story.client().get("/api/diff?space=docs&from=1&to=3")).unwrap();
    let paths: Vec<&str> = diff.rows.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "big.bin",
            "docs/3/0/page-3.html",
            "docs/index.html",
            "renamed/big.bin"
        ]
    );
}

#[test]
fn ranges_of_a_blob_in_parts_are_served() {
    let mut story = Story::new();
    let files = three_hundred_files();
    let site = story.site(&files);
    story.publish(&site, None);
    let part = PART_BYTES;
    for path in ["big.bin", "text.bin", "exactly.bin", "img/noise.png"] {
        let bytes = &files[path];
        let len = bytes.len() as u64;
        for (first, last) in [
            (0, 0),
            (part - 1, part),
            (part - 5, part + 5),
            (part, part),
            (len - 1, len - 1),
            (1, len - 1),
        ] {
            let range = format!("bytes={first}-{last}");
            let headers = [("range", range.as_str()), ("accept-encoding", "zstd")];
            let answer = story.host.site("docs", &format!("/{path}"), &headers);
            if first >= len {
                assert_eq!(
                    answer.status,
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "{path} {range}"
                );
                continue;
            }
            assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{path} {range}");
            let end = (last + 1).min(len);
            assert!(
                answer.body == bytes.slice(first as usize..end as usize),
                "{path} {range}"
            );
            let sent = format!("bytes {first}-{}/{len}", end - 1);
            assert_eq!(answer.headers["content-range"].to_str().unwrap(), sent);
        }
    }
}

/// A client sends a manifest above 64 KiB as an outline first.
#[test]
fn large_manifest_is_published_by_a_machine_without_a_base() {
    let mut story = Story::new();
    let page = |n: u32| {
        (
            format!("a/rather/long/path/{:08x}/{n}.html", n ^ 0x5a5a),
            n.to_string(),
        )
    };
    let mut files: BTreeMap<String, Bytes> = (0..3000)
        .map(page)
        .map(|(path, text)| (path, text.into()))
        .collect();
    let first = story.site(&files);
    let (outcome, requests) = story.publish(&first, None);
    assert_eq!((outcome.kind, requests), (PushOutcomeKind::Published, 5));
    story.host.check("docs", &first);
    // A client without a base sends the root, the outline, the changed nodes, one pack and the
    // commit.
    files.insert("a/new.html".into(), "new".into());
    let second = story.site(&files);
    let (outcome, requests) = story.publish(&second, None);
    assert_eq!((outcome.kind, requests), (PushOutcomeKind::Published, 5));
    assert_eq!(outcome.summary.unwrap().unchanged, 3000);
    story.host.check("docs", &second);
    // A dry run reports what the client would send, and changes nothing.
    files.insert("a/newer.html".into(), "newer".into());
    let third = story.site(&files);
    let dry = story.intent(&third, base(&second, 2), Mode::Dry);
    let (dry, requests) = story
        .host
        .count(|| block_on(story.client().publish(dry)).unwrap());
    assert_eq!((dry.kind, requests), (PushOutcomeKind::Planned, 1));
    assert_eq!((dry.missing_bytes, dry.summary.unwrap().added), (5, 1));
    assert_eq!(block_on(story.client().deploys()).unwrap().active, 2);
}

#[test]
fn empty_site_is_published_and_replaced() {
    let mut story = Story::new();
    let none = story.site(&BTreeMap::new());
    let one = story.site(&[("index.html".to_owned(), Bytes::from_static(b"hi"))].into());
    assert_eq!(
        story.publish(&none, None).0.kind,
        PushOutcomeKind::Published
    );
    assert_eq!(
        story.host.site("docs", "/", &[]).status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        story.publish(&one, base(&none, 1)).0.kind,
        PushOutcomeKind::Published
    );
    story.host.check("docs", &one);
    let (outcome, requests) = story.publish(&none, base(&one, 2));
    assert_eq!((outcome.kind, requests), (PushOutcomeKind::Published, 1));
    assert_eq!(
        story.host.site("docs", "/", &[]).status,
        StatusCode::NOT_FOUND
    );
}

/// Only a dictionary response needs the old page; the new page does not.
#[test]
fn dictionary_response_falls_back_when_objects_of_the_old_deploy_are_lost() {
    let mut story = Story::new();
    let page = |line: &str| {
        let words = noise(9_000, 4)
            .iter()
            .map(u8::to_string)
            .collect::<Vec<_>>();
        Bytes::from(format!("<!doctype html>{} {line}", words.join(" ")))
    };
    let [old, new] = [page("one"), page("two")];
    let sites = [&old, &new].map(|page| story.site(&[("a.html".into(), page.clone())].into()));
    story.publish(&sites[0], None);
    let document = [
        ("accept-encoding", "zstd, dcz"),
        ("sec-fetch-dest", "document"),
        ("sec-ch-ua", "\"Chromium\";v=\"156\""),
    ];
    let first = story.host.site("docs", "/a", &document);
    let named = first.headers["use-as-dictionary"].to_str().unwrap();
    let (_, id) = named.split_once("id=").unwrap();
    let of_old: Vec<_> = story.host.blobs.all().into_iter().collect();
    story.publish(&sites[1], base(&sites[0], 1));

    let sha256 = format!(":{}:", BASE64.encode(&Sha256::digest(&old)));
    let kept = [("available-dictionary", &*sha256), ("dictionary-id", id)];
    let returning = [&document[..], &kept].concat();
    let mut codings = BTreeSet::new();
    for (key, bytes) in of_old {
        story.host.forget();
        let whole = story.host.site("docs", "/a", &returning);
        assert_eq!(whole.headers["content-encoding"], "dcz");
        block_on(story.host.blobs.delete(&[key])).unwrap();
        story.host.forget();
        let answer = story.host.site("docs", "/a", &returning);
        assert_eq!(answer.status, StatusCode::OK, "without {key:?}");
        let coding = answer.headers["content-encoding"].to_str().unwrap();
        if coding == "zstd" {
            assert!(decoded(&answer) == new, "without {key:?}");
        } else {
            assert_eq!(answer.body, whole.body, "without {key:?}");
        }
        codings.insert(coding.to_owned());
        block_on(story.host.blobs.write(key, bytes)).unwrap();
    }
    // Without the old page, the server sends no dictionary response.
    assert!(codings.contains("zstd"), "{codings:?}");
}

#[test]
fn api_is_closed_without_the_secret() {
    let story = Story::new();
    for (path, token) in [
        ("/api/deploys?space=docs", None),
        ("/api/deploys?space=docs", Some("Bearer another")),
        ("/api/publish/begin", None),
    ] {
        let mut request = Request::builder().uri(path).header("host", "api.localhost");
        if path.ends_with("begin") {
            request = request.method(Method::POST);
        }
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let request = request.body(Bytes::new()).unwrap();
        let answer = block_on((&story.host).send(request)).unwrap();
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}
