//! Subscriptions against a model, in random schedules. Workers claim, report, pause and return
//! late. Webhooks fail, and the platform loses effects. Streams grow, end and begin again.
//!
//! Invariants in every schedule: the engine accepts at most one worker at a time, and it never
//! hands out processed messages again. Once faults stop, a worker processes every message.
//! `PMX_SEED=<n>` replays a seed and prints the events.

mod deliveries;
mod settle;
mod setup;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use pmx_core::sql::Sql as _;
use pmx_core::time::Timestamp;
use pmx_streams::Offset;
use pmx_streams::subscription::{
    BaseUrl, Effect, LinkView, SubscriptionRefusal, SubscriptionRequest, SubscriptionResponse,
    Subscriptions, TailOffsets,
};

use pmx_tests::rng::Rng;
use pmx_tests::sql::Sqlite;
use setup::{CONFIGS, Lease, config, id, name};

/// Schedules of a test run.
const SCHEDULES: u64 = 250;

/// Steps of a schedule.
const STEPS: usize = 120;

/// Streams that come and go; the last matches no pattern.
const STREAMS: &[&str] = &["events/a", "events/b", "events/c/d", "other"];

#[test]
fn subscriptions_keep_their_invariants_in_random_schedules() {
    #[expect(clippy::disallowed_methods, reason = "a test may be asked for a seed")]
    let seed = std::env::var("PMX_SEED");
    if let Ok(seed) = seed {
        let seed = seed.parse().unwrap();
        return World::new(seed, true).run();
    }
    let mut counts = Counts::default();
    for seed in 0..SCHEDULES {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed, false);
            world.run();
            world.counts
        });
        let one = std::panic::catch_unwind(run);
        counts.add(&one.unwrap_or_else(|_| panic!("broken by PMX_SEED={seed}")));
    }
    println!("{counts:?}");
    // Schedules without these events would test nothing.
    for count in [
        counts.claims,
        counts.webhooks,
        counts.fenced,
        counts.lost,
        counts.failed,
        counts.expired,
    ] {
        assert!(count > SCHEDULES, "{counts:?}");
    }
}

#[derive(Debug, Default)]
struct Counts {
    claims: u64,
    webhooks: u64,
    fenced: u64,
    lost: u64,
    failed: u64,
    expired: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.claims += other.claims;
        self.webhooks += other.webhooks;
        self.fenced += other.fenced;
        self.lost += other.lost;
        self.failed += other.failed;
        self.expired += other.expired;
    }
}

struct World {
    seed: u64,
    rng: Rng,
    sql: Sqlite,
    now: u64,
    verbose: bool,
    /// The tail of each stream.
    tails: BTreeMap<String, u64>,
    /// The acknowledged offset of each stream of each subscription.
    done: BTreeMap<(usize, String), u64>,
    leases: Vec<Lease>,
    /// Effects whose outcome is not reported, with their subscriptions.
    in_flight: Vec<(usize, Effect)>,
    /// Wakes in the wake stream: subscription and generation.
    announced: BTreeSet<(usize, u64)>,
    counts: Counts,
}

impl World {
    fn new(seed: u64, verbose: bool) -> Self {
        let sql = Sqlite::new();
        Subscriptions::install(&sql, [seed as u8; 32]).unwrap();
        // Another seed has no effect.
        Subscriptions::install(&sql, [!seed as u8; 32]).unwrap();
        let world = Self {
            seed,
            rng: Rng::new(seed),
            sql,
            now: 1_778_324_210_000,
            verbose,
            tails: BTreeMap::new(),
            done: BTreeMap::new(),
            leases: Vec::new(),
            in_flight: Vec::new(),
            announced: BTreeSet::new(),
            counts: Counts::default(),
        };
        for subscription in 0..CONFIGS {
            assert!(matches!(
                world.create(subscription),
                Ok(SubscriptionResponse::Created(_))
            ));
            assert!(matches!(
                world.create(subscription),
                Ok(SubscriptionResponse::Shown(_))
            ));
        }
        world
    }

    fn run(&mut self) {
        for step in 0..STEPS {
            self.step();
            if step % 3 == 0 {
                self.check();
            }
        }
        self.settle();
    }

