//! Load check: two publishers send incompressible files at once.

use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Instant;

use pmx_core::name::SpaceName;

use super::sites::{TestDeploy, publish};
use super::updates::seconds;
use super::{CheckFinding, Context, Doctor};
use crate::config::SiteConfig;
use crate::error::Failure;

const FILE_BYTES: usize = 1024 * 1024;

impl Doctor<'_> {
    /// Publishes from two threads, each to a space of its own.
    pub(super) fn load(&self) -> Result<CheckFinding, Failure> {
        let work = tempfile::tempdir();
        let folder = std::env::temp_dir();
        let work =
            work.map_err(|error| Failure::local("can't make a folder in", &folder, &error))?;
        let started = Instant::now();
        let outcomes = thread::scope(|scope| {
            let publishers = ["a", "b"].map(|name| {
                let work = work.path().join(name);
                let (mib, site, context) = (self.args.mib, &self.site, self.context);
                scope.spawn(move || publisher(name, mib, &work, site, context))
            });
            publishers.map(|publisher| {
                let ended = "a publisher ended without a reason";
                let lost = |_| Err(Failure::usage(ended));
                publisher.join().unwrap_or_else(lost)
            })
        });
        let took = seconds(started.elapsed());
        let (mut retries, mut faults) = (0, Vec::new());
        for outcome in &outcomes {
            match outcome {
                Ok(published) => retries += published.retries,
                Err(failure) => faults.push(failure.to_string()),
            }
        }
        let mib = self.args.mib;
        let words = format!(
            "2 publishers of {mib} MiB each: {} failed, {retries} requests sent again, {took}",
            faults.len()
        );
        Ok(CheckFinding::of(&[words], &faults).hint(
            "`npx wrangler tail` shows why: exceeded memory (1102) means that too much arrived at one isolate at once.",
        ))
    }
}

fn publisher(
    name: &str,
    mib: u16,
    work: &Path,
    site: &SiteConfig,
    context: &Context<'_>,
) -> Result<TestDeploy, Failure> {
    let folder = work.join("site");
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        for number in 0..mib {
            let mut file = std::fs::File::create(folder.join(format!("{number}.bin")))?;
            file.write_all(&noise()?)?;
        }
        Ok(())
    };
    write().map_err(|error| Failure::local("can't write to", &folder, &error))?;
    let site = SiteConfig {
        space: SpaceName::parse(&format!("{}-{name}", site.space))?,
        ..site.clone()
    };
    publish(&folder, &work.join("cache"), &site, None, context)
}

fn noise() -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; FILE_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}
