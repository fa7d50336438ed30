//! Watch mode (`pmx sync --watch`, `pmx dev`): the ways in which build tools and editors write
//! files.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::world::{World, eventually, sync_args};

/// A `pmx` that watches, and its output so far: JSON lines of stdout.
pub(crate) struct Watching {
    process: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Watching {
    /// Starts a command, and waits for its first line if `pmx` prints one.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.arg("--json").spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let all = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap();
                all.lock().unwrap().push(line);
            }
        });
        Self { process, lines }
    }

    /// Watches a folder of a world, and waits for its first publish.
    fn of(world: &World, folder: &str) -> Self {
        let watching = Self::start(world.command(&["sync", folder, "--space", "docs", "--watch"]));
        watching.sees("a first publish", |line| line["type"] == "summary");
        watching
    }

    fn count(&self, is: impl Fn(&Value) -> bool) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| is(line)).count()
    }

    /// Waits for a line that matches.
    pub(crate) fn sees(&self, what: &str, is: impl Fn(&Value) -> bool) {
        eventually(what, || self.count(&is) > 0);
    }

    /// The number of publishes so far.
    pub(crate) fn publishes(&self) -> usize {
        self.count(|line| line["outcome"] == "published")
    }

    /// Checks that there were `count` publishes, and that no further one was to come. For that, a
    /// last change of the folder is published, which counts for the next check. `pmx` publishes in
    /// order: a publish that was to come is before that one, or part of it.
    fn published(&self, world: &World, count: usize) {
        let last = format!("last of {count}");
        put(&world.site(), &[("last.html", &last)]);
        becomes(world, "/last", &last);
        eventually("the last publish is reported", || self.publishes() > count);
        assert_eq!(self.publishes(), count + 1);
        let lines = self.lines.lock().unwrap();
        let files = &lines.last().unwrap()["files"];
        let changed = ["added", "modified", "removed"].map(|kind| files[kind].as_u64().unwrap());
        assert_eq!(changed.iter().sum::<u64>(), 1, "{lines:#?}");
    }

    fn stop(mut self) -> Vec<Value> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let lines = self.lines.lock().unwrap();
        lines.clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn says(kind: &'static str, text: &'static str) -> impl Fn(&Value) -> bool {
    move |line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["type"] == kind && message.contains(text)
    }
}

fn shows(world: &World, path: &str, text: &str) -> bool {
    world.get("docs", path).text().starts_with(text)
}

fn becomes(world: &World, path: &str, text: &str) {
    eventually(&format!("{path} shows {text}"), || shows(world, path, text));
}

fn at(world: &World, path: &str) -> PathBuf {
    world.temp.path().join(path)
}

