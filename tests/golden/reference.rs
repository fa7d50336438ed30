//! Reference implementation of the manifest, as plain as possible. It is meant to be read beside
//! `sync/DESIGN.md`, and to disagree with the fast code if either is wrong.
//!
//! It shares no line with `pmx_sync`. Everything is a vector that is sorted or searched from the
//! front. Nothing is checked, bounded or fast.

/// One file of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) id: [u8; 32],
    pub(crate) size: u64,
    pub(crate) media: String,
}

/// One node: its id and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MadeNode {
    pub(crate) id: [u8; 32],
    pub(crate) bytes: Vec<u8>,
}

const NODE_CONTEXT: &str = "pmx-sync 2026-11 manifest node v1";
const BOUNDARY_KEY: &[u8; 32] = b"pmx-sync manifest boundary   v1.";
const ROWS_MAX: usize = 512;

/// The nodes of a site, level by level from the leaves up. The last one is the root.
pub(crate) fn build(files: &[File]) -> Vec<MadeNode> {
    let mut nodes = Vec::new();
    let mut summaries = Vec::new();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for (start, end) in cut(&paths, 0) {
        let rows = &files[start..end];
        let node = made(leaf(rows));
        summaries.push(Summary {
            last: rows.last().map_or("", |file| &file.path).to_owned(),
            id: node.id,
            files: rows.len() as u64,
            bytes: rows.iter().map(|file| file.size).sum(),
        });
        nodes.push(node);
    }
    let mut level = 1;
    while summaries.len() > 1 {
        let mut above = Vec::new();
        let keys: Vec<&str> = summaries.iter().map(|below| below.last.as_str()).collect();
        for (start, end) in cut(&keys, level) {
            let rows = &summaries[start..end];
            let node = made(interior(level, rows));
            above.push(Summary {
                last: rows[rows.len() - 1].last.clone(),
                id: node.id,
                files: rows.iter().map(|below| below.files).sum(),
                bytes: rows.iter().map(|below| below.bytes).sum(),
            });
            nodes.push(node);
        }
        summaries = above;
        level += 1;
    }
    nodes
}

/// The part of an interior node's row that describes its child.
struct Summary {
    last: String,
    id: [u8; 32],
    files: u64,
    bytes: u64,
}

/// Splits a level into nodes: after a key that ends one, and after 512 rows. An empty site has one
/// node without rows.
fn cut(keys: &[&str], level: u8) -> Vec<(usize, usize)> {
    let mut cuts = Vec::new();
    let mut start = 0;
    for (at, key) in keys.iter().enumerate() {
        let end = at + 1;
        if level_of(key) > level || end - start == ROWS_MAX || end == keys.len() {
            cuts.push((start, end));
            start = end;
        }
    }
    if keys.is_empty() {
        cuts.push((0, 0));
    }
    cuts
}

/// The level of a key: how many groups of six zero bits end a little-endian number. That number is
/// the first eight bytes of the key's keyed hash.
pub(crate) fn level_of(key: &str) -> u8 {
    let hash = blake3::keyed_hash(BOUNDARY_KEY, key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    let mut number = u64::from_le_bytes(first);
    let mut level = 0;
    while level < 10 && number % 64 == 0 {
        number /= 64;
        level += 1;
    }
    level
}

fn made(bytes: Vec<u8>) -> MadeNode {
    let id = blake3::derive_key(NODE_CONTEXT, &bytes);
    MadeNode { id, bytes }
}

fn leaf(rows: &[File]) -> Vec<u8> {
    let mut out = vec![1, 0];
    number(&mut out, rows.len() as u64);
    let mut media: Vec<&str> = Vec::new();
    for row in rows {
        if !media.contains(&row.media.as_str()) {
            media.push(&row.media);
        }
    }
    number(&mut out, media.len() as u64);
    for text in &media {
        number(&mut out, text.len() as u64);
        out.extend(text.as_bytes());
    }
    let mut before = "";
    for row in rows {
        key(&mut out, before, &row.path);
        before = &row.path;
        let index = media.iter().position(|text| *text == row.media);
        number(&mut out, index.expect("it was pushed above") as u64);
        number(&mut out, row.size);
        out.extend(row.id);
    }
    out
}

fn interior(level: u8, rows: &[Summary]) -> Vec<u8> {
    let mut out = vec![1, level];
    number(&mut out, rows.len() as u64);
    let mut before = "";
    for row in rows {
        key(&mut out, before, &row.last);
        before = &row.last;
        number(&mut out, row.files);
        number(&mut out, row.bytes);
        out.extend(row.id);
    }
    out
}

/// Encodes a key: the length of the prefix that it shares with the key before, the length of the
/// rest, and the rest.
fn key(out: &mut Vec<u8>, before: &str, key: &str) {
    let (before, key) = (before.as_bytes(), key.as_bytes());
    let mut shared = 0;
    while shared < before.len() && shared < key.len() && before[shared] == key[shared] {
        shared += 1;
    }
    number(out, shared as u64);
    number(out, (key.len() - shared) as u64);
    out.extend(&key[shared..]);
}

/// Unsigned LEB128: seven bits a byte, lowest first, the top bit set on all bytes but the last.
fn number(out: &mut Vec<u8>, value: u64) {
    if value < 128 {
        out.push(value as u8);
    } else {
        out.push((value % 128) as u8 + 128);
        number(out, value / 128);
    }
}

/// One path that differs: its file before, and its file after.
pub(crate) type Difference<'a> = (Option<&'a File>, Option<&'a File>);

/// Every path that differs, in path order.
pub(crate) fn diff<'a>(old: &'a [File], new: &'a [File]) -> Vec<Difference<'a>> {
    let mut paths: Vec<&str> = old.iter().chain(new).map(|f| f.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    let pairs = paths.iter().map(|path| (find(old, path), find(new, path)));
    pairs.filter(|(old, new)| old != new).collect()
}

fn find<'a>(files: &'a [File], path: &str) -> Option<&'a File> {
    let at = files.binary_search_by(|file| file.path.as_str().cmp(path));
    at.ok().map(|at| &files[at])
}

