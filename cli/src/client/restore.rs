//! Restore: records the deploys of a snapshot in an empty space, each with its content.
//!
//! The deploys come in the order of their numbers, so the space is a prefix of the snapshot at each
//! moment: an interrupted restore goes on behind it. Deploys without content travel in groups.

use pmx_core::code::Code;
use pmx_core::codec::Encoder;
use pmx_core::name::SpaceName;
use pmx_sync::limits::{HEAD_BYTES_MAX, RESTORED_AT_ONCE_MAX};
use pmx_sync::push::Mode;
use pmx_sync::wire::{
    BeginHead, CommitPreconditions, DeployMeta, DeployView, Envelope, Replace, RestoredDeploy,
    Retention, VERSION,
};

use super::http::Client;
use super::publish::{PublishTask, Replaces, Terms};
use super::restored_site::RestoredSite;
use crate::args::Compression;
use crate::backup::{BackupDir, SavedDeploy, Snapshot, SnapshotHead};
use crate::cache::{Active, LocalPacks, SiteCache};
use crate::error::Failure;
use crate::interrupt::Interrupt;
use crate::ui::Ui;

/// Bytes of the deploys of one commit, as JSON.
const GROUP_BYTES_MAX: usize = HEAD_BYTES_MAX * 3 / 4;

/// What a restore did.
#[derive(Debug, Default)]
pub struct Restored {
    /// Deploys that it recorded, also those without content.
    pub deploys: u64,
    /// Deploys that an earlier try had recorded.
    pub before: u64,
    /// Deploys of which the space has given up the content since then.
    pub lacks: Vec<u64>,
    /// How much larger each number is than in the snapshot.
    pub shift: u64,
}

/// A restore in progress.
pub struct Restore<'a> {
    /// The server.
    pub client: &'a Client,
    /// The space to restore.
    pub space: &'a SpaceName,
    /// The backup.
    pub dir: &'a BackupDir,
    /// The snapshot, whose content is whole.
    pub snapshot: &'a Snapshot,
    /// Cached state of the site, which a restore leaves as it is.
    pub site: &'a SiteCache,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Where progress is shown.
    pub ui: &'a Ui,
}

