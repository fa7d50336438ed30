//! Limits of streams, each with its reason. Those that sites share are in `pmx_core::limits`.
//!
//! Input is compared with its limit before memory is allocated for it. An error about a limit names
//! it.

use std::time::Duration;

/// Bytes of the name of a stream: it is part of an address, and of the name of its Durable Object.
pub const STREAM_NAME_BYTES_MAX: usize = 1_024;

/// Bytes of one append to a stream. An isolate has 128 MB; a body is in memory up to three times.
pub const STREAM_APPEND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a stored part of an append: a Durable Object has at most 2 MB in a value.
pub const STREAM_CHUNK_BYTES: usize = 1024 * 1024;

/// Bytes that the hot log of a stream holds before the older ones become a segment.
pub const STREAM_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of the frames of one segment. An append of 16 MiB can be 8 million JSON messages of a
/// byte, which makes 40 MiB of frames. Readers never read a whole segment at once.
pub const STREAM_OBJECT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of a block of a segment, unless a single message is longer: what is read and hashed at
/// least, to read anything of it.
pub const STREAM_BLOCK_BYTES: u64 = 64 * 1024;

/// Messages that the hot log holds before the older ones become a segment: what one catch-up reads
/// row by row.
pub const STREAM_SEGMENT_MESSAGES: u64 = 16 * 1024;

/// Bytes of one answer to a reader, unless a single message is longer.
pub const STREAM_READ_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a producer's id, of `Stream-Seq`, of a cursor.
pub const STREAM_TOKEN_BYTES_MAX: usize = 512;

/// Lifecycle events of one stream name in one report: usually there is one.
pub const STREAM_LIFECYCLE_EVENTS_MAX: usize = 100;

/// Streams that the hub asks to report their tails before it answers a subscription. A request of a
/// Worker may send a thousand requests to others; the alarm asks the rest.
pub const HUB_FOLLOWS_MAX: usize = 200;

/// Entries that one append adds to the registry: far less than a body may have.
pub const REGISTRY_BATCH_MAX: usize = 100;

/// Subscriptions of a server: the pattern of each is matched against each new stream name.
pub const SUBSCRIPTIONS_MAX: usize = 1_000;

/// Streams of a subscription: each is a row, and all of them are listed when it is shown.
pub const SUBSCRIPTION_STREAMS_MAX: usize = 10_000;

/// Bytes of a request about subscriptions: its streams, at a hundred bytes each.
pub const SUBSCRIPTION_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the id of a subscription: a segment of an address, escaped at most threefold.
pub const SUBSCRIPTION_ID_BYTES_MAX: usize = 256;

/// Bytes of the name of a worker and of the description of a subscription.
pub const SUBSCRIPTION_TEXT_BYTES_MAX: usize = 4_096;

/// Bytes of the address at which a server's streams are reached.
pub const SUBSCRIPTION_ROOT_BYTES_MAX: usize = 1_024;

/// Bytes of the address of a webhook.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2_048;

/// Bytes that are read of a webhook's response, which can only report that the work is done.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long a webhook may take to answer, unless its lease ends before.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for a retry after a failed delivery.
pub const WEBHOOK_AGAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Webhooks in flight of the Worker's hub: of the six connections that the platform lets wait for a
/// response, two are left for other requests.
pub const HUB_WEBHOOKS_MAX: usize = 4;

/// Those of them that are retries after a failed delivery: hosts that hang leave one connection to
/// the others.
pub const HUB_WEBHOOKS_AGAIN_MAX: usize = 3;

/// Calls between objects that lead to the Worker's hub before it leaves its effects to the alarm,
/// which begins a new chain. Each copied stream adds three, and the platform ends a chain after
/// sixteen.
pub const HUB_DEPTH_MAX: usize = 5;

/// Streams in one wake: those with pending work come first, and the next wake has the rest. With
/// the longest names they fill a value of 1 MB.
pub const WAKE_STREAMS_MAX: usize = 1_000;

/// Bytes of envelopes that complete a fan-out batch: an isolate has a few of them in memory, as
/// text and in decoded form.
pub const FAN_OUT_BYTES: usize = 1024 * 1024;

/// Bytes of a message that a fan-out copies: of a longer one, it copies only the offset and the
/// length.
pub const FAN_OUT_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Effects of one transaction.
pub const WAKE_EFFECTS_MAX: usize = 64;

/// The shortest lease: the protocol's.
pub const WAKE_LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest lease: the protocol's.
pub const WAKE_LEASE_MAX: Duration = Duration::from_mins(10);

/// The lease of a subscription that names none: the protocol's.
pub const WAKE_LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// The first delay after a failed delivery: the protocol's.
pub const WAKE_RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest such delay: the protocol's.
pub const WAKE_RETRY_MAX: Duration = Duration::from_mins(1);

/// Lifetime of a worker's token: far longer than a lease, because a worker may keep reporting. The
/// token ends with its wake in any case.
pub const WAKE_TOKEN_SECONDS: u64 = 24 * 60 * 60;

/// Bytes of a stream token: the longest name of a stream in base64, and the other claims.
pub const STREAM_JWT_BYTES_MAX: usize = 2_048;

/// Bytes of a key of stream tokens: as many as the hash has (RFC 7518, section 3.2). The holder of
/// a token could guess a shorter key.
pub const STREAM_JWT_KEY_BYTES_MIN: usize = 32;

/// Keys of stream tokens: two while one replaces the other. A wrong token costs a hash with each.
pub const STREAM_JWT_KEYS_MAX: usize = 8;

/// Allowed difference between the clocks of an issuer of tokens and of the server.
pub const STREAM_JWT_LEEWAY: Duration = Duration::from_secs(30);

/// Lifetime of a stream token: only the removal of its key revokes it.
pub const STREAM_JWT_TIME_MAX: Duration = Duration::from_hours(366 * 24);

/// Patterns of public streams: each read without a token is matched against all.
pub const STREAM_PUBLIC_PATTERNS_MAX: usize = 100;

/// Buckets of clients and streams in each of two generations: the older generation is dropped when
/// the newer one is full. A bucket has about 100 bytes.
pub const STREAM_RATE_BUCKETS_MAX: usize = 16 * 1024;

/// Largest burst of a rate, and most requests in its unit of time.
pub const STREAM_RATE_BURST_MAX: u64 = 1_000_000;

/// Smallest page that is compressed: less fits into one packet anyway.
pub const STREAM_GZIP_BYTES_MIN: usize = 1_024;

/// Largest page that is compressed: it is compressed in memory, at about 100 MB/s.
pub const STREAM_GZIP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Streams in one page of the list: each is looked up.
pub const STREAM_LISTED_MAX: usize = 1_000;
