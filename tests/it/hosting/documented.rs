//! Documented rules: every example of `docs/hosting.md` and of the README, on both hosts.

use std::fs;

use super::page::{
    ConsoleCommand, DocumentedRules, ExampleRequest, ExampleSite, RefusedLines, rules_within, whole,
};
use crate::world::{Answer, Host, Ran, World, started_on_kind_hosts};

started_on_kind_hosts! {
    examples_answer_as_the_page_says,
    lines_are_refused_as_the_page_says,
    commands_print_what_the_page_says,
}

/// A proxy that is trusted names the country, as Cloudflare does.
const SETTINGS: [(&str, &str); 2] = [
    ("COUNTRY_HEADER", "cf-ipcountry"),
    ("TRUSTED_PROXIES", "127.0.0.1"),
];

/// A world with the files of the page.
fn world_of(host: Host, page: &DocumentedRules) -> World {
    let world = World::with_settings(host, &SETTINGS);
    assert!(page.files.len() > 10, "{:?}", page.files);
    for file in &page.files {
        world.write(&[(file, file)]);
    }
    world
}

fn examples_answer_as_the_page_says(host: Host) {
    let page = whole("docs/hosting.md");
    let readme = rules_within("README.md");
    let world = world_of(host, &page);
    assert!(!readme.sites.is_empty(), "the README shows no rule");
    let sites = page.sites.iter().chain(&readme.sites);
    let (mut failures, mut requests) = (Vec::new(), 0);
    for (number, site) in sites.enumerate() {
        publish(&world, number, site);
        requests += site.requests.len();
        let failed = site.requests.iter();
        failures.extend(failed.filter_map(|request| judge(&world, number, request, &page.files)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(requests > 100, "{requests} requests");
}

/// The space of a request that names no host.
fn own_space(number: usize) -> String {
    format!("example{number}")
}

/// Publishes an example to each site and preview that its requests name.
fn publish(world: &World, number: usize, site: &ExampleSite) {
    write_rules(world, &site.rules);
    let hosts = site.requests.iter().map(|request| request.host.clone());
    let mut hosts: Vec<String> = hosts
        .map(|host| host.unwrap_or_else(|| own_space(number)))
        .collect();
    hosts.sort();
    hosts.dedup();
    for host in &hosts {
        match host.split_once("--") {
            Some((preview, space)) if preview.parse::<u64>().is_err() => {
                world
                    .sync(space, &["--order", "none", "--preview", preview])
                    .ok();
            }
            Some((_, space)) => drop(world.sync(space, &["--order", "none"]).ok()),
            None => drop(world.sync(host, &["--order", "none"]).ok()),
        }
    }
}

/// Writes the rules of an example in place of those of the one before.
fn write_rules(world: &World, rules: &[(String, String)]) {
    for file in ["_redirects", "_headers", "_site.toml", "_pmx/rules.json"] {
        let _absent = fs::remove_file(world.site().join(file));
    }
    let project = world.temp.path().join("pmx.toml");
    let _absent = fs::remove_file(&project);
    for (file, text) in rules {
        if file == "pmx.toml" {
            fs::write(&project, text).unwrap();
        } else {
            world.write(&[(file, text)]);
        }
    }
}

/// What is wrong with an answer.
fn judge(
    world: &World,
    number: usize,
    request: &ExampleRequest,
    files: &[String],
) -> Option<String> {
    let host = request.host.clone().unwrap_or_else(|| own_space(number));
    let mut headers = request.headers.clone();
    if let Some((_, country)) = headers.iter().find(|(name, _)| name == "cf-ipcountry") {
        // The runtime takes from this what Cloudflare would know of the client.
        let platform = format!(r#"{{"country":"{country}"}}"#);
        headers.push(("mf-cf-blob".into(), platform));
    }
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let answer = world.request(&request.method, &host, &request.path, &headers, b"");
    let found = mismatches(request, &answer, files);
    (!found.is_empty()).then(|| {
        let ExampleRequest { method, path, .. } = request;
        format!("{method} {host} {path} {headers:?}: {}", found.join("; "))
    })
}

fn mismatches(request: &ExampleRequest, answer: &Answer, files: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let location = answer.header("location").map(str::to_owned);
    let is_redirect = (300..400).contains(&answer.status);
    let text = answer.text();
    let file = files.iter().find(|file| **file == text).cloned();
    let target = if is_redirect { location } else { file };
    if (answer.status, &target) != (request.status, &request.target) {
        let (status, wanted) = (request.status, &request.target);
        found.push(format!(
            "{} {target:?}, not {status} {wanted:?}",
            answer.status
        ));
    }
    for (name, wanted) in &request.sent {
        let lines = answer.headers.iter().filter(|(known, _)| known == name);
        let lines: Vec<&str> = lines.map(|(_, value)| value.as_str()).collect();
        if lines.join(", ") != *wanted {
            found.push(format!("{name}: {lines:?}, not {wanted:?}"));
        }
    }
    for name in &request.absent {
        if let Some(value) = answer.header(name) {
            found.push(format!("{name}: {value:?}, and not without"));
        }
    }
    found
}

fn lines_are_refused_as_the_page_says(host: Host) {
    let page = whole("docs/hosting.md");
    let world = world_of(host, &page);
    assert!(page.refused.len() >= 10, "{:?}", page.refused);
    for RefusedLines { file, text, error } in &page.refused {
        write_rules(&world, &[(file.clone(), text.clone())]);
        let refused = world.sync("docs", &[]).fails(2, "E_RULES_INVALID");
        assert!(
            refused.stdout.contains(error),
            "{text}: {error}: {refused:?}"
        );
    }
    assert_eq!(world.get("docs", "/").status, 404, "a line was published");
}

fn commands_print_what_the_page_says(host: Host) {
    let page = whole("docs/hosting.md");
    let world = world_of(host, &page);
    fs::rename(world.site(), world.temp.path().join("dist")).unwrap();
    let commands: Vec<&ConsoleCommand> = page.sessions.iter().flatten().collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for ConsoleCommand { line, output } in commands {
        let words = words(line);
        match words[..] {
            ["cat", file] => fs::write(world.temp.path().join(file), output).unwrap(),
            ["pmx", ref arguments @ ..] => {
                let mut command = world.command(arguments);
                command.env("PMX_SPACE", "docs");
                let ran: Ran = command.output().unwrap().into();
                assert_eq!(printed(&ran), *output, "{line}: {ran:?}");
            }
            _ => panic!("no command that a test can run: {line}"),
        }
    }
}

/// The words of a command; those between quotes are one.
fn words(line: &str) -> Vec<&str> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(number, part)| {
        let is_quoted = number % 2 == 1;
        let quoted = is_quoted.then_some(part).into_iter();
        let plain = (!is_quoted).then(|| part.split_whitespace());
        quoted.chain(plain.into_iter().flatten())
    });
    words.collect()
}

/// What a command prints on a terminal.
fn printed(ran: &Ran) -> String {
    format!("{}{}", ran.stderr, ran.stdout)
}
