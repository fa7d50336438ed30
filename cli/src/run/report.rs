//! Publish report: the result of a publish, as a sentence and as the summary of `--json`.

use std::time::Duration;

use pmx_core::id::Root;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::time::Timestamp;
use pmx_sync::manifest::Totals;
use pmx_sync::push::{PushOutcome, PushOutcomeKind};
use pmx_sync::wire::Summary;
use serde::Serialize;

use crate::address;
use crate::client::http::Traffic;
use crate::client::publish::Times;
use crate::ui::{self, Ui};

/// Report of a publish, for people and for programs.
pub(super) struct Report {
    pub(super) space: SpaceName,
    pub(super) alias: Option<AliasName>,
    pub(super) totals: Totals,
    pub(super) root: Root,
    pub(super) outcome: PushOutcome,
    pub(super) times: Times,
    pub(super) scan: Duration,
    pub(super) total: Duration,
    pub(super) traffic: Traffic,
    /// Where the Paths of a PathMX build are on the site.
    pub(super) paths: Vec<String>,
}

#[derive(Serialize)]
struct SummaryBody<'a> {
    outcome: &'static str,
    root: String,
    deploy: Option<u64>,
    url: Option<&'a str>,
    deploy_url: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    path_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    files: FilesBody,
    bytes: BytesBody,
    requests: u64,
    ms: MillisBody,
}

#[derive(Serialize)]
struct FilesBody {
    total: u64,
    added: u64,
    modified: u64,
    removed: u64,
    unchanged: u64,
}

#[derive(Serialize)]
struct BytesBody {
    site: u64,
    new: u64,
    sent: u64,
    received: u64,
}

#[derive(Serialize)]
struct MillisBody {
    scan: u64,
    negotiate: u64,
    upload: u64,
    commit: u64,
    total: u64,
}

impl Report {
    /// The traffic.
    pub(super) const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Prints the result: the URL alone, or the summary.
    pub(super) fn print(&self, ui: &Ui) {
        self.print_with(self.sentence(), ui);
    }

    /// Prints the result after this sentence.
    pub(super) fn print_with(&self, sentence: String, ui: &Ui) {
        ui.note(sentence);
        if let Some(url) = self.deploy_url() {
            ui.note(format!("this deploy stays at {url}"));
        }
        for url in self.path_urls().iter().skip(1) {
            ui.note(format!("another Path of it is at {url}"));
        }
        if let Some(at) = self.outcome.expires {
            ui.note(format!("the preview ends at {}", super::deploys::when(at)));
        }
        if let Some(url) = &self.outcome.url {
            ui.result(url);
        }
        ui.object("summary", &self.body());
    }

    /// Prints the summary alone.
    pub(super) fn print_object(&self, ui: &Ui) {
        ui.object("summary", &self.body());
    }

    /// The outcome, in one line.
    pub(super) fn sentence(&self) -> String {
        let number = self.outcome.active;
        let deploy = match &self.alias {
            Some(alias) => format!("preview {alias} (deploy {number})"),
            None => format!("deploy {number}"),
        };
        let Summary {
            added,
            modified,
            removed,
            ..
        } = self.summary();
        let changes = format!("{added} added, {modified} modified, {removed} removed");
        let sent = ui::bytes(self.traffic.sent);
        let millis = self.total.as_millis();
        match self.outcome.kind {
            PushOutcomeKind::Unchanged => {
                format!("unchanged: {deploy} is this folder ({millis} ms)")
            }
            PushOutcomeKind::Published => format!(
                "published {deploy}: {changes}; {sent} sent in {} ({millis} ms)",
                ui::count(self.traffic.requests, "request", "requests"),
            ),
            PushOutcomeKind::Superseded => format!(
                "superseded: a newer build was published before; {deploy} stays ({millis} ms)"
            ),
            PushOutcomeKind::Planned => {
                let new = ui::bytes(self.outcome.missing_bytes);
                format!("would publish: {changes}; {new} new ({millis} ms)")
            }
        }
    }

    /// The address of the deploy, which does not depend on the active one.
    fn deploy_url(&self) -> Option<String> {
        let url = self.outcome.url.as_deref()?;
        match self.outcome.kind {
            PushOutcomeKind::Published | PushOutcomeKind::Unchanged => {
                address::of_deploy(url, &self.space, self.outcome.active)
            }
            PushOutcomeKind::Planned | PushOutcomeKind::Superseded => None,
        }
    }

