//! Reports of streams to the hub, with a crash after every step on the way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use pmx_core::sql::{Sql as _, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::hub::Hub;
use pmx_streams::subscription::{
    BaseUrl, Delivery, Pattern, RequiredTails, SubscriptionConfig, SubscriptionId,
    SubscriptionRequest, SubscriptionResponse,
};
use pmx_streams::{Append, Engine, Generation, HubAck, MediaType, StreamTail};
use serde_json::Value;

use super::crash::{create, engine_config};
use super::model::at;
use super::world::{Database, Faults, World, database, name};

/// Streams and a hub that crash together.
struct Server<'a> {
    world: World<'a>,
    hub: Database<'a>,
    generations: Cell<u8>,
    /// The messages in the registry.
    registry: RefCell<Vec<Value>>,
    /// The number of batches in the registry.
    batches: Cell<u64>,
    /// The acknowledged tail of each stream.
    acknowledged: RefCell<BTreeMap<usize, StreamTail>>,
}

impl<'a> Server<'a> {
    fn new(faults: &'a Faults) -> Self {
        let hub = database(faults);
        Hub::install(&hub, [7; 32]).unwrap();
        Self {
            world: World::new(engine_config(), faults),
            hub,
            generations: Cell::default(),
            registry: RefCell::default(),
            batches: Cell::default(),
            acknowledged: RefCell::default(),
        }
    }

    fn engine(&self, stream: usize) -> Engine<'_, Database<'a>> {
        self.world.engine(stream).with_hub_registry()
    }

    fn hub<T>(
        &self,
        transaction: impl FnOnce(&Hub<'_, Database<'a>>) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.hub.atomically(|sql| transaction(&Hub::open(sql)?))
    }

    fn report(&self, stream: usize) -> Result<(), SqlError> {
        let engine = self.engine(stream);
        while let Some(update) = engine.hub_update()? {
            let ack = self.hub(|hub| hub.ingest(&name(stream), &update, &[], at(0)))?;
            engine.atomically(|engine| engine.ack_hub_update(&update, &ack))?;
        }
        Ok(())
    }

    fn create(&self, stream: usize) -> Result<(), ()> {
        self.generations.set(self.generations.get() + 1);
        let generation = Generation::from_random([self.generations.get(); 16]);
        let engine = self.engine(stream);
        let call = create(None);
        let made = engine.atomically(|engine| engine.create(&call, at(0), generation));
        made.map_err(drop)?;
        self.report(stream).map_err(drop)
    }

    fn append(&self, stream: usize) -> Result<bool, ()> {
        let call = Append {
            media_type: Some(MediaType::new("text/plain")),
            body: "more".into(),
            seq: None,
            producer: None,
            close: false,
        };
        let engine = self.engine(stream);
        let after = engine.append_alone(&call, at(0)).map_err(drop)?;
        if after.is_report_due {
            assert!(after.due.is_some(), "the alarm reports it");
            self.report(stream).map_err(drop)?;
        }
        let view = engine.head(at(0)).map_err(drop)?;
        let tail = StreamTail {
            generation: Generation::from_hex(&view.generation).unwrap(),
            offset: after.appended.next,
        };
        self.acknowledged.borrow_mut().insert(stream, tail);
        Ok(after.is_report_due)
    }

    fn delete(&self, stream: usize, now: Timestamp) -> Result<(), ()> {
        let engine = self.engine(stream);
        let ended = engine.atomically(|engine| engine.delete(now));
        ended.map_err(drop)?;
        self.report(stream).map_err(drop)
    }

    /// Sends the registry's batches; a crash may hide that a batch arrived.
    fn send_to_registry(&self) -> Result<(), SqlError> {
        while let Some(batch) = self.hub(|hub| hub.registry_batch(at(0)))? {
            let number = batch.append.producer.as_ref().unwrap().seq;
            assert!(number <= self.batches.get(), "none is left out");
            if number == self.batches.get() {
                let messages: Vec<Value> = serde_json::from_slice(&batch.append.body).unwrap();
                self.registry.borrow_mut().extend(messages);
                self.batches.set(number + 1);
            }
            self.hub(|hub| hub.ack_registry_batch(&batch))?;
        }
        Ok(())
    }

