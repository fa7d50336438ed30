//! Dictionary responses: a returning browser gets the difference to the response that it stored.

use data_encoding::BASE64;
use pmx_core::codec::{Bounds, Decoder};
use sha2::{Digest, Sha256};

use crate::world::{Answer, Host, World, started_on_both_hosts};

started_on_both_hosts!(
    dictionary_response_of_a_page_is_its_difference,
    dictionary_response_of_a_hashed_asset_is_its_difference,
    dictionary_response_is_whole_where_the_dictionary_does_not_fit,
);

const CHROMIUM: &str = "\"Chromium\";v=\"156\", \"Not?Brand\";v=\"8\"";
const CODINGS: (&str, &str) = ("accept-encoding", "zstd, dcb, dcz");
const MAGIC: [u8; 8] = [0x5e, 0x2a, 0x4d, 0x18, 0x20, 0, 0, 0];

fn world(host: Host) -> World {
    World::with_settings(host, &[("DICTIONARIES", "passed")])
}

/// Prose that hardly compresses, with a line of its own.
fn prose(line: &str) -> String {
    let words = (0..3_000u64).map(|n| {
        let hash = blake3::hash(&n.to_le_bytes()).to_hex();
        hash[..5].to_owned()
    });
    let words: Vec<String> = words.collect();
    format!("<!doctype html><p>{}</p><p>{line}</p>", words.join(" "))
}

/// The dictionary that a browser stored from a response, and names in its next request.
struct Kept {
    body: Vec<u8>,
    hash: String,
    id: String,
}

impl Kept {
    fn of(answer: &Answer, body: Vec<u8>) -> Self {
        let said = answer.header("use-as-dictionary").expect("a dictionary");
        let (_, id) = said.split_once("id=").unwrap();
        Self {
            hash: format!(":{}:", BASE64.encode(&Sha256::digest(&body))),
            id: id.to_owned(),
            body,
        }
    }