    /// The addresses of the Paths of a PathMX build, the one at the top first.
    fn path_urls(&self) -> Vec<String> {
        let Some(url) = self.outcome.url.as_deref() else {
            return Vec::new();
        };
        let top = url.trim_end_matches('/');
        let urls = self.paths.iter().map(|path| format!("{top}{path}"));
        urls.collect()
    }

    pub(super) fn changes_nothing(&self) -> bool {
        let Summary {
            added,
            modified,
            removed,
            ..
        } = self.summary();
        self.outcome.summary.is_some() && added + modified + removed == 0
    }

    fn summary(&self) -> Summary {
        match (
            self.outcome.kind,
            self.outcome.summary,
            &self.outcome.deploy,
        ) {
            (PushOutcomeKind::Unchanged, ..) => Summary {
                unchanged: self.totals.files,
                ..Summary::default()
            },
            (_, Some(summary), _) => summary,
            (_, None, Some(deploy)) => deploy.summary,
            (_, None, None) => Summary::default(),
        }
    }

    fn body(&self) -> SummaryBody<'_> {
        let Summary {
            added,
            modified,
            removed,
            unchanged,
        } = self.summary();
        let made = self.outcome.deploy.as_ref();
        let active = Some(self.outcome.active);
        let (outcome, deploy, new) = match self.outcome.kind {
            PushOutcomeKind::Published => {
                let new = made.map_or(0, |deploy| deploy.new_bytes);
                ("published", active, new)
            }
            PushOutcomeKind::Unchanged => ("unchanged", active, 0),
            PushOutcomeKind::Planned => ("planned", None, self.outcome.missing_bytes),
            PushOutcomeKind::Superseded => ("superseded", active, 0),
        };
        let Traffic {
            requests,
            sent,
            received,
        } = self.traffic;
        let millis = |duration: Duration| duration.as_millis() as u64;
        SummaryBody {
            outcome,
            root: self.root.to_hex(),
            deploy,
            url: self.outcome.url.as_deref(),
            deploy_url: self.deploy_url(),
            path_urls: self.path_urls(),
            expires: self.outcome.expires,
            files: FilesBody {
                total: self.totals.files,
                added,
                modified,
                removed,
                unchanged,
            },
            bytes: BytesBody {
                site: self.totals.bytes,
                new,
                sent,
                received,
            },
            requests,
            ms: MillisBody {
                scan: millis(self.scan),
                negotiate: millis(self.times.negotiate),
                upload: millis(self.times.upload),
                commit: millis(self.times.commit),
                total: millis(self.total),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: PushOutcomeKind) -> Report {
        Report {
            space: SpaceName::parse("docs").unwrap(),
            alias: None,
            totals: Totals {
                files: 10,
                bytes: 1000,
            },
            root: Root::from_bytes([0xab; 32]),
            outcome: PushOutcome {
                kind,
                active: 12,
                deploy: None,
                url: Some("http://docs.localhost:8787/".into()),
                expires: None,
                summary: Some(Summary {
                    added: 1,
                    modified: 2,
                    removed: 3,
                    unchanged: 7,
                }),
                missing_bytes: 50,
            },
            times: Times::default(),
            scan: Duration::from_millis(3),
            total: Duration::from_millis(9),
            traffic: Traffic {
                requests: 1,
                sent: 120,
                received: 240,
            },
            paths: Vec::new(),
        }
    }

    #[test]
    fn summary_has_the_documented_shape() {
        let body = serde_json::to_string(&report(PushOutcomeKind::Planned).body()).unwrap();
        insta::assert_snapshot!(body, @r#"{"outcome":"planned","root":"abababababababababababababababababababababababababababababababab","deploy":null,"url":"http://docs.localhost:8787/","deploy_url":null,"files":{"total":10,"added":1,"modified":2,"removed":3,"unchanged":7},"bytes":{"site":1000,"new":50,"sent":120,"received":240},"requests":1,"ms":{"scan":3,"negotiate":0,"upload":0,"commit":0,"total":9}}"#);
    }

    #[test]
    fn unchanged_site_has_no_changes_whatever_the_server_says() {
        let report = report(PushOutcomeKind::Unchanged);
        assert_eq!(
            report.summary(),
            Summary {
                unchanged: 10,
                ..Summary::default()
            }
        );
        assert_eq!(report.body().bytes.new, 0);
    }
}
