//! Arguments of `pmx bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Compression, ScanArgs};

/// `pmx bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The site as it is published
    #[arg(value_name = "DIR_A")]
    pub from: PathBuf,
    /// Its next version
    #[arg(value_name = "DIR_B")]
    pub to: PathBuf,
    /// Compare only these
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub only: Vec<Way>,
    /// Run no other programs: only pmx, and what can be computed
    #[arg(long)]
    pub no_peers: bool,
    /// How hard pmx compresses: auto, or 1 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", default_value = "auto")]
    pub compression: Compression,
    /// Draw the result into an SVG file as well
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// How to read the folders.
    #[command(flatten)]
    pub scan: ScanArgs,
}

/// A way to publish a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Way {
    /// This program, to a server of its own
    Pmx,
    /// A list of all files, and each new file as it is
    Raw,
    /// The same, in JSON with base64
    Base64,
    /// The same, each file compressed by gzip
    Gzip,
    /// The same, each file compressed by zstd
    Zstd,
    /// Chunks cut by content, each compressed by zstd
    Chunks,
    /// git push
    Git,
    /// restic backup
    Restic,
    /// casync make
    Casync,
    /// rsync -az
    Rsync,
}

impl Way {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pmx => "pmx",
            Self::Raw => "raw",
            Self::Base64 => "base64",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Chunks => "chunks",
            Self::Git => "git",
            Self::Restic => "restic",
            Self::Casync => "casync",
            Self::Rsync => "rsync",
        }
    }

    /// Whether it is another program.
    pub const fn is_program(self) -> bool {
        match self {
            Self::Pmx | Self::Raw | Self::Base64 | Self::Gzip | Self::Zstd | Self::Chunks => false,
            Self::Git | Self::Restic | Self::Casync | Self::Rsync => true,
        }
    }
}

impl BenchArgs {
    /// The ways to compare, in the order of the table.
    pub fn ways(&self) -> Vec<Way> {
        let all = Way::value_variants().iter().copied();
        let chosen = all.filter(|way| self.only.is_empty() || self.only.contains(way));
        chosen
            .filter(|way| !(self.no_peers && way.is_program()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, CliCommand};

    fn ways(line: &str) -> String {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            CliCommand::Bench(args) => {
                let names: Vec<_> = args.ways().into_iter().map(Way::name).collect();
                names.join(" ")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ways_are_chosen() {
        for (line, expected) in [
            (
                "pmx bench a b",
                "pmx raw base64 gzip zstd chunks git restic casync rsync",
            ),
            (
                "pmx bench a b --no-peers",
                "pmx raw base64 gzip zstd chunks",
            ),
            ("pmx bench a b --only rsync,pmx", "pmx rsync"),
            ("pmx bench a b --only git --no-peers", ""),
        ] {
            assert_eq!(ways(line), expected, "{line}");
        }
        assert!(Cli::try_parse_from("pmx bench a b --only svn".split(' ')).is_err());
        assert!(Cli::try_parse_from("pmx bench a".split(' ')).is_err());
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for way in Way::value_variants() {
            let value = way.to_possible_value().unwrap();
            assert_eq!(value.get_name(), way.name());
        }
    }
}
