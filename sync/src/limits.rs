//! Limits of sites, each with its reason. Those that streams have too are in `pmx_core::limits`.
//!
//! Whatever comes from outside is compared with its bound before anything is allocated for it.
//! Exceeding a bound is an error that names the bound.

use std::time::Duration;

use pmx_core::limits::{
    EXACT_INTEGER_MAX, HOST_BYTES_MAX, PACK_RAW_BYTES_MAX, PART_BYTES, WIRE_WINDOW_LOG_MAX,
};

/// Bytes of a site path. R2 keys allow 1,024, and so do most file systems' whole paths in practice.
pub const PATH_BYTES_MAX: usize = 1_024;

/// Bytes of one segment of a path: the longest name that ext4, APFS and NTFS can store.
pub const SEGMENT_BYTES_MAX: usize = 255;

/// Segments of a path. A 100-level folder must work; twice a sane depth is enough.
pub const PATH_DEPTH_MAX: usize = 128;

/// Bytes of a media type with its parameters. RFC 6838 allows 127 + 1 + 127 for the names alone,
/// and nothing in use comes near half of that.
pub const MEDIA_BYTES_MAX: usize = 128;

/// Rows of a manifest node. Boundaries come every 64 rows on average. A run of 512 without one has
/// a probability of 0.03 %, and 512 rows of the longest paths stay under `NODE_BYTES_MAX`.
pub const NODE_ROWS_MAX: usize = 512;

/// Bytes of a manifest node: 512 rows of at most 1,100 bytes and 512 media types of 128 bytes. A
/// Durable Object allows 2 MB for one value, far more than that.
pub const NODE_BYTES_MAX: usize = 640 * 1024;

/// Levels of a manifest above its leaves. Six bits of a key's hash decide each level, so honest
/// paths reach 4 at ten million files, and a ground one cannot pass 10.
pub const LEVELS_MAX: u8 = 10;

/// Files of one site: twenty times what the hosts we are compared with allow. A first publish of so
/// many took 1.2 GB of the server's memory and 1.6 GB of the client's.
pub const FILES_MAX: u64 = 2_000_000;

/// Bytes of one blob: 2,048 parts. Above it the table of parts would pass the size of a row.
pub const BLOB_BYTES_MAX: u64 = 2_048 * PART_BYTES;

/// Blobs of a pack: 8 MiB of blobs of 256 bytes. Bounds the table of contents.
pub const PACK_BLOBS_MAX: usize = 32 * 1024;

/// Raw bytes that a sender puts into a pack behind a base: half a pack, because both sides hold its
/// prefix as well.
pub const REFERENCING_PACK_RAW_BYTES: u64 = 4 * 1024 * 1024;

/// Packs whose blobs a patch counts: a whole site's, if they are as full as they can be.
pub const PACKS_NAMED_MAX: usize = 8 * 1024;

/// Files of one site on the Worker: a commit of more does not fit the 128 MB of an isolate. The
/// module's memory was 47 MB after a first publish of 80,000 files, and 96 MB after the next one
/// changed all of them. Of 100,000 files it was 63 MB and 113 MB.
pub const ISOLATE_FILES_MAX: u64 = 80_000;

/// Losses that readers marked and no publish has taken in. A publish looks for whole objects, so
/// it finds what more marks would say.
pub const LOSSES_MAX: u64 = 1_000;

/// Groups of objects of a verification that reads some of the data: one a day for five years.
pub const VERIFY_GROUPS_MAX: u64 = 2_000;

/// Objects that a publish looks for where readers found one gone: an isolate may make a thousand
/// subrequests.
pub const PROBES_MAX: usize = 500;

/// Nodes of other deploys whose index nodes a commit writes anew, because content they share was
/// lost and came again. A later commit writes the others.
pub const REPAIRED_NODES_MAX: usize = 4_096;

/// Packs that arrived, are in no deploy, and keep a table of contents that a publish reads. More
/// are folded into buckets.
pub const PENDING_PACKS_MAX: u64 = 32;

/// Bytes of those tables together: 65,536 blobs.
pub const PENDING_TOC_BYTES_MAX: u64 = 65_536 * 40;

/// Blobs of a bucket of those that arrived, beyond its share of the files that the platform commits
/// at once and an eighth of that. Ids fall into 256 buckets by chance. With 2,000,000 files a
/// bucket is a row of at most 0.7 MB, with 80,000 one of 44 KB.
pub const ARRIVED_BUCKET_SPARE_BLOBS: usize = 256;

/// Packs that a server says have arrived: 4 GiB of them. More come again.
pub const ARRIVED_PACKS_NAMED_MAX: u64 = 1_024;

/// Parts that a server says have arrived, of blobs that are not whole: 128 GiB of them. More come
/// again.
pub const PARTS_NAMED_MAX: u64 = 16 * 1024;

/// Rows of the base that a pack refers to: those of as many blobs as a pack has.
pub const PREFIX_ROWS_MAX: usize = PACK_BLOBS_MAX;

