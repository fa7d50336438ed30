//! Update check: how long readers miss new addresses and new deploys.

use std::time::{Duration, Instant};

use pmx_core::name::AliasName;

use super::sites::{PublishedVersion, Publisher, random_word};
use super::{CheckFinding, Doctor};
use crate::error::Failure;

/// How long a new address may stay unknown.
const NEW_ADDRESS: Duration = Duration::from_secs(5);

/// How long the check waits for a new address.
const GIVEN_UP: Duration = Duration::from_mins(2);

/// Pause between two requests of a reader.
const PAUSE: Duration = Duration::from_millis(200);

impl Doctor<'_> {
    /// Checks a preview whose address a reader requested before the publish.
    pub(super) fn preview(&self, publisher: &Publisher<'_>) -> Result<CheckFinding, Failure> {
        let alias = AliasName::parse(&format!("d{}", random_word()))?;
        let Some(url) = self.address_of(&alias) else {
            return Ok(CheckFinding::skipped(
                "the server has no domain that is known here",
            ));
        };
        let before = match self.visitor.get(&url, &[]) {
            Ok(seen) => seen.status,
            Err(why) => {
                return Ok(CheckFinding::failed(format!(
                    "{url} before it was there: {why}"
                )));
            }
        };
        let version = publisher.version(3);
        let shown = match publisher.publish(&version, Some(alias.clone())) {
            Ok(shown) => shown,
            Err(failure) => return Ok(CheckFinding::failed(format!("publishing it: {failure}"))),
        };
        let mut finding = self.appears(&shown)?;
        if before != 404 {
            finding = CheckFinding::failed(format!("{before} instead of 404 before it was there"));
        }
        // The preview is no longer needed; if it stays, the next run uses another name.
        let client = self.context.client(&self.site);
        let _left = client.unalias(&self.site.space, &alias);
        Ok(finding)
    }

    /// When a new address appears, and whether it stays.
    fn appears(&self, shown: &PublishedVersion) -> Result<CheckFinding, Failure> {
        let (started, mut seen_after, mut late) = (Instant::now(), None, 0);
        let mut asked = 0_u32;
        let end = self.watch().max(NEW_ADDRESS + PAUSE);
        loop {
            let since = started.elapsed();
            let status = self.visitor.get(&shown.url, &[]).map_or(0, |it| it.status);
            asked += 1;
            if status == 200 {
                seen_after.get_or_insert(since);
            } else if since > NEW_ADDRESS {
                late += 1;
            }
            if since > GIVEN_UP || (seen_after.is_some() && since > end) {
                break;
            }
            self.context.interrupt.sleep(PAUSE)?;
        }
        let words = match seen_after {
            Some(after) => format!("404 before, seen {} after its publish", seconds(after)),
            None => format!("404 before, not seen for {}", seconds(GIVEN_UP)),
        };
        let words = format!("{words}; {late} of {asked} requests failed after 5 s");
        let is_early = seen_after.is_some_and(|after| after <= NEW_ADDRESS);
        Ok(if is_early && late == 0 {
            CheckFinding::ok(words)
        } else {
            CheckFinding::failed(words).hint(
                "Old answers of KV hide it: the Worker has to ask the space before it says 404.",
            )
        })
    }

    /// The address of a preview of the site. Before the first publish, only the server's own
    /// address reveals the domain.
    fn address_of(&self, alias: &AliasName) -> Option<String> {
        let client = self.context.client(&self.site);
        let url = client.deploys(&self.site.space, None, 1).ok()?.url;
        let (scheme, rest) = url.split_once("://")?;
        Some(format!("{scheme}://{alias}--{rest}"))
    }

    /// Checks a second deploy: neither the page nor its asset may ever be missing.
    pub(super) fn update(
        &self,
        publisher: &Publisher<'_>,
        first: &PublishedVersion,
        second: &mut Option<PublishedVersion>,
    ) -> Result<CheckFinding, Failure> {
        let shown = match publisher.publish(&publisher.version(2), None) {
            Ok(shown) => shown,
            Err(failure) => return Ok(CheckFinding::failed(format!("publishing it: {failure}"))),
        };
        *second = Some(shown.clone());
        let mut watched = Watched::default();
        let started = Instant::now();
        while started.elapsed() < self.watch() || watched.pages == 0 {
            let since = started.elapsed();
            watched.pages += 1;
            match self.visitor.get(&shown.url, &[]) {
                Ok(seen) if seen.status == 200 => {
                    let body = String::from_utf8_lossy(&seen.body);
                    let is_new = body.contains(&shown.version.asset);
                    let named = if is_new { &shown } else { first };
                    if is_new {
                        watched.new_after.get_or_insert(since);
                    }
                    let asset = self.visitor.get(&named.asset_url(), &[]);
                    watched.note("its asset", asset.map(|it| it.status), since);
                }
                other => watched.note("the page", other.map(|it| it.status), since),
            }
            self.context.interrupt.sleep(PAUSE)?;
        }
        Ok(watched.finding(self.watch()))
    }
}

/// Results of a reader that requested a page and its asset repeatedly.
#[derive(Default)]
struct Watched {
    pages: u32,
    new_after: Option<Duration>,
    missing: Vec<String>,
}

/// Failures that the finding lists individually.
const NAMED_MAX: usize = 5;

impl Watched {
    fn note(&mut self, what: &str, status: Result<u16, String>, since: Duration) {
        let since = seconds(since);
        match status {
            Ok(200) => {}
            Ok(status) => self.missing.push(format!("{what}: {status} after {since}")),
            Err(why) => self.missing.push(format!("{what}: {why} after {since}")),
        }
    }

    fn finding(mut self, watched: Duration) -> CheckFinding {
        let (pages, missing) = (self.pages, self.missing.len());
        let new = match self.new_after {
            Some(after) => format!("the new page seen after {}", seconds(after)),
            None => "the old page all the time".to_owned(),
        };
        let words = format!(
            "{pages} looks at the page and its asset for {}, {missing} failed; {new}",
            seconds(watched)
        );
        self.missing.truncate(NAMED_MAX);
        CheckFinding::of(&[words], &self.missing)
    }
}

pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
