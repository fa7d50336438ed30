//! Backups that were damaged, interrupted, or overtaken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pmx_tests::rng::Rng;
use serde_json::json;

use super::{backup, files, restore, saved, verified};
use crate::world::{Ran, World, eventually, noise, on_both_hosts};

on_both_hosts!(
    damaged_backup_is_named_and_refused,
    killed_backup_and_restore_go_on,
    deploy_purged_during_a_backup_is_left_out,
);

const FILES: u64 = 60;

/// Deploys of files that hardly compress.
fn publish(world: &World, deploys: u64) {
    for deploy in 0..deploys {
        for file in 0..FILES {
            world.write_bytes(&format!("{file}.bin"), &noise(deploy * 1000 + file, 60_000));
        }
        world.sync("docs", &[]).ok();
    }
}

fn blobs(dir: &Path) -> Vec<PathBuf> {
    files(&dir.join("blobs")).into_keys().collect()
}

fn check(world: &World, dir: &Path) -> Ran {
    world.pmx(&["backup", dir.to_str().unwrap(), "--check", "--json"])
}

/// A file, and what is done to it.
type Spoil<'a> = (&'a PathBuf, Box<dyn Fn(&PathBuf)>);

fn damaged_backup_is_named_and_refused(world: World) {
    publish(&world, 1);
    let dir = world.temp.path().join("backup");
    backup(&world, &dir, &[]).ok();
    check(&world, &dir).ok();
    let node = files(&dir.join("nodes")).into_keys().next().unwrap();
    let snapshot = dir.join("spaces/docs/1.jsonl");
    let blob = blobs(&dir).remove(7);
    let flip = |bytes: &mut Vec<u8>| bytes[3] ^= 1;
    let spoils: [Spoil<'_>; 6] = [
        (&blob, Box::new(move |path| edit(path, flip))),
        (
            &blob,
            Box::new(|path| edit(path, |bytes| bytes.truncate(9))),
        ),
        (&blob, Box::new(|path| fs::remove_file(path).unwrap())),
        (&node, Box::new(move |path| edit(path, flip))),
        (&node, Box::new(|path| fs::remove_file(path).unwrap())),
        (&snapshot, Box::new(move |path| edit(path, flip))),
    ];
    let other = World::new();
    for (path, spoil) in spoils {
        let whole = fs::read(path).unwrap();
        spoil(path);
        let name = path.strip_prefix(&dir).unwrap().to_str().unwrap();
        for ran in [
            check(&world, &dir),
            restore(&other, &dir, &["--space", "docs"]),
        ] {
            let ran = ran.fails(7, "E_CORRUPT");
            assert!(ran.stdout.contains(name), "{name} is not named: {ran:?}");
        }
        let nothing = other.pmx(&["deploys", "--space", "docs"]).ok();
        assert!(
            nothing.stderr.contains("docs has no deploys yet"),
            "{nothing:?}"
        );
        fs::write(path, whole).unwrap();
    }
    // A lost file comes again with the next backup, a damaged node and one of another size too.
    fs::remove_file(&blob).unwrap();
    edit(&node, flip);
    let healed = saved(&backup(&world, &dir, &[]).ok());
    assert_eq!((&healed["files"], &healed["nodes"]), (&json!(1), &json!(1)));
    check(&world, &dir).ok();
    restore(&other, &dir, &["--space", "docs"]).ok();
    // A folder that is none.
    let none = world.site();
    restore(&other, &none, &["--space", "docs"]).fails(1, "E_LOCAL");
    backup(&world, &none, &[]).fails(1, "E_LOCAL");
    fs::write(
        dir.join("backup.json"),
        "{\"format\":\"pmx-backup\",\"v\":2}\n",
    )
    .unwrap();
    check(&world, &dir).fails(1, "E_LOCAL");
}

fn edit(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Runs a command and kills it after some time, unless it ends before. Whether it was killed.
fn killed(mut command: Command, after: Duration) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(after);
    let is_running = child.try_wait().unwrap().is_none();
    let _gone = child.kill();
    let _status = child.wait().unwrap();
    is_running
}

