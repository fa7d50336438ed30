//! Interleavings: events between a transaction, its effect and the next transaction.

use pmx_streams::driver::perform;
use pmx_streams::{From, Job, Read, ReadResult, Refusal};

use super::crash::{append, create, engine_config, fork_of, prepare_source, whole};
use super::model::at;
use super::world::{Faults, World, ready};

/// Does something while a segment of stream 0 is written, and then all chores.
fn while_a_segment_is_written(meanwhile: impl FnOnce(&World<'_>), check: impl FnOnce(&World<'_>)) {
    let faults = Faults::default();
    let world = World::new(engine_config(), &faults);
    prepare_source(&world);
    append(&world, 0, "four, to be a segment").unwrap();
    let engine = world.engine(0);
    let job = engine.atomically(|engine| engine.next_job(at(0))).unwrap();
    let mut job = job.unwrap();
    assert!(matches!(job, Job::WriteSegment { .. }));
    ready(perform(&mut job, &world.cold, &world, at(0))).unwrap();
    meanwhile(&world);
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
fn an_append_comes_behind_the_segment() {
    let meanwhile = |world: &World<'_>| append(world, 0, "five").unwrap();
    while_a_segment_is_written(meanwhile, |world| {
        assert_eq!(whole(world, 0).unwrap(), format!("{ALL}five"));
    });
}

#[test]
fn a_fork_has_a_copy_of_what_is_moved() {
    let meanwhile = |world: &World<'_>| {
        world.create(1, &fork_of(0), at(0)).unwrap();
        append(world, 1, "of its own").unwrap();
    };
    while_a_segment_is_written(meanwhile, |world| {
        assert_eq!(whole(world, 0).unwrap(), ALL);
        assert_eq!(whole(world, 1).unwrap(), format!("{ALL}of its own"));
    });
}

#[test]
fn a_stream_that_ends_leaves_no_segment() {
    let meanwhile = |world: &World<'_>| {
        world.delete(0, at(0)).unwrap();
    };
    while_a_segment_is_written(meanwhile, |world| {
        assert_eq!(whole(world, 0), Err(Refusal::Unknown));
        assert!(world.cold.objects.borrow().is_empty());
    });
}

#[test]
fn a_name_taken_again_gets_nothing_of_the_segment() {
    let meanwhile = |world: &World<'_>| {
        world.delete(0, at(0)).unwrap();
        world.create(0, &create(None), at(0)).unwrap();
        append(world, 0, "another life").unwrap();
    };
    while_a_segment_is_written(meanwhile, |world| {
        assert_eq!(whole(world, 0).unwrap(), "another life");
    });
}

#[test]
fn a_stream_that_is_kept_for_its_fork_lists_no_new_segment() {
    let meanwhile = |world: &World<'_>| {
        world.create(1, &fork_of(0), at(0)).unwrap();
        world.delete(0, at(0)).unwrap();
    };
    while_a_segment_is_written(meanwhile, |world| {
        assert_eq!(whole(world, 0), Err(Refusal::Gone));
        assert_eq!(whole(world, 1).unwrap(), ALL);
        world.delete(1, at(0)).unwrap();
        for stream in (0..2).rev() {
            world.jobs(stream, at(0)).unwrap();
        }
        assert!(world.cold.objects.borrow().is_empty());
    });
}

/// An object that is lost is no stream that ended.
#[test]
fn an_object_is_lost() {
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
    let lost = ready(cold_read.fetch(&world.cold));
    assert!(matches!(lost, Err(Refusal::Storage { .. })));
    // As long as the stream is there, that is the truth.
    let lost = world.read(0, &call, at(0));
    assert!(matches!(lost, Err(Refusal::Storage { .. })));
}
