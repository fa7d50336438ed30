//! Rule files and a request: the first line is a URL path, and the files follow, with a 0 between.

use http::header::{ACCEPT_LANGUAGE, COOKIE, LOCATION};
use http::{HeaderMap, HeaderValue, Method};
use pmx_core::id::{BlobId, ObjectId};
use pmx_core::location::{Codec, Extent, Location};
use pmx_sync::manifest::Entry;
use pmx_sync::media::{Media, media_of_name};
use pmx_sync::path::SitePath;
use pmx_sync::rules::{RuleFile, SiteRules};
use pmx_sync::site::{LocatedFile, Lookups, Plan, ROUNDS_MAX, SiteRequest, Snapshot, plan};

/// Redirects that a browser follows.
const REDIRECTS_MAX: usize = 20;

/// Any files give rules of a bounded size. With them each request has an answer, after a bounded
/// number of lookups, and redirects within the site come to an end.
pub(crate) fn files(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |&byte| byte == b'\n');
    let url = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let files = lines.next().unwrap_or_default().split(|&byte| byte == 0);
    let (rules, _) = SiteRules::compile(RuleFile::ALL.into_iter().zip(files));
    assert!(rules.charged_bytes() <= SiteRules::BYTES_MAX);
    let _refused = planned(&rules, &Method::POST, &url);
    let mut at = url.into_owned();
    for step in 0.. {
        let Some(next) = redirect(&planned(&rules, &Method::GET, &at)) else {
            break;
        };
        assert!(step < REDIRECTS_MAX, "redirects have no end at {at:?}");
        at = next;
    }
}

/// The URL of the same site to which a plan redirects.
fn redirect(plan: &Plan) -> Option<String> {
    let location = plan.headers.get(LOCATION)?.to_str().ok()?;
    let is_local = plan.status.is_redirection() && location.starts_with('/');
    let url = location.split('#').next()?;
    is_local.then(|| url.to_owned())
}

fn planned(rules: &SiteRules, method: &Method, url: &str) -> Plan {
    let request = request(method, url);
    let mut known = Lookups::default();
    for _ in 0..=ROUNDS_MAX {
        match plan(&request, &Snapshot::active(7, 1), rules, &known) {
            Ok(plan) => return plan,
            Err(need) => {
                for lookup in need.lookups {
                    let held = held(&lookup.path);
                    known.insert(lookup, held);
                }
            }
        }
    }
    panic!("planning the answer at {url:?} has no end");
}

fn request(method: &Method, url: &str) -> SiteRequest {
    let (path, query) = match url.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (url, None),
    };
    let headers: HeaderMap = [
        (ACCEPT_LANGUAGE, HeaderValue::from_static("de, en;q=0.5")),
        (COOKIE, HeaderValue::from_static("a=b; beta")),
    ]
    .into_iter()
    .collect();
    let request = SiteRequest::new(method, path, query, &headers, None);
    request.from_client("www.example.com", None)
}

/// Half of all paths have a file, and `index.html`, `404.html` and `about.html` are among them.
fn held(path: &SitePath) -> Option<LocatedFile> {
    let name = path.as_str();
    let media = Media::parse(media_of_name(name)).ok()?;
    let is_there = name.len().is_multiple_of(2);
    is_there.then(|| LocatedFile {
        entry: Entry {
            blob: BlobId::of(name.as_bytes()),
            size: 100,
            media,
        },
        at: Location {
            extent: Extent {
                object: ObjectId::from_bytes([7; 16]),
                offset: 0,
                len: 50,
            },
            codec: Codec::Zstd,
        },
    })
}
