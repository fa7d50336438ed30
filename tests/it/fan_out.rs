//! Fan-out: the hub copies streams into another one; tested against a model and over sockets.
//!
//! The platform loses, delays and repeats copies. The target still gets all messages of each
//! stream, once and in order.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pmx_core::time::Timestamp;
use pmx_streams::subscription::{
    BaseUrl, Copying, Delivery, Effect, EffectOutcome, Pattern, PatternCache, PlatformAction,
    SubscriptionConfig, SubscriptionId, SubscriptionRefusal, SubscriptionRequest,
    SubscriptionResponse, Subscriptions, TailOffsets, WebhookCapacity,
};
use pmx_streams::{
    self as stream, Append, Create, Engine, EngineConfig, Expiry, Generation, MediaType,
    ReadResult, StreamName,
};
use pmx_tests::rng::Rng;
use pmx_tests::sql::Sqlite;
use serde_json::{Value, json};

use crate::stream_subscriptions::Home;
use crate::world::{Host, eventually, started_on_both_hosts};

started_on_both_hosts! {
    fan_out_copies_many_streams_into_one,
    fan_out_survives_every_kill,
}

/// Schedules of a test run.
const SCHEDULES: u64 = 400;

/// The source streams, and their media types.
const SOURCES: [(&str, &str); 3] = [
    ("in/a", "application/json"),
    ("in/b", "application/json"),
    ("in/c", "text/plain"),
];

#[test]
fn fan_out_copies_everything_once_and_in_order() {
    if let Ok(seed) = std::env::var("PMX_SEED") {
        World::new(seed.parse().unwrap()).run();
        return;
    }
    let mut twice = 0;
    for seed in 0..SCHEDULES {
        let run = std::panic::AssertUnwindSafe(|| World::new(seed).run());
        let repeated = std::panic::catch_unwind(run);
        twice += repeated.unwrap_or_else(|_| panic!("broken by PMX_SEED={seed}"));
    }
    // Without repeated copies, the test would prove nothing.
    assert!(twice > SCHEDULES, "{twice}");
}

/// Counts parses: an append matches all patterns, and parses none of them again.
#[test]
fn patterns_are_parsed_when_a_subscription_changes_and_not_by_appends() {
    let mut world = World::new(3);
    let append = |world: &mut World| (0..40).for_each(|_| world.write());
    append(&mut world);
    assert_eq!(world.patterns.loads(), 1);
    for (id, loads) in [("t", 2), ("u", 3)] {
        world.subscribe(id, Some("in/**"), &[], "other").unwrap();
        append(&mut world);
        assert_eq!(world.patterns.loads(), loads);
    }
    let delete = SubscriptionRequest::Delete(SubscriptionId::parse("t").unwrap());
    world
        .transaction(|it| it.handle(&delete, &TailOffsets::new(), world.at()))
        .unwrap();
    append(&mut world);
    assert_eq!(world.patterns.loads(), 4);
}

