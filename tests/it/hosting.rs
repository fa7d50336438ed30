//! Hosting rules: the recorded answers of Cloudflare's asset server, on both hosts.
//!
//! `tests/hosting/cases.json` has 847 requests and their answers; `differences.json` lists where
//! this design differs, and what is expected instead. The first entry that fits counts.

mod documented;
mod memory;
mod page;
mod stories;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::world::{Answer, Ran, World, on_kind_hosts, raw};

on_kind_hosts!(rules_answer_as_recorded);

const CASES: &str = include_str!("../hosting/cases.json");
const DIFFERENCES: &str = include_str!("../hosting/differences.json");

#[derive(Deserialize)]
struct Table {
    fixtures: BTreeMap<String, BTreeMap<String, String>>,
    texts: BTreeMap<String, String>,
    rules: BTreeMap<String, BTreeMap<String, Refusals>>,
    cases: Vec<Case>,
}

/// The lines of a rule file that Cloudflare's parser refuses.
#[derive(Deserialize)]
struct Refusals {
    invalid_at: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    mode: BTreeMap<String, String>,
    files: String,
    headers_file: Option<String>,
    redirects_file: Option<String>,
    request: Asked,
    expect: Expected,
}

#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default, Clone)]
struct Expected {
    status: Option<u16>,
    #[serde(default)]
    location: Value,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    body: Option<String>,
    #[serde(default)]
    refused: Vec<String>,
}

#[derive(Deserialize)]
struct KnownDifferences {
    entries: Vec<Difference>,
}

#[derive(Deserialize)]
struct Difference {
    id: String,
    path: Option<String>,
    expect: Option<Expected>,
}

impl Difference {
    fn fits(&self, case: &Case) -> bool {
        let path = self.path.as_ref();
        path.is_none_or(|path| *path == case.request.path) && matches(&self.id, &case.id)
    }

    fn refuses(&self) -> bool {
        let expect = self.expect.as_ref();
        expect.is_some_and(|expect| !expect.refused.is_empty())
    }
}

/// A glob with `*` and one class such as `[789]`.
fn matches(glob: &str, text: &str) -> bool {
    match glob.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|at| matches(&glob[1..], &text[at..])),
        Some('[') => {
            let Some((class, rest)) = glob[1..].split_once(']') else {
                return false;
            };
            let first = text.chars().next();
            first.is_some_and(|first| class.contains(first)) && matches(rest, &text[1..])
        }
        Some(letter) => text.starts_with(letter) && matches(&glob[1..], &text[1..]),
    }
}

