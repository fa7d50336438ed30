//! Change message: the files and addresses that a deploy changed, as readers receive it.

use pmx_core::id::Root;
use pmx_core::name::AliasName;
use pmx_core::time::Timestamp;
use pmx_streams::Page;
use serde::{Deserialize, Serialize};

use crate::manifest::Change;
use crate::site::page_address;
use crate::wire::DeployKind;

/// One message of a space's event log, or the net of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeMessage {
    /// The current deploy after the change: active, or its preview's.
    pub deploy: u64,
    /// With a preview: its alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasName>,
    /// The deploy's root.
    pub root: Root,
    /// The root that it is compared with.
    pub prev_root: Option<Root>,
    /// In a net message: the deploy that it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Origin of the deploy.
    pub kind: DeployKind,
    /// Time of the deploy.
    pub at: Timestamp,
    /// The changed paths.
    pub events: Vec<Event>,
    /// The deploy token that the reader may repeat. The log's own messages have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub know: Option<String>,
}

impl ChangeMessage {
    /// Bytes of the message in memory.
    pub fn bytes(&self) -> usize {
        let text = |text: &String| text.capacity() + size_of::<String>();
        let files = |event: &Event| {
            let lists = [&event.paths, &event.added, &event.modified, &event.removed];
            lists.into_iter().flatten().map(text).sum::<usize>()
        };
        size_of::<Self>() + self.events.iter().map(files).sum::<usize>()
    }

    /// Reads the messages of a page of the log.
    pub fn list(page: &Page) -> Result<Vec<Self>, serde_json::Error> {
        serde_json::from_slice(&[b"[", &page.body[..], b"]"].concat())
    }
}

/// Changes of one kind. `paths` are addresses, as a browser requests them; the others are files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "artifacts-changed")]
pub struct Event {
    /// The percent-encoded addresses of all files below, clean where the site has clean URLs.
    pub paths: Vec<String>,
    /// New files.
    pub added: Vec<String>,
    /// Files with changed content.
    pub modified: Vec<String>,
    /// Removed files.
    pub removed: Vec<String>,
    /// Whether the event omits changes.
    pub truncated: bool,
}

impl Event {
    /// The event of some changes, of which it names at most `most`. Without an earlier deploy
    /// (`None`) it names none and is truncated.
    pub fn of(changes: Option<&[Change]>, most: usize) -> Self {
        let Some(changes) = changes else {
            return Self {
                truncated: true,
                ..Self::default()
            };
        };
        let mut event = Self {
            truncated: changes.len() > most,
            ..Self::default()
        };
        for change in changes.iter().take(most) {
            let file = change.path.as_str().to_owned();
            event.paths.push(page_address(&change.path));
            match (&change.before, &change.after) {
                (None, _) => event.added.push(file),
                (Some(_), None) => event.removed.push(file),
                (Some(_), Some(_)) => event.modified.push(file),
            }
        }
        event
    }

    /// Whether the event has no changes.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.truncated
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use pmx_core::id::BlobId;
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::{Entry, NodeMap, Row, build, diff};
    use crate::media::Media;
    use crate::path::SitePath;
    use crate::site::page_address;

    /// The simplest model of a site: files and their content.
    type Site = BTreeMap<SitePath, u8>;

    fn path() -> impl Strategy<Value = SitePath> {
        let part = prop::sample::select(vec!["a", "b", "index", "\u{fc}", "x y"]);
        let kind = prop::sample::select(vec!["", ".html", ".css"]);
        let parts = prop::collection::vec(part, 1..4);
        (parts, kind).prop_map(|(parts, kind)| {
            SitePath::parse(&format!("{}{kind}", parts.join("/"))).unwrap()
        })
    }

    fn site() -> impl Strategy<Value = Site> {
        prop::collection::btree_map(path(), 0..4u8, 0..24)
    }

    /// Two sites that share many files.
    fn sites() -> impl Strategy<Value = (Site, Site)> {
        let edits = prop::collection::vec((path(), prop::option::of(0..4u8)), 0..8);
        let near = (site(), edits).prop_map(|(before, edits)| {
            let mut after = before.clone();
            for (path, content) in edits {
                match content {
                    Some(content) => after.insert(path, content),
                    None => after.remove(&path),
                };
            }
            (before, after)
        });
        prop_oneof![near, (site(), site())]
    }

    fn built(site: &Site) -> (Root, NodeMap) {
        let rows = site.iter().map(|(path, content)| Row {
            path: path.clone(),
            entry: Entry {
                blob: BlobId::of(&[*content]),
                size: 1,
                media: Media::parse("text/plain").unwrap(),
            },
        });
        let built = build(rows).unwrap();
        let mut nodes = NodeMap::default();
        nodes.extend(built.nodes.iter().cloned());
        (built.root, nodes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn event_of_applied_to_one_site_gives_the_other((before, after) in sites()) {
            let ((from, old), (to, new)) = (built(&before), built(&after));
            let changes = diff(&old, from, &new, to).unwrap();
            let event = Event::of(Some(&changes), usize::MAX);
            let mut files: BTreeSet<String> = before.keys().map(ToString::to_string).collect();
            for removed in &event.removed {
                prop_assert!(files.remove(removed), "{removed} was not there");
            }
            for modified in &event.modified {
                prop_assert!(files.contains(modified), "{modified} was not there");
                let path = SitePath::parse(modified).unwrap();
                prop_assert_ne!(before.get(&path), after.get(&path));
            }
            for added in &event.added {
                prop_assert!(files.insert(added.clone()), "{added} was there");
            }
            let expected: BTreeSet<String> = after.keys().map(ToString::to_string).collect();
            prop_assert_eq!(&files, &expected);
            // Files that the event does not name are unchanged.
            let named: BTreeSet<&String> =
                [&event.added, &event.modified, &event.removed].into_iter().flatten().collect();
            for (path, content) in &after {
                if !named.contains(&path.to_string()) {
                    prop_assert_eq!(before.get(path), Some(content));
                }
            }
            let addresses: Vec<String> =
                changes.iter().map(|change| page_address(&change.path)).collect();
            prop_assert_eq!(event.paths, addresses);
            prop_assert!(!event.truncated);
        }
    }
}
