//! Lifecycle schedules: deploys are given up and collected while publishers publish, readers keep
//! old pointers, and hours pass.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::id::{NodeId, ObjectId};
use pmx_core::location::Extent;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::pointer::Pointer;
use pmx_sync::serve::{Backend as _, Spaces as _};
use pmx_sync::space::{Command, Reply, VerifyStep};
use pmx_sync::testing::host::block_on;
use pmx_sync::wire::{Retention, RetentionPolicy, VerifyCursor, VerifyData};
use pmx_tests::rng::Rng;

use super::actors::{Promises, Publisher, reads};
use super::bugs::Bug;
use super::chaos::{Chaos, Plan, Rates, yield_now, yields};
use super::check::{bytes, chain, drain, integer, rows, settle};
use super::compaction::REPACK;
use super::model::Catalogue;
use super::platform::space;
use super::schedule::{Report, publish_at_last};
use super::store::Store;
use super::world::{Owner, World};

/// How long a pointer leads to everything after a reader last had reason to use it.
const SAFE: Duration = Duration::from_hours(24);

/// What operators do in a schedule.
#[derive(Debug, Clone, Copy, Default)]
struct Habits {
    /// They remove deploys by number.
    removes: bool,
    /// They purge: readers are not waited for.
    purges: bool,
}

/// Runs the schedule of a seed.
pub(crate) fn simulate(seed: u64, bug: Option<Bug>, traced: bool) -> Report {
    let mut rng = Rng::new(seed);
    let sites = 6 + rng.below(16);
    let catalogue = Catalogue::grow(&mut rng.fork(), sites);
    let mut rates = Rates::draw(&mut rng);
    rates.corrupt = 0;
    let world = World::new(Chaos::new(rng.fork(), traced), catalogue, bug);
    let steps = play(&world, &mut rng, rates).unwrap_or_else(|violation| {
        world.chaos.violate(violation);
        0
    });
    Report {
        violation: world.chaos.violation(),
        trace: world.chaos.trace(),
        steps,
        faults: world.chaos.faults.get(),
        crashes: world.crashes.get(),
        deploys: chain(&world, &space("docs")).len() as u64,
        collected: world.collected.get(),
        repacked: world.repacked.get(),
        ..Report::default()
    }
}

fn play(world: &Rc<World>, rng: &mut Rng, rates: Rates) -> Result<u64, String> {
    let promises = Promises::default();
    let docs = space("docs");
    let preview = Channel::of_label("next--docs").expect("a label");
    let publisher = |name: &str| Publisher {
        world: Rc::clone(world),
        promises: Rc::clone(&promises),
        space: docs.clone(),
        alias: None,
        name: name.to_owned(),
        tries: 4,
    };
    let habits = Habits {
        removes: rng.below(3) > 0,
        purges: rng.once_in(6),
    };
    world.chaos.set(Plan::Random(rates));
    world.is_slow.set(true);
    for at in 0..2 + rng.below(3) {
        let mut one = publisher(&format!("p{at}"));
        if at > 0 && rng.once_in(3) {
            one.alias.clone_from(&preview.alias);
        }
        world.spawn(Owner::Outside, one.publishes_for_long(rng.fork()));
    }
    if rng.once_in(2) {
        world.spawn(Owner::Outside, publisher("back").rolls_back(rng.fork()));
    }
    if rng.once_in(2) {
        let mut one = publisher("away");
        one.alias.clone_from(&preview.alias);
        world.spawn(Owner::Outside, one.takes_away(rng.fork()));
    }
    let operator = operates(Rc::clone(world), docs.clone(), habits, rng.fork());
    world.spawn(Owner::Outside, operator);
    let collector = collects(Rc::clone(world), docs.clone(), rng.fork());
    world.spawn(Owner::Outside, collector);
    world.spawn(
        Owner::Outside,
        hours_pass(Rc::clone(world), docs.clone(), rng.fork()),
    );
    let verifier = verifies(Rc::clone(world), docs.clone(), rng.fork());
    world.spawn(Owner::Outside, verifier);
    let repeater = repeats(Rc::clone(world), docs.clone(), rng.fork());
    world.spawn(Owner::Outside, repeater);
    if !habits.purges {
        for channel in [Channel::from(docs.clone()), preview.clone()] {
            let holder = holds_pointer(Rc::clone(world), channel, habits, rng.fork());
            world.spawn(Owner::Outside, holder);
        }
        let site = Channel::from(docs.clone());
        world.spawn(Owner::Outside, reads(Rc::clone(world), site, rng.fork()));
    }
    let steps = world.run();
    if world.chaos.violation().is_some() {
        return Ok(steps);
    }
    world.chaos.note(|| "every fault ends".into());
    world.chaos.has_outage.set(false);
    world.is_slow.set(false);
    settle(world, &docs, &promises.borrow())?;
    check_shown_is_kept(world, &docs)?;
    collect_everything(world, &docs)?;
    settle(world, &docs, &promises.borrow())?;
    publish_at_last(world, &publisher("last"), &promises)?;
    Ok(steps)
}

