//! What streams tell the hub, with crashes after every step on the way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use pmx_core::sql::{Sql as _, SqlError};
use pmx_core::time::Timestamp;
use pmx_streams::hub::Hub;
use pmx_streams::subscription::{
    Answer, Call, Config, Delivery, Needs, Pattern, Root, SubscriptionId,
};
use pmx_streams::{Append, Engine, Generation, Heeding, MediaType, Place};
use serde_json::Value;

use super::crash::{create, shape};
use super::model::at;
use super::world::{Database, Faults, World, database, name};

/// Streams and a hub, whose machines go off together.
struct Server<'a> {
    world: World<'a>,
    hub: Database<'a>,
    lives: Cell<u8>,
    /// What the registry was told.
    registry: RefCell<Vec<Value>>,
    /// Numbers of batches that it has.
    batches: Cell<u64>,
    /// The place of each stream that its writer was told.
    acknowledged: RefCell<BTreeMap<usize, Place>>,
}

impl<'a> Server<'a> {
    fn new(faults: &'a Faults) -> Self {
        let hub = database(faults);
        Hub::install(&hub, [7; 32]).unwrap();
        Self {
            world: World::new(shape(), faults),
            hub,
            lives: Cell::default(),
            registry: RefCell::default(),
            batches: Cell::default(),
            acknowledged: RefCell::default(),
        }
    }

    fn engine(&self, stream: usize) -> Engine<'_, Database<'a>> {
        self.world.engine(stream).telling_a_hub()
    }

    fn hub<T>(
        &self,
        turn: impl FnOnce(&Hub<'_, Database<'a>>) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        self.hub.atomically(|sql| turn(&Hub::open(sql)?))
    }

    fn tell(&self, stream: usize) -> Result<(), SqlError> {
        let engine = self.engine(stream);
        while let Some(tidings) = engine.tidings()? {
            let heeding = self.hub(|hub| hub.hear(&name(stream), &tidings, &[], at(0)))?;
            engine.atomically(|engine| engine.heard(&tidings, &heeding))?;
        }
        Ok(())
    }

    fn create(&self, stream: usize) -> Result<(), ()> {
        self.lives.set(self.lives.get() + 1);
        let life = Generation::from_random([self.lives.get(); 16]);
        let engine = self.engine(stream);
        let call = create(None);
        let made = engine.atomically(|engine| engine.create(&call, at(0), life));
        made.map_err(drop)?;
        self.tell(stream).map_err(drop)
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
        if after.is_awaited {
            assert!(after.due.is_some(), "the alarm tells it");
            self.tell(stream).map_err(drop)?;
        }
        let view = engine.head(at(0)).map_err(drop)?;
        let place = Place {
            life: Generation::from_hex(&view.generation).unwrap(),
            tail: after.appended.next,
        };
        self.acknowledged.borrow_mut().insert(stream, place);
        Ok(after.is_awaited)
    }

    fn delete(&self, stream: usize, now: Timestamp) -> Result<(), ()> {
        let engine = self.engine(stream);
        let ended = engine.atomically(|engine| engine.delete(now));
        ended.map_err(drop)?;
        self.tell(stream).map_err(drop)
    }

    /// Sends what the registry waits for; nobody knows of a batch that arrived before a crash.
    fn post(&self) -> Result<(), SqlError> {
        while let Some(batch) = self.hub(|hub| hub.batch(at(0)))? {
            let number = batch.append.producer.as_ref().unwrap().seq;
            assert!(number <= self.batches.get(), "none is left out");
            if number == self.batches.get() {
                let messages: Vec<Value> = serde_json::from_slice(&batch.append.body).unwrap();
                self.registry.borrow_mut().extend(messages);
                self.batches.set(number + 1);
            }
            self.hub(|hub| hub.posted(&batch))?;
        }
        Ok(())
    }

