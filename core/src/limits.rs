//! Limits that all crates share, each with its reason.
//!
//! Whatever comes from outside is compared with its bound before anything is allocated for it.
//! Exceeding a bound is an error that names the bound.

/// Numbers that cross JavaScript (Durable Object SQLite, JSON) are exact below 2^53.
pub const EXACT_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Raw bytes of a part of a big blob, and the largest blob that travels in a pack. A power of two
/// of BLAKE3 chunks, so that a part is a whole subtree of the blob's hash tree.
pub const PART_BYTES: u64 = 8 * 1024 * 1024;

/// Raw bytes of a pack: at least one largest packed blob. An isolate has 128 MB, and raw bytes,
/// wire bytes and stored frames are in memory at once.
pub const PACK_RAW_BYTES_MAX: u64 = PART_BYTES;

/// log2 of the largest zstd window we decode from the wire: a pack plus its prefix.
pub const WIRE_WINDOW_LOG_MAX: u32 = 24;

/// log2 of the largest zstd window of stored frames: 8 MiB, what RFC 9659 lets browsers insist on.
pub const REST_WINDOW_LOG_MAX: u32 = 23;

/// Raw bytes of a patch, an outline or nodes in one request, after decompression.
pub const SECTION_RAW_BYTES_MAX: usize = 48 * 1024 * 1024;

/// Nodes of a manifest that is sent as an outline: four times what 2,000,000 files make at 64 rows
/// a node. Each is looked up in one turn of the space.
pub const OUTLINE_NODES_MAX: usize = 128 * 1024;

/// Bytes of the name of a space: a DNS label. An alias of it needs room in the same label.
pub const SPACE_NAME_BYTES_MAX: usize = 63;

/// Bytes of the name of an alias.
pub const ALIAS_NAME_BYTES_MAX: usize = 37;

/// Bytes of a DNS label (RFC 1035, section 2.3.4).
pub const DNS_LABEL_BYTES_MAX: usize = 63;

/// Bytes of a host name without its port (RFC 1035, section 2.3.4, as text).
pub const HOST_BYTES_MAX: usize = 253;

/// ETags read from one If-None-Match list.
pub const ETAGS_MAX: usize = 64;

/// Bytes of a request's query. It is only ever repeated in a redirect; with the path it stays under
/// the 16 KB that Cloudflare allows for a URL.
pub const URL_QUERY_BYTES_MAX: usize = 8_192;

/// Bytes of a bearer token.
pub const TOKEN_BYTES_MAX: usize = 512;

const _: () = assert!(PART_BYTES.is_power_of_two());
const _: () = assert!(PACK_RAW_BYTES_MAX >= PART_BYTES);
