//! `pmx diff`: the changes of a sync, or those between two deploys.

use std::path::Path;

use pmx_core::code::Code;
use pmx_sync::limits::DIFF_ROWS_MAX;
use pmx_sync::manifest::{Change, Layered, diff};
use pmx_sync::push::Mode;
use pmx_sync::wire::{DiffRow, Summary};
use serde_json::json;

use super::rule_diff::{self, RuleChange, RuleSource};
use super::{Context, Ended};
use crate::args::{Compression, DiffArgs};
use crate::cache::Active;
use crate::client::http::Client;
use crate::client::publish::{PublishTask, Terms};
use crate::client::remote;
use crate::config::{FolderConfig, SiteConfig};
use crate::error::Failure;
use crate::source_tree::SourceTree;
use crate::ui;

pub(super) fn run(args: &DiffArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let deploys = match args.to {
        Some(to) => Some((number(args.from.as_deref())?, to)),
        None => None,
    };
    let dir = if deploys.is_some() {
        None
    } else {
        args.from.as_deref()
    };
    let folder = context.layers.folder_at(dir, &args.scan)?;
    let site = context.site(&args.site, &folder.dir)?;
    let client = context.client(&site);
    let difference = match deploys {
        Some((from, to)) => between(&client, &site, from, to)?,
        None => folder_difference(args, &folder, &site, &client, context)?,
    };
    difference.print(context);
    let Summary {
        added,
        modified,
        removed,
        ..
    } = difference.summary;
    let same = added + modified + removed == 0;
    Ok(if same && args.exit_code {
        Ended::Unchanged
    } else {
        Ended::Done
    })
}

/// The differences.
struct Difference {
    from: u64,
    to: Option<u64>,
    summary: Summary,
    paths: Paths,
    rules: Vec<RuleChange>,
}

/// The differing paths.
enum Paths {
    /// All of them.
    All(Vec<DiffRow>),
    /// The first of them.
    Some(Vec<DiffRow>),
    /// The manifest of the active deploy is too large to fetch, so only the counts are known.
    Unknown,
}

impl Paths {
    /// The paths, if all are known.
    fn all(&self) -> Option<&[DiffRow]> {
        match self {
            Self::All(rows) => Some(rows),
            Self::Some(_) | Self::Unknown => None,
        }
    }
}

impl Difference {
    fn print(&self, context: &Context<'_>) {
        let ui = context.ui;
        let (rows, truncated) = match &self.paths {
            Paths::All(rows) => (rows.as_slice(), false),
            Paths::Some(rows) => (rows.as_slice(), true),
            Paths::Unknown => (&[][..], true),
        };
        for row in rows {
            ui.result(line(row));
            ui.object("change", row);
        }
        for rule in &self.rules {
            ui.result(format!("  {}", ui::escaped(&rule.to_string())));
            ui.object("rule_change", rule);
        }
        let Summary {
            added,
            modified,
            removed,
            unchanged,
        } = self.summary;
        ui.note(format!(
            "{added} added, {modified} modified, {removed} removed, {unchanged} unchanged against deploy {}",
            self.from
        ));
        match self.paths {
            Paths::All(_) => {}
            Paths::Some(_) => ui.note("there are more paths than are listed"),
            Paths::Unknown => {
                ui.note(
                    "the paths are not known here: another machine published a large site last",
                );
            }
        }
        let body = json!({
            "from": self.from,
            "to": self.to,
            "files": self.summary,
            "truncated": truncated,
        });
        ui.object("diff", &body);
    }
}

fn line(row: &DiffRow) -> String {
    let path = &row.path;
    match (row.before, row.after) {
        (None, Some(after)) => format!("+ {path} ({})", ui::bytes(after)),
        (Some(before), None) => format!("- {path} ({})", ui::bytes(before)),
        (Some(before), Some(after)) => {
            format!("~ {path} ({} -> {})", ui::bytes(before), ui::bytes(after))
        }
        (None, None) => format!("  {path}"),
    }
}

fn number(text: Option<&Path>) -> Result<u64, Failure> {
    let text = text.and_then(Path::to_str).unwrap_or_default();
    text.parse().map_err(|_| {
        Failure::usage(format!("{text:?} is not the number of a deploy"))
            .with_hint("`pmx diff 11 12` compares deploys, `pmx diff DIR` a folder.")
    })
}

fn between(client: &Client, site: &SiteConfig, from: u64, to: u64) -> Result<Difference, Failure> {
    let reply = client.diff(&site.space, from, to)?;
    let paths = if reply.truncated {
        Paths::Some(reply.rows)
    } else {
        Paths::All(reply.rows)
    };
    let sides = [from, to].map(|number| RuleSource::Deploy(&site.space, number));
    let [before, after] = &sides;
    Ok(Difference {
        from: reply.from,
        to: Some(reply.to),
        summary: reply.summary,
        rules: rule_diff::changes(before, after, paths.all(), client)?,
        paths,
    })
}

