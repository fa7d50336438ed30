//! Crashes after every step of each operation that has several steps.

use bytes::Bytes;
use pmx_streams::{Append, Create, EngineConfig, Fork, From, MediaType, Page, Read, Refusal};

use super::model::at;
use super::world::{Faults, NAMES, World, name};

/// Long after any intent counts as abandoned.
const LATER: u64 = 3_600_000;

/// The operation during which the machine crashes.
type Operation = fn(&World<'_>) -> Result<(), ()>;

/// Invariants after the crash, and again after all jobs. The flag is whether the operation
/// succeeded.
type Check = fn(&World<'_>, bool);

/// Crashes after each step of an operation in turn.
fn crash_at_every_step(prepare: fn(&World<'_>), operation: Operation, check: Check) {
    for crash in 0.. {
        let faults = Faults::default();
        let world = World::new(engine_config(), &faults);
        prepare(&world);
        faults.crash_after(Some(crash));
        let done = operation(&world).is_ok();
        let all_steps = faults.steps() <= crash;
        faults.crash_after(None);
        check(&world, done);
        for _ in 0..NAMES.len() {
            for stream in 0..NAMES.len() {
                let jobs = world.jobs(stream, at(LATER)).unwrap();
                assert_eq!(jobs.failures, [], "after {crash} steps");
            }
        }
        check(&world, done);
        world.check_objects();
        world.forget_incarnation(LATER);
        assert_eq!(world.rows("stream_chore"), 0, "after {crash} steps");
        if all_steps {
            assert!(done && crash > 3, "the operation has only {crash} steps");
            return;
        }
    }
}

pub(super) fn engine_config() -> EngineConfig {
    EngineConfig {
        chunk_bytes: 8,
        segment_bytes: 16,
        segment_messages: 2,
        read_bytes: 1_000,
        append_bytes_max: 100,
        cold_reads: false,
    }
}

pub(super) fn create(fork: Option<Fork>) -> Create {
    Create {
        media_type: fork.is_none().then(|| MediaType::new("text/plain")),
        expiry: None,
        expiry_text: None,
        closed: false,
        body: Bytes::new(),
        fork,
    }
}

pub(super) fn fork_of(source: usize) -> Create {
    create(Some(Fork {
        source: name(source),
        at: None,
        beyond: 0,
    }))
}

pub(super) fn append(world: &World<'_>, stream: usize, body: &'static str) -> Result<(), ()> {
    let call = Append {
        media_type: Some(MediaType::new("text/plain")),
        body: Bytes::from_static(body.as_bytes()),
        seq: None,
        producer: None,
        close: false,
    };
    world.append(stream, &call, at(0)).map(drop).map_err(drop)
}

pub(super) fn whole(world: &World<'_>, stream: usize) -> Result<Bytes, Refusal> {
    let from = From::Start;
    let page: Page = world.read(stream, &Read { from }, at(0))?;
    assert!(page.is_up_to_date());
    Ok(page.body)
}

/// Creates a source with segments and rows.
pub(super) fn prepare_source(world: &World<'_>) {
    world.create(0, &create(None), at(0)).unwrap();
    append(world, 0, "one longer message").unwrap();
    append(world, 0, "two").unwrap();
    world.jobs(0, at(0)).unwrap();
    append(world, 0, "three").unwrap();
}

const SOURCE: &str = "one longer messagetwothree";

/// Creates the same, a fork of it with a segment of its own, and a fork of the fork.
fn prepare_chain(world: &World<'_>) {
    prepare_source(world);
    world.create(1, &fork_of(0), at(0)).unwrap();
    append(world, 1, "four, to be a segment").unwrap();
    world.jobs(1, at(0)).unwrap();
    world.create(2, &fork_of(1), at(0)).unwrap();
}

#[test]
fn append_survives_a_crash_at_every_step() {
    let operation: Operation = |world| append(world, 0, "more, in several rows");
    crash_at_every_step(prepare_source, operation, |world, done| {
        let body = whole(world, 0).unwrap();
        let expected = format!("{SOURCE}more, in several rows");
        assert!(body == expected || !done && body == SOURCE, "{body:?}");
    });
}

#[test]
fn append_of_one_row_survives_a_crash_at_every_step() {
    let operation: Operation = |world| {
        append(world, 0, "more")?;
        append(world, 0, "most")
    };
    crash_at_every_step(prepare_source, operation, |world, done| {
        let body = whole(world, 0).unwrap();
        let more = body.strip_prefix(SOURCE.as_bytes()).unwrap();
        let is_whole = [&b""[..], b"more"].contains(&more);
        assert!(more == b"moremost" || !done && is_whole, "{body:?}");
    });
}

#[test]
fn rotation_survives_a_crash_at_every_step() {
    let prepare = |world: &World<'_>| {
        world.create(0, &create(None), at(0)).unwrap();
        append(world, 0, "one longer message").unwrap();
        append(world, 0, "two").unwrap();
        append(world, 0, "three").unwrap();
    };
    let operation: Operation = |world| {
        let jobs = world.jobs(0, at(0)).map_err(drop)?;
        if jobs.failures.is_empty() {
            Ok(())
        } else {
            Err(())
        }
    };
    crash_at_every_step(prepare, operation, |world, _| {
        assert_eq!(whole(world, 0).unwrap(), SOURCE);
    });
}

#[test]
fn rotation_between_appends_survives_a_crash_at_every_step() {
    let operation: Operation = |world| {
        append(world, 0, "more")?;
        world.jobs(0, at(0)).map_err(drop)?;
        append(world, 0, "most")
    };
    crash_at_every_step(prepare_source, operation, |world, done| {
        let body = whole(world, 0).unwrap();
        let all = format!("{SOURCE}moremost");
        assert!(all.as_bytes().starts_with(&body), "{body:?}");
        assert!(body.len() >= SOURCE.len() && (!done || body == all));
    });
}

#[test]
fn fork_survives_a_crash_at_every_step() {
    let operation: Operation = |world| world.create(1, &fork_of(0), at(0)).map(drop).map_err(drop);
    crash_at_every_step(prepare_source, operation, |world, done| {
        assert_eq!(whole(world, 0).unwrap(), SOURCE);
        match whole(world, 1) {
            Ok(body) => assert_eq!(body, SOURCE),
            Err(refusal) => assert!(!done && refusal == Refusal::Unknown),
        }
    });
}

#[test]
fn failed_fork_lets_its_source_be_deleted_after_a_crash_at_every_step() {
    let operation: Operation = |world| {
        let other = Create {
            media_type: Some(MediaType::new("image/png")),
            ..fork_of(0)
        };
        match world.create(1, &other, at(0)) {
            Err(Refusal::SourceType) => world.delete(0, at(0)).map(drop).map_err(drop),
            other => other.map(drop).map_err(drop),
        }
    };
    crash_at_every_step(prepare_source, operation, |world, done| {
        assert_eq!(whole(world, 1), Err(Refusal::Unknown));
        if done {
            assert_eq!(whole(world, 0), Err(Refusal::Unknown));
        }
    });
}

#[test]
fn delete_of_a_chain_of_forks_survives_a_crash_at_every_step() {
    let operation: Operation = |world| {
        for stream in 0..3 {
            world.delete(stream, at(0)).map_err(drop)?;
        }
        for stream in (0..3).rev() {
            let jobs = world.jobs(stream, at(0)).map_err(drop)?;
            if !jobs.failures.is_empty() {
                return Err(());
            }
        }
        Ok(())
    };
    crash_at_every_step(prepare_chain, operation, |world, done| {
        let all = format!("{SOURCE}four, to be a segment");
        match whole(world, 2) {
            Ok(body) => assert!(body == all && !done),
            Err(refusal) => assert_eq!(refusal, Refusal::Unknown),
        }
        if done {
            assert_eq!(world.rows("stream"), 0);
            assert!(world.cold.objects.borrow().is_empty());
        }
    });
}
