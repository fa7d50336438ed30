//! Subscriptions against a model: workers claim, report, fall silent and come back too late,
//! webhooks fail, the platform loses what it was about to do, streams grow, end and begin again.
//!
//! What must hold, whatever the order: no two workers are believed at a time; what is done is never
//! handed out again; and once no one disturbs any more, all that was written has been done by
//! a worker. `PMX_SEED=<n>` replays a seed and prints what happens.

mod settle;
mod setup;

use std::collections::{BTreeMap, BTreeSet};

use pmx_core::sql::Sql as _;
use pmx_core::time::Timestamp;
use pmx_streams::Offset;
use pmx_streams::subscription::{
    Action, Answer, BaseUrl, Call, Effect, LeaseRef, LinkView, Outcome, Refusal, Report, Room,
    StreamView, Subscriptions, TailOffsets,
};
use serde_json::Value;

use pmx_tests::rng::Rng;
use pmx_tests::sql::Sqlite;
use setup::{CONFIGS, LEASE, Lease, ack, answered, config, id, is_webhook, name, reported};

/// Schedules of a test run.
const SCHEDULES: u64 = 250;

/// Steps of a schedule.
const STEPS: usize = 120;

/// Streams that come and go; the last matches no pattern.
const STREAMS: &[&str] = &["events/a", "events/b", "events/c/d", "other"];

#[test]
fn no_order_of_events_breaks_a_subscription() {
    #[expect(clippy::disallowed_methods, reason = "a test may be asked for a seed")]
    let seed = std::env::var("PMX_SEED");
    if let Ok(seed) = seed {
        let seed = seed.parse().unwrap();
        return World::new(seed, true).run();
    }
    let mut sum = Sum::default();
    for seed in 0..SCHEDULES {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed, false);
            world.run();
            world.sum
        });
        let one = std::panic::catch_unwind(run);
        sum.add(&one.unwrap_or_else(|_| panic!("broken by PMX_SEED={seed}")));
    }
    println!("{sum:?}");
    // A schedule in which nothing happens shows nothing.
    for count in [
        sum.claims,
        sum.webhooks,
        sum.fenced,
        sum.lost,
        sum.failed,
        sum.expired,
    ] {
        assert!(count > SCHEDULES, "{sum:?}");
    }
}

#[derive(Debug, Default)]
struct Sum {
    claims: u64,
    webhooks: u64,
    fenced: u64,
    lost: u64,
    failed: u64,
    expired: u64,
}

impl Sum {
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
    loud: bool,
    /// Where each stream ends.
    tails: BTreeMap<String, u64>,
    /// How far each subscription was told that a stream is done.
    done: BTreeMap<(usize, String), u64>,
    leases: Vec<Lease>,
    /// Effects on their way.
    errands: Vec<(usize, Effect)>,
    /// Wakes that stand in the wake stream: subscription and generation.
    announced: BTreeSet<(usize, u64)>,
    sum: Sum,
}

impl World {
    fn new(seed: u64, loud: bool) -> Self {
        let sql = Sqlite::new();
        Subscriptions::install(&sql, [seed as u8; 32]).unwrap();
        // A second time changes nothing.
        Subscriptions::install(&sql, [!seed as u8; 32]).unwrap();
        let world = Self {
            seed,
            rng: Rng::new(seed),
            sql,
            now: 1_778_324_210_000,
            loud,
            tails: BTreeMap::new(),
            done: BTreeMap::new(),
            leases: Vec::new(),
            errands: Vec::new(),
            announced: BTreeSet::new(),
            sum: Sum::default(),
        };
        for subscription in 0..CONFIGS {
            assert!(matches!(world.create(subscription), Ok(Answer::Created(_))));
            assert!(matches!(world.create(subscription), Ok(Answer::Shown(_))));
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
            9..=10 => self.action(),
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
        self.say(|| format!("{stream} ends at {}", tail.position()));
        self.turn(|it, now| it.on_append(&name(stream), tail, now).unwrap());
    }

    fn delete_stream(&mut self) {
        let stream = *self.rng.pick(STREAMS);
        if self.rng.once_in(2) && self.tails.remove(stream).is_some() {
            self.say(|| format!("{stream} is gone"));
            self.turn(|it, _| it.on_removed(&name(stream)).unwrap());
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
                self.sum.expired += 1;
            }
        }
    }