/// Raw bytes of the reference prefix of a pack: with the pack's own it fits the largest window, and
/// an isolate's memory beside it.
pub const PREFIX_RAW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Reads that putting a prefix together may take, of the thousand subrequests of an isolate. A base
/// in more pieces is slower to read than a pack without it is to send.
pub const PREFIX_READS_MAX: usize = 128;

/// Runs that a part of a big blob copies: those of 8 MiB in pieces of 2 KiB.
pub const COPIES_MAX: usize = 4 * 1024;

/// Parts of a blob of the base that one part copies from. Each is read and decoded, one after the
/// other; a part that was shifted has two, and a part into which something moved a third.
pub const COPIED_PARTS_MAX: usize = 3;

/// Bytes of a request body: a full pack that zstd could not shrink, its table and its head.
pub const BODY_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Bytes of the JSON head of an envelope.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Deploys that one commit of a restore records: a few dozen fit the head of its envelope.
pub const RESTORED_AT_ONCE_MAX: usize = 64;

/// The first deploy number of a restored space: a larger one would leave no room for the next ones.
pub const RESTORED_NUMBER_MAX: u64 = 1 << 48;

/// Files of a site that is published as JSON. Its list travels twice, and each new file takes a
/// request. A larger site is one for `pmx`.
pub const JSON_FILES_MAX: usize = 20_000;

/// Bytes of the JSON of such a list: `JSON_FILES_MAX` entries of 400 bytes. The text, its rows and
/// their nodes are in an isolate's memory at once.
pub const JSON_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Publishes that a space remembers from their `begin` to their `commit`, each some 100 bytes.
pub const BEGUN_MAX: usize = 32;

/// Raw bytes of a patch that a client sends, and of a section that the Worker takes. There it is in
/// memory twice, beside a pack: in the isolate of the request and in that of the space. A client
/// sends a larger change as nodes.
pub const PATCH_RAW_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Raw bytes of manifest nodes in one request, so that several requests carry a large site.
pub const NODES_BATCH_RAW_BYTES: usize = 4 * 1024 * 1024;

/// Raw bytes of the changes that travel in the same request as their commit.
pub const SMALL_PUBLISH_RAW_BYTES: u64 = 1024 * 1024;

/// Missing objects that an error lists.
pub const MISSING_LISTED_MAX: usize = 100;

/// Bytes of a deploy's message.
pub const MESSAGE_BYTES_MAX: usize = 4_096;

/// Bytes of one value of a deploy's meta (commit, branch, author).
pub const META_VALUE_BYTES_MAX: usize = 512;

/// Bytes of the name of a sequence of builds: a provider, a repository and the path of a workflow.
/// A client shortens a longer one by its hash.
pub const ORDER_KIND_BYTES_MAX: usize = 200;

/// Bytes of a person's words that an error about another deploy quotes.
pub const QUOTED_BYTES_MAX: usize = 80;

/// Aliases of a space at once. Each is a row and a pointer, and the history lists all of them;
/// those of merged branches are to be taken away.
pub const ALIASES_MAX: u64 = 1_000;

/// Domains of a space at once: its apex, `www`, and one for each language or customer. Each is
/// looked up daily, at the operator's resolver.
pub const DOMAINS_OF_SPACE_MAX: u64 = 50;

/// Domains of a server at once: one object looks all of them up each day, sixteen a turn, and the
/// embedded host keeps their routes in memory, at about 200 bytes each.
pub const DOMAINS_MAX: u64 = 10_000;

/// Bytes of a custom host: its record `_pmx.<host>` is a host name as well.
pub const CUSTOM_HOST_BYTES_MAX: usize = HOST_BYTES_MAX - 5;

/// Bytes of a DNS message over HTTPS (RFC 8484, section 6).
pub const DNS_MESSAGE_BYTES_MAX: usize = 65_535;

/// Longest time that a preview with an end may stay: a year, so that a slip of the unit shows. A
/// preview without an end stays until its removal.
pub const PREVIEW_TIME_MAX: Duration = Duration::from_hours(365 * 24);

/// Names of spaces in one page: each costs a read of its pointer, and a Worker may make a thousand
/// requests for one.
pub const SPACES_PAGE_MAX: usize = 200;

/// Objects of a removed space that one step deletes: what R2 takes in one request.
pub const PURGED_AT_ONCE_MAX: usize = 1_000;

/// Deploys listed in one page of the history.
pub const DEPLOYS_PAGE_MAX: u64 = 1_000;

/// Manifest nodes that one request asks for: their ids fit the line of a request, which proxies
/// bound at 8 KiB.
pub const NODES_ASKED_MAX: usize = 64;

/// Raw bytes of the nodes of one answer: beyond them the client asks again. They cross between two
/// isolates of 128 MB as text.
pub const NODES_ANSWERED_BYTES: usize = 1024 * 1024;

/// Paths listed by one diff request.
pub const DIFF_ROWS_MAX: usize = 10_000;

/// Paths that one event names; above it the event is marked as truncated. A thousand of the usual
/// length are about 100 KB, and an open page reacts to none of them one by one.
pub const EVENT_PATHS_MAX: usize = 1_000;