    fn subscribe(&self, pattern: &str) -> Vec<usize> {
        let config = Config {
            pattern: Some(Pattern::parse(pattern).unwrap()),
            streams: [].into(),
            delivery: Delivery::PullWake(name(4)),
            lease: std::time::Duration::from_secs(30),
            description: None,
        };
        let call = Call::Create {
            id: SubscriptionId::parse("s").unwrap(),
            config: Box::new(config),
            root: Root::parse("https://host/v1/stream").unwrap(),
        };
        let needs = self.hub(|hub| hub.needs(&call)).unwrap();
        let wanted = self.hub(|hub| hub.wanted(&needs, at(0))).unwrap();
        let mut asked = Vec::new();
        for stream in 0..2 {
            if wanted.streams.contains(&name(stream)) {
                asked.push(stream);
                let engine = self.engine(stream);
                let follow = engine.atomically(|engine| engine.follow(wanted.round, at(0)));
                let place = follow.unwrap();
                self.hub(|hub| hub.following(&name(stream), place.as_ref(), at(0)))
                    .unwrap();
            }
        }
        let made = self.hub(|hub| Ok(hub.turn(&call, at(0)))).unwrap();
        assert!(matches!(made, Ok(Answer::Created(_))), "{made:?}");
        asked
    }

    /// What a worker finds to do.
    fn claimed(&self) -> BTreeMap<String, u64> {
        let claim = Call::Claim {
            id: SubscriptionId::parse("s").unwrap(),
            worker: "w".into(),
            within: None,
        };
        match self.hub(|hub| Ok(hub.turn(&claim, at(0)))).unwrap() {
            Ok(Answer::Claimed(claimed)) => claimed
                .streams
                .into_iter()
                .map(|stream| (stream.path.to_string(), stream.tail_offset.position()))
                .collect(),
            _ => BTreeMap::new(),
        }
    }

    fn check_registry(&self) {
        let mut lives: BTreeMap<String, bool> = BTreeMap::new();
        for entry in &*self.registry.borrow() {
            let key = entry["key"].as_str().unwrap().to_owned();
            let is_insert = entry["headers"]["operation"] == "insert";
            let before = lives.insert(key, is_insert);
            assert_ne!(before.unwrap_or(false), is_insert, "{entry}");
        }
        for stream in 0..2 {
            let exists = self.engine(stream).head(at(0)).is_ok();
            let known = lives.get(name(stream).as_str()).copied();
            assert_eq!(known.unwrap_or(false), exists);
        }
    }
}

#[test]
fn whatever_dies_in_between_the_hub_hears_all_of_it_once() {
    for crash in 0.. {
        let faults = Faults::default();
        let server = Server::new(&faults);
        server.subscribe("*");
        faults.crash_after(Some(crash));
        let deed = || {
            server.create(0)?;
            server.append(0)?;
            server.create(1)?;
            server.delete(0, at(0))?;
            server.acknowledged.borrow_mut().remove(&0);
            server.create(0)?;
            server.append(0)?;
            server.append(1)?;
            server.post().map_err(drop)?;
            server.delete(1, at(0))?;
            server.acknowledged.borrow_mut().remove(&1);
            server.post().map_err(drop)
        };
        let done: Result<(), ()> = deed();
        let is_whole = faults.steps() <= crash;
        assert_eq!(done.is_ok(), is_whole, "after {crash} steps");
        faults.crash_after(None);
        // What was acknowledged is known before anybody tells anything again.
        let claimed = server.claimed();
        for (stream, place) in &*server.acknowledged.borrow() {
            let entry = server
                .hub(|hub| hub.entry(&name(*stream)))
                .unwrap()
                .unwrap();
            if entry.life == place.life && entry.gone.is_none() {
                assert!(entry.tail >= place.tail, "after {crash} steps");
                let found = claimed.get(name(*stream).as_str());
                assert!(found >= Some(&place.tail.position()), "after {crash} steps");
            }
        }
        for stream in 0..2 {
            let engine = server.engine(stream);
            let untold = engine.tidings().unwrap().is_some();
            let due = engine.due(at(0)).unwrap();
            assert!(due.is_some() || !untold, "the alarm tells it");
            server.tell(stream).unwrap();
            assert_eq!(engine.tidings().unwrap(), None);
        }
        server.post().unwrap();
        server.check_registry();
        assert_eq!(server.world.rows("stream_news"), 0);
        for stream in 0..2 {
            let entry = server.hub(|hub| hub.entry(&name(stream))).unwrap();
            let alive = entry.filter(|entry| entry.gone.is_none());
            let view = server.engine(stream).head(at(0)).ok();
            let told = alive.map(|entry| (entry.life.to_string(), entry.tail));
            assert_eq!(told, view.map(|view| (view.generation, view.next)));
        }
        if is_whole {
            assert!(crash > 50, "{crash} steps are no deed");
            return;
        }
    }
}