    fn work(&mut self) {
        let room = Room {
            webhooks: self.rng.below(3),
            again: self.rng.below(3),
        };
        let (effects, due) = self.turn(|it, now| {
            let effects = it.work(now, room).unwrap();
            let due = it.due(now, room.beside(&effects)).unwrap();
            (effects, due.map(Timestamp::as_millis))
        });
        let is_webhook = |effect: &&Effect| matches!(effect.action, Action::Webhook { .. });
        let webhooks = effects.iter().filter(is_webhook).count();
        assert!(webhooks <= room.webhooks, "{webhooks} for {room:?}");
        // A platform without room must not be called again and again.
        assert!(due.is_none_or(|due| due > self.now), "{room:?} {due:?}");
        for effect in effects {
            if self.rng.once_in(8) {
                self.say(|| format!("lost: {:?}", effect.lease));
                self.sum.lost += 1;
                continue;
            }
            let subscription = self.sent(&effect);
            self.errands.push((subscription, effect));
        }
    }

    /// A webhook arrives before anybody knows what comes of it.
    fn sent(&mut self, effect: &Effect) -> usize {
        match &effect.action {
            Action::Webhook { body, timeout, .. } => {
                assert!(*timeout <= LEASE);
                let body: Value = serde_json::from_slice(body).unwrap();
                let id = body["subscription_id"].as_str().unwrap();
                let subscription: usize = id.parse().unwrap();
                let streams = &body["streams"];
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let offset = |value: &Value| Offset::parse(value.as_str().unwrap()).unwrap();
                let mut tails = BTreeMap::new();
                for stream in streams.as_array().unwrap() {
                    let path = text(&stream["path"]);
                    let (acked, tail) = (&stream["acked_offset"], &stream["tail_offset"]);
                    let pending = stream["has_pending"].as_bool().unwrap();
                    self.handed_out(subscription, &path, offset(acked), offset(tail), pending);
                    tails.insert(path, offset(tail));
                }
                let lease = Lease {
                    subscription,
                    generation: body["generation"].as_u64().unwrap(),
                    wake_id: text(&body["wake_id"]),
                    token: text(&body["callback_token"]),
                    until: self.now + LEASE.as_millis() as u64,
                    over: false,
                    tails,
                };
                self.sum.webhooks += 1;
                self.given(lease);
                subscription
            }
            Action::Append { stream, message } => {
                assert_eq!(stream.as_str(), "wake");
                let message: Value = serde_json::from_slice(message).unwrap();
                assert_eq!(message["type"], "wake");
                message["subscription_id"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            }
            Action::Copy(_) => panic!("nothing is copied here"),
        }
    }

    /// What is on its way ends somehow.
    fn action(&mut self) {
        if self.errands.is_empty() {
            return;
        }
        let at = self.rng.below(self.errands.len());
        let (subscription, effect) = self.errands.swap_remove(at);
        let outcome = match (&effect.action, self.rng.below(5)) {
            (Action::Webhook { .. }, 0) => answered(503, ""),
            (Action::Webhook { .. }, 1) | (Action::Append { .. }, 0 | 1) => Outcome::Failed,
            (Action::Webhook { .. }, 2) => answered(200, r#"{"done":true}"#),
            (Action::Webhook { .. }, _) => answered(202, "ok"),
            (Action::Append { .. } | Action::Copy(_), _) => Outcome::Appended,
        };
        if self.rng.once_in(10) {
            self.sum.lost += 1;
            return;
        }
        self.tell(subscription, &effect.lease, &outcome);
    }

    fn tell(&mut self, subscription: usize, of: &LeaseRef, outcome: &Outcome) {
        self.say(|| format!("result for {subscription}: {of:?} {outcome:?}"));
        self.turn(|it, now| it.on_delivery_result(of, outcome, now).unwrap());
        let now = self.now;
        let mine = |lease: &&mut Lease| {
            (lease.subscription, lease.generation) == (subscription, of.generation)
        };
        match outcome {
            Outcome::Answered { status: 200, .. } => {
                let lease = self.leases.iter_mut().rev().find(mine);
                if let Some(lease) = lease.filter(|lease| !lease.over && lease.until > now) {
                    lease.over = true;
                    for (path, tail) in lease.tails.clone() {
                        self.acked(subscription, &path, tail);
                    }
                }
            }
            // It goes on under the same wake, or under the next: both are looked at below.
            Outcome::Answered { status: 503, .. } | Outcome::Failed => {
                self.sum.failed += 1;
                let lease = self.leases.iter_mut().rev().find(mine);
                if let Some(lease) = lease.filter(|_| is_webhook(subscription)) {
                    lease.over = true;
                }
            }
            Outcome::Answered { .. } | Outcome::Copied(_) => {}
            Outcome::Appended => {
                self.announced.insert((subscription, of.generation));
            }
        }
    }

    fn claim_some(&mut self) {
        let subscription = self.rng.below(CONFIGS);
        self.claim(subscription);
    }

    fn claim(&mut self, subscription: usize) -> bool {
        let now = self.now;
        let holder = self.leases.iter().rposition(|lease| {
            lease.subscription == subscription && !lease.over && lease.until > now
        });
        let call = Call::Claim {
            id: id(subscription),
            worker: format!("worker-{}", self.rng.below(3)),
            within: None,
        };
        match self.call(&call, &TailOffsets::new()) {
            Ok(Answer::Claimed(claimed)) => {
                self.say(|| format!("claimed {subscription}.{}", claimed.generation));
                assert_eq!(holder, None, "two workers hold {subscription}");
                assert!(claimed.streams.iter().any(|stream| stream.has_pending));
                for stream in &claimed.streams {
                    self.checked(subscription, stream);
                }
                let tails = claimed.streams.iter();
                let tails = tails.map(|it| (it.path.to_string(), it.tail_offset));
                let lease = Lease {
                    subscription,
                    generation: claimed.generation,
                    wake_id: claimed.wake_id,
                    token: claimed.token,
                    until: now + claimed.lease_ttl_ms,
                    over: false,
                    tails: tails.collect(),
                };
                self.sum.claims += 1;
                self.given(lease);
                true
            }
            Err(Refusal::Taken { generation, .. }) => {
                let holder = holder.map(|at| self.leases[at].generation);
                assert_eq!(holder, Some(generation), "nobody holds {subscription}");
                false
            }
            Err(Refusal::Idle) => {
                assert_eq!(holder, None);
                assert!(!self.has_work(subscription), "work is kept back");
                false
            }
            Err(Refusal::Invalid(_)) => {
                assert!(is_webhook(subscription));
                false
            }
            other => panic!("a claim came to {other:?}"),
        }
    }

    fn report(&mut self) {
        let Some(at) = self.some_lease() else {
            return;
        };
        let lease = self.leases[at].clone();
        let mut acks = BTreeMap::new();
        for (path, tail) in &lease.tails {
            let done = self.done_of(lease.subscription, path);
            if self.rng.once_in(2) && tail.position() >= done {
                let more = tail.position() - done + 1;
                acks.insert(path.clone(), done + self.rng.next() % more);
            }
        }
        let report = Report {
            acks: acks.iter().map(|(path, at)| ack(path, *at)).collect(),
            done: self.rng.once_in(2),
            ..reported(&lease)
        };
        let call = if is_webhook(lease.subscription) {
            Call::Callback(id(lease.subscription), report.clone())
        } else {
            Call::Ack(id(lease.subscription), report.clone())
        };
        let outcome = self.call(&call, &TailOffsets::new());
        self.say(|| format!("{lease:?} reported {acks:?}: {outcome:?}"));
        match outcome {
            Ok(Answer::Acked { next_wake }) => {
                self.believed(at);
                for (path, at) in acks {
                    self.acked(lease.subscription, &path, Offset::at(at));
                }
                self.leases[at].over = report.done;
                self.leases[at].until = self.now + LEASE.as_millis() as u64;
                let left = self.has_work(lease.subscription);
                assert_eq!(next_wake, report.done && left);
            }
            Err(Refusal::Fenced) => {
                self.sum.fenced += 1;
                self.disbelieved(at);
            }
            // A stream that ended meanwhile can't be acknowledged; nothing of the report counts.
            Err(Refusal::Offset(_)) => self.believed(at),
            other => panic!("a report came to {other:?}"),
        }
    }

    fn release(&mut self) {
        let Some(at) = self.some_lease() else {
            return;
        };
        let lease = self.leases[at].clone();
        let call = Call::Release(id(lease.subscription), reported(&lease));
        match self.call(&call, &TailOffsets::new()) {
            Ok(Answer::Done) => {
                self.believed(at);
                self.leases[at].over = true;
            }
            Err(Refusal::Fenced) => {
                self.sum.fenced += 1;
                self.disbelieved(at);
            }
            Err(Refusal::Invalid(_)) => assert!(is_webhook(lease.subscription)),
            other => panic!("a release came to {other:?}"),
        }
    }

    /// A client that is believed is the last who was given the work.
    fn believed(&self, at: usize) {
        let lease = &self.leases[at];
        let last = self.leases.iter().rev();
        let last = last.filter(|other| other.subscription == lease.subscription);
        let last = last.map(|other| other.generation).max();
        assert_eq!(last, Some(lease.generation), "an old wake is believed");
        // A webhook that failed may have begun, and says so.
        assert!(!lease.over || is_webhook(lease.subscription), "{lease:?}");
    }

    /// A client that is not believed has lost its lease.
    fn disbelieved(&self, at: usize) {
        let lease = &self.leases[at];
        assert!(
            lease.over || lease.until <= self.now,
            "{lease:?} was fenced"
        );
    }

    fn given(&mut self, lease: Lease) {
        for other in &self.leases {
            if other.subscription == lease.subscription {
                assert!(other.generation <= lease.generation, "generations go back");
                let is_over = other.over || other.until <= self.now;
                assert!(is_over, "{other:?} and {lease:?} are held at once");
            }
        }
        // The same wake may be tried twice: both are one worker to us.
        self.leases.retain(|other| {
            (other.subscription, other.generation) != (lease.subscription, lease.generation)
        });
        self.leases.push(lease);
    }

    fn acked(&mut self, subscription: usize, path: &str, at: Offset) {
        if self
            .links(subscription)
            .iter()
            .any(|link| link.path.as_str() == path)
        {
            let done = self
                .done
                .entry((subscription, path.to_owned()))
                .or_default();
            *done = at.position().max(*done);
        }
    }

    fn checked(&self, subscription: usize, stream: &StreamView) {
        let path = stream.path.as_str();
        let (acked, tail) = (stream.acked_offset, stream.tail_offset);
        self.handed_out(subscription, path, acked, tail, stream.has_pending);
    }

    /// What is handed out begins where it is done, and ends where the stream does.
    fn handed_out(&self, subscription: usize, path: &str, acked: Offset, tail: Offset, work: bool) {
        let (acked, tail) = (acked.position(), tail.position());
        assert_eq!(
            acked,
            self.done_of(subscription, path),
            "{subscription} {path}"
        );
        assert_eq!(
            tail,
            self.tails.get(path).copied().unwrap_or_default(),
            "{path}"
        );
        assert_eq!(work, tail > acked);
    }

    /// Nothing is done that no one said is done, and nothing done is forgotten.
    fn check(&self) {
        for subscription in 0..CONFIGS {
            for link in self.links(subscription) {
                let done = self.done_of(subscription, link.path.as_str());
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
        match self.call(&Call::Show(id(subscription)), &TailOffsets::new()) {
            Ok(Answer::Shown(view)) => view.streams,
            other => panic!("{other:?}"),
        }
    }

    fn done_of(&self, subscription: usize, path: &str) -> u64 {
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

    fn create(&self, subscription: usize) -> Result<Answer, Refusal> {
        let call = Call::Create {
            id: id(subscription),
            config: Box::new(config(subscription)),
            root: BaseUrl::parse("https://streams.dev/v1/stream").unwrap(),
        };
        self.call(&call, &self.live())
    }

    fn call(&self, call: &Call, tails: &TailOffsets) -> Result<Answer, Refusal> {
        self.turn(|it, now| it.handle(call, tails, now))
    }

    fn turn<T>(&self, turn: impl FnOnce(&Subscriptions<'_, Sqlite>, Timestamp) -> T) -> T {
        let now = Timestamp::from_millis(self.now);
        let done = self.sql.atomically(|sql| {
            let subscriptions = Subscriptions::open(sql)?;
            Ok::<_, pmx_core::sql::SqlError>(turn(&subscriptions, now))
        });
        done.unwrap()
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.loud {
            println!("{} {}: {}", self.seed, self.now, what());
        }
    }
}
