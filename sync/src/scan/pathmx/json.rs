//! JSON files of a build: bounded reads, and objects whose repeated members are seen.

use std::fmt;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::super::error::{ScanFault, shown};
use crate::text;

/// Most bytes of a JSON file of the build output: two million paths of a hundred bytes.
const JSON_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The file that lists the Paths of today's builds.
pub(super) const PATHS_FILE: &str = "paths.json";

/// The version of today's lists.
const VERSION: u64 = 1;

/// The bytes of a regular file, within the limit.
#[allow(clippy::disallowed_methods)] // scan is the part of this crate that reads files
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO would block, so this opens only regular files.
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > JSON_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Parses the bytes of a file.
pub(super) fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ScanFault> {
    serde_json::from_slice(text::without_mark(bytes)).map_err(|error| {
        let fault = format!("can't be understood: {error}");
        ScanFault::BuildIncomplete {
            path: shown(path),
            fault,
        }
    })
}

#[derive(Deserialize)]
struct Versioned {
    #[serde(default)]
    version: serde_json::Value,
}

/// Parses a list of today's builds, if its version is known.
pub(super) fn parse_list<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, ScanFault> {
    let Versioned { version } = parse(path, bytes)?;
    if version.as_u64() == Some(VERSION) {
        return parse(path, bytes);
    }
    let version = shown(&version.to_string());
    Err(invalid(
        path,
        format!("is of version {version}; this pmx reads version {VERSION}"),
    ))
}

/// The fault of a build whose lists can't be published.
pub(super) fn invalid(path: &str, fault: String) -> ScanFault {
    ScanFault::BuildInvalid {
        path: shown(path),
        fault,
    }
}

/// The members of a JSON object in their order, with those whose names repeat.
#[derive(Debug)]
pub(super) struct Members<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Object<V> {
            type Value = Members<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}