fn put(folder: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn watch_follows_a_folder_that_is_removed_and_made_again() {
    let world = World::new();
    let site = world.site();
    put(&site, &[("index.html", "r0"), ("sub/a.html", "a0")]);
    // `.` is the process's own working directory.
    let mut command = world.command(&["sync", ".", "--space", "docs", "--watch"]);
    command.current_dir(&site);
    let watching = Watching::start(command);
    watching.sees("a first publish", |line| line["type"] == "summary");
    // The file system gives the new folder the inode number of the old one.
    for round in ["r1", "r2", "r3"] {
        fs::remove_dir_all(&site).unwrap();
        put(&site, &[("index.html", round), ("sub/a.html", round)]);
        becomes(&world, "/", round);
        becomes(&world, "/sub/a", round);
    }
    for round in ["a1", "a2"] {
        fs::remove_dir_all(site.join("sub")).unwrap();
        put(&site, &[("sub/a.html", round)]);
        becomes(&world, "/sub/a", round);
    }
    put(&site, &[("index.html", "edited")]);
    becomes(&world, "/", "edited");
    watching.published(&world, 7);
}

#[test]
fn watch_follows_links_that_are_switched_and_folders_that_are_exchanged() {
    let world = World::new();
    for release in ["r1", "r2", "r3"] {
        put(&at(&world, release), &[("public/index.html", release)]);
    }
    symlink("r1", at(&world, "current")).unwrap();
    symlink("current/public", at(&world, "www")).unwrap();
    let _watching = Watching::of(&world, "www");
    // Renames a link over the old one, as `ln -sfn`, Nix and Capistrano do.
    symlink("r2", at(&world, "next")).unwrap();
    fs::rename(at(&world, "next"), at(&world, "current")).unwrap();
    becomes(&world, "/", "r2");
    put(&at(&world, "r2"), &[("public/index.html", "r2, edited")]);
    becomes(&world, "/", "r2, edited");
    fs::remove_file(at(&world, "www")).unwrap();
    symlink("r3/public", at(&world, "www")).unwrap();
    becomes(&world, "/", "r3");
    // A folder is renamed, and another takes its place.
    put(&at(&world, "new"), &[("index.html", "exchanged")]);
    fs::rename(at(&world, "r3/public"), at(&world, "old")).unwrap();
    fs::rename(at(&world, "new"), at(&world, "r3/public")).unwrap();
    becomes(&world, "/", "exchanged");
    put(&at(&world, "r3"), &[("public/index.html", "edited")]);
    becomes(&world, "/", "edited");
}

#[test]
fn watch_publishes_a_build_that_empties_the_folder_once() {
    let world = World::new();
    let site = world.site();
    let pages: Vec<String> = (0..20).map(|n| format!("p{n}.html")).collect();
    for page in &pages {
        put(&site, &[(page, "v1")]);
    }
    let watching = Watching::of(&world, "site");
    for page in &pages {
        fs::remove_file(site.join(page)).unwrap();
    }
    for page in &pages {
        put(&site, &[(page, "v2")]);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(world.get("docs", "/p19").status, 200);
    }
    becomes(&world, "/p19", "v2");
    watching.published(&world, 2);
    // `pmx` removes a file that was deleted on purpose.
    fs::remove_file(site.join("p3.html")).unwrap();
    eventually("p3 is gone", || world.get("docs", "/p3").status == 404);
    watching.published(&world, 4);
}

#[test]
fn watch_waits_for_the_content_of_a_file_that_became_empty() {
    let world = World::new();
    let site = world.site();
    put(&site, &[("index.html", "one"), ("a.html", "a")]);
    let watching = Watching::of(&world, "site");
    put(&site, &[("index.html", "")]);
    std::thread::sleep(Duration::from_millis(600));
    assert!(shows(&world, "/", "one"));
    put(&site, &[("index.html", "two")]);
    becomes(&world, "/", "two");
    // Chunks of one open file are one publish too.
    let mut file = fs::File::create(site.join("a.html")).unwrap();
    for chunk in ["first ", "second ", "third"] {
        std::io::Write::write_all(&mut file, chunk.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(250));
    }
    drop(file);
    becomes(&world, "/a", "first second third");
    watching.published(&world, 3);
}

#[test]
fn watch_publishes_the_rest_without_what_cannot_be_published() {
    let world = World::new();
    let site = world.site();
    put(&site, &[("index.html", "one"), ("b.html", "b")]);
    symlink("nowhere", site.join("dangling")).unwrap();
    world.sync("docs", &[]).fails(3, "E_SYMLINK_ESCAPE");
    let watching = Watching::of(&world, "site");
    watching.sees("the link is named", says("warning", "\"dangling\""));
    put(&site, &[("index.html", "two"), ("back\\slash.html", "x")]);
    becomes(&world, "/", "two");
    watching.sees("the name is named", says("warning", "slash.html"));
    fs::remove_file(site.join("dangling")).unwrap();
    fs::remove_file(site.join("back\\slash.html")).unwrap();
    watching.sees("it is well again", says("recovered", "every path"));
    let lines = watching.stop();
    let warned = lines
        .iter()
        .filter(|line| says("warning", "left out")(line));
    assert!((1..=3).contains(&warned.count()), "{lines:#?}");
}

#[test]
fn watch_outlives_a_folder_that_is_gone_and_a_server_that_is_gone() {
    let mut world = World::new();
    let site = world.site();
    fs::remove_dir_all(&site).unwrap_or_default();
    let watching = Watching::start(world.command(&sync_args("docs", &["--watch"])));
    let failures = || watching.count(|line| line["type"] == "error");
    eventually("the missing folder is reported", || failures() == 1);
    put(&site, &[("index.html", "one")]);
    becomes(&world, "/", "one");
    // A file replaces the folder, and the folder returns.
    fs::rename(&site, at(&world, "away")).unwrap();
    fs::write(&site, "a file").unwrap();
    eventually("the replaced folder is reported", || failures() > 1);
    fs::remove_file(&site).unwrap();
    fs::rename(at(&world, "away"), &site).unwrap();
    put(&site, &[("index.html", "two")]);
    becomes(&world, "/", "two");
    world.server.kill();
    put(&site, &[("index.html", "three")]);
    watching.sees("the failure", |line| line["code"] == "E_NETWORK");
    world.restart();
    becomes(&world, "/", "three");
    watching.sees("it is well again", says("recovered", "published"));
}

/// A relay to a server: while `loses` is set, it forwards requests and drops the responses.
struct LossyWay {
    address: String,
    loses: Arc<AtomicBool>,
}

impl LossyWay {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let loses = Arc::new(AtomicBool::new(false));
        let is_lossy = Arc::clone(&loses);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let is_lossy = Arc::clone(&is_lossy);
                std::thread::spawn(move || answers(server, client, &is_lossy));
            }
        });
        Self { address, loses }
    }
}

