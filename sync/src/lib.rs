//! Site publishing and serving: manifests, packs, spaces and pages, as pure functions.
//!
//! A site is a [`manifest`]: a Merkle tree of its paths whose root names all of it. A client
//! [`scan`]s a folder into one, [`push`]es what the server lacks as [`pack`]s, and commits. A
//! server keeps a [`space`] for each site and [`serve`]s it. Open pages receive changes [`live`].
//! Nothing here reads a clock, opens a socket or knows an operating system, except [`scan`], which
//! reads files. Everything else takes bytes, values and `now`, and returns values. `DESIGN.md`
//! beside this crate has every format to the byte.
//!
//! Publishing a folder to a host in memory:
//!
//! ```
//! use std::{collections::BTreeMap, fs};
//!
//! use pmx_core::{name::SpaceName, time::Timestamp};
//! use pmx_sync::manifest::{NodeMap, build};
//! use pmx_sync::push::{Intent, PushOutcomeKind};
//! use pmx_sync::scan::{Options, scan};
//! use pmx_sync::testing::client::Client;
//! use pmx_sync::testing::host::{Host, block_on};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! fs::write(folder.path().join("index.html"), "<h1>Hello</h1>")?;
//!
//! let now = Timestamp::from_millis(0);
//! let scan = scan(folder.path(), &Options::default(), None, &(), now)?;
//! let mut blobs = BTreeMap::new();
//! for row in scan.rows() {
//!     blobs.insert(row.entry.blob, fs::read(scan.source(&row.path))?.into());
//! }
//! let site = build(scan.rows())?;
//! let mut nodes = NodeMap::default();
//! nodes.extend(site.nodes);
//!
//! let host = Host::new(pmx_tests::sql::Sqlite::new);
//! let space = SpaceName::parse("hello")?;
//! let intent = Intent::new(space.clone(), site.root, "first");
//! let client = Client { network: &host, space, nodes: &nodes, blobs: &blobs, tries: 1 };
//! let outcome = block_on(client.publish(intent))?;
//! assert_eq!(outcome.kind, PushOutcomeKind::Published);
//!
//! let page = host.get("http://hello.localhost/")?;
//! assert_eq!(page.body, "<h1>Hello</h1>");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod bounded_cache;
pub mod domains;
pub mod index;
pub mod limits;
pub mod live;
pub mod manifest;
pub mod media;
pub mod pack;
pub mod path;
pub mod pointer;
pub mod push;
pub mod rules;
#[cfg(feature = "scan")]
pub mod scan;
pub mod serve;
pub mod site;
pub mod space;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod wire;
