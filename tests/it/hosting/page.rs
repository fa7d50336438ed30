//! Documented examples: what a page says about rules, read from its tables and blocks.
//!
//! A table with `line | request | answer` is a site with these lines. A table with
//! `request | answer` follows the blocks that begin with `# _headers` or another file's name. In a
//! table that begins with `_site.toml`, each row is a site, and each other column a request.

use std::fs;
use std::path::Path;

/// The examples of a page.
#[derive(Debug, Default)]
pub(super) struct DocumentedRules {
    /// The files of every example, each with its path as content.
    pub(super) files: Vec<String>,
    pub(super) sites: Vec<ExampleSite>,
    pub(super) refused: Vec<RefusedLines>,
    pub(super) sessions: Vec<Vec<ConsoleCommand>>,
}

/// A site with rules, and requests to it.
#[derive(Debug, Default, Clone)]
pub(super) struct ExampleSite {
    /// Rule files: name and text.
    pub(super) rules: Vec<(String, String)>,
    pub(super) requests: Vec<ExampleRequest>,
}

/// A request, and its answer.
#[derive(Debug, Clone)]
pub(super) struct ExampleRequest {
    pub(super) method: String,
    /// The host's part before the domain, if the request names one.
    pub(super) host: Option<String>,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) status: u16,
    /// The file that is sent, or the URL of a redirect.
    pub(super) target: Option<String>,
    pub(super) sent: Vec<(String, String)>,
    pub(super) absent: Vec<String>,
}

/// Lines that a publish refuses, with their place and code.
#[derive(Debug)]
pub(super) struct RefusedLines {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) error: String,
}

/// A command of a console, and what it prints.
#[derive(Debug)]
pub(super) struct ConsoleCommand {
    pub(super) line: String,
    pub(super) output: String,
}

/// The domain of the page, and that of the tests' servers.
const DOMAINS: [&str; 2] = ["example.com", "localhost"];

/// The files that an example may show.
const RULE_FILES: [&str; 4] = ["_redirects", "_headers", "_site.toml", "pmx.toml"];

/// Reads a page. Everything in it has to be an example.
pub(super) fn whole(name: &str) -> DocumentedRules {
    read(name, false)
}

/// Reads the tables of rules of a page that has other tables, too.
pub(super) fn rules_within(name: &str) -> DocumentedRules {
    read(name, true)
}

fn read(name: &str, has_more: bool) -> DocumentedRules {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let text = fs::read_to_string(path).expect("the page exists");
    let text = text.replace(DOMAINS[0], DOMAINS[1]);
    let mut reader = PageReader {
        has_more,
        ..PageReader::default()
    };
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            reader.block(language, &block);
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(row);
            }
            reader.table(&rows);
        } else if line.starts_with("## ") {
            reader.end_section(line);
        }
    }
    reader.end_section("the end");
    reader.found
}

#[derive(Default)]
struct PageReader {
    found: DocumentedRules,
    /// Whether the page has blocks and tables of other things.
    has_more: bool,
    /// Rule files whose requests follow.
    shown: Vec<(String, String)>,
}

impl PageReader {
    fn end_section(&self, before: &str) {
        let shown = &self.shown;
        assert!(shown.is_empty(), "no request before {before:?}: {shown:?}");
    }

    fn block(&mut self, language: &str, lines: &[&str]) {
        let first = lines.first().copied().unwrap_or_default();
        let named = first.strip_prefix("# ");
        let named = named.filter(|name| RULE_FILES.contains(name));
        if self.has_more {
            return;
        }
        match (language, named) {
            ("console", _) => self.found.sessions.push(commands(lines)),
            ("json", _) => self.shown.push(("_pmx/rules.json".into(), lines.concat())),
            (_, Some(name)) => self.shown.push((name.into(), joined(lines))),
            (_, None) if first.starts_with("dist/") => {
                let files = lines.iter().flat_map(|line| line.split_whitespace());
                let files = files.map(|file| file.strip_prefix("dist/").expect("a file").into());
                self.found.files = files.collect();
            }
            (_, None) => panic!("no example that a test can run: {lines:?}"),
        }
    }

    fn table(&mut self, rows: &[&str]) {
        let header = cells(rows[0]);
        let first: Vec<&str> = header.iter().map(|cell| cell.trim_matches('`')).collect();
        let rows = rows.iter().skip(2).map(|row| cells(row));
        match first[..] {
            ["line", "request", "answer"] => self.lines(rows),
            _ if self.has_more => {}
            ["request", "answer"] => {
                let rules = std::mem::take(&mut self.shown);
                assert!(!rules.is_empty(), "a table without rules: {header:?}");
                let requests = rows.map(|row| request(row[0], row[1]));
                let requests = requests.collect();
                self.found.sites.push(ExampleSite { rules, requests });
            }
            ["file", "refused lines", "error"] => {
                self.found.refused.extend(rows.map(|row| refused(&row)));
            }
            ["_site.toml", ..] => {
                let sites = rows.map(|row| settings(&header, &row));
                self.found.sites.extend(sites);
            }
            _ => panic!("no table that a test can run: {header:?}"),
        }
    }

