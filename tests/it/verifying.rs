//! Verification: `pmx verify` finds what is damaged, and after `--repair` the next sync heals it.

use std::fs;

use serde_json::{Value, json};

use crate::repair::{Kind, lose_all_objects, lost, objects, page, publish, rot, whole};
use crate::world::{Ran, World, noise, on_both_hosts};

on_both_hosts!(
    sound_space_has_no_fault,
    rotten_pack_is_found_by_reading_the_data,
    rotten_index_is_found_without_reading_the_data,
    rotten_part_is_named_with_its_file,
    space_with_many_nodes_is_verified_in_steps,
    lost_content_of_an_older_deploy_is_named_until_it_is_given_up,
);

fn verify(world: &World, args: &[&str]) -> Ran {
    world.pmx(&[&["verify", "--space", "docs", "--json"], args].concat())
}

/// What the faults of a run are about, without their ids.
fn faults(ran: &Ran) -> Vec<String> {
    let lines = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let faults = lines.filter(|line: &Value| line["type"] == "fault");
    let kind = |line: Value| {
        line["what"]
            .as_str()
            .unwrap()
            .split(' ')
            .next()
            .map(str::to_owned)
    };
    faults.filter_map(kind).collect()
}

fn sound_space_has_no_fault(world: World) {
    publish(&world);
    world.write_bytes("film.mp4", &noise(0, 20 * 1024 * 1024));
    world.sync("docs", &[]).ok();
    world.write(&[("b.html", "of a preview")]);
    world.sync("docs", &["--preview", "next"]).ok();
    let quick = verify(&world, &[]).ok();
    assert_eq!(faults(&quick), [""; 0]);
    assert!(quick.number("/nodes") >= 3 && quick.number("/objects") >= 2);
    assert_eq!(quick.number("/blobs"), 0, "no data was read");
    let whole = verify(&world, &["--read-data"]).ok();
    assert_eq!(faults(&whole), [""; 0]);
    // Three pages, the one of the preview, and the three parts of the film.
    assert_eq!(whole.number("/blobs"), 4 + 3);
    assert!(whole.number("/bytes") > 20 * 1024 * 1024);
    let group = |n: u64| {
        let ran = verify(&world, &["--read-data-subset", &format!("{n}/3")]);
        ran.ok().number("/blobs")
    };
    assert_eq!((1..=3).map(group).sum::<u64>(), 4 + 3, "each in one group");
    let none = verify(&world, &["--read-data-subset", "4/3"]);
    assert_eq!(none.code, 2, "{none:?}");
}

fn rotten_pack_is_found_by_reading_the_data(mut world: World) {
    publish(&world);
    rot(&mut world, Kind::Pack, 9);
    let quick = verify(&world, &[]).ok();
    assert_eq!(faults(&quick), [""; 0], "every object exists");
    let found = verify(&world, &["--read-data"]);
    assert_eq!((faults(&found), found.code), (vec!["blob".to_owned()], 1));
    // It only looked: a publish is not asked for what is lost.
    let same = world.sync("docs", &[]).ok();
    assert_eq!(same.at("/outcome"), "unchanged", "{same:?}");
    let marked = verify(&world, &["--read-data", "--repair"]);
    assert_eq!(marked.at("/damaged"), json!([1]), "{marked:?}");
    let healed = world.sync("docs", &[]).ok();
    assert_eq!(healed.at("/outcome"), "published", "{healed:?}");
    verify(&world, &["--read-data"]).ok();
    whole(&world, "docs", "/a", &page("a"));
    whole(&world, "1--docs", "/a", &page("a"));
}

fn rotten_index_is_found_without_reading_the_data(mut world: World) {
    publish(&world);
    rot(&mut world, Kind::Index, 9);
    // The byte is in a location, which no hash covers: it leads nowhere now.
    let found = verify(&world, &["--repair"]);
    assert!(!faults(&found).is_empty() && found.code == 1, "{found:?}");
    assert_eq!(found.at("/damaged"), json!([1]), "{found:?}");
    world.sync("docs", &[]).ok();
    verify(&world, &["--read-data"]).ok();
    whole(&world, "docs", "/a", &page("a"));
}

fn rotten_part_is_named_with_its_file(mut world: World) {
    let film = noise(0, 9 * 1024 * 1024);
    world.write_bytes("film.mp4", &film);
    publish(&world);
    rot(&mut world, Kind::Part, 9);
    let found = verify(&world, &["--read-data", "--repair"]);
    assert!(!faults(&found).is_empty(), "{found:?}");
    assert!(
        faults(&found).iter().all(|what| what == "blob"),
        "{found:?}"
    );
    world.sync("docs", &[]).ok();
    verify(&world, &["--read-data"]).ok();
    assert!(world.get("docs", "/film.mp4").body == film, "the film");
}

/// A disk may cut a file off. The Worker's bucket knows the length of an object, and reports such a
/// file as a failure of its own.
#[test]
fn truncated_pack_loses_only_what_is_cut_off() {
    let mut world = World::new();
    for n in 0..40u8 {
        world.write_bytes(&format!("{n}.bin"), &noise(n.into(), 1_000));
    }
    world.sync("docs", &[]).ok();
    world.server.kill();
    let pack = objects(&world)
        .into_iter()
        .max_by_key(|file| fs::metadata(file).unwrap().len())
        .unwrap();
    let bytes = fs::read(&pack).unwrap();
    fs::write(&pack, &bytes[..30 * 1_000]).unwrap();
    world.restart();
    let found = verify(&world, &["--read-data", "--repair"]);
    let count = faults(&found).len();
    assert!((10..=12).contains(&count), "{count} of 40 are cut off");
    assert_eq!(found.at("/damaged"), json!([1]));
    world.sync("docs", &[]).ok();
    verify(&world, &["--read-data"]).ok();
}

fn space_with_many_nodes_is_verified_in_steps(world: World) {
    for n in 0..4_000 {
        let folder = n % 40;
        world.write_bytes(&format!("{folder}/{n}.txt"), format!("file {n}").as_bytes());
    }
    world.sync("docs", &[]).ok();
    let ran = verify(&world, &["--read-data"]).ok();
    assert_eq!(faults(&ran), [""; 0]);
    assert_eq!(ran.number("/blobs"), 4_000);
    assert!(ran.number("/nodes") > 16, "more than one step: {ran:?}");
}

fn lost_content_of_an_older_deploy_is_named_until_it_is_given_up(mut world: World) {
    world.write(&[("old.html", "only in deploy 1")]);
    publish(&world);
    fs::remove_file(world.site().join("old.html")).unwrap();
    world.sync("docs", &[]).ok();
    lose_all_objects(&mut world);
    let found = verify(&world, &["--repair"]);
    assert!(faults(&found).contains(&"object".to_owned()), "{found:?}");
    assert_eq!(found.at("/damaged"), json!([1, 2]), "{found:?}");
    world.sync("docs", &[]).ok();
    whole(&world, "docs", "/a", &page("a"));
    let left = verify(&world, &[]);
    assert_eq!(left.at("/damaged"), json!([1]), "{left:?}");
    lost(&world, "1--docs", "/old");
}
