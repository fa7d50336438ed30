//! Operators of a schedule: they roll back, lift holds and delete previews.

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_sync::push::Base;
use pmx_sync::wire::{DeployMeta, DeployView, RollbackHead, VERSION};
use pmx_tests::rng::Rng;

use super::actors::{Publisher, ReportedOutcome};
use super::chaos::yields;
use pmx_sync::testing::client::ClientFailure;

impl Publisher {
    /// Deletes the preview once or twice.
    pub(crate) async fn takes_away(self, mut rng: Rng) {
        let alias = self.alias.clone().expect("a preview");
        let channel = Channel {
            space: self.space.clone(),
            alias: self.alias.clone(),
        };
        for _ in 0..=rng.below(2) {
            yields(20 + rng.below(120)).await;
            self.world.removed.borrow_mut().insert(channel.clone());
            let done = self.client().unalias(&alias).await;
            let chaos = &self.world.chaos;
            chaos.note(|| format!("{channel} is taken away: {done:?}"));
            match done.map_err(|failure| failure.code()) {
                Ok(_) | Err(Code::Network | Code::Storage | Code::NotFound) => {}
                Err(code) => chaos.violate(format_args!("taking {channel} away: {code}")),
            }
        }
    }

    /// Rolls back once or twice.
    pub(crate) async fn rolls_back(self, mut rng: Rng) {
        for round in 0..=rng.below(2) {
            yields(20 + rng.below(120)).await;
            let newest = if rng.once_in(3) {
                self.newest().await
            } else {
                None
            };
            let to = rng.once_in(2).then(|| 1 + rng.below(3) as u64);
            let key = format!("{}.back.{round}", self.name);
            let _done = self.rollback(to, newest.map(|base| base.deploy), key).await;
        }
    }

    pub(crate) async fn rollback(
        &self,
        to: Option<u64>,
        expect: Option<u64>,
        key: String,
    ) -> Result<DeployView, ClientFailure> {
        let space = self.space.clone();
        self.world.account.asks_rollback(&space, &key, expect);
        let meta = DeployMeta {
            message: Some(format!("as {key}")),
            ..DeployMeta::default()
        };
        let head = RollbackHead {
            v: VERSION,
            space,
            to,
            expect,
            key: key.clone(),
            meta,
        };
        let chaos = &self.world.chaos;
        chaos.note(|| format!("{key} rolls back to {to:?}, expects {expect:?}"));
        let done = self.client().rollback(&head).await;
        match &done {
            Ok(deploy) => {
                chaos.note(|| format!("{key} got: deploy {}", deploy.number));
                let active = Base {
                    root: deploy.root,
                    deploy: deploy.number,
                };
                let made = Some(deploy.clone());
                self.promise(key, None, ReportedOutcome::RolledBack, active, made);
            }
            Err(failure) => match failure.code() {
                Code::Network
                | Code::Storage
                | Code::Conflict
                | Code::NotFound
                | Code::DeployGone
                | Code::DeployUnknown => {}
                _ => chaos.violate(format_args!("{key} failed: {failure:?}")),
            },
        }
        done
    }

    /// Lifts the hold of the site once, whether it exists or not.
    pub(crate) async fn resumes(self, mut rng: Rng) {
        yields(40 + rng.below(160)).await;
        let done = self.resume().await;
        let chaos = &self.world.chaos;
        match done.map_err(|failure| failure.code()) {
            Ok(()) | Err(Code::Network | Code::Storage | Code::NotFound) => {}
            Err(code) => chaos.violate(format_args!("lifting the hold of {}: {code}", self.space)),
        }
    }

    pub(crate) async fn resume(&self) -> Result<(), ClientFailure> {
        self.world.account.asks_resume(&self.space);
        let done = self.client().resume().await;
        let chaos = &self.world.chaos;
        chaos.note(|| format!("the hold of {} is lifted: {done:?}", self.space));
        done.map(drop)
    }
}