/// Forwards responses. While responses are lost, the next one closes the connection instead.
fn answers(mut server: TcpStream, mut client: TcpStream, is_lossy: &AtomicBool) {
    let mut answer = [0; 16 * 1024];
    while let Ok(length @ 1..) = server.read(&mut answer) {
        if is_lossy.load(Ordering::SeqCst) || client.write_all(&answer[..length]).is_err() {
            break;
        }
    }
    let _gone = client.shutdown(Shutdown::Both);
}

#[test]
fn watch_replaces_its_own_deploy_whose_answer_was_lost() {
    let world = World::new();
    world.write(&[("index.html", "one")]);
    let way = LossyWay::to(world.server.port);
    let mut command = world.command(&sync_args("docs", &["--watch"]));
    command.args(["--server", &way.address]);
    let watching = Watching::start(command);
    watching.sees("a first publish", |line| line["type"] == "summary");
    way.loses.store(true, Ordering::SeqCst);
    world.write(&[("index.html", "two")]);
    watching.sees("no answer", |line| line["code"] == "E_NETWORK");
    becomes(&world, "/", "two");
    world.write(&[("index.html", "three")]);
    way.loses.store(false, Ordering::SeqCst);
    becomes(&world, "/", "three");
    watching.sees("it is well again", says("recovered", "published"));
}

/// A client that gives up, or is killed, leaves a deploy whose number it never learns.
#[test]
fn publish_replaces_an_earlier_one_of_its_user_whose_answer_was_lost() {
    let world = World::new();
    let way = LossyWay::to(world.server.port);
    let sync = || {
        let mut command = world.command(&sync_args("docs", &[]));
        command.args(["--server", &way.address]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let succeeds = |content: &str| {
        world.write(&[("index.html", content)]);
        let output = sync().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{content}: {said}");
        becomes(&world, "/", content);
    };
    succeeds("one");
    for (is_killed, lost, next) in [(false, "two", "three"), (true, "four", "five")] {
        way.loses.store(true, Ordering::SeqCst);
        world.write(&[("index.html", lost)]);
        let mut client = sync().spawn().unwrap();
        becomes(&world, "/", lost);
        if is_killed {
            client.kill().unwrap();
        }
        assert!(!client.wait().unwrap().success());
        way.loses.store(false, Ordering::SeqCst);
        succeeds(next);
    }
    // A colleague's deploy stays a conflict, even with the content whose answer was lost before.
    world.write(&[("index.html", "four")]);
    let colleague = world.temp.path().join("colleague");
    let published = sync().env("PMX_CACHE", colleague).output().unwrap();
    assert!(published.status.success());
    world.write(&[("index.html", "six")]);
    let refused = sync().output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("E_CONFLICT"),
        "{said}"
    );
    becomes(&world, "/", "four");
}