    /// A table whose rows each have a line of `_redirects`, or one more request.
    fn lines<'a>(&mut self, rows: impl Iterator<Item = Vec<&'a str>>) {
        let (mut lines, mut requests) = (Vec::new(), Vec::new());
        for row in rows {
            lines.extend(spans(row[0]).into_iter().map(|(_, line)| line));
            requests.push(request(row[1], row[2]));
        }
        let rules = vec![("_redirects".to_owned(), joined(&lines))];
        self.found.sites.push(ExampleSite { rules, requests });
    }
}

/// A row of settings, with the requests that the header names.
fn settings(header: &[&str], row: &[&str]) -> ExampleSite {
    assert_eq!(header.len(), row.len(), "{row:?}");
    let lines: Vec<&str> = spans(row[0]).into_iter().map(|(_, line)| line).collect();
    assert!(!lines.is_empty(), "no setting: {row:?}");
    let asked = header.iter().zip(row).skip(1);
    ExampleSite {
        rules: vec![("_site.toml".to_owned(), joined(&lines))],
        requests: asked.map(|(asked, cell)| request(asked, cell)).collect(),
    }
}

fn refused(row: &[&str]) -> RefusedLines {
    let [file, lines, error] = [row[0], row[1], row[2]].map(spans);
    let lines: Vec<&str> = lines.into_iter().map(|(_, line)| line).collect();
    let [(_, file), (_, at), (_, code)] = [file[0], error[0], error[1]];
    let text = joined(&lines);
    RefusedLines {
        file: file.to_owned(),
        // The canonical form of JSON ends with its last bracket.
        text: if file.ends_with("json") {
            text.trim_end().into()
        } else {
            text
        },
        error: format!("{file}:{at}: error[{code}]"),
    }
}

fn request(asked: &str, answer: &str) -> ExampleRequest {
    let (asked, answer) = (spans(asked), spans(answer));
    let [Some((_, line)), Some((_, status))] = [asked.first(), answer.first()] else {
        panic!("a row without a request or an answer: {asked:?} {answer:?}");
    };
    let (method, url) = line.split_once(' ').unwrap_or(("GET", line));
    let (host, path) = match url.strip_prefix("https://") {
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find('/').expect("a path"));
            let suffix = format!(".{}", DOMAINS[1]);
            let host = host.strip_suffix(&suffix).expect("a host of the domain");
            (Some(host.to_owned()), path)
        }
        None => (None, url),
    };
    assert!(path.starts_with('/'), "no request: {line}");
    let (status, target) = match status.split_once(' ') {
        Some((status, target)) => (status, Some(target.to_owned())),
        None => (*status, None),
    };
    let (absent, sent): (Vec<_>, Vec<_>) = answer[1..]
        .iter()
        .partition(|(before, _)| before.ends_with("without "));
    ExampleRequest {
        method: method.to_owned(),
        host,
        path: path.to_owned(),
        headers: asked[1..].iter().map(|(_, text)| header(text)).collect(),
        status: status
            .parse()
            .unwrap_or_else(|_| panic!("no status: {answer:?}")),
        target,
        sent: sent.into_iter().map(|(_, text)| header(text)).collect(),
        absent: absent
            .into_iter()
            .map(|(_, name)| name.to_lowercase())
            .collect(),
    }
}

fn header(text: &str) -> (String, String) {
    let (name, value) = text.split_once(": ").expect("NAME: VALUE");
    (name.to_lowercase(), value.to_owned())
}

fn commands(lines: &[&str]) -> Vec<ConsoleCommand> {
    let mut commands: Vec<ConsoleCommand> = Vec::new();
    for line in lines {
        if let Some(line) = line.strip_prefix("$ ") {
            let (line, output) = (line.to_owned(), String::new());
            commands.push(ConsoleCommand { line, output });
        } else {
            let command = commands.last_mut().expect("a command comes first");
            command.output += line;
            command.output.push('\n');
        }
    }
    commands
}

/// The cells of a table's row.
fn cells(row: &str) -> Vec<&str> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    row.split('|').map(str::trim).collect()
}

/// The code spans of a cell, each with the text before it.
fn spans(cell: &str) -> Vec<(&str, &str)> {
    let parts: Vec<&str> = cell.split('`').collect();
    assert!(parts.len() % 2 == 1, "an open code span: {cell}");
    let spans = parts.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    spans.collect()
}

fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