fn folder_difference(
    args: &DiffArgs,
    folder: &FolderConfig,
    site: &SiteConfig,
    client: &Client,
    context: &Context<'_>,
) -> Result<Difference, Failure> {
    let tree = SourceTree::read(folder, &args.scan, context.cache.folder(folder), context.ui)?;
    let active = active(client, site)?;
    let mut difference = match active {
        Some(active) if tree.contains(&active.root) => {
            named(&tree, active, &tree.changes_since(active.root)?)
        }
        None => first(&tree),
        Some(active) => match fetched(&tree, site, client, active)? {
            Some(changes) => named(&tree, active, &changes),
            None => asked(&tree, site, client, context, active)?,
        },
    };
    let files = tree.rule_files()?;
    let (before, after) = (
        RuleSource::Deploy(&site.space, difference.from),
        RuleSource::Folder(&files),
    );
    difference.rules = rule_diff::changes(&before, &after, difference.paths.all(), client)?;
    tree.keep(
        &active
            .map(|active| active.root)
            .into_iter()
            .collect::<Vec<_>>(),
    );
    Ok(difference)
}

/// The active deploy, if there is one.
pub(super) fn active(client: &Client, site: &SiteConfig) -> Result<Option<Active>, Failure> {
    let active = client.active(&site.space)?;
    Ok(active.map(|live| Active {
        root: live.deploy.root,
        deploy: live.deploy.number,
    }))
}

/// The difference to a deploy of another machine, whose manifest the server has. `None` if it is
/// too large, or the server too old.
fn fetched(
    tree: &SourceTree,
    site: &SiteConfig,
    client: &Client,
    active: Active,
) -> Result<Option<Vec<Change>>, Failure> {
    let nodes = match remote::fetch(client, &site.space, tree, active.root) {
        Ok(nodes) => nodes,
        Err(failure) if failure.code == Code::NotFound => None,
        Err(failure) => return Err(failure),
    };
    let Some(nodes) = nodes else {
        return Ok(None);
    };
    let source = Layered {
        new: &nodes,
        old: tree,
    };
    Ok(Some(diff(&source, active.root, &source, tree.root())?))
}

fn named(tree: &SourceTree, active: Active, changes: &[Change]) -> Difference {
    let rows: Vec<_> = changes
        .iter()
        .take(DIFF_ROWS_MAX)
        .map(DiffRow::from)
        .collect();
    Difference {
        from: active.deploy,
        to: None,
        rules: Vec::new(),
        summary: Summary::of(changes, tree.totals().files),
        paths: if rows.len() == changes.len() {
            Paths::All(rows)
        } else {
            Paths::Some(rows)
        },
    }
}

/// The difference without a deploy: every file is new.
fn first(tree: &SourceTree) -> Difference {
    let rows = tree
        .scan()
        .rows()
        .into_iter()
        .take(DIFF_ROWS_MAX)
        .map(|row| DiffRow {
            path: row.path,
            before: None,
            after: Some(row.entry.size),
        });
    let rows: Vec<_> = rows.collect();
    let files = tree.totals().files;
    let all = rows.len() as u64 == files;
    Difference {
        from: 0,
        to: None,
        rules: Vec::new(),
        summary: Summary {
            added: files,
            ..Summary::default()
        },
        paths: if all {
            Paths::All(rows)
        } else {
            Paths::Some(rows)
        },
    }
}

/// The server has the active manifest, and counts the changes against it.
fn asked(
    tree: &SourceTree,
    site: &SiteConfig,
    client: &Client,
    context: &Context<'_>,
    active: Active,
) -> Result<Difference, Failure> {
    let terms = Terms::plain(Mode::Dry, Compression::Auto);
    let known = context.cache.site(&site.server, &site.space.clone().into());
    let publish = PublishTask {
        client,
        space: &site.space,
        tree,
        site: &known,
        seen: None,
        send_ahead: &|| Ok(()),
        packs: &known.packs(),
        terms: &terms,
        interrupt: &context.interrupt,
        ui: context.ui,
    };
    let outcome = publish.run()?.outcome;
    let summary = outcome.summary.ok_or_else(|| {
        let message = "the server can't tell what would change without more of the manifest";
        Failure::new(Code::Protocol, message)
            .with_hint("Sync once from this folder; after that the difference is known here.")
    })?;
    Ok(Difference {
        from: active.deploy,
        to: None,
        rules: Vec::new(),
        summary,
        paths: Paths::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_what_became_of_a_path() {
        let row = |json: &str| line(&serde_json::from_str(json).unwrap());
        assert_eq!(row(r#"{"path":"a","after":9}"#), "+ a (9 B)");
        assert_eq!(row(r#"{"path":"a","before":1500}"#), "- a (1.5 kB)");
        assert_eq!(
            row(r#"{"path":"a","before":1,"after":2}"#),
            "~ a (1 B -> 2 B)"
        );
    }

    #[test]
    fn deploys_are_numbers() {
        assert_eq!(number(Some(Path::new("12"))), Ok(12));
        assert_eq!(
            number(Some(Path::new("dist"))).map_err(|f| f.exit()),
            Err(2)
        );
        assert_eq!(number(None).map_err(|f| f.exit()), Err(2));
    }
}