    fn subscribe(&self, pattern: &str) -> Vec<usize> {
        let config = SubscriptionConfig {
            pattern: Some(Pattern::parse(pattern).unwrap()),
            streams: [].into(),
            delivery: Delivery::PullWake(name(4)),
            lease: std::time::Duration::from_secs(30),
            description: None,
        };
        let call = SubscriptionRequest::Create {
            id: SubscriptionId::parse("s").unwrap(),
            config: Box::new(config),
            base_url: BaseUrl::parse("https://host/v1/stream").unwrap(),
        };
        let needs = self.hub(|hub| hub.required_tails(&call)).unwrap();
        let streams_to_track = self.hub(|hub| hub.streams_to_track(&needs, at(0))).unwrap();
        let mut asked = Vec::new();
        for stream in 0..2 {
            if streams_to_track.streams.contains(&name(stream)) {
                asked.push(stream);
                let engine = self.engine(stream);
                let follow =
                    engine.atomically(|engine| engine.follow(streams_to_track.round, at(0)));
                let tail = follow.unwrap();
                self.hub(|hub| hub.tracked(&name(stream), tail.as_ref(), at(0)))
                    .unwrap();
            }
        }
        let made = self.hub(|hub| Ok(hub.handle(&call, at(0)))).unwrap();
        assert!(
            matches!(made, Ok(SubscriptionResponse::Created(_))),
            "{made:?}"
        );
        asked
    }

    /// The pending tails that a worker claims.
    fn claimed(&self) -> BTreeMap<String, u64> {
        let claim = SubscriptionRequest::Claim {
            id: SubscriptionId::parse("s").unwrap(),
            worker: "w".into(),
            within: None,
        };
        match self.hub(|hub| Ok(hub.handle(&claim, at(0)))).unwrap() {
            Ok(SubscriptionResponse::Claimed(claimed)) => claimed
                .streams
                .into_iter()
                .map(|stream| (stream.path.to_string(), stream.tail_offset.position()))
                .collect(),
            _ => BTreeMap::new(),
        }
    }

    fn check_registry(&self) {
        let mut generations: BTreeMap<String, bool> = BTreeMap::new();
        for entry in &*self.registry.borrow() {
            let key = entry["key"].as_str().unwrap().to_owned();
            let is_insert = entry["headers"]["operation"] == "insert";
            let before = generations.insert(key, is_insert);
            assert_ne!(before.unwrap_or(false), is_insert, "{entry}");
        }
        for stream in 0..2 {
            let exists = self.engine(stream).head(at(0)).is_ok();
            let known = generations.get(name(stream).as_str()).copied();
            assert_eq!(known.unwrap_or(false), exists);
        }
    }
}

#[test]
fn hub_applies_each_event_once_after_a_crash_at_every_step() {
    for crash in 0.. {
        let faults = Faults::default();
        let server = Server::new(&faults);
        server.subscribe("*");
        faults.crash_after(Some(crash));
        let operations = || {
            server.create(0)?;
            server.append(0)?;
            server.create(1)?;
            server.delete(0, at(0))?;
            server.acknowledged.borrow_mut().remove(&0);
            server.create(0)?;
            server.append(0)?;
            server.append(1)?;
            server.send_to_registry().map_err(drop)?;
            server.delete(1, at(0))?;
            server.acknowledged.borrow_mut().remove(&1);
            server.send_to_registry().map_err(drop)
        };
        let done: Result<(), ()> = operations();
        let is_whole = faults.steps() <= crash;
        assert_eq!(done.is_ok(), is_whole, "after {crash} steps");
        faults.crash_after(None);
        // The hub knows each acknowledged append before any stream reports again.
        let claimed = server.claimed();
        for (stream, tail) in &*server.acknowledged.borrow() {
            let entry = server
                .hub(|hub| hub.entry(&name(*stream)))
                .unwrap()
                .unwrap();
            if entry.generation == tail.generation && entry.gone.is_none() {
                assert!(entry.tail >= tail.offset, "after {crash} steps");
                let found = claimed.get(name(*stream).as_str());
                assert!(
                    found >= Some(&tail.offset.position()),
                    "after {crash} steps"
                );
            }
        }
        for stream in 0..2 {
            let engine = server.engine(stream);
            let is_pending = engine.hub_update().unwrap().is_some();
            let due = engine.due(at(0)).unwrap();
            assert!(due.is_some() || !is_pending, "the alarm reports it");
            server.report(stream).unwrap();
            assert_eq!(engine.hub_update().unwrap(), None);
        }
        server.send_to_registry().unwrap();
        server.check_registry();
        assert_eq!(server.world.rows("stream_news"), 0);
        for stream in 0..2 {
            let entry = server.hub(|hub| hub.entry(&name(stream))).unwrap();
            let alive = entry.filter(|entry| entry.gone.is_none());
            let view = server.engine(stream).head(at(0)).ok();
            let known = alive.map(|entry| (entry.generation.to_string(), entry.tail));
            assert_eq!(known, view.map(|view| (view.generation, view.next)));
        }
        if is_whole {
            assert!(crash > 50, "the operations have only {crash} steps");
            return;
        }
    }
}

