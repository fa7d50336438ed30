//! Decay of the store: objects disappear, readers notice it, and the next publish restores them.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use pmx_core::backend::Blobs as _;
use pmx_core::channel::Channel;
use pmx_sync::wire::Replace;
use pmx_tests::rng::Rng;

use super::actors::{Publisher, judge, page};
use super::chaos::{Plan, yields};
use super::check::{Link, ask, chain};
use super::world::{Wire, World};

/// Most rounds: each publishes everything, after a check of all pages, until everything is
/// restored.
const ROUNDS_MAX: usize = 6;

/// Deletes one random object from the store.
pub(crate) async fn decays(world: Rc<World>, mut rng: Rng) {
    yields(60 + rng.below(240)).await;
    let keys: Vec<_> = world.blobs.all().into_keys().collect();
    if !keys.is_empty() {
        let key = *rng.pick(&keys);
        world.chaos.note(|| format!("LOSS of {key}"));
        world.has_losses.set(true);
        let _gone = world.blobs.delete(&[key]).await;
    }
}

/// Publishes the sites of all deploys again, as their owners would, until every page is restored.
pub(crate) fn heal(world: &Rc<World>, publisher: &Publisher) -> Result<(), String> {
    world.chaos.set(Plan::Calm);
    let mut publisher = publisher.clone();
    let label = format!("heal--{}", publisher.space);
    publisher.alias = Channel::of_label(&label).expect("a label").alias;
    for round in 0..ROUNDS_MAX {
        world.pass(Duration::from_secs(20));
        // A server's memory would hide a loss.
        world.restart();
        let mut deploys = chain(world, &publisher.space);
        deploys.retain(|deploy| deploy.is_kept);
        if deploys
            .iter()
            .all(|deploy| is_whole(world, &publisher, deploy))
        {
            return Ok(());
        }
        let roots: BTreeSet<_> = deploys.iter().map(|deploy| deploy.root).collect();
        for (at, root) in roots.into_iter().enumerate() {
            let key = format!("{}.heal.{round}.{at}", publisher.space);
            let mut intent = publisher.wants(root, None, None, None, key);
            intent.replace = Replace::Any;
            ask(world, publisher.publish(intent))
                .map_err(|failure| format!("healing {}: {failure:?}", publisher.space))?;
        }
    }
    Err(format!("lost content of {} is not healed", publisher.space))
}

/// Whether all files of a deploy are available.
fn is_whole(world: &Rc<World>, publisher: &Publisher, deploy: &Link) -> bool {
    let site = world.catalogue.site(&deploy.root);
    let paths = site.into_iter().flat_map(|site| site.files.keys());
    let host = format!("{}--{}", deploy.number, publisher.space);
    let is_there = |path: &String| {
        let answers = ask(world, page(&Wire(Rc::clone(world)), &host, path, false));
        answers.last().is_some_and(|answer| {
            answer.status == 200 && judge(world, &publisher.space, path, answer).is_ok()
        })
    };
    // Requests every page, because only readers detect a loss.
    paths.filter(|path| !is_there(path)).count() == 0
}
