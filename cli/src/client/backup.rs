//! Backup: saves the history of a space, and what of its content a folder lacks.
//!
//! The history is one answer for its newest page, and older pages follow. Rows of deploys never
//! change, except that their content may be given up. A deploy that is given up while the backup
//! runs is left out of the snapshot: its row stays in it, as that of any deploy without content.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use pmx_core::code::Code;
use pmx_core::id::{BlobId, NodeId, Root};
use pmx_core::name::SpaceName;
use pmx_sync::limits::{FILES_MAX, NODES_ASKED_MAX};
use pmx_sync::manifest::{ManifestError, Node, NodeSource as _, Row};
use pmx_sync::wire::{BackupView, DeployContent, DeployView, DeploysReply};
use tempfile::NamedTempFile;

use super::http::Client;
use super::http::download::Sink;
use super::{remote, workers};
use crate::backup::{BackupDir, SavedDeploy, Snapshot, SnapshotHead};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::{Bar, Counting, Ui};

/// Deploys of one answer: with the longest messages they are 2 MB.
const HISTORY_PAGE: u64 = 250;

/// What a backup of a space did.
#[derive(Debug, Default)]
pub struct Saved {
    /// The number of the snapshot.
    pub snapshot: u64,
    /// Deploys of the snapshot that have content.
    pub deploys: u64,
    /// Deploys whose content was given up while the backup ran.
    pub left_out: Vec<u64>,
    /// Deploys whose content the server has lost.
    pub damaged: Vec<u64>,
    /// Files that were fetched.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Manifest nodes that were fetched.
    pub nodes: u64,
}

/// A backup in progress.
pub struct Backup<'a> {
    /// The server.
    pub client: &'a Client,
    /// The folder.
    pub dir: &'a BackupDir,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Where progress is shown.
    pub ui: &'a Ui,
}

/// Content that the folder is known to have.
#[derive(Default)]
struct Known {
    nodes: HashSet<NodeId>,
    blobs: HashSet<BlobId>,
}