#[test]
fn streams_report_no_appends_without_followers() {
    let faults = Faults::default();
    let server = Server::new(&faults);
    server.create(0).unwrap();
    server.create(1).unwrap();
    assert_eq!(server.append(0), Ok(false));
    assert_eq!(server.engine(0).due(at(0)).unwrap(), None);
    // A subscription begins at the tail.
    assert_eq!(server.subscribe("*"), [0, 1]);
    assert_eq!(server.claimed(), BTreeMap::new());
    assert_eq!(server.append(0), Ok(true));
    assert_eq!(server.claimed().get("a"), Some(&8));
    // Once no subscription follows, the next append learns that, and later ones do not report.
    let id = SubscriptionId::parse("s").unwrap();
    let ended = server.hub(|hub| Ok(hub.handle(&SubscriptionRequest::Delete(id), at(0))));
    assert!(matches!(ended, Ok(Ok(SubscriptionResponse::Done))));
    assert_eq!(server.append(0), Ok(true));
    assert_eq!(server.append(0), Ok(false));
}

#[test]
fn acks_of_an_earlier_round_do_not_stop_a_followed_stream() {
    let faults = Faults::default();
    let server = Server::new(&faults);
    let engine = server.engine(0);
    let generation = Generation::from_random([1; 16]);
    engine.create(&create(None), at(0), generation).unwrap();
    let update = engine.hub_update().unwrap().unwrap();
    let early = server
        .hub(|hub| hub.ingest(&name(0), &update, &[], at(0)))
        .unwrap();
    assert!(!early.followed);
    // A client subscribes before the ack arrives.
    assert_eq!(server.subscribe("*"), [0]);
    engine.ack_hub_update(&update, &early).unwrap();
    assert_eq!(server.append(0), Ok(true));
    // A pending subscription counts as well.
    let pending = RequiredTails {
        streams: vec![name(2)],
        pattern: None,
    };
    let ack = server.hub(|hub| hub.ingest(&name(2), &update, &[pending], at(0)));
    assert!(matches!(ack, Ok(HubAck { followed: true, .. })));
}

#[test]
fn alarm_reports_a_stream_that_expires() {
    let faults = Faults::default();
    let server = Server::new(&faults);
    let call = pmx_streams::Create {
        expiry: Some(pmx_streams::Expiry::At(at(1_000))),
        ..create(None)
    };
    let generation = Generation::from_random([1; 16]);
    server.engine(0).create(&call, at(0), generation).unwrap();
    server.report(0).unwrap();
    let engine = server.engine(0);
    assert_eq!(engine.due(at(0)).unwrap(), Some(at(1_000)));
    assert_eq!(engine.next_job(at(1_000)).unwrap(), None);
    assert!(!engine.has_no_rows().unwrap(), "an event is to be reported");
    server.report(0).unwrap();
    assert!(
        !engine.has_no_rows().unwrap(),
        "its incarnation is known for a while"
    );
    let later = engine.due(at(1_000)).unwrap().unwrap();
    assert_eq!(engine.next_job(later).unwrap(), None);
    assert!(engine.has_no_rows().unwrap());
    server.send_to_registry().unwrap();
    let registry = server.registry.borrow();
    let operations: Vec<_> = registry
        .iter()
        .map(|it| &it["headers"]["operation"])
        .collect();
    assert_eq!(operations, ["insert", "delete"]);
    assert!(registry[0]["value"]["expiresAt"].is_string());
}