impl Publisher {
    /// Publishes again and again.
    async fn publishes_for_long(self, mut rng: Rng) {
        for round in 0..2 + rng.below(4) {
            let mut publisher = self.clone();
            publisher.name = format!("{}.{round}", self.name);
            publisher.publishes(rng.fork()).await;
            yields(rng.below(60)).await;
        }
    }
}

/// Sets a policy, pins deploys and removes some.
async fn operates(world: Rc<World>, space: SpaceName, habits: Habits, mut rng: Rng) {
    for _ in 0..4 + rng.below(8) {
        yields(10 + rng.below(100)).await;
        let last = chain(&world, &space).len();
        let number = 1 + rng.below(last.max(1)) as u64;
        let command = match rng.below(6) {
            0 => Command::Pin {
                number,
                pinned: rng.once_in(2),
            },
            1..4 if habits.removes => Command::RemoveDeploy {
                number,
                purge: habits.purges && rng.once_in(2),
            },
            _ => Command::SetRetention(Retention {
                policy: Some(RetentionPolicy {
                    keep_last: Some(1 + rng.below(3) as u64),
                    keep_previews_for: rng.once_in(2).then_some(3_600),
                    ..RetentionPolicy::default()
                }),
            }),
        };
        world.chaos.note(|| format!("an operator: {command:?}"));
        let done = run(&world, &space, command).await;
        match done.map_err(|problem| problem.code) {
            Ok(_)
            | Err(
                Code::Storage
                | Code::NotFound
                | Code::DeployUnknown
                | Code::DeployGone
                | Code::DeployKept,
            ) => {}
            Err(code) => world.chaos.violate(format_args!("an operator got {code}")),
        }
    }
}

/// Runs a command on the server; fails if the server ends before it answers.
async fn run(world: &Rc<World>, space: &SpaceName, command: Command) -> Result<Reply, Problem> {
    run_at(world, space, command, world.now()).await
}

/// Runs a command of a request that began at `now`.
async fn run_at(
    world: &Rc<World>,
    space: &SpaceName,
    command: Command,
    now: Timestamp,
) -> Result<Reply, Problem> {
    let (server, space) = (world.server(), space.clone());
    let slot = Rc::new(Slot::default());
    let guard = FailOnDrop(Rc::clone(&slot));
    world.spawn(Owner::Server, async move {
        let reply = server.backend().spaces().call(&space, command, now).await;
        guard.0.replace(Some(reply));
    });
    loop {
        let reply = slot.take();
        if let Some(reply) = reply {
            return reply;
        }
        yield_now().await;
    }
}

type Slot = RefCell<Option<Result<Reply, Problem>>>;

struct FailOnDrop(Rc<Slot>);

impl Drop for FailOnDrop {
    fn drop(&mut self) {
        let ended = || Err(Problem::new(Code::Storage, "the server ended"));
        self.0.borrow_mut().get_or_insert_with(ended);
    }
}

/// Takes steps of collections, as an alarm and as `pmx gc` do.
async fn collects(world: Rc<World>, space: SpaceName, mut rng: Rng) {
    for _ in 0..20 + rng.below(60) {
        yields(1 + rng.below(25)).await;
        let (server, now, space) = (world.server(), world.now(), space.clone());
        let is_manual = rng.once_in(3);
        let in_world = Rc::clone(&world);
        world.spawn(Owner::Server, async move {
            if is_manual {
                let command = Command::Collect {
                    start: true,
                    dry: false,
                    repack: REPACK,
                };
                let spaces = server.backend().spaces();
                if let Ok(Reply::Collected(step)) = spaces.call(&space, command, now).await {
                    in_world.note_step(&step);
                }
            } else {
                let _next = server.tend(&space, now).await;
            }
        });
    }
}