#[test]
fn nobody_is_told_of_what_nobody_follows() {
    let faults = Faults::default();
    let server = Server::new(&faults);
    server.create(0).unwrap();
    server.create(1).unwrap();
    assert_eq!(server.append(0), Ok(false));
    assert_eq!(server.engine(0).due(at(0)).unwrap(), None);
    // Whoever subscribes begins at the end.
    assert_eq!(server.subscribe("*"), [0, 1]);
    assert_eq!(server.claimed(), BTreeMap::new());
    assert_eq!(server.append(0), Ok(true));
    assert_eq!(server.claimed().get("a"), Some(&8));
    // When nobody follows any more, the next append hears it, and none after that asks.
    let id = SubscriptionId::parse("s").unwrap();
    let ended = server.hub(|hub| Ok(hub.turn(&Call::Delete(id), at(0))));
    assert!(matches!(ended, Ok(Ok(Answer::Done))));
    assert_eq!(server.append(0), Ok(true));
    assert_eq!(server.append(0), Ok(false));
}

#[test]
fn a_stream_that_was_asked_to_tell_does_not_stop_because_of_an_earlier_answer() {
    let faults = Faults::default();
    let server = Server::new(&faults);
    let engine = server.engine(0);
    let life = Generation::from_random([1; 16]);
    engine.create(&create(None), at(0), life).unwrap();
    let tidings = engine.tidings().unwrap().unwrap();
    let early = server
        .hub(|hub| hub.hear(&name(0), &tidings, &[], at(0)))
        .unwrap();
    assert!(!early.followed);
    // The answer is under way when somebody subscribes.
    assert_eq!(server.subscribe("*"), [0]);
    engine.heard(&tidings, &early).unwrap();
    assert_eq!(server.append(0), Ok(true));
    // Whoever is about to subscribe counts as well.
    let pending = Needs {
        streams: vec![name(2)],
        pattern: None,
    };
    let heard = server.hub(|hub| hub.hear(&name(2), &tidings, &[pending], at(0)));
    assert!(matches!(heard, Ok(Heeding { followed: true, .. })));
}

#[test]
fn a_stream_that_expires_is_told_of_by_its_alarm() {
    let faults = Faults::default();
    let server = Server::new(&faults);
    let call = pmx_streams::Create {
        expiry: Some(pmx_streams::Expiry::At(at(1_000))),
        ..create(None)
    };
    let life = Generation::from_random([1; 16]);
    server.engine(0).create(&call, at(0), life).unwrap();
    server.tell(0).unwrap();
    let engine = server.engine(0);
    assert_eq!(engine.due(at(0)).unwrap(), Some(at(1_000)));
    assert_eq!(engine.chore(at(1_000)).unwrap(), None);
    assert!(!engine.is_void().unwrap(), "there is something to tell");
    server.tell(0).unwrap();
    assert!(
        !engine.is_void().unwrap(),
        "its incarnation is known for a while"
    );
    let later = engine.due(at(1_000)).unwrap().unwrap();
    assert_eq!(engine.chore(later).unwrap(), None);
    assert!(engine.is_void().unwrap());
    server.post().unwrap();
    let registry = server.registry.borrow();
    let operations: Vec<_> = registry
        .iter()
        .map(|it| &it["headers"]["operation"])
        .collect();
    assert_eq!(operations, ["insert", "delete"]);
    assert!(registry[0]["value"]["expiresAt"].is_string());
}
