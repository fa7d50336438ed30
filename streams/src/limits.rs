//! Limits of streams, each with its reason. Those that sites have too are in `pmx_core::limits`.
//!
//! Whatever comes from outside is compared with its bound before anything is allocated for it.
//! Exceeding a bound is an error that names the bound.

use std::time::Duration;

/// Bytes of the name of a stream: it is part of an address, and of the name of its Durable Object.
pub const STREAM_NAME_BYTES_MAX: usize = 1_024;

/// Bytes of one append to a stream. An isolate has 128 MB; a body is in memory up to three times.
pub const STREAM_APPEND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a part of an append at rest: a Durable Object holds at most 2 MB in a value.
pub const STREAM_CHUNK_BYTES: usize = 1024 * 1024;

/// Bytes that the hot log of a stream holds before the older ones become a segment.
pub const STREAM_SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of the frames of one segment. An append of 16 MiB can be 8 million JSON messages of a
/// byte, which makes 40 MiB of frames; readers never read a whole segment at once.
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

/// Beginnings and ends of streams of one name that are told at once: usually there is one.
pub const STREAM_LIFECYCLE_EVENTS_MAX: usize = 100;

/// Streams that are asked, before a subscription is answered, to tell from now on how far they
/// are. A Worker's request may ask a thousand things of others; the rest is asked by the alarm.
pub const HUB_FOLLOWS_MAX: usize = 200;

/// Entries that one append adds to the registry: far less than a body may have.
pub const REGISTRY_BATCH_MAX: usize = 100;

/// Subscriptions of a server: each that has a pattern is asked about each new name of a stream.
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

/// Bytes of a webhook's answer that are read: all it can say is that it is done.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long a webhook may take to answer, unless its lease ends before.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for a worker that could not be woken the last time.
pub const WEBHOOK_AGAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Webhooks that the Worker's hub has under way at once: of the six connections that the platform
/// lets wait for an answer, two are left for the rest.
pub const HUB_WEBHOOKS_MAX: usize = 4;

/// Those of them that go to workers that could not be woken the last time: hosts that hang leave
/// room for one that lives.
pub const HUB_WEBHOOKS_AGAIN_MAX: usize = 3;

/// Calls of objects that lead to the Worker's hub before what follows is left to its alarm, which
/// begins anew. Each stream that is copied into another adds three, and the platform ends a chain
/// after sixteen.
pub const HUB_DEPTH_MAX: usize = 5;

/// Streams that one wake names: what has work comes first, and the next wake names the rest. With
/// the longest names they fill a value of 1 MB.
pub const WAKE_STREAMS_MAX: usize = 1_000;

/// Bytes of envelopes from which on a batch that is copied to another stream takes no more: a
/// few of them are in an isolate's memory at once, as text and as what the text becomes.
pub const FAN_OUT_BYTES: usize = 1024 * 1024;

/// Bytes of a message that is copied: of a longer one, only where it is and how long.
pub const FAN_OUT_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Workers that are woken in one turn.
pub const WAKE_EFFECTS_MAX: usize = 64;

/// The shortest lease: the protocol's.
pub const WAKE_LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest lease: the protocol's.
pub const WAKE_LEASE_MAX: Duration = Duration::from_mins(10);

/// The lease of a subscription that names none: the protocol's.
pub const WAKE_LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// The first wait after a worker could not be woken: the protocol's.
pub const WAKE_RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest such wait: the protocol's.
pub const WAKE_RETRY_MAX: Duration = Duration::from_mins(1);

/// How long a worker's token is good: far longer than a lease, because a worker that keeps
/// reporting may go on. It ends with its wake anyway.
pub const WAKE_TOKEN_SECONDS: u64 = 24 * 60 * 60;

/// Bytes of a token that opens some streams: the longest name of a stream in base64, and the rest.
pub const STREAM_JWT_BYTES_MAX: usize = 2_048;

/// Bytes of a key of such tokens: as many as the hash has (RFC 7518, section 3.2), or a client that
/// holds a token can guess the key.
pub const STREAM_JWT_KEY_BYTES_MIN: usize = 32;

/// Keys of such tokens at once: two while one replaces the other. A wrong token is tried with each.
pub const STREAM_JWT_KEYS_MAX: usize = 8;

/// How far the clocks of a client that makes a token and of the server may differ.
pub const STREAM_JWT_LEEWAY: Duration = Duration::from_secs(30);

/// How long a token counts: none can be called back but by taking its key away.
pub const STREAM_JWT_TIME_MAX: Duration = Duration::from_hours(366 * 24);

/// Patterns of streams that everybody may read: each read without a token is compared with all.
pub const STREAM_PUBLIC_PATTERNS_MAX: usize = 100;

/// Clients and streams whose rates are counted at once, twice: a client that was not heard of while
/// so many others were begins anew. A count has about 100 bytes.
pub const STREAM_RATE_BUCKETS_MAX: usize = 16 * 1024;

/// Requests at once that a rate may allow, and requests in its unit of time.
pub const STREAM_RATE_BURST_MAX: u64 = 1_000_000;

/// Bytes of a page from which on it goes in gzip: less fits into one packet anyway.
pub const STREAM_GZIP_BYTES_MIN: usize = 1_024;

/// Bytes of a page up to which it goes in gzip: it is made in memory, at 100 MB/s or so.
pub const STREAM_GZIP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Streams in one answer that lists them: each is looked at.
pub const STREAM_LISTED_MAX: usize = 1_000;