    fn step(&mut self) {
        match self.rng.below(16) {
            0..=3 => self.append(),
            4 => self.delete_stream(),
            5..=6 => self.wait(),
            7..=8 => self.work(),
            9..=10 => self.finish_delivery(),
            11..=12 => self.claim_some(),
            13..=14 => self.report(),
            _ => self.release(),
        }
    }

    fn append(&mut self) {
        let stream = *self.rng.pick(STREAMS);
        let tail = self.tails.entry(stream.to_owned()).or_default();
        *tail += 1 + self.rng.below(3) as u64;
        let tail = Offset::at(*tail);
        self.log(|| format!("{stream} ends at {}", tail.position()));
        self.transaction(|it, now| it.on_append(&name(stream), tail, now).unwrap());
    }

    fn delete_stream(&mut self) {
        let stream = *self.rng.pick(STREAMS);
        if self.rng.once_in(2) && self.tails.remove(stream).is_some() {
            self.log(|| format!("{stream} ended"));
            self.transaction(|it, _| it.on_removed(&name(stream)).unwrap());
            self.done.retain(|(_, path), _| path != stream);
            for lease in &mut self.leases {
                lease.tails.remove(stream);
            }
        }
    }

    fn wait(&mut self) {
        self.now += self.rng.below(1_500) as u64;
        for lease in &mut self.leases {
            if !lease.over && lease.until <= self.now {
                lease.over = true;
                self.counts.expired += 1;
            }
        }
    }

    /// Work that a worker gets begins at the acknowledged offset and ends at the tail.
    fn check_handed_out(
        &self,
        subscription: usize,
        path: &str,
        acked: Offset,
        tail: Offset,
        work: bool,
    ) {
        let (acked, tail) = (acked.position(), tail.position());
        assert_eq!(
            acked,
            self.processed(subscription, path),
            "{subscription} {path}"
        );
        assert_eq!(
            tail,
            self.tails.get(path).copied().unwrap_or_default(),
            "{path}"
        );
        assert_eq!(work, tail > acked);
    }

    /// The engine has acknowledged exactly what workers have acknowledged.
    fn check(&self) {
        for subscription in 0..CONFIGS {
            for link in self.links(subscription) {
                let done = self.processed(subscription, link.path.as_str());
                assert_eq!(
                    link.acked_offset.position(),
                    done,
                    "{subscription} {}",
                    link.path
                );
            }
        }
    }

    fn has_work(&self, subscription: usize) -> bool {
        self.links(subscription).iter().any(|link| {
            let tail = self.tails.get(link.path.as_str()).copied();
            tail.unwrap_or_default() > link.acked_offset.position()
        })
    }

    fn links(&self, subscription: usize) -> Vec<LinkView> {
        match self.call(
            &SubscriptionRequest::Show(id(subscription)),
            &TailOffsets::new(),
        ) {
            Ok(SubscriptionResponse::Shown(view)) => view.streams,
            other => panic!("{other:?}"),
        }
    }

    fn processed(&self, subscription: usize, path: &str) -> u64 {
        let key = (subscription, path.to_owned());
        self.done.get(&key).copied().unwrap_or_default()
    }

    fn some_lease(&mut self) -> Option<usize> {
        let recent = self.leases.len().saturating_sub(6);
        let count = self.leases.len() - recent;
        (count > 0).then(|| recent + self.rng.below(count))
    }

    fn live(&self) -> TailOffsets {
        let tails = self.tails.iter();
        tails
            .map(|(path, tail)| (name(path), Offset::at(*tail)))
            .collect()
    }

    fn create(&self, subscription: usize) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        let request = SubscriptionRequest::Create {
            id: id(subscription),
            config: Box::new(config(subscription)),
            base_url: BaseUrl::parse("https://streams.dev/v1/stream").unwrap(),
        };
        self.call(&request, &self.live())
    }

    fn call(
        &self,
        call: &SubscriptionRequest,
        tails: &TailOffsets,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        self.transaction(|it, now| it.handle(call, tails, now))
    }

    fn transaction<T>(&self, body: impl FnOnce(&Subscriptions<'_, Sqlite>, Timestamp) -> T) -> T {
        let now = Timestamp::from_millis(self.now);
        let done = self.sql.atomically(|sql| {
            let subscriptions = Subscriptions::open(sql)?;
            Ok::<_, pmx_core::sql::SqlError>(body(&subscriptions, now))
        });
        done.unwrap()
    }

    fn log(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{} {}: {}", self.seed, self.now, what());
        }
    }
}
