//! Design pages agree with the code: limits, contexts and examples of `sync/DESIGN.md` and
//! `streams/DESIGN.md`, and the tests that the first page names.

use std::fs;
use std::time::Duration;

use super::conversation::example;
use super::vectors::is_blessing;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const DESIGN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sync/DESIGN.md");
const STREAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../streams/DESIGN.md");

fn source(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A limit as a number: a duration in milliseconds.
trait Shown {
    fn shown(self) -> u64;
}

impl Shown for usize {
    fn shown(self) -> u64 {
        self as u64
    }
}

impl Shown for u64 {
    fn shown(self) -> u64 {
        self
    }
}

impl Shown for u32 {
    fn shown(self) -> u64 {
        self.into()
    }
}

impl Shown for u8 {
    fn shown(self) -> u64 {
        self.into()
    }
}

impl Shown for Duration {
    fn shown(self) -> u64 {
        self.as_millis() as u64
    }
}

macro_rules! limits {
    ($($name:ident)*) => {
        vec![$((stringify!($name), $name.shown()),)*]
    };
}

/// The limits of sites, and those that streams share with them.
fn limits_of_sites() -> Vec<(&'static str, u64)> {
    use pmx_core::limits::*;
    use pmx_sync::limits::*;

    limits! {
        PATH_BYTES_MAX SEGMENT_BYTES_MAX PATH_DEPTH_MAX MEDIA_BYTES_MAX NODE_ROWS_MAX NODE_BYTES_MAX
        LEVELS_MAX FILES_MAX EXACT_INTEGER_MAX PART_BYTES BLOB_BYTES_MAX PACK_RAW_BYTES_MAX
        PACK_BLOBS_MAX REFERENCING_PACK_RAW_BYTES PACKS_NAMED_MAX ISOLATE_FILES_MAX LOSSES_MAX
        PROBES_MAX VERIFY_GROUPS_MAX
        REPAIRED_NODES_MAX PENDING_PACKS_MAX PENDING_TOC_BYTES_MAX ARRIVED_BUCKET_SPARE_BLOBS
        ARRIVED_PACKS_NAMED_MAX PARTS_NAMED_MAX PREFIX_ROWS_MAX PREFIX_RAW_BYTES_MAX
        PREFIX_READS_MAX COPIES_MAX COPIED_PARTS_MAX WIRE_WINDOW_LOG_MAX REST_WINDOW_LOG_MAX
        BODY_BYTES_MAX HEAD_BYTES_MAX JSON_FILES_MAX JSON_BYTES_MAX BEGUN_MAX
        RESTORED_AT_ONCE_MAX RESTORED_NUMBER_MAX SECTION_RAW_BYTES_MAX
        RULE_FILE_BYTES_MAX GENERATED_RULES_BYTES_MAX RULES_MEMORY_BYTES_MAX REDIRECT_RULES_MAX
        RULE_LINE_BYTES_MAX HEADER_BLOCKS_MAX HEADER_RULE_BYTES_MAX MEDIA_RULES_MAX
        PATCH_RAW_BYTES_MAX OUTLINE_NODES_MAX
        NODES_BATCH_RAW_BYTES SMALL_PUBLISH_RAW_BYTES MISSING_LISTED_MAX MESSAGE_BYTES_MAX
        META_VALUE_BYTES_MAX ORDER_KIND_BYTES_MAX QUOTED_BYTES_MAX SPACE_NAME_BYTES_MAX
        ALIAS_NAME_BYTES_MAX ALIASES_MAX DOMAINS_OF_SPACE_MAX DOMAINS_MAX CUSTOM_HOST_BYTES_MAX
        DNS_MESSAGE_BYTES_MAX PREVIEW_TIME_MAX DNS_LABEL_BYTES_MAX HOST_BYTES_MAX
        SPACES_PAGE_MAX PURGED_AT_ONCE_MAX RETENTION_COUNT_MAX RETENTION_SECONDS_MAX
        DEPLOYS_PAGE_MAX
        NODES_ASKED_MAX NODES_ANSWERED_BYTES DIFF_ROWS_MAX DICTIONARY_BYTES_MIN DICTIONARY_BYTES_MAX
        DICTIONARY_ID_BYTES_MAX ASSET_RETENTION_DEPLOYS NATURE_BYTES_MAX DEPLOY_TOKENS_READ_MAX
        QUESTIONS_PER_SECOND QUESTIONS_BURST QUESTION_BUCKETS_MAX ETAGS_MAX URL_PATH_BYTES_MAX
        URL_QUERY_BYTES_MAX TOKEN_BYTES_MAX EVENT_PATHS_MAX LIVE_PATHS_MAX LIVE_MESSAGE_BYTES_MAX
        LIVE_USES_MAX LIVE_MESSAGES_MAX LIVE_MESSAGES_TIME LIVE_SOCKETS_MAX LIVE_PAGE_BYTES_MAX
        LIVE_OPENING_BYTES
    }
}

/// The limits that only streams have.
fn limits_of_streams() -> Vec<(&'static str, u64)> {
    use pmx_streams::limits::*;

    limits! {
        STREAM_NAME_BYTES_MAX STREAM_APPEND_BYTES_MAX STREAM_CHUNK_BYTES STREAM_SEGMENT_BYTES
        STREAM_OBJECT_BYTES_MAX STREAM_BLOCK_BYTES STREAM_SEGMENT_MESSAGES STREAM_READ_BYTES
        STREAM_TOKEN_BYTES_MAX STREAM_LIFECYCLE_EVENTS_MAX HUB_FOLLOWS_MAX REGISTRY_BATCH_MAX
        SUBSCRIPTIONS_MAX
        SUBSCRIPTION_STREAMS_MAX SUBSCRIPTION_BODY_BYTES_MAX SUBSCRIPTION_ID_BYTES_MAX
        SUBSCRIPTION_TEXT_BYTES_MAX SUBSCRIPTION_ROOT_BYTES_MAX WEBHOOK_URL_BYTES_MAX
        WEBHOOK_ANSWER_BYTES_MAX WEBHOOK_TIMEOUT WEBHOOK_AGAIN_TIMEOUT HUB_WEBHOOKS_MAX
        HUB_WEBHOOKS_AGAIN_MAX HUB_DEPTH_MAX WAKE_STREAMS_MAX FAN_OUT_BYTES
        FAN_OUT_MESSAGE_BYTES_MAX WAKE_EFFECTS_MAX WAKE_LEASE_MIN WAKE_LEASE_MAX WAKE_LEASE_DEFAULT
        WAKE_RETRY_MIN WAKE_RETRY_MAX WAKE_TOKEN_SECONDS STREAM_JWT_BYTES_MAX
        STREAM_JWT_KEY_BYTES_MIN STREAM_JWT_KEYS_MAX STREAM_JWT_LEEWAY STREAM_JWT_TIME_MAX
        STREAM_PUBLIC_PATTERNS_MAX STREAM_RATE_BUCKETS_MAX STREAM_RATE_BURST_MAX
        STREAM_GZIP_BYTES_MIN STREAM_GZIP_BYTES_MAX STREAM_LISTED_MAX
    }
}

#[test]
fn design_limits_are_those_of_the_code() {
    let of_sites = ["core/src/limits.rs", "sync/src/limits.rs"].map(source);
    check_limits(DESIGN, &of_sites.concat(), &limits_of_sites());
    let of_streams = source("streams/src/limits.rs");
    check_limits(STREAMS, &of_streams, &limits_of_streams());
}

fn check_limits(page: &str, source: &str, limits: &[(&str, u64)]) {
    let named = source.lines().filter(|it| it.starts_with("pub const "));
    assert_eq!(
        named.count(),
        limits.len(),
        "{page}: a limit is missing in this test"
    );
    check_generated(page, |text| {
        assert!(
            text.contains("<!-- limits -->\n"),
            "{page} has no table of limits"
        );
        let table = |_: &str| table(source, limits);
        replaced(text, "<!-- limits -->\n", "<!-- /limits -->", table)
    });
}

/// The table of limits: name, value, and the comment above the constant.
fn table(source: &str, limits: &[(&str, u64)]) -> String {
    let mut out = String::from("| limit | value | why |\n|---|---|---|\n");
    for &(name, value) in limits {
        let (above, _) = source.split_once(&format!("pub const {name}:")).unwrap();
        let mut why: Vec<&str> = above
            .lines()
            .rev()
            .map_while(|line| line.strip_prefix("///"))
            .map(str::trim)
            .collect();
        why.reverse();
        let (value, why) = (grouped(value), why.join(" "));
        out.extend(["| `", name, "` | ", &value, " | ", &why, " |\n"]);
    }
    out
}

/// A number with commas between thousands.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[test]
fn design_examples_are_what_travels() {
    check_generated(DESIGN, |text| {
        let text = replaced(text, "<!-- example: ", "\n```\n", |before| {
            let (name, _) = before.split_once(" -->").unwrap();
            let json = example(name);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            let shown = wrapped(&json);
            assert_eq!(
                value,
                serde_json::from_str::<serde_json::Value>(&shown).unwrap()
            );
            format!("{name} -->\n```json\n{shown}")
        });
        assert!(
            text.matches("<!-- example: ").count() >= 5,
            "the examples are gone"
        );
        text
    });
}

/// Breaks a JSON text after commas, into lines of about 100 characters.
fn wrapped(json: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    let mut quoted = false;
    let mut piece = String::new();
    let mut before = ' ';
    for c in json.chars().chain([',']) {
        piece.push(c);
        quoted ^= c == '"' && before != '\\';
        before = c;
        if c == ',' && !quoted {
            if !line.is_empty() && line.len() + piece.len() > 100 {
                out += &line;
                out += "\n ";
                line.clear();
            }
            line += &piece;
            piece.clear();
        }
    }
    out += line.trim_end_matches(',');
    out
}

/// Compares the page with the generated one, or writes it with `PMX_BLESS=1`.
fn check_generated(page: &str, generate: impl Fn(&str) -> String) {
    // Two tests write the page, one after the other.
    static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = WRITING.lock();
    let text = fs::read_to_string(page).unwrap();
    let expected = generate(&text);
    if is_blessing() {
        fs::write(page, expected).unwrap();
    } else {
        for (line, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(line, expected, "{page} is not what PMX_BLESS=1 would write");
        }
        assert_eq!(text.len(), expected.len());
    }
}

/// `text`, where `make` replaces everything between each `start` and the next `end`.
fn replaced(text: &str, start: &str, end: &str, make: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(start) {
        let (inner, behind) = after
            .split_once(end)
            .expect("what begins in a page ends there");
        out += before;
        out += start;
        out += &make(inner);
        out += end;
        rest = behind;
    }
    out + rest
}

#[test]
fn design_contexts_are_those_of_the_code() {
    let text = fs::read_to_string(DESIGN).unwrap();
    let mut found = 0;
    for path in [
        "core/src/hash.rs",
        "sync/src/serve/nonce.rs",
        "sync/src/space/collect/compact/mod.rs",
    ] {
        let source = source(path);
        for quoted in source
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|q| q.starts_with("pmx-sync "))
        {
            assert!(
                text.contains(&format!("`{quoted}`")),
                "{quoted:?} of {path} is not described"
            );
            found += 1;
        }
    }
    assert_eq!(found, 8, "contexts and keys");
    for magic in ["PMXW", "PMXP", "PMXR", "PMXX"] {
        assert!(text.contains(magic), "{magic} is not described");
    }
}

#[test]
fn design_tests_exist() {
    let text = fs::read_to_string(DESIGN).unwrap();
    let (_, invariants) = text.split_once("## 15. Invariants").unwrap();
    let (invariants, _) = invariants.split_once("## 16.").unwrap();
    let mut file = String::new();
    let mut found = 0;
    for quoted in invariants.split('`').skip(1).step_by(2) {
        if quoted
            .rsplit_once('.')
            .is_some_and(|(_, extension)| extension == "rs")
        {
            file = source(quoted);
        } else if quoted.contains('_') && !quoted.contains(['.', ':']) {
            assert!(
                file.contains(&format!("fn {quoted}(")),
                "there is no test {quoted}"
            );
            found += 1;
        }
    }
    assert!(found > 25, "{found} tests are named");
}