/// Verifies the space again and again, whatever else goes on: nothing is lost here, so there is no
/// fault.
async fn verifies(world: Rc<World>, space: SpaceName, mut rng: Rng) {
    for _ in 0..3 + rng.below(6) {
        yields(20 + rng.below(80)).await;
        let mut after = None;
        loop {
            let command = Command::Verify(VerifyStep {
                after,
                data: rng.once_in(2).then_some(VerifyData::ALL),
                repair: rng.once_in(4),
            });
            let Ok(Reply::Verified(reply)) = run(&world, &space, command).await else {
                break;
            };
            if let Some(fault) = reply.faults.first() {
                world
                    .chaos
                    .violate(format_args!("a verification found {fault:?}"));
                return;
            }
            if let Some(number) = reply.damaged.first() {
                world
                    .chaos
                    .violate(format_args!("deploy {number} is damaged"));
                return;
            }
            let Some(next) = reply.next else { break };
            after = VerifyCursor::parse(&next).ok();
        }
    }
}

/// Repeats arrivals of packs, late.
async fn repeats(world: Rc<World>, space: SpaceName, mut rng: Rng) {
    for _ in 0..5 + rng.below(10) {
        yields(20 + rng.below(60)).await;
        let count = world.arrivals.borrow().len();
        if count > 0 {
            let (arrival, then) = world.arrivals.borrow()[rng.below(count)].clone();
            world.chaos.note(|| "a late arrival".into());
            let _reply = run_at(&world, &space, arrival, then).await;
        }
    }
}

/// Lets time pass: minutes, a night with its alarms, or a jump of the clock.
async fn hours_pass(world: Rc<World>, space: SpaceName, mut rng: Rng) {
    for _ in 0..2 + rng.below(5) {
        yields(50 + rng.below(150)).await;
        match rng.below(6) {
            0 | 1 => {
                let outage = &world.chaos.has_outage;
                outage.set(!outage.get());
                world
                    .chaos
                    .note(|| format!("pointers fail: {}", outage.get()));
            }
            2 if rng.once_in(3) => world.pass(Duration::from_hours(24 * 365)),
            _ => {
                let objects = || Store::of(&world, &space).map(|store| store.objects());
                let before = objects().unwrap_or_default();
                let is_by_hand = rng.once_in(2);
                night(&world, &space, 20 + rng.below(50), is_by_hand).await;
                let after = objects().unwrap_or_default();
                let deleted = before.difference(&after).count() as u64;
                world.collected.set(world.collected.get() + deleted);
            }
        }
    }
}

/// Each hour the alarm wakes the space, or an operator's timer runs `pmx gc`.
async fn night(world: &Rc<World>, space: &SpaceName, hours: usize, is_by_hand: bool) {
    for hour in 0..hours {
        world.pass(Duration::from_mins(61));
        let (server, now, space) = (world.server(), world.now(), space.clone());
        let in_world = Rc::clone(world);
        world.spawn(Owner::Server, async move {
            if is_by_hand {
                let (start, dry) = (hour == 0, false);
                let step = Command::Collect {
                    start,
                    dry,
                    repack: REPACK,
                };
                let step = server.backend().spaces().call(&space, step, now).await;
                if let Ok(Reply::Collected(step)) = step {
                    in_world.note_step(&step);
                }
            } else {
                let _next = server.tend(&space, now).await;
            }
        });
        yields(2).await;
    }
}

/// Takes pointers, keeps each for hours, and reads everything that they lead to.
async fn holds_pointer(world: Rc<World>, channel: Channel, habits: Habits, mut rng: Rng) {
    let mut held: Vec<(Pointer, Timestamp)> = Vec::new();
    for _ in 0..30 + rng.below(40) {
        yields(1 + rng.below(30)).await;
        if let Some(shown) = world
            .pointers
            .find(&channel)
            .filter(|pointer| !pointer.gone)
        {
            held.retain(|(pointer, _)| *pointer != shown);
            held.push((shown, world.now()));
        }
        if rng.once_in(3) {
            let number = 1 + rng.below(8) as u64;
            let located = located(&world, &channel.space, number).await;
            held.extend(located.map(|pointer| (pointer, world.now())));
        }
        held.retain(|(_, since)| since.after(SAFE) > world.now());
        for (pointer, since) in &held {
            if let Err(why) = check_pointer(&world, &channel.space, pointer, !habits.removes) {
                let (deploy, now) = (pointer.deploy, world.now());
                world.chaos.violate(format_args!(
                    "a pointer to deploy {deploy} of {channel}, used at {since:?}, is no good at \
                     {now:?}: {why}"
                ));
                return;
            }
        }
    }
}