fn killed_backup_and_restore_go_on(world: World) {
    publish(&world, 3);
    let dir = world.temp.path().join("backup");
    let path = dir.to_str().unwrap();
    let other = World::new();
    let mut rng = Rng::new(7);
    let mut kills = |world: &World, args: &[&str]| {
        let wait = |rng: &mut Rng| Duration::from_millis(20 + rng.next() % 60);
        (0..12)
            .filter(|_| killed(world.command(args), wait(&mut rng)))
            .count()
    };
    let hit = kills(&world, &["backup", path, "--space", "docs"]);
    assert!(hit >= 3, "the kills came too late: {hit}");
    let snapshots = fs::read_dir(dir.join("spaces/docs")).map_or(0, Iterator::count);
    let before = blobs(&dir).len() as u64;
    let rest = saved(&backup(&world, &dir, &[]).ok());
    assert_eq!(
        rest["files"].as_u64().unwrap(),
        3 * FILES - before,
        "what came stayed"
    );
    assert_eq!(rest["snapshot"].as_u64().unwrap(), snapshots as u64 + 1);
    check(&world, &dir).ok();
    assert_eq!(files(&dir.join(".unfinished")).len(), 0, "nothing is left");

    let hit = kills(&other, &["restore", path, "--space", "docs"]);
    assert!(hit >= 3, "the kills came too late: {hit}");
    let done = restore(&other, &dir, &["--space", "docs"]).ok();
    assert_eq!(
        done.number("/before") + done.number("/deploys"),
        3,
        "{done:?}"
    );
    verified(&other, "docs");
    for deploy in 0..3 {
        let page = other.get(&format!("{}--docs", deploy + 1), "/5.bin");
        assert!(
            page.body == noise(deploy * 1000 + 5, 60_000),
            "deploy {deploy}"
        );
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap()
            .success()
    );
}

fn deploy_purged_during_a_backup_is_left_out(world: World) {
    publish(&world, 2);
    world.write(&[("preview.html", "preview")]);
    world.sync("docs", &["--preview", "pr"]).ok();
    publish(&world, 1);
    let dir = world.temp.path().join("backup");
    let path = dir.to_str().unwrap();
    let mut running = world.command(&["backup", path, "--space", "docs", "--json"]);
    running.stdout(Stdio::piped());
    let running = running.spawn().unwrap();
    // The newest deploy comes first.
    eventually("the backup fetches", || {
        dir.join("blobs").exists() && !blobs(&dir).is_empty()
    });
    signal(&running, "-STOP");
    let docs = |args: &[&str]| world.pmx(&[args, &["--space", "docs"]].concat()).ok();
    docs(&["preview", "rm", "pr"]);
    docs(&["deploys", "rm", "2", "--purge", "--yes"]);
    docs(&["gc"]);
    signal(&running, "-CONT");
    let ran = Ran::from(running.wait_with_output().unwrap()).ok();
    assert_eq!(saved(&ran)["left_out"], json!([3, 2]), "{ran:?}");
    assert_eq!(saved(&ran)["deploys"], 2);
    assert!(
        ran.stdout.contains("deploy 2 of docs was given up while"),
        "{ran:?}"
    );
    check(&world, &dir).ok();
    let other = World::new();
    restore(&other, &dir, &["--space", "docs"]).ok();
    verified(&other, "docs");
    assert_eq!(other.get("1--docs", "/5.bin").body, noise(5, 60_000));
    assert_eq!(other.get("2--docs", "/5.bin").status, 410);
    let previews = other.pmx(&["preview", "list", "--space", "docs", "--json"]);
    assert_eq!(previews.ok().at("/previews"), json!([]));
    let list = other.pmx(&["deploys", "--space", "docs", "--json"]).ok();
    let contents: Vec<_> = (0..4)
        .map(|at| list.last()["deploys"][at]["content"].clone())
        .collect();
    assert_eq!(
        contents,
        [json!(null), json!("dropped"), json!("purged"), json!(null)]
    );
}
