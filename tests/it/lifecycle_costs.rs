//! Costs of the commands that give up, check and copy a site, as the Worker's log counts them,
//! beside the table in `docs/operations.md`.

use std::collections::BTreeMap;

use crate::access_log::{AccessLog, Costs};
use crate::world::{World, or_skip};

/// Pages of the site.
const PAGES: u64 = 2_000;

/// How far a count may be from twice what the page says: alarms run when they want to.
const SPREAD: u64 = 60;

/// The columns of the table, and the operations that each adds up.
const COLUMNS: [(&str, &[&str]); 6] = [
    ("rows read", &["row_read"]),
    ("rows written", &["row_written"]),
    ("objects read", &["r2_read", "r2_head"]),
    ("objects written", &["r2_write"]),
    ("objects deleted", &["r2_delete"]),
    ("KV reads and writes", &["kv_read", "kv_write"]),
];

#[test]
fn commands_cost_what_the_page_says() {
    let world = or_skip!(World::worker());
    for version in 1..4 {
        for number in 0..PAGES / version {
            let page = format!(
                "<h1>{number}</h1>{}",
                format!("<p>{version}</p>").repeat(20)
            );
            world.write(&[(&format!("{}/{number}.html", number % 40), &page)]);
        }
        world.sync("docs", &["--max-delete", "100%"]).ok();
    }
    let mut log = AccessLog::new(&world);
    let said = documented();
    let mut failures = Vec::new();
    for (command, args) in commands(&world) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        world.pmx(&args).ok();
        let costs = log.costs(&world);
        let measured = COLUMNS.map(|(_, names)| sum(&costs, names));
        let shown = measured.map(|count| count.to_string()).join(" | ");
        println!("| `{command}` | {shown} |");
        let row = said.get(command).copied().unwrap_or_default();
        let is_close = |(count, said): (&u64, u64)| *count <= 2 * said + SPREAD;
        if !measured.iter().zip(row).all(is_close) {
            failures.push(format!(
                "{command}: {measured:?}, and the page says {row:?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The commands in their order, each as the page names it.
fn commands(world: &World) -> Vec<(&'static str, Vec<String>)> {
    let folder = |name: &str| world.temp.path().join(name).display().to_string();
    let of = |line: &str| -> Vec<String> {
        let words = line.split(' ').map(|word| match word.strip_prefix('@') {
            Some(name) => folder(name),
            None => word.to_owned(),
        });
        words.collect()
    };
    world.write(&[("0/0.html", "changed")]);
    vec![
        (
            "pmx retention --keep-last 20",
            of("retention --keep-last 20 --space docs --json"),
        ),
        ("pmx deploys pin 2", of("deploys pin 2 --space docs --json")),
        ("pmx gc --dry-run", of("gc --dry-run --space docs --json")),
        (
            "pmx deploys rm 1",
            of("deploys rm 1 --yes --space docs --json"),
        ),
        ("pmx gc", of("gc --space docs --json")),
        ("pmx verify", of("verify --space docs --json")),
        (
            "pmx verify --read-data",
            of("verify --read-data --space docs --json"),
        ),
        ("pmx pull DIR", of("pull @pulled --space docs --json")),
        ("pmx get PATH", of("get 0/0.html --space docs")),
        (
            "pmx put PATH FILE",
            of("put 0/0.html @site/0/0.html --space docs --json"),
        ),
        ("pmx rm PATH", of("rm 0/40.html --space docs --json")),
        ("pmx backup DIR", of("backup @saved --space docs --json")),
        (
            "pmx backup DIR again",
            of("backup @saved --space docs --json"),
        ),
        (
            "pmx restore DIR",
            of("restore @saved --space copy --from docs --json"),
        ),
        (
            "pmx spaces delete docs",
            of("spaces delete docs --yes --purge --json"),
        ),
    ]
}

fn sum(costs: &Costs, names: &[&str]) -> u64 {
    let counts = names.iter().filter_map(|name| costs.get(*name));
    counts.sum()
}

/// The rows of the table in `docs/operations.md`.
fn documented() -> BTreeMap<String, [u64; 6]> {
    let rows = include_str!("../../docs/operations.md").lines();
    let rows = rows.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let command = cells.first()?.replace('`', "");
        let counts = cells.get(1..7)?.iter();
        let counts: Vec<u64> = counts
            .filter_map(|cell| cell.replace(',', "").parse().ok())
            .collect();
        Some((command, counts.try_into().ok()?))
    });
    rows.collect()
}