impl Backup<'_> {
    /// Saves a space.
    pub fn run(&self, head: SnapshotHead) -> Result<Saved, Failure> {
        self.dir.check_server(&head)?;
        let mut snapshot = self.client.history(head)?;
        let space = snapshot.head.space.clone();
        let domains = self.client.domains(&space)?.domains.into_iter();
        snapshot.head.domains = domains.map(|domain| domain.host).collect();
        let (mut saved, mut known) = (Saved::default(), Known::default());
        for number in snapshot.kept().map(|it| it.number).collect::<Vec<_>>() {
            let Some(deploy) = snapshot.deploy(number) else {
                continue;
            };
            let Err(failure) = self.deploy(&space, deploy, &mut known, &mut saved) else {
                saved.deploys += 1;
                continue;
            };
            // What the failed walk saw may be incomplete.
            known = Known::default();
            self.interrupt.check()?;
            let is_active = snapshot.active().is_some_and(|it| it.number == number);
            match self.client.deploy(&space, number) {
                Ok(now) if !now.content.is_kept() => {
                    leave_out(&mut snapshot, number, now.content);
                    self.ui.warn(format!(
                        "deploy {number} of {space} was given up while the backup ran: it is left \
                         out"
                    ));
                    saved.left_out.push(number);
                }
                Ok(_) if failure.code == Code::Corrupt && !is_active => {
                    leave_out(&mut snapshot, number, DeployContent::Dropped);
                    self.ui.warn(format!(
                        "the server has lost content of deploy {number} of {space}: it is left out"
                    ));
                    saved.damaged.push(number);
                }
                Ok(_) | Err(_) => return Err(failure),
            }
        }
        snapshot.settle();
        saved.snapshot = self.dir.put_snapshot(&snapshot)?;
        Ok(saved)
    }

    /// Fetches what the folder lacks of a deploy.
    fn deploy(
        &self,
        space: &SpaceName,
        deploy: &DeployView,
        known: &mut Known,
        saved: &mut Saved,
    ) -> Result<(), Failure> {
        let rows = self.rows(space, deploy.root, known, saved)?;
        let mut missing: BTreeMap<BlobId, &Row> = BTreeMap::new();
        for row in &rows {
            let (blob, size) = (row.entry.blob, row.entry.size);
            if !known.blobs.contains(&blob) && !self.dir.has_blob(&blob, size) {
                missing.insert(blob, row);
            }
        }
        let missing: Vec<&Row> = missing.into_values().collect();
        let bar = self.ui.bar(
            Counting::Bytes,
            missing.iter().map(|row| row.entry.size).sum(),
        );
        let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let fetched = workers::for_each(&missing, |row| {
            self.interrupt.check()?;
            self.fetch(space, deploy.number, row, &bar)?;
            files.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(row.entry.size, Ordering::Relaxed);
            Ok(())
        });
        saved.files += files.into_inner();
        saved.bytes += bytes.into_inner();
        fetched?;
        known.blobs.extend(rows.iter().map(|row| row.entry.blob));
        Ok(())
    }

    /// The rows beneath a root, without those of subtrees that this backup has walked before.
    /// Fetches the nodes that the folder lacks.
    fn rows(
        &self,
        space: &SpaceName,
        root: Root,
        known: &mut Known,
        saved: &mut Saved,
    ) -> Result<Vec<Row>, Failure> {
        let (mut wanted, mut rows, mut nodes) = (vec![root], Vec::new(), 0);
        while !wanted.is_empty() {
            self.interrupt.check()?;
            nodes += wanted.len() as u64;
            let (mut missing, mut next) = (Vec::new(), Vec::new());
            for id in wanted.into_iter().filter(|id| known.nodes.insert(*id)) {
                match self.dir.node(&id) {
                    Ok(node) => open(&node, &mut rows, &mut next),
                    Err(ManifestError::Missing(_)) => missing.push(id),
                    Err(error) => return Err(error.into()),
                }
            }
            saved.nodes += missing.len() as u64;
            self.fetch_nodes(space, missing, |node| open(node, &mut rows, &mut next))?;
            wanted = next;
            // A node has at least one row, and half as many nodes lie above each level.
            if rows.len() as u64 > FILES_MAX || nodes > 2 * FILES_MAX {
                let message = format!("the manifest {root} has more than {FILES_MAX} files");
                return Err(Failure::new(Code::Protocol, message));
            }
        }
        Ok(rows)
    }

    fn fetch_nodes(
        &self,
        space: &SpaceName,
        mut missing: Vec<NodeId>,
        mut take: impl FnMut(&Node),
    ) -> Result<(), Failure> {
        while !missing.is_empty() {
            let asked = &missing[..missing.len().min(NODES_ASKED_MAX)];
            let nodes = self.client.nodes(space, asked)?;
            if nodes.is_empty() {
                let message = "the server has no nodes of a deploy that it has";
                return Err(Failure::new(Code::Protocol, message));
            }
            for (id, bytes) in asked.iter().zip(&nodes) {
                let node = remote::verified(*id, bytes)?;
                self.dir.put_node(id, bytes)?;
                take(&node);
            }
            let fetched = nodes.len().min(asked.len());
            missing.drain(..fetched);
        }
        Ok(())
    }

    fn fetch(&self, space: &SpaceName, number: u64, row: &Row, bar: &Bar) -> Result<(), Failure> {
        let mut target = Target {
            file: self.dir.unfinished()?,
            hasher: blake3::Hasher::new(),
            bar,
            got: 0,
            most: row.entry.size,
        };
        self.client
            .download(space, number, &row.path, &mut target)?;
        let blob = BlobId::from_bytes(*target.hasher.finalize().as_bytes());
        if blob != row.entry.blob {
            let (path, expected) = (&row.path, row.entry.blob);
            let message = format!(
                "the server sent blob {blob} for \"{path}\" of deploy {number}, which is {expected}"
            );
            return Err(Failure::new(Code::HashMismatch, message));
        }
        self.dir.keep(target.file, &BackupDir::blob_name(&blob))
    }
}