fn rules_answer_as_recorded(world: World) {
    let table: Table = serde_json::from_str(CASES).expect("cases");
    let differences: KnownDifferences = serde_json::from_str(DIFFERENCES).expect("differences");
    let mut sites = Sites::default();
    let mut failures = Vec::new();
    for case in &table.cases {
        let site = sites.of(case, &table, &world);
        let is_ours = !is_resolved_before(&case.request.path, &world);
        let fitting: Vec<_> = differences
            .entries
            .iter()
            .filter(|it| (is_ours || it.refuses()) && it.fits(case))
            .collect();
        failures.extend(judge(case, site, &fitting, &table, &world));
    }
    assert_eq!(table.cases.len(), 847);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Whether the platform resolves dot segments and backslashes before the server sees the path, as
/// workerd does. Then the answer is the recorded one, if the site is published at all.
fn is_resolved_before(path: &str, world: &World) -> bool {
    let has_dots = path
        .split('/')
        .any(|segment| matches!(segment, "." | ".." | "%2e%2e"));
    world.server.host.is_worker() && (has_dots || path.contains('\\'))
}

/// Sites that were published, by everything that they consist of.
#[derive(Default)]
struct Sites(BTreeMap<String, Site>);

struct Site {
    space: String,
    /// What a refused sync printed.
    refused: Option<String>,
}

impl Sites {
    fn of(&mut self, case: &Case, table: &Table, world: &World) -> &Site {
        let text = |name: &Option<String>| {
            let text = name.as_ref().and_then(|name| table.texts.get(name));
            text.cloned()
        };
        let (headers, redirects) = (text(&case.headers_file), text(&case.redirects_file));
        let key = format!("{} {headers:?} {redirects:?} {:?}", case.files, case.mode);
        let number = self.0.len();
        self.0.entry(key).or_insert_with(|| {
            let both = format!("{headers:?}{redirects:?}");
            // Rules that name the host need a space of its name.
            let space = if both.contains("site.localhost") {
                "site".to_owned()
            } else {
                format!("s{number}")
            };
            publish(&space, case, table, headers, redirects, world)
        })
    }
}

fn publish(
    space: &str,
    case: &Case,
    table: &Table,
    headers: Option<String>,
    redirects: Option<String>,
    world: &World,
) -> Site {
    let _ = std::fs::remove_dir_all(world.site());
    for (path, text) in &table.fixtures[&case.files] {
        world.write_bytes(path, text.as_bytes());
    }
    for (path, text) in [("_headers", headers), ("_redirects", redirects)] {
        if let Some(text) = text {
            world.write_bytes(path, text.as_bytes());
        }
    }
    let mode = case
        .mode
        .iter()
        .map(|(key, value)| format!("{key} = {value:?}\n"));
    world.write_bytes("_site.toml", mode.collect::<String>().as_bytes());
    let ran = world.sync(space, &["--order", "none"]);
    let refused = (ran.code != 0).then(|| printed(&ran));
    if refused.is_none() {
        // Readers see the deploy before the first request of the table.
        world.get(space, "/");
    }
    Site {
        space: space.to_owned(),
        refused,
    }
}

fn printed(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

fn judge(
    case: &Case,
    site: &Site,
    fitting: &[&Difference],
    table: &Table,
    world: &World,
) -> Option<String> {
    let named = format!("{} {} {}", case.id, case.request.method, case.request.path);
    let refusing = fitting.iter().find(|entry| entry.refuses());
    if let Some(said) = &site.refused {
        let lines = match refusing {
            Some(entry) => entry.expect.clone().unwrap_or_default().refused,
            None => own_refusals(case, table),
        };
        let missed: Vec<_> = lines.iter().filter(|line| !said.contains(*line)).collect();
        let is_right = !lines.is_empty() && missed.is_empty();
        return (!is_right).then(|| format!("{named}: refused without {missed:?}: {said}"));
    }
    if refusing.is_some() {
        return Some(format!("{named}: the site was not refused"));
    }
    let answer = ask(case, site, world);
    let found = match fitting.first() {
        Some(entry) => match &entry.expect {
            Some(expect) => mismatches(case, expect, &answer, &[]),
            None => return None,
        },
        None if case
            .expect
            .status
            .is_none_or(|status| status == 0 || status >= 500) =>
        {
            let is_bad = answer.status >= 500;
            is_bad
                .then(|| format!("status {}", answer.status))
                .into_iter()
                .collect()
        }
        None => {
            let text = case
                .headers_file
                .as_ref()
                .and_then(|name| table.texts.get(name));
            mismatches(case, &case.expect, &answer, &names(text))
        }
    };
    (!found.is_empty()).then(|| format!("{named}: {}", found.join(", ")))
}

/// The lines that Cloudflare refuses.
fn own_refusals(case: &Case, table: &Table) -> Vec<String> {
    let set: Vec<&str> = case.id.split('/').take(2).collect();
    let files = table.rules.get(&set.join("/")).into_iter().flatten();
    let lines = files.flat_map(|(kind, refusals)| {
        let lines = refusals.invalid_at.iter();
        lines.map(move |line| format!("_{kind}:{line}"))
    });
    lines.collect()
}

fn ask(case: &Case, site: &Site, world: &World) -> Answer {
    let Asked {
        method,
        path,
        headers,
    } = &case.request;
    let send = |method: &str, tag: &str| {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        for (name, value) in headers {
            let value = match name.as_str() {
                "host" => value.replace("site.localhost", &format!("{}.localhost", site.space)),
                _ => value.replace("$etag", tag),
            };
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        raw(world.server.port, head.as_bytes(), method == "HEAD")
    };
    let has_tag = headers.values().any(|value| value == "$etag");
    let tag = has_tag.then(|| send("GET", "none"));
    let tag = tag.and_then(|answer| answer.header("etag").map(str::to_owned));
    send(method, &tag.unwrap_or_default())
}

/// The names of the headers that a `_headers` file sets or removes.
fn names(text: Option<&String>) -> Vec<String> {
    let lines = text.map_or("", String::as_str).lines().map(str::trim);
    let names = lines.filter_map(|line| {
        if let Some(name) = line.strip_prefix('!') {
            return Some(name.trim().to_lowercase());
        }
        let is_header = !line.starts_with(['/', '#']) && !line.starts_with("http");
        let name = line.split_once(':').filter(|_| is_header)?.0;
        Some(name.trim().to_lowercase())
    });
    names
        .filter(|name| !name.is_empty() && name != "location")
        .collect()
}

/// What differs. `named` are the headers of the rule file; without any, `want` is partial.
fn mismatches(case: &Case, want: &Expected, got: &Answer, named: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let is_whole = !named.is_empty() || std::ptr::eq(want, std::ptr::from_ref(&case.expect));
    let is_status = want.status.is_none_or(|status| status == got.status);
    if !is_status {
        found.push(format!("status {}, not {:?}", got.status, want.status));
    }
    let location = got.header("location");
    let wanted = want.location.as_str();
    if (is_whole || !want.location.is_null()) && location != wanted {
        found.push(format!("location {location:?}, not {wanted:?}"));
    }
    let body = want.body.as_deref().unwrap_or_default();
    let is_file = body.starts_with('@');
    let is_compared = want.body.is_some() && case.request.method != "HEAD" && is_status;
    let text = got.text();
    if is_compared && (is_file || text.starts_with('@') || !is_whole) && text != body {
        found.push(format!("body {text:?}, not {body:?}"));
    }
    let mut names: Vec<String> = named.to_vec();
    if !is_whole {
        names.extend(want.headers.keys().map(|name| name.to_lowercase()));
    } else if is_file {
        names.push("content-type".into());
    }
    for name in names.iter().filter(|_| is_status) {
        let (wanted, sent) = (joined(want.headers.get(name)), values(got, name));
        let (wanted, sent) = if name == "content-type" {
            (media(&wanted), media(&sent))
        } else {
            (wanted, sent)
        };
        let is_tag = name == "etag" && wanted == "$etag" && !sent.is_empty();
        if !is_tag && wanted != sent {
            found.push(format!("{name}: {sent}, not {wanted}"));
        }
    }
    found
}

fn joined(value: Option<&Value>) -> String {
    match value {
        Some(Value::Array(all)) => {
            let all: Vec<_> = all.iter().filter_map(Value::as_str).collect();
            all.join(", ")
        }
        Some(Value::String(text)) => text.clone(),
        Some(_) | None => String::new(),
    }
}

fn values(answer: &Answer, name: &str) -> String {
    let lines = answer.headers.iter().filter(|(known, _)| known == name);
    let lines: Vec<_> = lines.map(|(_, value)| value.as_str()).collect();
    lines.join(", ")
}

/// A media type without what does not count.
fn media(value: &str) -> String {
    let plain = value.to_lowercase().replace(' ', "");
    let plain = plain.replace("application/javascript", "text/javascript");
    plain.trim_end_matches(";charset=utf-8").to_owned()
}
