//! Multi-part files: a new version costs its new bytes. Loss or damage of the old version costs
//! bytes, and readers never get a wrong file.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use crate::delta_packs::spoil;
use crate::world::http::content_length;
use crate::world::{Host, Ran, World, noise, on_both_hosts, raw};

on_both_hosts! {
    part_delta_of_an_edited_file_costs_what_is_new,
    part_delta_of_a_renamed_file_costs_what_is_new,
    part_delta_of_text_is_stored_compressed,
    publish_without_signatures_sends_whole_parts,
    upload_of_parts_resumes_after_an_interruption,
}

const MIB: usize = 1024 * 1024;

fn publish(world: &World, path: &str, bytes: &[u8]) -> Ran {
    world.write_bytes(path, bytes);
    world.sync("docs", &[]).ok()
}

fn check(world: &World, host: &str, path: &str, bytes: &[u8]) {
    let served = world.get(host, path);
    assert_eq!(served.status, 200, "{path}");
    assert!(served.body == bytes, "{path} is not what was published");
}

/// Fails unless the client sent at most about `most` bytes.
fn cost(ran: &Ran, most: u64) {
    assert!(ran.number("/bytes/sent") <= most, "{ran:?}");
}

fn part_delta_of_an_edited_file_costs_what_is_new(world: World) {
    let first = noise(1, 20 * MIB);
    let ran = publish(&world, "film.bin", &first);
    assert!(ran.number("/bytes/sent") > 20 * MIB as u64, "{ran:?}");
    let mut flipped = first.clone();
    flipped[9_000_000] ^= 1;
    cost(&publish(&world, "film.bin", &flipped), 40_000);
    check(&world, "docs", "/film.bin", &flipped);
    // A version that was sent as a delta serves as a base like one that was sent whole.
    let mut longer = flipped.clone();
    longer.splice(5_000..5_000, noise(2, 100));
    cost(&publish(&world, "film.bin", &longer), 40_000);
    check(&world, "docs", "/film.bin", &longer);
    let shorter = &longer[..15 * MIB];
    cost(&publish(&world, "film.bin", shorter), 40_000);
    check(&world, "docs", "/film.bin", shorter);
    // The last bytes move to the front.
    let mut moved = shorter.to_vec();
    moved.rotate_right(MIB);
    cost(&publish(&world, "film.bin", &moved), 150_000);
    check(&world, "docs", "/film.bin", &moved);
    check(&world, "1--docs", "/film.bin", &first);
    check(&world, "3--docs", "/film.bin", &longer);
}

fn part_delta_of_a_renamed_file_costs_what_is_new(world: World) {
    let mut bytes = noise(3, 9 * MIB);
    publish(&world, "a/app-0f3a9b1c.wasm", &bytes);
    fs::remove_file(world.site().join("a/app-0f3a9b1c.wasm")).unwrap();
    bytes.extend_from_slice(b"one more function");
    cost(&publish(&world, "a/app-77b2d0e4.wasm", &bytes), 40_000);
    check(&world, "docs", "/a/app-77b2d0e4.wasm", &bytes);
}

fn part_delta_of_text_is_stored_compressed(world: World) {
    let lines = |version: u32| -> String {
        let line = |n: u32| {
            format!(
                "{{\"row\": {n}, \"name\": \"{:x}\"}}\n",
                n.wrapping_mul(0x9E37_79B1)
            )
        };
        let head = format!("{{\"version\": {version}}}\n");
        head + &(0..400_000).map(line).collect::<String>()
    };
    publish(&world, "table.json", lines(1).as_bytes());
    cost(
        &publish(&world, "table.json", lines(1_000_000).as_bytes()),
        40_000,
    );
    check(&world, "docs", "/table.json", lines(1_000_000).as_bytes());
    let zstd = [("Accept-Encoding", "zstd")];
    let taken = world.get_with("docs", "/table.json", &zstd);
    assert_eq!(taken.header("content-encoding"), Some("zstd"));
    assert!(taken.body.len() < lines(1).len() / 2);
}

fn publish_without_signatures_sends_whole_parts(world: World) {
    let mut bytes = noise(4, 9 * MIB);
    publish(&world, "film.bin", &bytes);
    for file in signatures(&world) {
        fs::remove_file(file).unwrap();
    }
    bytes[7] ^= 1;
    let whole = bytes.len() as u64;
    assert!(publish(&world, "film.bin", &bytes).number("/bytes/sent") > whole);
    // A damaged signature has the same effect as a missing one.
    for file in signatures(&world) {
        let mut spoilt = fs::read(&file).unwrap();
        spoilt[100] ^= 1;
        fs::write(file, spoilt).unwrap();
    }
    bytes[7] ^= 2;
    assert!(publish(&world, "film.bin", &bytes).number("/bytes/sent") > whole);
    bytes[7] ^= 4;
    cost(&publish(&world, "film.bin", &bytes), 40_000);
    check(&world, "docs", "/film.bin", &bytes);
}