async fn located(world: &Rc<World>, space: &SpaceName, number: u64) -> Option<Pointer> {
    let deploy = Selector::Number(number);
    match run(world, space, Command::Locate { deploy }).await {
        Ok(Reply::Pointer(pointer)) => Some(*pointer),
        _ => None,
    }
}

/// Reads everything that a pointer leads to.
fn check_pointer(
    world: &World,
    space: &SpaceName,
    pointer: &Pointer,
    with_earlier: bool,
) -> Result<(), String> {
    let Some(store) = Store::of(world, space) else {
        return Ok(());
    };
    store.check_root(pointer.root, pointer.index)?;
    if with_earlier {
        for (root, index) in &pointer.earlier {
            let checked = store.check_root(*root, *index);
            checked.map_err(|why| format!("an earlier root: {why}"))?;
        }
    }
    Ok(())
}

/// Checks that what readers are shown was not given up.
fn check_shown_is_kept(world: &World, space: &SpaceName) -> Result<(), String> {
    let chain = chain(world, space);
    let named = rows(world, space, "SELECT deploy FROM alias");
    let mut shown: Vec<u64> = named.iter().map(|row| integer(&row[0])).collect();
    let active = chain.iter().rfind(|link| link.alias.is_none());
    shown.extend(active.map(|link| link.number));
    for number in shown {
        if chain
            .iter()
            .any(|link| link.number == number && !link.is_kept)
        {
            return Err(format!("deploy {number} is shown, but was given up"));
        }
    }
    Ok(())
}

/// Collects until nothing waits any more, and checks that exactly what is reachable is left.
pub(super) fn collect_everything(world: &Rc<World>, space: &SpaceName) -> Result<(), String> {
    if Store::of(world, space).is_none() {
        return Ok(());
    }
    for _ in 0..3 {
        let is_started = Cell::new(true);
        for _ in 0..STEPS_MAX {
            let command = Command::Collect {
                start: is_started.replace(false),
                dry: false,
                repack: REPACK,
            };
            let step = block_on(world.spaces.call(space, command, world.now()));
            match step.map_err(|problem| format!("collecting: {problem}"))? {
                Reply::Collected(step) => {
                    world.note_step(&step);
                    if !step.more {
                        break;
                    }
                }
                other => return Err(format!("collecting was answered {other:?}")),
            }
        }
        for _ in 0..55 {
            world.pass(Duration::from_mins(61));
            drain(world, space)?;
        }
    }
    check_left(world, space)
}

/// More steps than a collection of these sites takes.
const STEPS_MAX: usize = 400;

fn check_left(world: &Rc<World>, space: &SpaceName) -> Result<(), String> {
    let Some(store) = Store::of(world, space) else {
        return Ok(());
    };
    let (mut seen, mut reachable) = (BTreeSet::new(), BTreeSet::new());
    let select = "SELECT deploy.root, node.object, node.at, node.length FROM deploy
         JOIN node ON node.id = deploy.root WHERE deploy.state = 0";
    for row in rows(world, space, select) {
        let root = NodeId::from_bytes(bytes(&row[0]).try_into().unwrap());
        let at = Extent {
            object: ObjectId::from_bytes(bytes(&row[1]).try_into().unwrap()),
            offset: integer(&row[2]),
            len: integer(&row[3]),
        };
        store.walk(root, at, &mut seen, &mut reachable)?;
    }
    let select = "SELECT id FROM object";
    let known: BTreeSet<ObjectId> = rows(world, space, select)
        .iter()
        .map(|row| ObjectId::from_bytes(bytes(&row[0]).try_into().unwrap()))
        .collect();
    let left = store.objects();
    if let Some(lost) = known.difference(&left).next() {
        return Err(format!(
            "the ledger has a row of object {lost}, which is gone"
        ));
    }
    if known != reachable {
        let leaked: Vec<_> = known.difference(&reachable).collect();
        return Err(format!(
            "objects that nothing refers to are left: {leaked:?}"
        ));
    }
    Ok(())
}