/// The patch that turns `old` into `new`.
pub(crate) fn encode_patch(old: &[File], new: &[File]) -> Vec<u8> {
    let differences = diff(old, new);
    let mut media: Vec<&str> = Vec::new();
    for (before, after) in &differences {
        if let Some(after) = after
            && before.is_none_or(|before| before.media != after.media)
            && !media.contains(&after.media.as_str())
        {
            media.push(&after.media);
        }
    }
    let mut out = vec![1];
    number(&mut out, media.len() as u64);
    for text in &media {
        number(&mut out, text.len() as u64);
        out.extend(text.as_bytes());
    }
    number(&mut out, differences.len() as u64);
    let index = |text: &str| media.iter().position(|known| *known == text).unwrap_or(0) as u64;
    let mut passed = 0;
    let mut inserted = "";
    for (before, after) in differences {
        let path = before.or(after).map_or("", |file| &file.path);
        let rank = old.iter().filter(|file| file.path.as_str() < path).count();
        let skip = (rank - passed) as u64;
        passed = rank;
        match (before, after) {
            (_, None) => {
                number(&mut out, skip * 8);
                passed += 1;
            }
            (Some(before), Some(after)) => {
                number(&mut out, skip * 8 + 1);
                let is_same = before.media == after.media;
                number(&mut out, if is_same { 0 } else { index(&after.media) + 1 });
                number(&mut out, after.size);
                out.extend(after.id);
                passed += 1;
            }
            (None, Some(after)) => {
                number(&mut out, skip * 8 + 2);
                let base = if rank == 0 { "" } else { &old[rank - 1].path };
                key(&mut out, base.max(inserted), path);
                number(&mut out, index(&after.media));
                number(&mut out, after.size);
                out.extend(after.id);
                inserted = path;
            }
        }
    }
    out
}

/// Applies a patch that [`encode_patch`] made to `old`.
pub(crate) fn apply_patch(old: &[File], patch: &[u8]) -> Vec<File> {
    let mut rest = &patch[1..];
    let media: Vec<String> = (0..read(&mut rest)).map(|_| text(&mut rest)).collect();
    let mut new: Vec<File> = Vec::new();
    let mut passed = 0;
    for _ in 0..read(&mut rest) {
        let op = read(&mut rest);
        let skip = (op / 8) as usize;
        new.extend_from_slice(&old[passed..passed + skip]);
        passed += skip;
        let kind = op % 8;
        if kind == 0 {
            passed += 1;
        } else if kind == 1 {
            let before = &old[passed];
            passed += 1;
            let media = match read(&mut rest) {
                0 => before.media.clone(),
                index => media[index as usize - 1].clone(),
            };
            new.push(file(before.path.clone(), media, &mut rest));
        } else {
            let base = if passed == 0 {
                ""
            } else {
                &old[passed - 1].path
            };
            // The last file may be a base row that the patch kept or changed, and is never greater.
            let inserted = new.last().map_or("", |file| &file.path);
            let neighbour = base.max(inserted);
            let shared = read(&mut rest) as usize;
            let tail = bytes(&mut rest);
            let path = [&neighbour.as_bytes()[..shared], tail].concat();
            let path = String::from_utf8(path).expect("paths are UTF-8");
            let index = read(&mut rest) as usize;
            new.push(file(path, media[index].clone(), &mut rest));
        }
    }
    new.extend_from_slice(&old[passed..]);
    new
}

fn file(path: String, media: String, rest: &mut &[u8]) -> File {
    let size = read(rest);
    let (front, back) = rest.split_at(32);
    *rest = back;
    let mut id = [0; 32];
    id.copy_from_slice(front);
    File {
        path,
        id,
        size,
        media,
    }
}

fn read(rest: &mut &[u8]) -> u64 {
    let first = rest[0];
    *rest = &rest[1..];
    if first < 128 {
        u64::from(first)
    } else {
        u64::from(first - 128) + 128 * read(rest)
    }
}

fn bytes<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let len = read(rest) as usize;
    let (front, back) = rest.split_at(len);
    *rest = back;
    front
}

fn text(rest: &mut &[u8]) -> String {
    String::from_utf8(bytes(rest).to_vec()).expect("media types are ASCII")
}
