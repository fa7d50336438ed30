//! Terminal output: all printing of a command.
//!
//! stdout carries only results; stderr carries all other messages. With `--json`, stdout carries
//! one object a line instead. Text from outside is escaped, so that a file's name can't control a
//! terminal.

mod progress;

use std::collections::HashSet;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ColorChoice;
use clap::builder::styling::{AnsiColor, Style};
use pmx_core::code::Code;
use serde::Serialize;
use serde_json::{Value, json};

use self::progress::{Board, Shown};
use crate::args::OutputArgs;
use crate::client::http::Transfer;
use crate::env::Environment;
use crate::error::Failure;

pub use progress::{Bar, Counting};

/// The version of the JSON objects.
pub const JSON_VERSION: u8 = 1;

/// Things that a warning lists on a terminal; JSON lists more.
const WARNED_MAX: usize = 10;

/// Warnings that a long-running program remembers.
const WARNINGS_MAX: usize = 1_000;

/// The output of a command. Clones share it.
#[derive(Debug, Clone)]
pub struct Ui {
    shape: OutputFormat,
    detail: Detail,
    board: Arc<Board>,
    out: Arc<Out>,
    /// Warnings that were printed.
    warned: Arc<Mutex<HashSet<String>>>,
}

/// The state of stdout.
#[derive(Debug, Default)]
struct Out {
    /// The error of a result that could not be printed, if any.
    fault: Mutex<Option<io::Error>>,
    /// Whether the last line is printed, or about to be.
    is_ended: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    Quiet,
    Normal,
    Verbose,
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

impl Ui {
    /// Configures the output from the command line.
    pub fn new(args: &OutputArgs, env: &Environment) -> Self {
        match args.color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        let detail = match (args.quiet, args.verbose) {
            (true, _) => Detail::Quiet,
            (false, false) => Detail::Normal,
            (false, true) => Detail::Verbose,
        };
        let shape = if args.json {
            OutputFormat::Json
        } else {
            OutputFormat::Text
        };
        let is_quiet = detail == Detail::Quiet || args.no_progress;
        let is_terminal = io::stderr().is_terminal() && !env.is_ci();
        let shown = match (shape, is_terminal) {
            _ if is_quiet => Shown::Never,
            (OutputFormat::Json, _) => Shown::Objects,
            (OutputFormat::Text, true) => Shown::Bar,
            (OutputFormat::Text, false) => Shown::Lines,
        };
        Self {
            shape,
            detail,
            board: Board::new(shown),
            out: Arc::default(),
            warned: Arc::default(),
        }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.shape == OutputFormat::Json
    }

    /// Prints a line of the result, as text only. It is escaped.
    pub fn result(&self, line: impl Display) {
        if self.shape == OutputFormat::Text {
            self.to_stdout(&escaped(&line.to_string()));
        }
    }

    /// Prints unescaped text of the program itself, in any output mode.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        self.out
            .note(out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// Prints an object, as JSON only.
    pub fn object(&self, kind: &str, body: &impl Serialize) {
        if self.shape == OutputFormat::Json {
            self.to_stdout(&json_line(kind, body));
        }
    }

    /// Prints a progress message.
    pub fn note(&self, line: impl Display) {
        if self.shape == OutputFormat::Text && self.detail >= Detail::Normal {
            self.to_stderr(&escaped(&line.to_string()));
        }
    }

    /// Prints a message for `-v` only.
    pub fn detail(&self, line: impl Display) {
        if self.detail == Detail::Verbose {
            self.to_stderr(&escaped(&line.to_string()));
        }
    }

    /// Prints a warning.
    pub fn warn(&self, line: impl Display) {
        let line = line.to_string();
        match self.shape {
            OutputFormat::Json => self.object("warning", &json!({ "message": line })),
            OutputFormat::Text if self.detail == Detail::Quiet => {}
            OutputFormat::Text => {
                self.to_stderr(&format!("{WARNING}warning{WARNING:#}: {}", escaped(&line)));
            }
        }
    }

    /// Warns about several things, and names the first of them. A program that watches a folder
    /// repeats no warning.
    pub fn warn_about(&self, what: &str, items: &[String], count: u64) {
        let named = items.iter().take(WARNED_MAX).map(String::as_str);
        let named = named.collect::<Vec<_>>().join(", ");
        let more = match count.saturating_sub(WARNED_MAX as u64) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let line = format!("{what}: {named}{more}");
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() > WARNINGS_MAX || !warned.insert(line.clone()) {
            return;
        }
        drop(warned);
        match self.shape {
            OutputFormat::Json => {
                self.object("warning", &json!({ "message": line, "items": items }));
            }
            OutputFormat::Text => self.warn(line),
        }
    }

    /// Prints a failure that does not end the command.
    pub fn failed(&self, failure: &Failure) {
        match self.shape {
            OutputFormat::Json => self.to_stdout(&json_line("error", &error_body(failure))),
            OutputFormat::Text => self.to_stderr(&error_text(failure)),
        }
    }

    /// Prints a failure: the last output of a failed command. Only the first one is printed.
    pub fn failure(&self, failure: &Failure) {
        if !self.out.is_ended.swap(true, Ordering::AcqRel) {
            self.board.end();
            self.failed(failure);
        }
    }

    /// Prints that a host has stopped: its last output, printed once.
    pub fn stopped(&self) {
        if !self.out.is_ended.swap(true, Ordering::AcqRel) {
            self.board.end();
            self.note("stopped");
            self.object("stopped", &json!({}));
        }
    }

    /// Whether stdout takes no more output, because its reader is gone or it is full.
    pub fn is_broken(&self) -> bool {
        self.out.lock().is_some()
    }

    /// Ends the output. Fails if a result was lost. If a pipe's reader has left, there is no
    /// message, as in other programs.
    pub fn end(&self) -> Result<(), Option<Failure>> {
        self.out.is_ended.store(true, Ordering::Release);
        self.board.end();
        match self.out.lock().take() {
            None => Ok(()),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(None),
            Some(error) => {
                let message = format!("the result can't be printed: {error}");
                let hint = "The command did what it should; only what it says was lost. Check where stdout leads.";
                Err(Some(Failure::new(Code::Local, message).with_hint(hint)))
            }
        }
    }

    /// Reports on stderr, if it is readable, that a result was lost.
    pub fn lost(&self, failure: &Failure) {
        to_stderr(&error_text(failure));
    }

    /// A bar that counts up to `total`; 0 means that it is unknown yet.
    pub fn bar(&self, what: Counting, total: u64) -> Bar {
        self.board.bar(what, total)
    }

    /// Shows the progress of a client from now on.
    pub fn follow(&self, transfer: &Arc<Transfer>) {
        self.board.follow(transfer);
    }

    fn to_stdout(&self, line: &str) {
        self.board.beside(|| self.out.note(try_stdout(line)));
    }

    fn to_stderr(&self, line: &str) {
        self.board.beside(|| to_stderr(line));
    }
}

impl Out {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, printed: io::Result<()>) {
        if let Err(error) = printed {
            self.lock().get_or_insert(error);
        }
    }
}

fn error_body(failure: &Failure) -> Value {
    let mut body = json!({
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "retriable": failure.code.retriable(),
    });
    if !failure.items.is_empty() {
        body["items"] = json!(failure.items);
    }
    body
}

fn error_text(failure: &Failure) -> String {
    let mut message = failure.message.lines().map(escaped);
    let first = message.next().unwrap_or_default();
    let mut lines = vec![format!("{ERROR}error{ERROR:#}: {first}")];
    let items = failure.items.iter().map(|item| escaped(item));
    lines.extend(message.chain(items).map(|line| format!("       {line}")));
    if !failure.hint.is_empty() {
        lines.push(format!("{HINT} hint{HINT:#}: {}", escaped(&failure.hint)));
    }
    lines.push(format!(
        "{HINT} code{HINT:#}: {} (`pmx explain {0}`)",
        failure.code
    ));
    lines.join("\n")
}

/// Escapes text from outside: characters that control a terminal, or reorder the text around them,
/// become `\u{…}`.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_dangerous(char) {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    out
}

