//! Prices in docs/cloudflare.md, recomputed from the price of each operation.

use std::fs;

/// Requests of a page view, each with one KV read: `costs.rs` counts them.
pub(crate) const VIEW_REQUESTS: u32 = 6;
pub(crate) const VIEW_KV_READS: u32 = 1;

/// The share of page views that are logged.
const LOG_SAMPLE: f64 = 0.01;

/// Most requests, and log lines, of a publish of one changed page.
const PUBLISH_REQUESTS: f64 = 4.0;

/// Seconds of a month.
const MONTH: f64 = 30.0 * 86_400.0;

/// Seconds of one answer to a reader of events.
const SESSION: f64 = 64.0;

/// GB of memory of an object.
const OBJECT_GB: f64 = 0.128;

/// Operations of a month, in millions.
#[derive(Default)]
struct Month {
    requests: f64,
    millis: f64,
    kv_reads: f64,
    r2_reads: f64,
    object_requests: f64,
    gb_seconds: f64,
    lines: f64,
}

/// A row of the table: name, unit, included amount, price of another million, and the amount.
type Row = (&'static str, &'static str, f64, f64, fn(&Month) -> f64);

const ROWS: [Row; 7] = [
    ("requests", "", 10.0, 0.30, |it| it.requests),
    ("processor time", " ms", 30.0, 0.02, |it| it.millis),
    ("KV reads", "", 10.0, 0.50, |it| it.kv_reads),
    ("R2 reads", "", 10.0, 0.36, |it| it.r2_reads),
    ("requests of objects", "", 1.0, 0.15, |it| {
        it.object_requests
    }),
    ("duration of objects", " GB-s", 0.4, 12.50, |it| {
        it.gb_seconds
    }),
    ("lines in the log", "", 20.0, 0.60, |it| it.lines),
];

fn views(millions: f64) -> Month {
    let requests = millions * f64::from(VIEW_REQUESTS);
    Month {
        requests,
        millis: requests * 2.0,
        kv_reads: millions * f64::from(VIEW_KV_READS),
        r2_reads: requests / 2.0,
        lines: requests * LOG_SAMPLE,
        ..Month::default()
    }
}

/// Publishes per day, and pages that stay open all day and reload after each.
fn published(mut month: Month, publishes: f64, open: f64) -> Month {
    let publishes = publishes * 30.0 / 1e6;
    let requests = publishes * PUBLISH_REQUESTS + publishes * open / 3.0;
    month.requests += requests;
    month.millis += requests * 2.0;
    month.object_requests += requests;
    month.lines += publishes * PUBLISH_REQUESTS;
    month
}

/// Readers that wait all month, on `objects` objects.
fn waiting(readers: f64, objects: f64) -> Month {
    let requests = readers * MONTH / SESSION / 1e6;
    Month {
        requests,
        millis: requests,
        object_requests: requests,
        gb_seconds: objects * MONTH * OBJECT_GB / 1e6,
        ..Month::default()
    }
}

fn months() -> [Month; 4] {
    [
        published(views(1.0), 100.0, 50.0),
        views(10.0),
        waiting(1_000.0, 1.0),
        waiting(100.0, 100.0),
    ]
}

fn price(row: &Row, month: &Month) -> f64 {
    let (_, _, included, each, amount) = row;
    (amount(month) - included).max(0.0) * each
}

fn cell(row: &Row, month: &Month) -> String {
    let amount = (row.4)(month);
    let price = price(row, month);
    match (amount < 0.05, price < 0.005) {
        (true, _) => "0".to_owned(),
        (false, true) => format!("{amount:.1} M{}: 0", row.1),
        (false, false) => format!("{amount:.1} M{}: ${price:.2}", row.1),
    }
}

fn sum(month: &Month) -> f64 {
    5.0 + ROWS.iter().map(|row| price(row, month)).sum::<f64>()
}

#[test]
fn price_example_is_computed() {
    let months = months();
    let line = |first: &str, cells: Vec<String>| format!("| {first} | {} |", cells.join(" | "));
    let mut lines: Vec<_> = ROWS
        .iter()
        .map(|row| line(row.0, months.iter().map(|it| cell(row, it)).collect()))
        .collect();
    let sums = months.iter().map(|it| format!("**${:.2}**", sum(it)));
    lines.push(line("**with the $5**", sums.collect()));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cloudflare.md");
    let page = fs::read_to_string(path).unwrap();
    for line in &lines {
        assert!(page.contains(line), "it should say\n{}", lines.join("\n"));
    }
}

/// A table row of waiting readers: streams, readers of each, hours per day.
fn waits(streams: u32, readers: u32, hours: u32) -> String {
    let share = f64::from(hours) / 24.0;
    let all = f64::from(streams) * f64::from(readers);
    let month = waiting(all * share, f64::from(streams) * share);
    let [requests, duration] = ["requests of objects", "duration of objects"].map(|name| {
        let row = ROWS.iter().find(|row| row.0 == name).unwrap();
        price(row, &month)
    });
    let gb_seconds = month.gb_seconds * 1e6;
    format!(
        "| {streams} | {readers} | {hours} | {gb_seconds:.0} | ${duration:.2} | ${requests:.2} |"
    )
}

#[test]
fn price_of_waiting_readers_is_computed() {
    let rows = [
        (1, 1, 24),
        (1, 1_000, 24),
        (10, 1, 24),
        (100, 1, 8),
        (100, 1, 24),
        (100, 10, 24),
        (1_000, 1, 24),
    ];
    let rows = rows.map(|(streams, readers, hours)| waits(streams, readers, hours));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../streams/DESIGN.md");
    let page = fs::read_to_string(path).unwrap();
    for row in &rows {
        assert!(page.contains(row), "it should say\n{}", rows.join("\n"));
    }
}

#[test]
fn price_of_logs_and_kv_is_less_than_half_of_before() {
    // A line for each invocation and each request, and a KV read for each request.
    let requests = 10.0 * f64::from(VIEW_REQUESTS);
    let (lines, reads) = ((requests * 2.0 - 20.0) * 0.60, (requests - 10.0) * 0.50);
    let before =
        format!("10 million views cost ${lines:.0} for lines\nand ${reads:.0} for KV more");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cloudflare.md");
    let page = fs::read_to_string(path).unwrap();
    assert!(page.contains(&before), "it should say {before:?}");
    let month = views(10.0);
    let now = |name: &str| {
        let row = ROWS.iter().find(|row| row.0 == name).unwrap();
        price(row, &month)
    };
    assert!(now("lines in the log") <= lines / 2.0);
    assert!(now("KV reads") <= reads / 2.0);
}
