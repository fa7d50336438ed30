//! Conflict wording: names the author, time and changes of a deploy, for the errors about it.

use pmx_core::name::AliasName;
use pmx_core::time::rfc3339;

use crate::limits::QUOTED_BYTES_MAX;
use crate::wire::{DeployKind, DeployView, Summary};

/// One line about a deploy, without control characters, whatever its meta contains.
pub(super) fn describe(deploy: &DeployView) -> String {
    let DeployView {
        number, at, meta, ..
    } = deploy;
    let done = match (deploy.kind, deploy.restores) {
        (DeployKind::Rollback, Some(restored)) => format!("rolled back to deploy {restored}"),
        (DeployKind::Rollback, None) => "rolled back".to_owned(),
        (DeployKind::Publish, _) => "published".to_owned(),
    };
    let author = match &meta.author {
        Some(author) => format!("by {}", quoted(author)),
        None => "by an unnamed author".to_owned(),
    };
    let at = rfc3339(*at);
    let mut said: Vec<String> = Vec::new();
    said.extend(deploy.order.as_ref().map(ToString::to_string));
    let commit = meta.commit.as_deref();
    said.extend(commit.map(|commit| format!("commit {}", quoted(commit))));
    let message = meta.message.as_deref().and_then(|text| text.lines().next());
    said.extend(message.map(|message| format!("\"{}\"", quoted(message))));
    let said = if said.is_empty() {
        String::new()
    } else {
        format!(" ({})", said.join(", "))
    };
    let Summary {
        added,
        modified,
        removed,
        ..
    } = deploy.summary;
    format!(
        "deploy {number}, {done} {author} at {at}{said}, {added} files added, {modified} modified, \
         {removed} removed"
    )
}

/// The target of a publish.
pub(super) fn channel(alias: Option<&AliasName>) -> String {
    match alias {
        Some(alias) => format!("the preview {alias}"),
        None => "the site".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let end = text.floor_char_boundary(QUOTED_BYTES_MAX);
    let short: String = text[..end].chars().flat_map(char::escape_debug).collect();
    if end < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use pmx_core::id::NodeId;
    use pmx_core::time::Timestamp;

    use super::*;
    use crate::wire::{DeployMeta, Order};

    #[test]
    fn deploy_is_described_in_one_harmless_line() {
        let deploy = DeployView {
            number: 7,
            root: NodeId::of(b"root"),
            parent: 6,
            kind: DeployKind::Publish,
            restores: None,
            at: Timestamp::from_millis(1_778_324_210_123),
            files: 9,
            bytes: 9,
            new_bytes: 0,
            summary: Summary {
                added: 1,
                modified: 2,
                removed: 3,
                unchanged: 4,
            },
            order: Some(Order::run(41)),
            meta: DeployMeta {
                message: Some(format!("new\u{1b}[2J {}\nsecond line", "x".repeat(99))),
                commit: Some("abc".into()),
                author: Some("ann".into()),
                ..DeployMeta::default()
            },
            alias: None,
            content: crate::wire::DeployContent::Kept,
            pinned: false,
        };
        insta::assert_snapshot!(describe(&deploy), @r#"deploy 7, published by ann at 2026-05-09T10:56:50.123Z (CI run 41, commit abc, "new\u{1b}[2J xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"), 1 files added, 2 modified, 3 removed"#);
        let back = DeployView {
            kind: DeployKind::Rollback,
            restores: Some(3),
            order: None,
            meta: DeployMeta::default(),
            ..deploy
        };
        insta::assert_snapshot!(describe(&back), @"deploy 7, rolled back to deploy 3 by an unnamed author at 2026-05-09T10:56:50.123Z, 1 files added, 2 modified, 3 removed");
    }
}