/// Paths that are looked through for the open pages they concern, where a deploy changed more than
/// an event names. They are in memory for one turn, at a few hundred bytes each.
pub const LIVE_PATHS_MAX: usize = 20_000;

/// Bytes of what a page says over its socket: its address and those it uses.
pub const LIVE_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Addresses that one page uses. They are kept in the socket's attachment, of which a Durable
/// Object allows 16 KiB.
pub const LIVE_USES_MAX: usize = 512;

/// Messages that a socket may send within `LIVE_MESSAGES_TIME`: a page says once what it wants, and
/// again when it has loaded more.
pub const LIVE_MESSAGES_MAX: u32 = 30;

/// See `LIVE_MESSAGES_MAX`.
pub const LIVE_MESSAGES_TIME: Duration = Duration::from_secs(10);

/// Sockets of one site: a Durable Object takes 32,768.
pub const LIVE_SOCKETS_MAX: usize = 32_000;

/// Bytes of a page that is in memory whole when the live script is put in. Of a larger one only the
/// beginning is; the rest follows in pieces.
pub const LIVE_PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of the beginning of such a page, in which its head must start. The script's place is
/// there, or else the page gets no script.
pub const LIVE_OPENING_BYTES: u64 = 64 * 1024;

/// Bytes of what is kept as a dictionary, or sent by its difference to one: below this there is
/// little to gain.
pub const DICTIONARY_BYTES_MIN: u64 = 1024;

/// See `DICTIONARY_BYTES_MIN`. Above this the processor time of a difference (two frames decoded,
/// one hashed, one encoded) is more than a request may take on the Worker.
pub const DICTIONARY_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of the name that a browser repeats for what it kept (RFC 9842, section 2.1.3).
pub const DICTIONARY_ID_BYTES_MAX: usize = 1024;

/// Deploys before the active one whose assets still resolve.
pub const ASSET_RETENTION_DEPLOYS: usize = 10;

/// Bytes of a blob that are looked at to say whether it is UTF-8: one part, which is decoded and in
/// memory at once anyway. A longer text is what its first part is.
pub const NATURE_BYTES_MAX: u64 = PART_BYTES;

/// Deploy tokens read from one request: a client has one, and each takes a hash.
pub const DEPLOY_TOKENS_READ_MAX: usize = 16;

/// Anonymous questions that a process or isolate asks a space in a second, once it has asked
/// `QUESTIONS_BURST`. A space's single writer answers about a hundred times as many.
pub const QUESTIONS_PER_SECOND: u64 = 40;

/// Anonymous questions to a space at once; see `QUESTIONS_PER_SECOND`.
pub const QUESTIONS_BURST: u64 = 40;

/// Spaces whose questions are counted at once, at about a hundred bytes each. A space that is
/// forgotten gets a full budget.
pub const QUESTION_BUCKETS_MAX: usize = 4_096;

/// Bytes of a request path before decoding.
pub const URL_PATH_BYTES_MAX: usize = 4_096;

const _: () = assert!(NODE_ROWS_MAX * (PATH_BYTES_MAX + 64 + MEDIA_BYTES_MAX) <= NODE_BYTES_MAX);
const _: () = assert!(BLOB_BYTES_MAX < EXACT_INTEGER_MAX);
const _: () = assert!(PACK_RAW_BYTES_MAX + PREFIX_RAW_BYTES_MAX <= 1 << WIRE_WINDOW_LOG_MAX);

/// Bytes of a rule file that people write: more than anybody maintains by hand.
pub const RULE_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of `_pmx/rules.json`, which build tools write: routes and policies of 10,000 artifacts
/// take 1.2 MB, and the compiled rules of a site must fit an isolate beside everything else.
pub const GENERATED_RULES_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of memory of the compiled rules of one site: the largest files that people and tools
/// write, and a fifth of an isolate.
pub const RULES_MEMORY_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Rules of `_redirects`: fifty times what Cloudflare takes of those with a wildcard, and what a
/// site of twenty years collects.
pub const REDIRECT_RULES_MAX: usize = 5_000;

/// Bytes of one line of a rule file: a URL that browsers and proxies pass on, and its status.
pub const RULE_LINE_BYTES_MAX: usize = 4_000;

/// Paths of `_headers`.
pub const HEADER_BLOCKS_MAX: usize = 1_000;

/// Bytes of the headers that rules add to one response. Proxies take 16 KiB in all by default, and
/// the server and they need some themselves.
pub const HEADER_RULE_BYTES_MAX: usize = 8 * 1024;

/// Media types of `_site.toml`: more extensions than the server knows itself.
pub const MEDIA_RULES_MAX: usize = 1_000;

/// Most deploys or days that a rule of a retention policy counts: more than any site has.
pub const RETENTION_COUNT_MAX: u64 = 1_000_000;

/// The longest time of a retention policy, in seconds: a hundred years. With a longer one, sums of
/// times could overflow.
pub const RETENTION_SECONDS_MAX: u64 = 100 * 366 * 86_400;
