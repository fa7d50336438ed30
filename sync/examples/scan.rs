//! Scans a folder, for measuring: `scan FOLDER [CACHE]`. With a cache file, scans with it and
//! writes it; prints what was read and how long each step took.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pmx_core::id::Root;
use pmx_core::time::Timestamp;
use pmx_sync::scan::{Options, StatCache, scan};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let threads = std::env::var("THREADS").ok();
    let options = Options {
        threads: threads.and_then(|text| text.parse().ok()),
        ..Options::default()
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = Timestamp::from_millis(since.as_millis() as u64);
    let start = Instant::now();
    let cache = arguments
        .get(2)
        .and_then(|path| std::fs::read(path).ok())
        .and_then(|bytes| StatCache::parse(bytes, &[0; 32]));
    let parsed = start.elapsed();
    let found = scan(Path::new(&arguments[1]), &options, cache.as_ref(), &(), now).unwrap();
    let scanned = start.elapsed();
    println!(
        "{:?} read {:?} reused {} changes {} settled {} | cache {parsed:.1?} scan {:.1?} all {scanned:.1?}",
        found.totals(),
        found.stats().read,
        found.stats().reused_files,
        found.changes().len(),
        found.is_settled(),
        scanned.saturating_sub(parsed),
    );
    if let Some(path) = arguments.get(2)
        && !found.is_settled()
    {
        let start = Instant::now();
        std::fs::write(path, found.cache(Root::from_bytes([7; 32]), &[0; 32])).unwrap();
        println!("cache written in {:.1?}", start.elapsed());
    }
    // A program that ends frees nothing.
    std::mem::forget((found, cache));
}