struct World {
    rng: Rng,
    sql: Sqlite,
    patterns: PatternCache,
    now: u64,
    /// For each stream: how often it was created, and how much was written to it since.
    written: BTreeMap<usize, (u64, u64)>,
    lives: u8,
    /// Fan-out effects in flight; the platform may perform one again although it succeeded.
    errands: Vec<Effect>,
    repeated: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let sql = Sqlite::new();
        Engine::install(&sql).unwrap();
        Subscriptions::install(&sql, [seed as u8; 32]).unwrap();
        let mut world = Self {
            rng: Rng::new(seed),
            sql,
            patterns: PatternCache::default(),
            now: 1_778_324_210_000,
            written: BTreeMap::new(),
            lives: 0,
            errands: Vec::new(),
            repeated: 0,
        };
        world.make(TARGET, "application/json");
        let made = world.subscribe("s", Some("in/*"), &[], "all");
        assert!(
            matches!(made, Ok(SubscriptionResponse::Created(_))),
            "{made:?}"
        );
        world
    }

    fn run(&mut self) -> u64 {
        for _ in 0..120 {
            match self.rng.below(10) {
                0..=3 => self.write(),
                4 => self.delete(),
                5 => self.now += self.rng.below(40_000) as u64,
                6..=7 => self.work(),
                _ => self.carry(),
            }
        }
        self.settle();
        self.check();
        self.repeated
    }

    fn engine<'a>(&'a self, key: usize, engine_config: &'a EngineConfig) -> Engine<'a, Sqlite> {
        Engine::new(&self.sql, i64::try_from(key).unwrap(), engine_config)
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn subscribe(
        &self,
        id: &str,
        pattern: Option<&str>,
        streams: &[&str],
        target: &str,
    ) -> Result<SubscriptionResponse, SubscriptionRefusal> {
        let config = SubscriptionConfig {
            pattern: pattern.map(|pattern| Pattern::parse(pattern).unwrap()),
            streams: streams.iter().copied().map(name).collect(),
            delivery: Delivery::FanOut(name(target)),
            lease: Duration::from_secs(30),
            description: None,
        };
        let call = SubscriptionRequest::Create {
            id: SubscriptionId::parse(id).unwrap(),
            config: Box::new(config),
            base_url: BaseUrl::parse("https://host/v1/stream").unwrap(),
        };
        self.transaction(|it| it.handle(&call, &TailOffsets::new(), self.at()))
    }

    fn transaction<T>(&self, transaction: impl FnOnce(&Subscriptions<'_, Sqlite>) -> T) -> T {
        let subscriptions = Subscriptions::open(&self.sql).unwrap();
        transaction(&subscriptions.with_cache(&self.patterns))
    }

    fn make(&mut self, key: usize, media_type: &str) {
        self.lives += 1;
        let life = Generation::from_random([self.lives; 16]);
        let create = Create {
            media_type: Some(MediaType::new(media_type)),
            expiry: Some(Expiry::Never),
            expiry_text: None,
            closed: false,
            body: bytes::Bytes::new(),
            fork: None,
        };
        let engine_config = EngineConfig::default();
        let engine = self.engine(key, &engine_config);
        engine.create(&create, self.at(), life).unwrap();
    }

    fn write(&mut self) {
        let key = self.rng.below(SOURCES.len());
        let (stream, media_type) = SOURCES[key];
        let (life, count) = match self.written.get(&key).copied() {
            Some((life, count)) if count > 0 => (life, count),
            before => {
                self.make(key, media_type);
                (before.map_or(1, |(life, _)| life), 0)
            }
        };
        let more = 1 + self.rng.below(4) as u64;
        let messages = (count..count + more).map(|number| format!("\"{life}.{number} \""));
        let messages: Vec<String> = messages.collect();
        let body = if media_type == "text/plain" {
            messages.concat().replace('"', "")
        } else {
            format!("[{}]", messages.join(","))
        };
        let append = Append {
            media_type: Some(MediaType::new(media_type)),
            body: body.into(),
            seq: None,
            producer: None,
            close: false,
        };
        let engine_config = EngineConfig::default();
        let engine = self.engine(key, &engine_config);
        let tail = engine.append(&append, self.at()).unwrap().next;
        self.written.insert(key, (life, count + more));
        self.transaction(|it| it.on_append(&name(stream), tail, self.at()).unwrap());
    }

    fn delete(&mut self) {
        let key = self.rng.below(SOURCES.len());
        if let Some((life, count)) = self.written.get(&key).copied()
            && count > 0
        {
            let engine_config = EngineConfig::default();
            let engine = self.engine(key, &engine_config);
            engine.delete(self.at()).unwrap();
            while let Some(job) = engine.next_job(self.at()).unwrap() {
                engine.complete_job(&job, self.at()).unwrap();
            }
            self.transaction(|it| it.on_removed(&name(SOURCES[key].0)).unwrap());
            self.written.insert(key, (life + 1, 0));
        }
    }

    fn work(&mut self) {
        let effects =
            self.transaction(|it| it.work(self.at(), WebhookCapacity::UNLIMITED).unwrap());
        for effect in effects {
            let effect = self.stamped(effect);
            if !self.rng.once_in(6) {
                self.errands.push(effect);
            }
        }
    }

    /// Sets the generation of the source, as the platform does.
    fn stamped(&self, effect: Effect) -> Effect {
        let Effect { lease, action } = effect;
        let PlatformAction::Copy(mut copying) = action else {
            panic!("no worker is woken here");
        };
        let key = SOURCES
            .iter()
            .position(|it| it.0 == copying.source.as_str());
        let engine_config = EngineConfig::default();
        let view = self
            .engine(key.unwrap(), &engine_config)
            .head(self.at())
            .ok();
        copying.generation = view.and_then(|view| Generation::from_hex(&view.generation));
        let action = PlatformAction::Copy(copying);
        Effect { lease, action }
    }

    /// Performs some copies, perhaps late and perhaps again.
    fn carry(&mut self) {
        if self.errands.is_empty() {
            return;
        }
        let at = self.rng.below(self.errands.len());
        let effect = self.errands[at].clone();
        if self.rng.once_in(3) {
            self.repeated += 1;
        } else {
            self.errands.swap_remove(at);
        }
        let outcome = self.copy(&effect);
        if !self.rng.once_in(4) {
            let now = self.at();
            self.transaction(|it| it.on_delivery_result(&effect.lease, &outcome, now).unwrap());
        }
    }

    fn copy(&mut self, effect: &Effect) -> EffectOutcome {
        let PlatformAction::Copy(copying) = &effect.action else {
            panic!("no worker is woken here");
        };
        match self.copied(copying) {
            Ok(outcome) => outcome,
            Err(_) => EffectOutcome::Failed,
        }
    }

    fn copied(&mut self, copying: &Copying) -> Result<EffectOutcome, stream::Refusal> {
        let key = SOURCES
            .iter()
            .position(|it| it.0 == copying.source.as_str());
        // Pages end at other positions each time.
        let read_bytes = *self.rng.pick(&[1, 7, 30, 4_096]);
        let engine_config = EngineConfig {
            read_bytes,
            ..EngineConfig::default()
        };
        let engine = self.engine(key.unwrap(), &engine_config);
        let now = self.at();
        let read = async |read| match engine.peek(&read, now)? {
            ReadResult::Page(page) => Ok(page),
            ReadResult::Cold(_) => panic!("nothing is cold here"),
        };
        let mut gathering = pin!(copying.gather(read));
        let polled = gathering
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(copies) = polled else {
            panic!("nothing waits here");
        };
        let copies = copies?;
        let engine = self.engine(TARGET, &engine_config);
        engine.append(&copies.append, now)?;
        Ok(EffectOutcome::Copied(copies.to))
    }

    /// Performs all due copies without faults.
    fn settle(&mut self) {
        self.errands.clear();
        for _ in 0..200 {
            for effect in
                self.transaction(|it| it.work(self.at(), WebhookCapacity::UNLIMITED).unwrap())
            {
                let effect = self.stamped(effect);
                let outcome = self.copy(&effect);
                let now = self.at();
                self.transaction(|it| it.on_delivery_result(&effect.lease, &outcome, now).unwrap());
            }
            match self.transaction(|it| it.due(self.at(), WebhookCapacity::UNLIMITED).unwrap()) {
                Some(due) => self.now = self.now.max(due.as_millis()),
                None => return,
            }
        }
        panic!("it never rests");
    }

    fn check(&self) {
        let engine_config = EngineConfig::default();
        let engine = self.engine(TARGET, &engine_config);
        let from = stream::From::Start;
        let reading = engine.peek(&stream::Read { from }, self.at()).unwrap();
        let ReadResult::Page(page) = reading else {
            panic!("nothing is cold here");
        };
        let all: Vec<Value> = serde_json::from_str(&format!(
            "[{}]",
            String::from_utf8(page.body.to_vec()).unwrap()
        ))
        .unwrap();
        for (key, (stream, _)) in SOURCES.iter().enumerate() {
            let mine = all.iter().filter(|it| it["stream"] == *stream);
            let text: String = mine.map(|it| it["payload"].as_str().unwrap()).collect();
            let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for message in text.split_whitespace() {
                let (life, number) = message.split_once('.').unwrap();
                let life = found.entry(life.parse().unwrap()).or_default();
                life.push(number.parse().unwrap());
            }
            for (life, numbers) in &found {
                let expected: Vec<u64> = (0..numbers.len() as u64).collect();
                assert_eq!(*numbers, expected, "{stream}, life {life}");
            }
            if let Some((life, count)) = self.written.get(&key) {
                let copied = found.get(life).map_or(0, Vec::len) as u64;
                assert_eq!(copied, *count, "{stream}, life {life}");
            }
        }
    }
}

/// The key of the target stream.
const TARGET: usize = 9;

fn name(text: &str) -> StreamName {
    StreamName::parse(text).unwrap()
}

#[test]
fn fan_out_cycles_are_refused() {
    let world = World::new(1);
    let code = |made: Result<SubscriptionResponse, SubscriptionRefusal>| match made {
        Ok(_) => "",
        Err(SubscriptionRefusal::Cycle(_)) => "circle",
        Err(refusal) => panic!("{refusal}"),
    };
    // The fan-out from `in/*` to `all` exists already.
    for (id, pattern, streams, target, expected) in [
        ("1", None, &["all"][..], "more", ""),
        ("2", None, &["more"], "in/x", "circle"),
        ("3", Some("**"), &[], "in/x", "circle"),
        ("4", Some("**"), &[], "sum", ""),
        ("5", None, &["sum"], "in/x", "circle"),
        ("6", None, &["sum"], "other", "circle"),
        ("7", Some("in/*"), &[], "in/x", ""),
    ] {
        let made = world.subscribe(id, pattern, streams, target);
        assert_eq!(code(made), expected, "{id}");
    }
    let link = SubscriptionRequest::Link(SubscriptionId::parse("s").unwrap(), vec![name("sum")]);
    let linked = world.transaction(|it| it.handle(&link, &TailOffsets::new(), world.at()));
    assert_eq!(code(linked), "circle");
}

fn fan_out_copies_many_streams_into_one(host: Host) {
    let home = Home::new(host, &[]);
    assert_eq!(home.ask("PUT", "in/a", "", &json!(["before"])).status, 201);
    let config = json!({"type": "fan-out", "pattern": "in/*", "target_stream": "all"});
    home.subscribe("s", &config);
    let shown = home.ask("GET", "__ds/subscriptions/s", "", &Value::Null);
    assert_eq!(shown.json()["target_stream"], "all");
    assert_eq!(home.claim("s").status, 400);
    assert_eq!(
        home.ask("POST", "in/a", "", &json!([1, {"b": 2}])).status,
        204
    );
    // The target is created after its messages.
    eventually("it is said that nothing is copied", || {
        let shown = home.ask("GET", "__ds/subscriptions/s", "", &Value::Null);
        shown.json()["status"] == "failed"
    });
    assert_eq!(home.ask("PUT", "all", "", &json!([])).status, 201);
    assert_eq!(home.ask("PUT", "in/b", "", &json!([3])).status, 201);
    eventually("all is copied", || home.wakes("all").len() == 3);
    let all = home.wakes("all");
    let of = |stream: &str| {
        let mine = all.iter().filter(|it| it["stream"] == stream);
        mine.map(|it| it["payload"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("in/a"), [json!(1), json!({"b": 2})]);
    assert_eq!(of("in/b"), [json!(3)]);
    assert_eq!(all[0]["type"], "application/json");
    let circle = json!({"type": "fan-out", "streams": ["all"], "target_stream": "in/c"});
    let refused = home.ask("PUT", "__ds/subscriptions/t", "", &circle);
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["error"]["code"], "CIRCULAR_FAN_OUT");
    assert_eq!(
        home.ask("DELETE", "__ds/subscriptions/s", "", &Value::Null)
            .status,
        204
    );
    // Another fan-out copies the messages that the deleted one had not copied yet.
    assert_eq!(home.ask("PUT", "later", "", &json!([])).status, 201);
    let config = json!({"type": "fan-out", "pattern": "in/*", "target_stream": "later"});
    home.subscribe("u", &config);
    assert_eq!(home.ask("POST", "in/a", "", &json!([4])).status, 204);
    eventually("the other one copies", || home.wakes("later").len() == 1);
    assert_eq!(home.wakes("all").len(), 3);
}

fn fan_out_survives_every_kill(host: Host) {
    let mut home = Home::new(host, &[]);
    for stream in ["all", "in/a", "in/b"] {
        assert_eq!(home.ask("PUT", stream, "", &json!([])).status, 201);
    }
    let config = json!({"type": "fan-out", "pattern": "in/*", "target_stream": "all"});
    home.subscribe("s", &config);
    let mut next = 0;
    for _ in 0..3 {
        for _ in 0..20 {
            let stream = ["in/a", "in/b"][next % 2];
            assert_eq!(home.ask("POST", stream, "", &json!([next])).status, 204);
            next += 1;
        }
        home.crash();
    }
    eventually("all is copied", || home.wakes("all").len() >= next);
    let all = home.wakes("all");
    for (parity, stream) in ["in/a", "in/b"].into_iter().enumerate() {
        let mine = all.iter().filter(|it| it["stream"] == stream);
        let numbers: Vec<_> = mine.map(|it| it["payload"].as_u64().unwrap()).collect();
        let expected: Vec<_> = (0..next as u64)
            .filter(|it| it % 2 == parity as u64)
            .collect();
        assert_eq!(numbers, expected, "{stream}");
    }
}
