//! rsync: transfers the difference of two folders, file by file. Its two processes talk over a
//! pipe, as they would between machines, and report the bytes.

use std::path::PathBuf;
use std::process::Command;

use pmx_core::code::Code;

use super::program::{Programs, run};
use super::report::Cost;
use super::{Contender, Version};
use crate::error::Failure;

/// The folder that rsync keeps equal to the site.
pub(super) struct Rsync {
    program: PathBuf,
    copy: PathBuf,
}

impl Rsync {
    /// Creates an empty copy.
    pub(super) fn prepare(programs: &Programs<'_>) -> Result<Self, String> {
        Ok(Self {
            program: programs.find("rsync")?,
            copy: programs.folder("rsync")?,
        })
    }
}

impl Contender for Rsync {
    fn publish(&mut self, version: &Version<'_>) -> Result<Cost, Failure> {
        let mut sync = Command::new(&self.program);
        // Between folders of one machine, rsync would otherwise copy whole files.
        sync.args(["-az", "--delete", "--no-whole-file"])
            .args(["--stats", "--no-human-readable"])
            .arg(version.folder.join(""))
            .arg(&self.copy)
            .env("LC_ALL", "C");
        let said = run(&mut sync)?;
        let count = |label| {
            let none = || format!("rsync does not say its {label:?}");
            statistic(&said, label).ok_or_else(|| Failure::new(Code::Local, none()))
        };
        Ok(Cost {
            sent: count("Total bytes sent: ")?,
            received: count("Total bytes received: ")?,
            ..Cost::default()
        })
    }
}

fn statistic(said: &str, label: &str) -> Option<u64> {
    let value = said.lines().find_map(|line| line.strip_prefix(label))?;
    value.replace(',', "").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read() {
        let said = "Number of files: 3\nTotal bytes sent: 1,234\nTotal bytes received: 5\n";
        assert_eq!(statistic(said, "Total bytes sent: "), Some(1234));
        assert_eq!(statistic(said, "Total bytes gained: "), None);
    }
}
