//! Random schedules: engine and model agree at every step.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use pmx_streams::{
    Append, Create, Deleted, EngineConfig, Expiry, Fork, From, MediaType, Offset, Producer, Read,
};
use pmx_tests::rng::Rng;
use serde_json::{Value, json};

use super::model::{Model, Stream, at, is_fresh};
use super::world::{Faults, NAMES, World, name};

/// Schedules of a test run.
const SCHEDULES: u64 = 2_000;

/// Steps of a schedule.
const STEPS: usize = 60;

#[test]
fn engine_agrees_with_the_model_in_random_schedules() {
    #[expect(clippy::disallowed_methods, reason = "a test may be asked for a seed")]
    let seed = std::env::var("PMX_SEED").ok();
    let seeds = match seed.map(|seed| seed.parse().unwrap()) {
        Some(seed) => seed..seed + 1,
        None => 0..SCHEDULES,
    };
    for seed in seeds {
        let run = AssertUnwindSafe(|| run(seed));
        assert!(catch_unwind(run).is_ok(), "PMX_SEED={seed}");
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let faults = Faults::default();
    let world = World::new(engine_config(&mut rng), &faults);
    let mut both = Both {
        world,
        model: Model::default(),
        now: 1_000_000,
        rng,
    };
    for _ in 0..STEPS {
        both.step();
    }
    both.end();
}

pub(super) fn engine_config(rng: &mut Rng) -> EngineConfig {
    let tiny = EngineConfig {
        chunk_bytes: 4,
        segment_bytes: 16,
        segment_messages: 2,
        read_bytes: 8,
        append_bytes_max: 4_096,
        cold_reads: false,
    };
    let cold = EngineConfig {
        chunk_bytes: 64,
        segment_messages: 1,
        read_bytes: 1,
        ..tiny.clone()
    };
    let small = EngineConfig {
        chunk_bytes: 32,
        segment_bytes: 200,
        segment_messages: 5,
        read_bytes: 100,
        ..tiny.clone()
    };
    let shapes = [tiny, cold, small, EngineConfig::default()];
    rng.pick(&shapes).clone()
}

struct Both<'a> {
    world: World<'a>,
    model: Model,
    now: u64,
    rng: Rng,
}

