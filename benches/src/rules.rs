//! Rules workload: the processor time of a page of a site with 5,000 redirects and 500 blocks of
//! headers, beside the same page of a site without rule files. The embedded host and the Worker.
//!
//! All sites are on one server, and take turns. No redirect matches the page, but most share
//! segments with it; one block of headers matches. Another row is a redirect by the last rule,
//! beside the same answer of a site with one redirect and one block of headers.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::bench::Bench;
use crate::host::Host;
use crate::pmx::Client;
use crate::round::{Contender, Measure, Series, interleave};
use crate::table::{Goal, Row, Unit};
use crate::views::{CPU, View, page};
use crate::workerd::{Build, Workerd};

/// Rules of the large site: the most that a site may have.
const REDIRECTS: usize = 5_000;

/// Blocks of headers of the large site, with the one that matches.
const BLOCKS: usize = 500;

/// Requests of a turn: so many that a request of the system in between counts for little.
const REQUESTS: usize = 4_000;

/// Processor time of a page of the large site, as a multiple of the same page without rules.
const GOAL: f64 = 1.05;

/// The page that is viewed, and its file.
const PAGE: &str = "/docs/guide/";

/// The block of headers that matches the page and the source of the last rule.
const MATCHING_BLOCK: &str = "/docs/*\n  X-Frame-Options: DENY\n";

/// The source of the last rule.
const LAST: &str = "/docs/last";

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = on_embedded(bench)?;
    rows.extend(on_worker(bench).unwrap_or_else(|error| vec![Row::failed("Worker", &error)]));
    Ok(rows)
}

fn on_embedded(bench: &Bench) -> Result<Vec<Row>> {
    let host = Host::start(bench.pmx()?)?;
    publish(bench, (&host.url(), host.data()))?;
    compare(bench, "embedded host", host.port(), || host.cpu())
}

fn on_worker(bench: &Bench) -> Result<Vec<Row>> {
    let workerd = Workerd::start_directly(&Build::Deployed.make()?)?;
    publish(bench, (&workerd.url(), workerd.data()))?;
    compare(bench, "Worker", workerd.port(), || workerd.cpu())
}

/// Publishes the site without rules, with one, and with the most.
fn publish(bench: &Bench, server: (&str, &Path)) -> Result<()> {
    let client = Client::new(bench.pmx()?)?;
    let only = format!("{LAST} {PAGE} 301\n");
    for (space, redirects, headers) in [
        ("plain", String::new(), String::new()),
        ("one", only, MATCHING_BLOCK.to_owned()),
        ("most", redirects(), headers()),
    ] {
        let folder = tempfile::Builder::new().prefix("pmx-rules-").tempdir()?;
        let pages = folder.path().join(PAGE.trim_matches('/'));
        fs::create_dir_all(&pages)?;
        fs::write(pages.join("index.html"), page())?;
        for (file, text) in [("_redirects", redirects), ("_headers", headers)] {
            if !text.is_empty() {
                fs::write(folder.path().join(file), text)?;
            }
        }
        client.sync_at(server, folder.path(), space)?;
    }
    Ok(())
}

fn compare(
    bench: &Bench,
    server: &str,
    port: u16,
    cpu: impl Fn() -> Result<f64> + Copy,
) -> Result<Vec<Row>> {
    let host = |space: &str| format!("{space}.localhost");
    let viewed = |space| View::of(port, &host(space), PAGE, "", (200, page().len()));
    let sent_on = |space| View::of(port, &host(space), LAST, "", (301, 0));
    let turn = |name, view: View| {
        let warmed = view.warm().map(|()| view);
        Contender::from_setup(name, warmed, move |view, _| view.measure(REQUESTS, cpu))
    };
    let [plain, plain_too, most, one, last] = interleave(
        bench.rounds,
        [
            turn("without rules", viewed("plain")),
            turn("without rules, again", viewed("plain")),
            turn("5,000 rules", viewed("most")),
            turn("the only rule", sent_on("one")),
            turn("rule no. 5,000", sent_on("most")),
        ],
    );
    let row = |what: &str, pair: (&Series, &Series), goal| {
        let what = format!("{server}: {what}: processor time");
        Row::compare_in(Unit::Seconds, what, pair, Measure::Fact(CPU), goal)
    };
    let goal = Goal::AtMost(GOAL);
    Ok(vec![
        row("a page beside 5,000 rules", (&most, &plain), goal),
        row("the same page twice", (&plain_too, &plain), Goal::Known),
        row("a redirect by rule no. 5,000", (&last, &one), goal),
    ])
}

/// Redirects that do not match the page, and at the end one for `LAST`.
fn redirects() -> String {
    let kinds = |n: usize| match n % 10 {
        0..4 => format!("/old/page-{n}.html {PAGE} 301"),
        4..6 => format!("/blog/{n}/:slug {PAGE} 302"),
        6 => format!("/:language/old-{n} {PAGE} 301"),
        7 => format!("/docs/:version/removed-{n} {PAGE} 301"),
        _ => format!("/docs/v{n}/* {PAGE}:splat 301"),
    };
    let mut lines: Vec<_> = (1..REDIRECTS).map(kinds).collect();
    lines.push(format!("{LAST} {PAGE} 301\n"));
    lines.join("\n")
}

/// Blocks of headers for other paths, and at the end one for the page.
fn headers() -> String {
    let kinds = |n: usize| match n % 4 {
        0 => format!("/old/page-{n}.html\n  X-Number: {n}\n"),
        1 => format!("/blog/{n}/:slug\n  X-Slug: :slug\n"),
        2 => format!("/:language/old-{n}\n  X-Language: :language\n"),
        _ => format!("/docs/v{n}/*\n  X-Version: {n}\n"),
    };
    let mut blocks: Vec<_> = (1..BLOCKS).map(kinds).collect();
    blocks.push(MATCHING_BLOCK.to_owned());
    blocks.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_have_the_most_rules() {
        assert_eq!(redirects().lines().count(), REDIRECTS);
        assert_eq!(headers().lines().count(), 2 * BLOCKS);
    }
}
