//! Coding check: one page in all its content codings. It covers bytes, tags that answer 304,
//! lengths, and the delta to a stored page.

use pmx_sync::site::available_dictionary;

use super::decode::{behind, decoded};
use super::sites::PublishedVersion;
use super::visit::VisitAnswer;
use super::{CheckFinding, Doctor};

/// The codings that browsers and tools accept.
const CODINGS: [&str; 4] = ["zstd", "br", "gzip", "identity"];

/// Request headers of a browser with dictionaries when its user opens a page.
const OPENING: [(&str, &str); 2] = [
    ("sec-fetch-dest", "document"),
    ("sec-ch-ua", "\"Chromium\";v=\"140\""),
];

const REWRITTEN: &str = "A feature of the zone rewrites pages: turn off Email Obfuscation, Rocket Loader, Automatic HTTPS Rewrites and Web Analytics for these hosts.";

/// A page that a browser stores as a dictionary.
pub(super) struct Kept {
    body: Vec<u8>,
    /// The server's id of the page.
    id: String,
}

impl Doctor<'_> {
    /// Checks that each coding of a page decodes to the published bytes, and has a tag.
    pub(super) fn encodings(&self, shown: &PublishedVersion) -> CheckFinding {
        let (mut saw, mut faults) = (Vec::new(), Vec::new());
        for coding in CODINGS {
            match self.visitor.get(&shown.url, &[("accept-encoding", coding)]) {
                Ok(seen) => {
                    let (is_well, words) = described(coding, &seen, &shown.version.page);
                    let list = if is_well { &mut saw } else { &mut faults };
                    list.push(words);
                }
                Err(why) => faults.push(format!("{coding}: {why}")),
            }
        }
        CheckFinding::of(&saw, &faults).hint(REWRITTEN)
    }

    /// Checks that each tag of a page gets a 304.
    pub(super) fn revalidation(&self, shown: &PublishedVersion) -> CheckFinding {
        let (mut saw, mut faults) = (Vec::new(), Vec::new());
        for coding in CODINGS {
            match self.revalidated(shown, coding) {
                Ok(304) => saw.push(format!("{coding}: 304")),
                Ok(status) => faults.push(format!("{coding}: {status} instead of 304")),
                Err(why) => faults.push(format!("{coding}: {why}")),
            }
        }
        CheckFinding::of(&saw, &faults).hint(
            "Every visit then gets whole pages. A feature of the zone that rewrites or compresses answers drops or changes tags.",
        )
    }

    fn revalidated(&self, shown: &PublishedVersion, coding: &str) -> Result<u16, String> {
        let accepted = ("accept-encoding", coding);
        let first = self.visitor.get(&shown.url, &[accepted])?;
        let tag = first.header("etag").ok_or("it has no ETag")?;
        let again = [accepted, ("if-none-match", tag)];
        Ok(self.visitor.get(&shown.url, &again)?.status)
    }

    /// Checks that HEAD announces the length that GET sends.
    pub(super) fn head(&self, shown: &PublishedVersion) -> CheckFinding {
        let (mut saw, mut faults) = (Vec::new(), Vec::new());
        for coding in ["zstd", "identity"] {
            match self.lengths(shown, coding) {
                Ok((Some(length), sent)) if length == sent => {
                    saw.push(format!("{coding}: HEAD and GET say {sent} bytes"));
                }
                Ok((Some(length), sent)) => {
                    faults.push(format!(
                        "{coding}: HEAD says {length} bytes, GET sends {sent}"
                    ));
                }
                Ok((None, sent)) => {
                    saw.push(format!(
                        "{coding}: HEAD says no length, GET sends {sent} bytes"
                    ));
                }
                Err(why) => faults.push(format!("{coding}: {why}")),
            }
        }
        CheckFinding::of(&saw, &faults)
    }

    /// The length that HEAD announces, and the length that GET sends.
    fn lengths(
        &self,
        shown: &PublishedVersion,
        coding: &str,
    ) -> Result<(Option<usize>, usize), String> {
        let accepted = [("accept-encoding", coding)];
        let head = self.visitor.ask("HEAD", &shown.url, &accepted)?;
        if head.status != 200 {
            return Err(format!("HEAD: {}", head.status));
        }
        let length = head.header("content-length").and_then(|it| it.parse().ok());
        let sent = self.visitor.get(&shown.url, &accepted)?.body.len();
        Ok((length, sent))
    }

    /// The page that a browser stores, if the server's headers ask it to.
    pub(super) fn kept(&self, shown: &PublishedVersion) -> Option<Kept> {
        let asked = [&OPENING[..], &[("accept-encoding", "zstd, dcz")]].concat();
        let seen = self.visitor.get(&shown.url, &asked).ok()?;
        let (_, id) = seen.header("use-as-dictionary")?.split_once("id=")?;
        Some(Kept {
            id: id.to_owned(),
            body: decoded(seen.coding(), &seen.body)?,
        })
    }

    /// Checks that the next version arrives as a delta to the stored page.
    pub(super) fn dictionary(
        &self,
        kept: Option<&Kept>,
        second: Option<&PublishedVersion>,
    ) -> CheckFinding {
        let Some(kept) = kept else {
            let why = "no dictionary is offered: passthrough in the zone and DICTIONARIES = \"passed\" turn it on";
            return CheckFinding::skipped(why);
        };
        let Some(second) = second else {
            return CheckFinding::skipped("there is no second version");
        };
        let hash = available_dictionary(&kept.body);
        let more = [
            ("accept-encoding", "zstd, dcz"),
            ("available-dictionary", hash.as_str()),
            ("dictionary-id", kept.id.as_str()),
        ];
        match self
            .visitor
            .get(&second.url, &[&OPENING[..], &more].concat())
        {
            Ok(seen) => difference(&seen, kept, &second.version.page),
            Err(why) => CheckFinding::failed(why),
        }
    }
}

/// Result of a request for a delta.
fn difference(seen: &VisitAnswer, kept: &Kept, page: &[u8]) -> CheckFinding {
    let (coding, bytes) = (seen.coding(), seen.body.len());
    if coding != "dcz" {
        return CheckFinding::failed(format!("a dictionary is offered, and {coding} comes")).hint(
            "The edge does not pass the headers on: set the zone's shared_dictionary_mode to passthrough.",
        );
    }
    match behind(&kept.body, &seen.body) {
        Some(raw) if raw == page => CheckFinding::ok(format!(
            "dcz: {bytes} bytes for a page of {}, as it was published",
            page.len()
        )),
        _ => CheckFinding::failed(format!("dcz: {bytes} bytes that are not the page"))
            .hint(REWRITTEN),
    }
}

/// Whether an answer is the page, and its description.
fn described(asked: &str, seen: &VisitAnswer, page: &[u8]) -> (bool, String) {
    let (status, coding, bytes) = (seen.status, seen.coding(), seen.body.len());
    let tag = seen.header("etag");
    let shown = tag.unwrap_or("no ETag");
    let words = format!("{asked}: {status}, {coding}, {bytes} bytes, {shown}");
    let is_page = status == 200 && decoded(coding, &seen.body).is_some_and(|raw| raw == page);
    match (is_page, tag) {
        (true, Some(_)) => (true, words),
        (true, None) => (false, words),
        (false, _) => (false, format!("{words}: not the page that was published")),
    }
}