/// An amount of bytes, for people.
pub fn bytes(amount: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    if amount < 1000 {
        return format!("{amount} B");
    }
    let mut scaled = amount;
    let mut unit = 0;
    while scaled >= 1_000_000 && unit + 1 < units.len() {
        scaled /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", scaled / 1000, scaled % 1000 / 100, units[unit])
}

/// A number of things, for people.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Control characters; directional marks, embeddings, overrides and isolates (Unicode Standard
/// Annex 9, section 2); line and paragraph separators; invisible spaces.
fn is_dangerous(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
        )
        || matches!(char, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
        || matches!(char, '\u{e0000}'..='\u{e007f}')
}

fn json_line(kind: &str, body: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Line<'a, T> {
        r#type: &'a str,
        v: u8,
        #[serde(flatten)]
        body: &'a T,
    }
    let line = Line {
        r#type: kind,
        v: JSON_VERSION,
        body,
    };
    let text = serde_json::to_string(&line).unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        // Outside of strings JSON has only ASCII, and in strings every character may have this
        // form.
        if is_dangerous(char) {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(char);
        }
    }
    out
}

fn try_stdout(line: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn to_stderr(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use pmx_core::code::Code;

    use super::*;

    #[test]
    fn escaped_text_can_not_command_a_terminal() {
        for (text, shown) in [
            ("a/b.html", "a/b.html"),
            ("\u{1f600} é", "\u{1f600} é"),
            ("x\x1b[2J", "x\\u{1b}[2J"),
            ("a\u{202e}gpj.exe", "a\\u{202e}gpj.exe"),
            ("a\r\nb\u{9b}", "a\\u{d}\\u{a}b\\u{9b}"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }

    #[test]
    fn error_is_one_line_of_json() {
        let failure = Failure::new(Code::Network, "no \x1b[2J\u{202e}\u{e0041} answer");
        let line = json_line("error", &error_body(&failure));
        insta::assert_snapshot!(line, @r#"{"type":"error","v":1,"code":"E_NETWORK","hint":"Check the server's address and that it runs: `pmx serve` starts one here.","message":"no \u001b[2J\u202e\udb40\udc41 answer","retriable":true}"#);
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], failure.message);
    }

    #[test]
    fn error_names_message_hint_and_code() {
        let mut failure = Failure::new(Code::SourceMissing, "first\nsecond \x07");
        failure.items = vec!["a\nb".into()];
        let text = anstream::adapter::strip_str(&error_text(&failure)).to_string();
        insta::assert_snapshot!(text, @r"
        error: first
               second \u{7}
               a\u{a}b
         hint: Run the build, or name the folder it writes to.
         code: E_SOURCE_MISSING (`pmx explain E_SOURCE_MISSING`)
        ");
    }

    #[test]
    fn amounts_are_rounded() {
        for (amount, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_550, "1.5 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (u64::MAX, "18446744.0 TB"),
        ] {
            assert_eq!(bytes(amount), text);
        }
    }
}