impl Restore<'_> {
    /// Restores the space.
    pub fn run(&self) -> Result<Restored, Failure> {
        let Some(first) = self.snapshot.deploys.first() else {
            let message = format!(
                "the snapshot of {} has no deploys",
                self.snapshot.head.space
            );
            return Err(Failure::new(Code::NotFound, message));
        };
        let existing = self.existing(first)?;
        let shift = shift(&existing, first.deploy.number);
        let all = self.snapshot.deploys.iter();
        let all: Vec<_> = all.map(|saved| self.restored(saved, shift)).collect();
        let done = existing.deploys.len();
        let same = existing.deploys.iter().zip(&all);
        let same = same.take_while(|pair| is_same(*pair)).count();
        if same < done {
            return Err(self.taken(&existing, same));
        }
        let pairs = existing.deploys.iter().zip(&all);
        let lacks = pairs.filter(|(have, wanted)| {
            wanted.deploy.content.is_kept() && !have.deploy.content.is_kept()
        });
        let lacks = lacks.map(|(have, _)| have.deploy.number).collect();
        let mut base = existing.kept().next().map(|deploy| Active {
            root: deploy.root,
            deploy: deploy.number,
        });
        for group in groups(&all[done..]) {
            self.interrupt.check()?;
            if let Some(recorded) = self.commit(&group, base)? {
                base = Some(recorded);
            }
        }
        let is_new = done < all.len();
        if let policy @ Some(_) = self.snapshot.head.policy
            && is_new
        {
            self.client
                .set_retention(self.space, &Retention { policy })?;
        }
        Ok(Restored {
            deploys: (all.len() - done) as u64,
            before: done as u64,
            lacks,
            shift,
        })
    }

    /// The history of the space, which exists then.
    fn existing(&self, first: &SavedDeploy) -> Result<Snapshot, Failure> {
        let head = || SnapshotHead {
            space: self.space.clone(),
            ..self.snapshot.head.clone()
        };
        match self.client.history(head()) {
            Err(failure) if failure.code == Code::NotFound && failure.problem.is_some() => {
                // A request for a root makes the space. Its numbers follow those of a deleted one.
                self.send(&self.head(&first.deploy, None))?;
                self.client.history(head())
            }
            history => history,
        }
    }

    /// Records a group of deploys, the last of which may have content. Returns that one.
    fn commit(
        &self,
        group: &[RestoredDeploy],
        base: Option<Active>,
    ) -> Result<Option<Active>, Failure> {
        let Some(RestoredDeploy { deploy: last, .. }) = group.last() else {
            return Ok(None);
        };
        if !last.content.is_kept() {
            self.send(&self.head(last, Some(group)))?;
            return Ok(None);
        }
        let tree = RestoredSite::read(self.dir, last.root, base)?;
        let terms = Terms {
            alias: last.alias.clone(),
            replaces: Replaces::Anything,
            restore: group.to_vec(),
            ..Terms::plain(Mode::Publish, Compression::Auto)
        };
        let publish = PublishTask {
            client: self.client,
            space: self.space,
            tree: &tree,
            site: self.site,
            seen: None,
            packs: &LocalPacks::open(None),
            terms: &terms,
            send_ahead: &|| Ok(()),
            interrupt: self.interrupt,
            ui: self.ui,
        };
        publish.run()?;
        self.ui
            .detail(format!("deploy {} is restored", last.number));
        Ok(Some(Active {
            root: last.root,
            deploy: last.number,
        }))
    }

    fn head(&self, last: &DeployView, group: Option<&[RestoredDeploy]>) -> BeginHead {
        BeginHead {
            v: VERSION,
            space: self.space.clone(),
            alias: group.and(last.alias.clone()),
            root: last.root,
            base: None,
            dry: false,
            commit: group.map(|group| CommitPreconditions {
                expect: None,
                replace: Replace::Any,
                key: group
                    .last()
                    .map_or_else(String::new, |last| last.key.clone()),
                order: None,
                max_delete: None,
                meta: DeployMeta::default(),
                expires: None,
                restore: group.to_vec(),
            }),
        }
    }

    fn send(&self, head: &BeginHead) -> Result<(), Failure> {
        let head = serde_json::to_vec(head);
        let head = head.map_err(|error| Failure::new(Code::RequestMalformed, error.to_string()))?;
        let envelope = Envelope {
            head: head.into(),
            sections: Vec::new(),
        };
        self.client
            .begin(&envelope.encode(&mut Encoder::new()))
            .map(drop)
    }

    /// A deploy of the snapshot, as the space records it.
    fn restored(&self, saved: &SavedDeploy, shift: u64) -> RestoredDeploy {
        let head = &self.snapshot.head;
        let mut deploy = saved.deploy.clone();
        let alias = deploy.alias.as_ref();
        let restored = RestoredDeploy {
            shown: alias.is_some_and(|alias| head.aliases.contains_key(alias)),
            expires: alias.and_then(|alias| head.expires.get(alias).copied()),
            held: head.hold.is_some_and(|hold| hold.deploy == deploy.number),
            key: saved.key.clone(),
            deploy: saved.deploy.clone(),
        };
        deploy.number += shift;
        deploy.restores = deploy.restores.map(|number| number + shift);
        if deploy.parent > 0 {
            deploy.parent += shift;
        }
        RestoredDeploy { deploy, ..restored }
    }

    /// The failure for a space with deploys of its own.
    fn taken(&self, existing: &Snapshot, same: usize) -> Failure {
        let space = self.space;
        let number = |saved: Option<&SavedDeploy>| saved.map_or(0, |saved| saved.deploy.number);
        let (other, last) = (
            number(existing.deploys.get(same)),
            number(existing.deploys.last()),
        );
        let message = format!(
            "{space} has deploys {other} to {last} that are not those of the snapshot, after \
             {same} that are; nothing more is restored"
        );
        let hint = format!(
            "Restore to another name with `--space`, or delete the space first: `pmx spaces \
             delete {space}`. Let nothing publish there while a restore runs."
        );
        Failure::new(Code::Conflict, message).with_hint(hint)
    }
}

/// How much larger the numbers must be: those of a deleted space of the name are never used again.
fn shift(existing: &Snapshot, first: u64) -> u64 {
    match existing.deploys.first() {
        Some(have) => have.deploy.number.saturating_sub(first),
        None => (existing.head.base + 1).saturating_sub(first),
    }
}

/// Whether a deploy of the space is one that the restore records. One whose content the snapshot
/// gave up, as after a takedown, is another while the space has its content.
fn is_same((have, restored): (&SavedDeploy, &RestoredDeploy)) -> bool {
    let (have, wanted) = (&have.deploy, &restored.deploy);
    let was_given_up = have.content.is_kept() && !wanted.content.is_kept();
    (have.number, have.root, have.at) == (wanted.number, wanted.root, wanted.at) && !was_given_up
}

/// Groups of deploys: one commit each. At most the last deploy of a group has content.
fn groups(all: &[RestoredDeploy]) -> Vec<Vec<RestoredDeploy>> {
    let (mut groups, mut group, mut bytes) = (Vec::new(), Vec::new(), 0);
    for restored in all {
        let len = serde_json::to_vec(restored).map_or(GROUP_BYTES_MAX, |json| json.len());
        if group.len() == RESTORED_AT_ONCE_MAX || bytes + len > GROUP_BYTES_MAX {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += len;
        group.push(restored.clone());
        if restored.deploy.content.is_kept() {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
    }
    groups.push(group);
    groups.retain(|group| !group.is_empty());
    groups
}
