//! Test support: small sites in memory, and a host that looks paths up in them.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pmx_core::id::{BlobId, ObjectId};
use pmx_core::location::{Codec, Extent, Location};

use super::{
    DeployAge, LocatedFile, Lookup, Lookups, Plan, ROUNDS_MAX, SiteRequest, Snapshot, plan,
};
use crate::manifest::Entry;
use crate::media::Media;
use crate::path::SitePath;
use crate::rules::{RuleFile, SiteRules, has_errors};

/// The number of every sample's active deploy.
pub(super) const DEPLOY: u64 = 12;

/// Deploys, the served one first.
#[derive(Debug, Clone)]
pub(super) struct Site(Vec<BTreeMap<SitePath, LocatedFile>>, SiteRules);

impl Site {
    /// A site whose files have their own paths as content.
    pub(super) fn of(paths: &[&str]) -> Self {
        Self(vec![rows(paths)], SiteRules::default())
    }

    /// Adds the deploy before the earliest so far.
    pub(super) fn after(mut self, paths: &[&str]) -> Self {
        self.0.push(rows(paths));
        self
    }

    /// Adds a rule file.
    pub(super) fn ruled(mut self, file: RuleFile, text: &str) -> Self {
        let (rules, diagnostics) = SiteRules::compile([(file, text.as_bytes())]);
        assert!(!has_errors(&diagnostics), "{diagnostics:?}");
        self.1 = rules;
        self
    }

    pub(super) fn with_rules(mut self, rules: SiteRules) -> Self {
        self.1 = rules;
        self
    }

    /// Adds a file to the served deploy.
    pub(super) fn with(mut self, path: &str, held: LocatedFile) -> Self {
        self.0[0].insert(SitePath::parse(path).unwrap(), held);
        self
    }

    /// Adds the deploys of `earlier` before the earliest so far.
    pub(super) fn append(&mut self, earlier: Self) {
        self.0.extend(earlier.0);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::active(DEPLOY, self.0.len() - 1)
    }

    /// Acts as the host.
    pub(super) fn answer(&self, request: &SiteRequest) -> Plan {
        self.answer_as(self.snapshot(), request).0
    }

    /// Acts as the host and returns its lookups, round by round.
    pub(super) fn answer_as(
        &self,
        snapshot: Snapshot,
        request: &SiteRequest,
    ) -> (Plan, Vec<Vec<Lookup>>) {
        let mut known = Lookups::default();
        let mut rounds: Vec<Vec<Lookup>> = Vec::new();
        loop {
            match plan(request, &snapshot, &self.1, &known) {
                Ok(plan) => return (plan, rounds),
                Err(need) => {
                    for lookup in &need.lookups {
                        let asked = rounds.iter().flatten().any(|earlier| earlier == lookup);
                        assert!(!asked, "{lookup:?} was asked twice");
                        let held = self.0[lookup.age.count()].get(&lookup.path);
                        known.insert(lookup.clone(), held.cloned());
                    }
                    rounds.push(need.lookups);
                    assert!(rounds.len() <= ROUNDS_MAX, "too many rounds: {rounds:?}");
                }
            }
        }
    }

    pub(super) fn get(&self, url: &str) -> Plan {
        self.answer(&ask(&Method::GET, url, &[]))
    }

    pub(super) fn get_with(&self, url: &str, headers: &[(HeaderName, &str)]) -> Plan {
        self.answer(&ask(&Method::GET, url, headers))
    }

    pub(super) fn get_as(&self, snapshot: Snapshot, url: &str) -> Plan {
        self.answer_as(snapshot, &ask(&Method::GET, url, &[])).0
    }

    /// The answer to a GET in short: `200 a.html`, `307 /a`, `404`.
    pub(super) fn shown(&self, url: &str) -> String {
        self.show(&self.get(url))
    }

    pub(super) fn show(&self, plan: &Plan) -> String {
        let status = plan.status.as_u16();
        if let Some(location) = plan.headers.get(header::LOCATION) {
            return format!("{status} {}", location.to_str().unwrap());
        }
        match (text(plan, header::ETAG), text(plan, "x-pmx-deploy")) {
            (Some(etag), Some(_)) => format!("{status} {}", self.path_of(etag)),
            (_, deploy) => {
                assert!(deploy.is_some(), "an answer without a deploy: {plan:?}");
                status.to_string()
            }
        }
    }

    /// The path of the file with this tag, of any deploy.
    fn path_of(&self, etag: &str) -> &str {
        let id = BlobId::from_hex(etag.trim_start_matches("W/").trim_matches('"')).unwrap();
        let mut rows = self.0.iter().flatten();
        let row = rows.find(|(_, held)| held.entry.blob == id);
        row.map(|(path, _)| path.as_str()).unwrap()
    }
}

/// A request; its `Accept-Encoding` becomes the separate argument.
pub(super) fn ask(method: &Method, url: &str, headers: &[(HeaderName, &str)]) -> SiteRequest {
    let (path, query) = url
        .split_once('?')
        .map_or((url, None), |(p, q)| (p, Some(q)));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let accepts = map.remove(header::ACCEPT_ENCODING);
    let accepts = accepts.as_ref().map(|value| value.to_str().unwrap());
    SiteRequest::new(method, path, query, &map, accepts)
}

/// A header of a plan as text.
pub(super) fn text(plan: &Plan, name: impl header::AsHeaderName) -> Option<&str> {
    plan.headers.get(name).map(|value| value.to_str().unwrap())
}

/// The file at a path, with `len` stored bytes.
pub(super) fn held(content: &[u8], media: &str, codec: Codec, len: u64) -> LocatedFile {
    LocatedFile {
        entry: Entry {
            blob: BlobId::of(content),
            size: content.len() as u64,
            media: Media::parse(media).unwrap(),
        },
        at: Location {
            extent: Extent {
                object: ObjectId::from_bytes([7; 16]),
                offset: 100,
                len,
            },
            codec,
        },
    }
}

pub(super) fn served(path: &str) -> Lookup {
    lookup(0, path)
}

pub(super) fn lookup(before: usize, path: &str) -> Lookup {
    Lookup {
        age: DeployAge::before(before),
        path: SitePath::parse(path).unwrap(),
    }
}

fn rows(paths: &[&str]) -> BTreeMap<SitePath, LocatedFile> {
    let row = |path: &&str| {
        let path = SitePath::parse(path).unwrap();
        let media = match path.extension() {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            _ => "application/octet-stream",
        };
        let held = held(path.as_bytes(), media, Codec::Zstd, 17);
        (path, held)
    };
    paths.iter().map(row).collect()
}