    fn headers(&self) -> [(&'static str, &str); 3] {
        [
            CODINGS,
            ("available-dictionary", &self.hash),
            ("dictionary-id", &self.id),
        ]
    }

    /// The body that a response decodes to with the dictionary.
    fn applied(&self, answer: &Answer, size: usize) -> Vec<u8> {
        assert_eq!(answer.header("content-encoding"), Some("dcz"), "{answer:?}");
        let (head, frame) = answer.body.split_at(40);
        assert_eq!(head[..8], MAGIC);
        assert_eq!(head[8..], Sha256::digest(&self.body)[..]);
        let mut decoder = Decoder::new();
        let decoded = decoder.decompress_with_prefix(&self.body, frame, size as u64, Bounds::WIRE);
        decoded.unwrap()
    }
}

/// Caching directives of an answer, without the Worker's `no-transform` for compressed bodies.
fn caching(answer: &Answer) -> Option<&str> {
    let said = answer.header("cache-control")?;
    Some(said.strip_suffix(", no-transform").unwrap_or(said))
}

fn opened(world: &World, path: &str, more: &[(&str, &str)]) -> Answer {
    let mut headers = vec![("sec-fetch-dest", "document"), ("sec-ch-ua", CHROMIUM)];
    headers.extend_from_slice(more);
    if !more.contains(&CODINGS) {
        headers.push(("accept-encoding", "gzip, br, zstd"));
    }
    world.get_with("docs", path, &headers)
}

fn publish(world: &World, path: &str, content: &str) {
    world.write(&[(path, content)]);
    world.sync("docs", &[]).ok();
}

fn dictionary_response_of_a_page_is_its_difference(host: Host) {
    let world = world(host);
    let (old, new) = (prose("one"), prose("two"));
    publish(&world, "guide/page.html", &old);
    let first = opened(&world, "/guide/page", &[]);
    assert_eq!(first.header("content-encoding"), Some("zstd"));
    let (said, vary) = (caching(&first), first.header("vary"));
    let asked_each_time = "private, max-age=0, stale-while-revalidate=2592000";
    assert_eq!(said, Some(asked_each_time));
    let varies = "accept-encoding, available-dictionary, sec-fetch-dest";
    assert_eq!(vary, Some(varies));
    let kept = Kept::of(&first, old.into_bytes());

    // The response that the browser stored is still current.
    let etag = first.header("etag").unwrap().to_owned();
    let mut again = kept.headers().to_vec();
    again.push(("if-none-match", &etag));
    let unchanged = opened(&world, "/guide/page", &again);
    assert_eq!(unchanged.status, 304);
    assert_eq!(caching(&unchanged), Some(asked_each_time));
    assert!(unchanged.header("use-as-dictionary").is_some());

    // Ten deploys later, the browser gets the difference, in less than a tenth of a frame.
    for number in 0..9 {
        publish(&world, "other.html", &number.to_string());
    }
    publish(&world, "guide/page.html", &new);
    let second = opened(&world, "/guide/page", &again);
    assert_eq!(
        (second.status, &*kept.applied(&second, new.len())),
        (200, new.as_bytes())
    );
    assert!(second.body.len() < 200, "{} bytes", second.body.len());
    assert!(first.body.len() > 2_000, "{} bytes", first.body.len());
    assert_eq!(second.header("x-pmx-deploy"), Some("11"));
    assert!(second.header("etag").is_some_and(|tag| tag != etag));
    // The server answers the repeated request from memory.
    let third = opened(&world, "/guide/page", &again);
    assert_eq!(third.body, second.body);
    let head = world.request("HEAD", "docs", "/guide/page", &kept.headers(), b"");
    assert_eq!(
        (head.status, head.header("content-encoding")),
        (200, Some("zstd"))
    );

    // The eleventh is too late: the server sends the whole page.
    publish(&world, "guide/page.html", &prose("three"));
    let whole = opened(&world, "/guide/page", &again);
    assert_eq!(whole.header("content-encoding"), Some("zstd"));
}

fn dictionary_response_of_a_hashed_asset_is_its_difference(host: Host) {
    let world = world(host);
    let (old, new) = (prose("one"), prose("two"));
    publish(&world, "assets/app-4f3c2a1b9d.js", &old);
    let script = [("sec-fetch-dest", "script"), ("accept-encoding", "zstd")];
    let first = world.get_with("docs", "/assets/app-4f3c2a1b9d.js", &script);
    let said = first.header("use-as-dictionary").unwrap();
    assert!(said.starts_with("match=\"/assets/app-*.js\", "), "{said}");
    assert_eq!(caching(&first), Some("public, max-age=31536000, immutable"));
    let kept = Kept::of(&first, old.into_bytes());
    std::fs::remove_file(world.site().join("assets/app-4f3c2a1b9d.js")).unwrap();
    publish(&world, "assets/app-77aa2a1b03.js", &new);
    let second = world.get_with("docs", "/assets/app-77aa2a1b03.js", &kept.headers());
    assert_eq!(kept.applied(&second, new.len()), new.as_bytes());
    assert_eq!(
        caching(&second),
        Some("public, max-age=31536000, immutable")
    );
}

fn dictionary_response_is_whole_where_the_dictionary_does_not_fit(host: Host) {
    let world = world(host);
    let (old, new) = (prose("one"), prose("two"));
    publish(&world, "page.html", &old);
    let kept = Kept::of(&opened(&world, "/page", &[]), old.into_bytes());
    publish(&world, "page.html", &new);
    let other = format!(":{}:", BASE64.encode(&[7; 32]));
    let [codings, hash, id] = kept.headers();
    let plain = ("accept-encoding", "zstd");
    for headers in [
        vec![plain, hash, id],
        vec![codings, ("available-dictionary", &other), id],
        vec![codings, ("available-dictionary", "junk"), id],
        vec![
            codings,
            hash,
            ("dictionary-id", "\"0123456789abcdef/page%2Ehtml\""),
        ],
        vec![codings, hash, ("dictionary-id", "\"..\"")],
        vec![codings, hash],
        vec![codings, id],
    ] {
        let answer = world.get_with("docs", "/page", &headers);
        assert_eq!(
            answer.header("content-encoding"),
            Some("zstd"),
            "{headers:?}"
        );
    }
    // A range response contains bytes of the page, not of the difference.
    let [a, b, c] = kept.headers();
    let part = world.get_with("docs", "/page", &[a, b, c, ("range", "bytes=0-9")]);
    assert_eq!((part.status, &part.body[..]), (206, &new.as_bytes()[..10]));
    // The server asks no client to store a page that its browser might show stale.
    for more in [("sec-fetch-dest", "empty"), ("sec-fetch-dest", "document")] {
        let answer = world.get_with("docs", "/page", &[plain, more]);
        let revalidated = caching(&answer);
        assert_eq!(revalidated, Some("public, max-age=0, must-revalidate"));
        assert_eq!(answer.header("use-as-dictionary"), None);
    }
}

/// Without the setting that states that the edge forwards differences, the server offers none.
#[test]
fn dictionary_is_not_offered_without_the_setting() {
    if let Some(lack) = crate::world::worker_lacks() {
        return crate::world::skipped("dictionaries", lack);
    }
    let world = World::with_settings(Host::Worker, &[]);
    publish(&world, "page.html", &prose("one"));
    let answer = opened(&world, "/page", &[]);
    assert_eq!(answer.header("use-as-dictionary"), None);
    assert_eq!(answer.header("vary"), Some("accept-encoding"));
}
