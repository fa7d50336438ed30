//! Crash test: the test kills a host while packs arrive. After a restart, the host has every
//! acknowledged pack, and no partial one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use pmx_core::codec::{Bounds, Decoder, Encoder, Level};
use pmx_core::id::{BlobId, PackId};
use pmx_sync::pack::wire::PackBuilder;
use pmx_sync::pack::{PackCoding, stored};

use super::{exchange_with, start, status};

const DATA: &str = "PMX_TEST_CRASH_DATA";
const SECRET: &str = "crash";

/// No test, but the host process that [`killed_hosts_lose_nothing`] kills.
#[test]
fn host_to_be_killed() {
    let Some(data) = std::env::var_os(DATA) else {
        return;
    };
    let host = start(Path::new(&data), Some(SECRET)).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nlistening {}", host.addr()).unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn killed_hosts_lose_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3u8 {
        let (mut child, addr) = spawn(home.path());
        let senders: Vec<_> = (0..2)
            .map(|sender| thread::spawn(move || send_until_refused(addr, [round, sender])))
            .collect();
        // The outcome depends on no particular moment.
        thread::sleep(Duration::from_millis(150 + 100 * u64::from(round)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(
            senders
                .into_iter()
                .flat_map(|sender| sender.join().unwrap()),
        );
    }
    assert!(!acknowledged.is_empty());
    let host = start(home.path(), Some(SECRET)).unwrap();
    let scratch = home.path().join("objects/scratch");
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
    let held = held(&home.path().join("objects/spaces"));
    for content in &acknowledged {
        let pack = pack(content);
        assert!(held.contains_key(&BlobId::of(content)), "{content:?}");
        // The ledger has the pack as well, so the host does not store it again.
        assert_eq!(status(&put(host.addr(), &pack).unwrap()), "200");
    }
    let after = self::held(&home.path().join("objects/spaces"));
    assert!(
        acknowledged
            .iter()
            .all(|content| after[&BlobId::of(content)] == 1)
    );
}

fn spawn(data: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "host::tests::crash::host_to_be_killed",
            "--nocapture",
        ])
        .env(DATA, data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let addr = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("listening ")?.parse().ok())
        .unwrap();
    (child, addr)
}

/// Sends packs of one blob each. Returns the blobs of those that were acknowledged.
fn send_until_refused(addr: SocketAddr, mark: [u8; 2]) -> Vec<Vec<u8>> {
    let mut acknowledged = Vec::new();
    for n in 0..60u8 {
        let content = [&[mark[0], mark[1], n][..], &[n; 999]].concat();
        match put(addr, &pack(&content)) {
            Ok(answer) if status(&answer) == "200" => acknowledged.push(content),
            // The host may end in the middle of its answer.
            Ok(answer) => {
                assert!(answer.len() < 12, "{answer}");
                break;
            }
            Err(_) => break,
        }
    }
    acknowledged
}

fn pack(content: &[u8]) -> Vec<u8> {
    let mut builder = PackBuilder::new();
    builder.push(content).unwrap();
    let pack = builder.finish(&mut Encoder::new(), PackCoding::Zstd(Level::WIRE));
    pack.unwrap().into_bytes()
}

fn put(addr: SocketAddr, pack: &[u8]) -> std::io::Result<String> {
    let id = PackId::of(pack);
    let head = format!(
        "PUT /api/publish/packs/{id}?space=docs HTTP/1.1\r\nhost: localhost\r\n\
         authorization: Bearer {SECRET}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        pack.len()
    );
    exchange_with(TcpStream::connect(addr)?, &[head.as_bytes(), pack].concat())
}

/// The blobs of all objects, and the number of objects that hold each. Every object has to be
/// whole.
fn held(folder: &Path) -> BTreeMap<BlobId, usize> {
    let mut held = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let object = fs::read(&path).unwrap();
            let toc = stored::open_object(&object).unwrap();
            for entry in toc.entries() {
                let frame = entry.slice(&object).unwrap();
                let raw = Decoder::new().frame(frame, entry.raw, Bounds::STORED);
                assert_eq!(BlobId::of(&raw.unwrap()), entry.blob);
                *held.entry(entry.blob).or_default() += 1;
            }
        }
    }
    held
}
