//! Other programs: finds them, runs them, and measures the growth of their stores.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pmx_core::code::Code;

use super::report::Cost;
use crate::env::Environment;
use crate::error::Failure;

/// Characters of a failed program's message.
const REASON_CHARS: usize = 120;

/// The search path of programs, and the folder that they may write to.
pub(super) struct Programs<'a> {
    path: Option<&'a str>,
    work: &'a Path,
}

impl<'a> Programs<'a> {
    /// The programs of the environment.
    pub(super) fn of(env: &'a Environment, work: &'a Path) -> Self {
        Self {
            path: env.var("PATH"),
            work,
        }
    }

    /// The path of a program, or the error that it is missing.
    pub(super) fn find(&self, name: &str) -> Result<PathBuf, String> {
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        let folders = std::env::split_paths(self.path.unwrap_or_default());
        let mut files = folders.map(|folder| folder.join(&file));
        files
            .find(|file| file.is_file())
            .ok_or_else(|| format!("{name} is not installed"))
    }

    /// A new folder for a program.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.work.join(name);
        let made = fs::create_dir_all(&folder);
        made.map_err(|error| format!("can't make a folder: {error}"))?;
        Ok(folder)
    }
}

/// Runs a program to its end, and returns what it printed.
pub(super) fn run(command: &mut Command) -> Result<String, Failure> {
    let name = Path::new(command.get_program()).file_stem();
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let failed = |why: String| Failure::new(Code::Local, format!("{name} failed: {why}"));
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim().lines().last().unwrap_or("it said nothing");
    Err(failed(last.chars().take(REASON_CHARS).collect()))
}

/// A store of files, each written once. Its growth is the amount that a remote store would receive.
pub(super) struct Store {
    folder: PathBuf,
    held: BTreeMap<PathBuf, u64>,
}

impl Store {
    /// A store before the first publish.
    pub(super) fn at(folder: PathBuf) -> Result<Self, Failure> {
        let held = Self::read(&folder)?;
        Ok(Self { folder, held })
    }

    /// The bytes added since the last call.
    pub(super) fn growth(&mut self) -> Result<Cost, Failure> {
        let now = Self::read(&self.folder)?;
        let added = now
            .iter()
            .filter(|(path, len)| self.held.get(*path) != Some(*len))
            .map(|(_, len)| len);
        let cost = Cost {
            sent: added.clone().sum(),
            requests: Some(added.count() as u64),
            ..Cost::default()
        };
        self.held = now;
        Ok(cost)
    }

    fn read(folder: &Path) -> Result<BTreeMap<PathBuf, u64>, Failure> {
        let mut files = BTreeMap::new();
        let walked = walk(folder, &mut files);
        walked.map_err(|error| Failure::local("can't read", folder, &error))?;
        Ok(files)
    }
}

fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, u64>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.insert(entry.path(), entry.metadata()?.len());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_is_not_there_is_said_to_be_missing() {
        let env: Environment = [("PATH", "/nowhere")].into_iter().collect();
        let programs = Programs::of(&env, Path::new("/nowhere"));
        let missing = programs.find("git").unwrap_err();
        assert_eq!(missing, "git is not installed");
    }

    #[cfg(unix)]
    #[test]
    fn failure_says_what_the_program_said_last() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo first >&2; echo the reason >&2; exit 3"]);
        let failure = run(&mut command).unwrap_err();
        assert_eq!(failure.message, "sh failed: the reason");
    }

    #[test]
    fn store_grows_by_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("config", "c");
        let mut store = Store::at(folder.path().to_owned()).unwrap();
        write("a/b", "12345");
        write("index", "123");
        let added = store.growth().unwrap();
        assert_eq!((added.sent, added.requests), (8, Some(2)));
        write("index", "1234");
        assert_eq!(store.growth().unwrap().sent, 4);
        assert_eq!(store.growth().unwrap().requests, Some(0));
    }
}
