//! Sample sites of the checklist: a page that a zone's features would rewrite, and an asset with a
//! hash in its name.

use std::path::Path;

use pmx_core::id::BlobId;
use pmx_core::name::AliasName;
use pmx_sync::push::Mode;
use pmx_sync::scan::{Collisions, Secrets};
use tempfile::TempDir;

use super::Context;
use crate::args::{Compression, OutputArgs, ScanArgs};
use crate::cache::CacheFolder;
use crate::client::publish::{Replaces, Terms};
use crate::config::{FolderConfig, SiteConfig};
use crate::env::Environment;
use crate::error::Failure;
use crate::run::sync::SyncJob;
use crate::source_tree::AllowEmpty;
use crate::ui::Ui;

/// One version of the site.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) page: Vec<u8>,
    /// The path of the asset, from the root.
    pub(super) asset: String,
    script: Vec<u8>,
}

/// A published version.
#[derive(Debug, Clone)]
pub(super) struct PublishedVersion {
    pub(super) url: String,
    pub(super) deploy: u64,
    pub(super) version: Version,
}

impl PublishedVersion {
    /// The address of the version's asset.
    pub(super) fn asset_url(&self) -> String {
        format!("{}{}", self.url, self.version.asset)
    }
}

/// Publishes to one space, as a machine without its cache.
pub(super) struct Publisher<'a> {
    context: &'a Context<'a>,
    site: SiteConfig,
    work: TempDir,
    /// Makes the content of this run new to the server.
    nonce: String,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(site: &SiteConfig, context: &'a Context<'a>) -> Result<Self, Failure> {
        let work = tempfile::tempdir();
        let folder = std::env::temp_dir();
        let work =
            work.map_err(|error| Failure::local("can't make a folder in", &folder, &error))?;
        Ok(Self {
            context,
            site: site.clone(),
            work,
            nonce: random_word(),
        })
    }

    /// A version of the site, by its number.
    pub(super) fn version(&self, number: u32) -> Version {
        let nonce = &self.nonce;
        let script = format!("// {nonce}\ndocument.title += \" {number}\";\n").into_bytes();
        let name = BlobId::of(&script).to_string();
        let asset = format!("app-{}.js", &name[..16]);
        let text = "<p>Words of a page that a browser keeps and an edge compresses.</p>\n";
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <title>pmx doctor</title><script src=\"/{asset}\"></script></head>\n<body>\n\
             <h1>{nonce}, version {number}</h1>\n\
             <p>Write to <a href=\"mailto:doctor@example.com\">doctor@example.com</a>, or see \
             <a href=\"http://example.com/\">example.com</a>.</p>\n\
             <script>document.title += \"!\";</script>\n{}</body></html>\n",
            text.repeat(60)
        );
        Version {
            page: page.into_bytes(),
            asset,
            script,
        }
    }

    /// Publishes a version, for the site or for a preview.
    pub(super) fn publish(
        &self,
        version: &Version,
        alias: Option<AliasName>,
    ) -> Result<PublishedVersion, Failure> {
        let folder = self.work.path().join("site");
        let written = fresh(&folder)
            .and_then(|()| std::fs::write(folder.join("index.html"), &version.page))
            .and_then(|()| std::fs::write(folder.join(&version.asset), &version.script));
        written.map_err(|error| Failure::local("can't write to", &folder, &error))?;
        let caches = self.work.path().join("cache");
        let published = publish(&folder, &caches, &self.site, alias, self.context)?;
        let url = published
            .url
            .ok_or_else(|| Failure::usage(format!("{} has no address", self.site.space)))?;
        Ok(PublishedVersion {
            url,
            deploy: published.deploy,
            version: version.clone(),
        })
    }
}

/// Result of a publish.
pub(super) struct TestDeploy {
    url: Option<String>,
    deploy: u64,
    /// Requests that the client repeated.
    pub(super) retries: u64,
}

/// Publishes a folder without any output.
pub(super) fn publish(
    folder: &Path,
    caches: &Path,
    site: &SiteConfig,
    alias: Option<AliasName>,
    context: &Context<'_>,
) -> Result<TestDeploy, Failure> {
    let quiet = OutputArgs {
        quiet: true,
        ..OutputArgs::default()
    };
    let ui = Ui::new(&quiet, &Environment::default());
    let context = Context {
        ui: &ui,
        layers: context.layers.clone(),
        cache: CacheFolder::at(caches),
        interrupt: context.interrupt.clone(),
    };
    let folder = FolderConfig {
        dir: folder.to_owned(),
        exclude: Vec::new(),
        collisions: Collisions::Allow,
        secrets: Secrets::Allow,
        path: None,
        settings: None,
    };
    let terms = Terms {
        alias,
        replaces: Replaces::Anything,
        ..Terms::plain(Mode::Publish, Compression::default())
    };
    let job = SyncJob::new(
        folder,
        ScanArgs::default(),
        site.clone(),
        terms,
        AllowEmpty::No,
    );
    let client = job.client(&context);
    let outcome = job.once(&client, &context)?.outcome;
    Ok(TestDeploy {
        url: outcome.url,
        deploy: outcome.active,
        retries: client.transfer().retries(),
    })
}

/// Creates an empty folder, in place of an existing one.
fn fresh(folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)
}

/// A word that no earlier run used.
pub(super) fn random_word() -> String {
    let mut bytes = [0; 8];
    // Without randomness, every run has the same word, and the checks report the consequences.
    let _ = getrandom::fill(&mut bytes);
    format!("{:016x}", u64::from_le_bytes(bytes))
}
