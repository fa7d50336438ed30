//! Interleavings: events between a transaction, its effect and the next transaction.

use pmx_streams::driver::perform;
use pmx_streams::{From, Read, ReadResult, Refusal, StreamJob};

use super::crash::{append, create, engine_config, fork_of, prepare_source, whole};
use super::model::at;
use super::world::{Faults, World, poll_ready};

/// Runs an event while a segment of stream 0 is written, then all jobs, and checks the result.
fn check_during_segment_write(event: impl FnOnce(&World<'_>), check: impl FnOnce(&World<'_>)) {
    let faults = Faults::default();
    let world = World::new(engine_config(), &faults);
    prepare_source(&world);
    append(&world, 0, "four, to be a segment").unwrap();
    let engine = world.engine(0);
    let job = engine.atomically(|engine| engine.next_job(at(0))).unwrap();
    let mut job = job.unwrap();
    assert!(matches!(job, StreamJob::WriteSegment { .. }));
    poll_ready(perform(&mut job, &world.cold, &world, at(0))).unwrap();
    event(&world);
    engine
        .atomically(|engine| engine.complete_job(&job, at(0)))
        .unwrap();
    for stream in (0..3).cycle().take(9) {
        assert_eq!(world.jobs(stream, at(0)).unwrap().failures, []);
    }
    world.check_objects();
    world.forget_incarnation(0);
    assert_eq!(world.rows("stream_chore"), 0);
    check(&world);
}

const ALL: &str = "one longer messagetwothreefour, to be a segment";

#[test]
fn append_during_a_segment_write_follows_the_segment() {
    let event = |world: &World<'_>| append(world, 0, "five").unwrap();
    check_during_segment_write(event, |world| {
        assert_eq!(whole(world, 0).unwrap(), format!("{ALL}five"));
    });
}

#[test]
fn fork_during_a_segment_write_copies_the_rows() {
    let event = |world: &World<'_>| {
        world.create(1, &fork_of(0), at(0)).unwrap();
        append(world, 1, "of its own").unwrap();
    };
    check_during_segment_write(event, |world| {
        assert_eq!(whole(world, 0).unwrap(), ALL);
        assert_eq!(whole(world, 1).unwrap(), format!("{ALL}of its own"));
    });
}

#[test]
fn delete_during_a_segment_write_leaves_no_segment() {
    let event = |world: &World<'_>| {
        world.delete(0, at(0)).unwrap();
    };
    check_during_segment_write(event, |world| {
        assert_eq!(whole(world, 0), Err(Refusal::Unknown));
        assert!(world.cold.objects.borrow().is_empty());
    });
}

#[test]
fn recreate_during_a_segment_write_does_not_get_the_segment() {
    let event = |world: &World<'_>| {
        world.delete(0, at(0)).unwrap();
        world.create(0, &create(None), at(0)).unwrap();
        append(world, 0, "another life").unwrap();
    };
    check_during_segment_write(event, |world| {
        assert_eq!(whole(world, 0).unwrap(), "another life");
    });
}

#[test]
fn delete_with_a_fork_during_a_segment_write_lists_no_segment() {
    let event = |world: &World<'_>| {
        world.create(1, &fork_of(0), at(0)).unwrap();
        world.delete(0, at(0)).unwrap();
    };
    check_during_segment_write(event, |world| {
        assert_eq!(whole(world, 0), Err(Refusal::Gone));
        assert_eq!(whole(world, 1).unwrap(), ALL);
        world.delete(1, at(0)).unwrap();
        for stream in (0..2).rev() {
            world.jobs(stream, at(0)).unwrap();
        }
        assert!(world.cold.objects.borrow().is_empty());
    });
}

#[test]
fn read_of_a_lost_object_is_a_storage_error() {
    let faults = Faults::default();
    let world = World::new(engine_config(), &faults);
    prepare_source(&world);
    let engine = world.engine(0);
    let call = Read { from: From::Start };
    let reading = engine.peek(&call, at(0)).unwrap();
    let ReadResult::Cold(cold_read) = reading else {
        panic!("the beginning is cold")
    };
    world.cold.objects.borrow_mut().clear();
    let lost = poll_ready(cold_read.fetch(&world.cold));
    assert!(matches!(lost, Err(Refusal::Storage { .. })));
    // The stream still exists, so the failure is not explained by its end.
    let lost = world.read(0, &call, at(0));
    assert!(matches!(lost, Err(Refusal::Storage { .. })));
}