fn signatures(world: &World) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(world.temp.path().join("cache/v1/sites")).unwrap() {
        let folder = folder.unwrap().path();
        let files = folder.read_dir().into_iter().flatten().flatten();
        let paths = files.map(|file| file.path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|it| it == "signature")));
    }
    assert!(!found.is_empty(), "no signature was kept");
    found
}

/// The client uploads parts and is interrupted; the next publish sends only the rest.
fn upload_of_parts_resumes_after_an_interruption(world: World) {
    publish(&world, "index.html", b"<h1>docs</h1>");
    let bytes = noise(5, 17 * MIB);
    let id = pmx_core::id::BlobId::of(&bytes);
    let parts = pmx_sync::pack::part::BlobParts::of(bytes.len() as u64).unwrap();
    for part in parts.all().take(2) {
        let body = &bytes[part.offset() as usize..][..part.len() as usize];
        let mut encoder = pmx_core::codec::Encoder::new();
        let coding = pmx_sync::pack::PackCoding::Stored;
        let wire = pmx_sync::pack::part::WirePart::of(part, body, &mut encoder, coding).unwrap();
        let (number, size) = (part.number(), bytes.len());
        let path = format!("/api/publish/blobs/{id}/{number}?space=docs&size={size}");
        let token = world.token();
        let headers = [("Authorization", token.as_str())];
        let kept = world.request("PUT", "", &path, &headers, &wire.bytes);
        assert_eq!(kept.status, 200, "{}", kept.text());
    }
    cost(&publish(&world, "film.bin", &bytes), 2 * MIB as u64);
    check(&world, "docs", "/film.bin", &bytes);
}

#[test]
fn part_delta_does_not_copy_what_rotted_on_the_server() {
    let world = World::with_settings(Host::Embedded, &[]);
    let mut bytes = noise(6, 20 * MIB);
    publish(&world, "film.bin", &bytes);
    let spoilt = spoil(&world.temp.path().join("data"), MIB as u64);
    assert_eq!(spoilt, 3, "the parts");
    bytes[10 * MIB] ^= 1;
    // The client sends a part whole if the part that it would copy is damaged.
    let ran = publish(&world, "film.bin", &bytes);
    assert!(ran.number("/bytes/sent") > 20 * MIB as u64, "{ran:?}");
    check(&world, "docs", "/film.bin", &bytes);
}

#[test]
fn part_delta_is_not_sent_to_a_server_that_declines_references() {
    let world = World::with_settings(Host::Embedded, &[]);
    let relay = declining(world.server.port);
    let sync = || -> Ran {
        let args = ["sync", "site", "--space", "docs", "--json"];
        let mut command = world.command(&args);
        command.env("PMX_SERVER", format!("http://127.0.0.1:{relay}"));
        Ran::from(command.output().expect("pmx runs")).ok()
    };
    let mut bytes = noise(7, 9 * MIB);
    world.write_bytes("film.bin", &bytes);
    sync();
    bytes[5] ^= 1;
    world.write_bytes("film.bin", &bytes);
    let ran = sync();
    assert!(ran.number("/bytes/sent") > bytes.len() as u64, "{ran:?}");
    assert_eq!(
        ran.number("/requests"),
        4,
        "a question, two parts, a commit"
    );
    check(&world, "docs", "/film.bin", &bytes);
}

/// Stands before a server that allows references, and keeps that to itself.
fn declining(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || pass_on(stream, server));
        }
    });
    port
}

/// Passes one request after the other on, as long as they come.
fn pass_on(mut stream: TcpStream, server: u16) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let mut body = vec![0; content_length(&head).unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let answer = raw(server, &[head.as_bytes(), &body].concat(), false);
        let declined = answer
            .text()
            .replace(r#""prefix_max":8388608"#, r#""later":0"#);
        let media = answer.header("content-type").unwrap_or_default();
        let (status, length) = (answer.status, declined.len());
        let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {media}\r\n");
        let head = format!("{head}Content-Length: {length}\r\n\r\n");
        if stream
            .write_all(&[head.as_bytes(), declined.as_bytes()].concat())
            .is_err()
        {
            return;
        }
    }
}
