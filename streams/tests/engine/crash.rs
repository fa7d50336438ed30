//! Crashes after every step of everything that has several.

use bytes::Bytes;
use pmx_streams::{Append, Create, EngineConfig, Fork, From, MediaType, Page, Read, Refusal};

use super::model::at;
use super::world::{Faults, NAMES, World, name};

/// Long after any intent counts as forgotten.
const LATER: u64 = 3_600_000;

/// What is done while the machine goes off.
type Deed = fn(&World<'_>) -> Result<(), ()>;

/// What has to hold afterwards, and after all chores; `done` if the deed was answered.
type Check = fn(&World<'_>, bool);

/// Lets the machine go off after every step of a deed.
fn crash_everywhere(prepare: fn(&World<'_>), deed: Deed, check: Check) {
    for crash in 0.. {
        let faults = Faults::default();
        let world = World::new(engine_config(), &faults);
        prepare(&world);
        faults.crash_after(Some(crash));
        let done = deed(&world).is_ok();
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
            assert!(done && crash > 3, "{crash} steps are no deed");
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

/// A source with segments and rows, and nothing else.
pub(super) fn prepare_source(world: &World<'_>) {
    world.create(0, &create(None), at(0)).unwrap();
    append(world, 0, "one longer message").unwrap();
    append(world, 0, "two").unwrap();
    world.jobs(0, at(0)).unwrap();
    append(world, 0, "three").unwrap();
}

const SOURCE: &str = "one longer messagetwothree";

/// The same and a fork of it, which has a segment of its own, and a fork of that.
fn prepare_chain(world: &World<'_>) {
    prepare_source(world);
    world.create(1, &fork_of(0), at(0)).unwrap();
    append(world, 1, "four, to be a segment").unwrap();
    world.jobs(1, at(0)).unwrap();
    world.create(2, &fork_of(1), at(0)).unwrap();
}

#[test]
fn an_append() {
    let deed: Deed = |world| append(world, 0, "more, in several rows");
    crash_everywhere(prepare_source, deed, |world, done| {
        let body = whole(world, 0).unwrap();
        let expected = format!("{SOURCE}more, in several rows");
        assert!(body == expected || !done && body == SOURCE, "{body:?}");
    });
}

#[test]
fn appends_of_one_row() {
    let deed: Deed = |world| {
        append(world, 0, "more")?;
        append(world, 0, "most")
    };
    crash_everywhere(prepare_source, deed, |world, done| {
        let body = whole(world, 0).unwrap();
        let more = body.strip_prefix(SOURCE.as_bytes()).unwrap();
        let is_whole = [&b""[..], b"more"].contains(&more);
        assert!(more == b"moremost" || !done && is_whole, "{body:?}");
    });
}

#[test]
fn a_rotation() {
    let prepare = |world: &World<'_>| {
        world.create(0, &create(None), at(0)).unwrap();
        append(world, 0, "one longer message").unwrap();
        append(world, 0, "two").unwrap();
        append(world, 0, "three").unwrap();
    };
    let deed: Deed = |world| {
        let jobs = world.jobs(0, at(0)).map_err(drop)?;
        if jobs.failures.is_empty() {
            Ok(())
        } else {
            Err(())
        }
    };
    crash_everywhere(prepare, deed, |world, _| {
        assert_eq!(whole(world, 0).unwrap(), SOURCE);
    });
}

#[test]
fn a_rotation_between_appends() {
    let deed: Deed = |world| {
        append(world, 0, "more")?;
        world.jobs(0, at(0)).map_err(drop)?;
        append(world, 0, "most")
    };
    crash_everywhere(prepare_source, deed, |world, done| {
        let body = whole(world, 0).unwrap();
        let all = format!("{SOURCE}moremost");
        assert!(all.as_bytes().starts_with(&body), "{body:?}");
        assert!(body.len() >= SOURCE.len() && (!done || body == all));
    });
}

#[test]
fn a_fork() {
    let deed: Deed = |world| world.create(1, &fork_of(0), at(0)).map(drop).map_err(drop);
    crash_everywhere(prepare_source, deed, |world, done| {
        assert_eq!(whole(world, 0).unwrap(), SOURCE);
        match whole(world, 1) {
            Ok(body) => assert_eq!(body, SOURCE),
            Err(refusal) => assert!(!done && refusal == Refusal::Unknown),
        }
    });
}

/// What is left of a fork that failed does not keep its source from going.
#[test]
fn a_fork_and_then_the_end_of_its_source() {
    let deed: Deed = |world| {
        let other = Create {
            media_type: Some(MediaType::new("image/png")),
            ..fork_of(0)
        };
        match world.create(1, &other, at(0)) {
            Err(Refusal::SourceType) => world.delete(0, at(0)).map(drop).map_err(drop),
            other => other.map(drop).map_err(drop),
        }
    };
    crash_everywhere(prepare_source, deed, |world, done| {
        assert_eq!(whole(world, 1), Err(Refusal::Unknown));
        if done {
            assert_eq!(whole(world, 0), Err(Refusal::Unknown));
        }
    });
}

#[test]
fn the_end_of_a_chain() {
    let deed: Deed = |world| {
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
    crash_everywhere(prepare_chain, deed, |world, done| {
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
