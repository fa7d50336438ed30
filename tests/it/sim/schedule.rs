//! Schedule: the actors, the faults, and the check of the invariants.

use std::rc::Rc;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_tests::rng::Rng;

use super::actors::{Promises, Publisher, alarm, reads};
use super::bugs::Bug;
use super::chaos::{Chaos, Plan, Rates};
use super::check::{ask, chain, dump, newest_of, settle};
use super::decay::{decays, heal};
use super::model::{Catalogue, Site};
use super::platform::space;
use super::world::{Owner, World};

/// Result of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) violation: Option<String>,
    pub(crate) trace: Vec<String>,
    pub(crate) steps: u64,
    pub(crate) faults: u64,
    pub(crate) crashes: u64,
    pub(crate) deploys: u64,
    pub(crate) holds: u64,
    pub(crate) unchanged: u64,
    pub(crate) collected: u64,
    /// Objects that compactions copied from.
    pub(crate) repacked: u64,
}

/// Runs the schedule of a seed.
pub(crate) fn simulate(seed: u64, bug: Option<Bug>, traced: bool) -> Report {
    let mut rng = Rng::new(seed);
    let sites = 4 + rng.below(4);
    let catalogue = Catalogue::grow(&mut rng.fork(), sites);
    let mut rates = Rates::draw(&mut rng);
    if bug == Some(Bug::NoVerification) {
        rates.corrupt = 2;
    }
    let world = World::new(Chaos::new(rng.fork(), traced), catalogue, bug);
    let steps = play(&world, &mut rng, rates).unwrap_or_else(|violation| {
        world.chaos.violate(violation);
        0
    });
    let deploys = ["docs", "other"].map(|name| chain(&world, &space(name)).len() as u64);
    Report {
        violation: world.chaos.violation(),
        trace: world.chaos.trace(),
        steps,
        faults: world.chaos.faults.get(),
        crashes: world.crashes.get(),
        deploys: deploys.iter().sum(),
        holds: world.account.holds_met.get(),
        unchanged: world.account.unchanged(),
        collected: 0,
        repacked: 0,
    }
}

fn play(world: &Rc<World>, rng: &mut Rng, rates: Rates) -> Result<u64, String> {
    let promises = Promises::default();
    let publisher = |name: &str, of: &str| Publisher {
        world: Rc::clone(world),
        promises: Rc::clone(&promises),
        space: space(of),
        alias: None,
        name: name.to_owned(),
        tries: 4,
    };
    let newest = world.catalogue.sites.last().expect("there are sites").root;
    // Some schedules first publish another space, which no publisher touches.
    let bystander = rng.once_in(4).then(|| publisher("bystander", "quiet"));
    if let Some(bystander) = &bystander {
        let intent = bystander.wants(newest, None, None, None, "quiet.1".into());
        ask(world, bystander.publish(intent)).map_err(|failure| format!("{failure:?}"))?;
    }
    let before = dump(world, &space("quiet"));

    world.chaos.set(Plan::Random(rates));
    let spaces: &[&str] = if rng.once_in(5) {
        &["docs", "other"]
    } else {
        &["docs"]
    };
    for of in spaces {
        let next = Channel::of_label(&format!("next--{of}")).expect("a label");
        for at in 0..=rng.below(3) {
            let mut one = publisher(&format!("{of}.p{at}"), of);
            if rng.once_in(3) {
                one.alias.clone_from(&next.alias);
            }
            world.spawn(Owner::Outside, one.publishes(rng.fork()));
        }
        if rng.once_in(2) {
            world.spawn(Owner::Outside, publisher(of, of).rolls_back(rng.fork()));
        }
        if rng.once_in(8) {
            world.spawn(Owner::Outside, publisher(of, of).resumes(rng.fork()));
        }
        if rng.once_in(6) {
            let mut one = publisher(of, of);
            one.alias.clone_from(&next.alias);
            world.spawn(Owner::Outside, one.takes_away(rng.fork()));
        }
        for at in 0..=rng.below(2) {
            let channel = if at == 1 {
                next.clone()
            } else {
                space(of).into()
            };
            world.spawn(Owner::Outside, reads(Rc::clone(world), channel, rng.fork()));
        }
        world.spawn(
            Owner::Outside,
            alarm(Rc::clone(world), space(of), rng.fork()),
        );
    }
    if bystander.is_none() && (world.bug == Some(Bug::LossUnnoticed) || rng.once_in(8)) {
        world.spawn(Owner::Outside, decays(Rc::clone(world), rng.fork()));
    }
    let steps = world.run();
    if world.chaos.violation().is_some() {
        return Ok(steps);
    }

    world.chaos.note(|| "every fault ends".into());
    for of in spaces {
        if world.has_losses.get() {
            heal(world, &publisher("healer", of))?;
        }
        settle(world, &space(of), &promises.borrow())?;
        publish_at_last(world, &publisher("last", of), &promises)?;
    }
    if dump(world, &space("quiet")) != before {
        return Err("a space that no publisher touched is not as it was".into());
    }
    Ok(steps)
}

/// Checks that the next publish succeeds; if a rollback holds the site, after the hold is lifted.
pub(super) fn publish_at_last(
    world: &Rc<World>,
    last: &Publisher,
    promises: &Promises,
) -> Result<(), String> {
    let chain = chain(world, &last.space);
    let active = newest_of(&chain, None).map(|link| link.root);
    let fits = |site: &&Site| Some(site.root) != active;
    let Some(site) = world.catalogue.sites.iter().find(fits) else {
        return Ok(());
    };
    let history = ask(world, last.client().deploys());
    let is_held = history.is_ok_and(|history| history.hold.is_some());
    let wants = |key: &str| {
        let key = format!("{}.{key}", last.space);
        last.wants(site.root, None, None, None, key)
    };
    if is_held {
        match ask(world, last.publish(wants("held"))) {
            Err(failure) if failure.code() == Code::Held => {}
            other => return Err(format!("a publish met a hold: {other:?}")),
        }
        ask(world, last.resume()).map_err(|failure| format!("resuming: {failure:?}"))?;
    }
    let published = ask(world, last.publish(wants("last")));
    published.map_err(|failure| format!("at last: {failure:?}"))?;
    if world.has_losses.get() {
        // The publish may rely on content whose loss no reader noticed before.
        heal(world, last)?;
    }
    settle(world, &last.space, &promises.borrow())
}