impl Both<'_> {
    fn step(&mut self) {
        let stream = self.rng.below(NAMES.len());
        match self.rng.below(16) {
            0..=2 => self.create(stream),
            3..=7 => self.append(stream),
            8..=10 => self.read(stream),
            11 => self.head(stream),
            12 if self.rng.once_in(3) => self.delete(stream),
            12 | 13 => self.rotate(stream),
            14 => self.now += self.rng.below(1_500) as u64,
            _ => self.tidy(),
        }
    }

    fn create(&mut self, stream: usize) {
        let now = self.now;
        let fork = self.rng.once_in(2).then(|| self.fork());
        let media = match (self.rng.below(4), &fork) {
            (0, _) => None,
            (1, Some(fork)) => self.media_of(&fork.source),
            (2, _) => Some(MediaType::new("Application/JSON; charset=utf-8")),
            (_, _) => Some(MediaType::new("text/plain")),
        };
        let expiry = match self.rng.below(8) {
            0 => Some(Expiry::Idle(1 + self.rng.below(3) as u64)),
            1 => Some(Expiry::At(at(now + self.rng.below(3_000) as u64))),
            _ => None,
        };
        // A fork without a media type inherits its source's, which determines the kind of its body.
        let effective = media.clone().or_else(|| {
            let fork = fork.as_ref()?;
            self.media_of(&fork.source)
        });
        let body = if self.rng.once_in(2) {
            self.body(effective.is_some_and(|media| media.is_json()))
        } else {
            Bytes::new()
        };
        let call = Create {
            media_type: media,
            expiry,
            expiry_text: None,
            closed: self.rng.once_in(10),
            body,
            fork,
        };
        let expected = self.model.create(stream, &call, now);
        let made = self.world.create(stream, &call, at(now));
        if let Ok(created) = &made {
            self.model.streams[&stream].assert_is(&created.view);
        }
        assert_eq!(is_fresh(made), expected, "{stream} {call:?}");
    }

    fn fork(&mut self) -> Fork {
        let source = self.rng.below(NAMES.len());
        let tail = self.model.streams.get(&source).map_or(3, Stream::tail);
        let position = self.rng.below(tail as usize + 2) as u64;
        Fork {
            source: name(source),
            at: (!self.rng.once_in(3)).then(|| self.offset(source, position)),
            beyond: if self.rng.once_in(4) {
                self.rng.below(4) as u64
            } else {
                0
            },
        }
    }

    /// An offset in the stream of a name, or sometimes of another incarnation.
    fn offset(&mut self, stream: usize, position: u64) -> Offset {
        let stream = self.model.streams.get(&stream);
        let incarnation = stream.map_or(0, |stream| stream.incarnation);
        let wrong = u64::from(self.rng.once_in(12));
        Offset::at(position).of_incarnation(incarnation + wrong)
    }

    fn media_of(&self, source: &pmx_streams::StreamName) -> Option<MediaType> {
        let number = NAMES.iter().position(|it| *it == source.as_str())?;
        Some(self.model.streams.get(&number)?.media.clone())
    }

    fn append(&mut self, stream: usize) {
        let media = self.model.streams.get(&stream).map(|it| it.media.clone());
        let is_json = media.as_ref().is_some_and(MediaType::is_json);
        let empty = self.rng.once_in(8);
        let call = Append {
            media_type: if self.rng.once_in(20) {
                Some(MediaType::new("image/png"))
            } else {
                media.or_else(|| Some(MediaType::new("text/plain")))
            },
            body: if empty {
                Bytes::new()
            } else {
                self.body(is_json)
            },
            seq: (self.rng.once_in(4)).then(|| self.rng.below(30).to_string()),
            producer: self.rng.once_in(3).then(|| self.producer()),
            close: self.rng.once_in(if empty { 2 } else { 15 }),
        };
        let expected = self.model.append(stream, &call, self.now);
        let appended = self.world.append(stream, &call, at(self.now));
        assert_eq!(appended, expected, "{stream} {call:?}");
    }

    fn producer(&mut self) -> Producer {
        Producer {
            id: (*self.rng.pick(&["p", "q"])).to_owned(),
            epoch: self.rng.below(3) as u64,
            seq: self.rng.below(3) as u64,
        }
    }

    fn read(&mut self, stream: usize) {
        let tail = self.model.streams.get(&stream).map_or(3, Stream::tail);
        let mut from = match self.rng.below(4) {
            0 => From::Start,
            1 => From::Now,
            _ => {
                let position = self.rng.below(tail as usize + 2) as u64;
                let offset = self.offset(stream, position);
                From::At(if self.rng.once_in(3) {
                    offset.inside()
                } else {
                    offset
                })
            }
        };
        loop {
            let call = Read { from };
            let page = self.world.read(stream, &call, at(self.now));
            let (start, it) = match self.model.read(stream, &call, self.now) {
                Ok(expected) => expected,
                Err(refusal) => return assert_eq!(page, Err(refusal)),
            };
            let page = page.unwrap();
            it.assert_is(&page.view);
            let (begin, end) = (page.start.position(), page.end.position());
            assert_eq!(begin, start);
            assert!(begin < end || begin == it.tail(), "a page without anything");
            assert_eq!(page.body, it.body(begin, end), "{begin}..{end}");
            assert!(it.is_between_appends(end), "{begin}..{end}");
            let longest = it.items.iter().map(Vec::len).max().unwrap_or_default();
            let longest = longest.max(it.longest_append() as usize);
            let engine_config = &self.world.engine_config;
            let most = 2 * engine_config.read_bytes + engine_config.chunk_bytes + longest;
            let bytes = page.body.len();
            assert!(bytes <= most, "{bytes} bytes; {longest} {engine_config:?}");
            if page.is_up_to_date() {
                return;
            }
            from = From::At(page.end);
        }
    }

    fn head(&mut self, stream: usize) {
        let view = self.world.engine(stream).head(at(self.now));
        match self.model.live(stream, self.now) {
            Ok(it) => it.assert_is(&view.unwrap()),
            Err(refusal) => assert_eq!(view, Err(refusal)),
        }
    }

    fn delete(&mut self, stream: usize) {
        let expected = self.model.delete(stream, self.now);
        let deleted: Result<Deleted, _> = self.world.delete(stream, at(self.now));
        assert_eq!(deleted, expected);
    }

    /// Also runs all other jobs, so the model does too.
    fn rotate(&mut self, stream: usize) {
        self.tidy();
        let jobs = self.world.jobs(stream, at(self.now)).unwrap();
        assert_eq!(jobs.failures, []);
        assert!(jobs.next.is_none_or(|next| next > at(self.now)));
    }

    fn tidy(&mut self) {
        self.world.tidy(at(self.now));
        self.model.tidy(self.now);
        self.world.check_objects();
    }

    /// After the last stream ends, no row and no object is left.
    fn end(&mut self) {
        for stream in 0..NAMES.len() {
            self.read(stream);
        }
        self.tidy();
        while !self.model.streams.is_empty() {
            for stream in 0..NAMES.len() {
                self.delete(stream);
            }
            self.tidy();
        }
        // Incarnations are kept for some days.
        self.now += 8 * 24 * 60 * 60 * 1_000;
        self.tidy();
        for stream in 0..NAMES.len() {
            assert!(self.world.engine(stream).has_no_rows().unwrap());
        }
        for table in ["_log", "_segment", "_producer", "_edge", "_chore", ""] {
            assert_eq!(self.world.rows(&format!("stream{table}")), 0, "{table}");
        }
        assert!(self.world.cold.objects.borrow().is_empty());
    }

    fn body(&mut self, is_json: bool) -> Bytes {
        if !is_json {
            let most = if self.rng.once_in(8) { 300 } else { 12 };
            let length = 1 + self.rng.below(most);
            return (0..length).map(|_| self.rng.next() as u8).collect();
        }
        if self.rng.once_in(3) {
            return self.value(0).to_string().into();
        }
        let count = 1 + self.rng.below(6);
        let values: Vec<_> = (0..count).map(|_| self.value(1).to_string()).collect();
        let separator = *self.rng.pick(&[",", " , ", ",\n"]);
        format!("[{}]", values.join(separator)).into()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.rng.below(8) {
            0 => json!(null),
            1 => json!("a,\"]\\"),
            2 => json!("\u{e9}".repeat(self.rng.below(60))),
            3 if depth > 0 => json!([1, [self.rng.below(10)]]),
            4 => json!({"k": [self.rng.below(100)], "\"": "}"}),
            _ => json!(self.rng.below(1_000)),
        }
    }
}