/// Adds the rows of a leaf, or the children of another node.
fn open(node: &Node, rows: &mut Vec<Row>, next: &mut Vec<NodeId>) {
    match node {
        Node::Leaf(of_leaf) => rows.extend(of_leaf.iter().cloned()),
        Node::Interior { children, .. } => next.extend(children.iter().map(|child| child.id)),
    }
}

/// Takes the content of a deploy out of a snapshot.
fn leave_out(snapshot: &mut Snapshot, number: u64, content: DeployContent) {
    let saved = snapshot.deploys.iter_mut();
    for saved in saved.filter(|saved| saved.deploy.number == number) {
        saved.deploy.content = content;
        saved.deploy.pinned = false;
    }
}

/// A blob that is not whole yet.
struct Target<'a> {
    file: NamedTempFile,
    hasher: blake3::Hasher,
    bar: &'a Bar,
    got: u64,
    /// The size that the manifest names.
    most: u64,
}

impl Sink for Target<'_> {
    fn restart(&mut self) -> io::Result<()> {
        self.bar.take_back(std::mem::take(&mut self.got));
        self.hasher.reset();
        self.file.as_file_mut().set_len(0)?;
        io::Seek::rewind(self.file.as_file_mut())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.got += bytes.len() as u64;
        if self.got > self.most {
            let message = format!("the server sends more than the {} bytes", self.most);
            return Err(io::Error::other(message));
        }
        self.bar.add(bytes.len() as u64);
        self.file.write_all(bytes)
    }
}

impl Client {
    /// `GET /api/deploys?backup=1`: all pages of the history of the space that `head` names.
    pub fn history(&self, head: SnapshotHead) -> Result<Snapshot, Failure> {
        let mut deploys: Vec<SavedDeploy> = Vec::new();
        let (first, view) = self.history_page(&head.space, None)?;
        let BackupView {
            keys,
            base,
            expires,
            policy,
        } = view;
        add(&mut deploys, first.deploys, keys);
        while let Some(oldest) = deploys.last()
            && oldest.deploy.number > base.saturating_add(1)
        {
            let before = oldest.deploy.number;
            let (page, view) = self.history_page(&head.space, Some(before))?;
            // Each number is one less than the one before, so the loop ends.
            let mut numbers = (0..before).rev();
            let follows = page
                .deploys
                .iter()
                .all(|it| numbers.next() == Some(it.number));
            if view.base != base || page.deploys.is_empty() || !follows {
                let message = format!("{} was deleted while its history was read", head.space);
                return Err(Failure::new(Code::Conflict, message).with_hint("Try again."));
            }
            add(&mut deploys, page.deploys, view.keys);
        }
        deploys.reverse();
        let (hold, aliases) = (first.hold, first.aliases);
        Ok(Snapshot {
            head: SnapshotHead {
                base,
                aliases,
                expires,
                hold,
                policy,
                ..head
            },
            deploys,
        })
    }

    fn history_page(
        &self,
        space: &SpaceName,
        before: Option<u64>,
    ) -> Result<(DeploysReply, BackupView), Failure> {
        let mut reply = self.deploys_for_backup(space, before, HISTORY_PAGE)?;
        let view = reply.backup.take().unwrap_or_default();
        if view.keys.len() != reply.deploys.len() {
            let message = "the server does not answer with what a backup needs";
            return Err(Failure::new(Code::Protocol, message).with_hint("Update the server."));
        }
        Ok((reply, view))
    }
}

fn add(deploys: &mut Vec<SavedDeploy>, page: Vec<DeployView>, keys: Vec<String>) {
    let page = page.into_iter().zip(keys);
    deploys.extend(page.map(|(deploy, key)| SavedDeploy { deploy, key }));
}
