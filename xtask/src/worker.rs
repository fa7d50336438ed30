//! Worker build: from source to the folder that workerd runs, `worker/build`.
//!
//! `worker-build` does the same, but downloads programs of its own choice of versions. Here cargo
//! compiles the module, and the library behind `wasm-bindgen` generates the glue. Its version
//! equals that of `wasm-bindgen` in the module, or cargo finds no solution. `wasm-opt` shrinks the
//! module, and `worker/shim.js` is the entry.

mod startup;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use wasm_bindgen_cli_support::Bindgen;

use crate::{npm, root, say, target_folder, wasm};

/// Whether to spend half a minute for a module that is a quarter smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shrink {
    /// For deployment.
    Yes,
    /// For local use.
    No,
}

/// Kind of a Worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The deployed Worker.
    Deployed,
    /// The Worker with the pack benchmark.
    Measured,
}

/// Bytes of the module and its glue, compressed. Cloudflare's free plan accepts twice as much.
const GZIPPED_MAX: usize = 1_500_000;

/// Crates that only the Worker compiles for size. What takes time there is hashing, compressing and
/// the platform, which other crates do.
const SMALL: &[(&str, &str)] = &[
    ("pmx-core", "s"),
    ("pmx-streams", "s"),
    ("pmx-sync", "s"),
    ("chrono", "z"),
    ("idna", "z"),
    ("toml", "z"),
    ("toml_parser", "z"),
    ("unicode-normalization", "z"),
    ("url", "z"),
    ("winnow", "z"),
];

/// Builds the Worker and checks its size.
pub(crate) fn build(kind: Kind, shrink: Shrink) -> Result<()> {
    npm::install()?;
    let compiled = compile(kind)?;
    let folder = folder(kind);
    let stamp = stamp(&compiled, shrink)?;
    let marked = folder.join("stamp");
    if !fs::read_to_string(&marked).is_ok_and(|made| made == stamp) {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        glue(&compiled, &folder)?;
        if shrink == Shrink::Yes {
            optimise(&folder.join(MODULE))?;
        }
        fs::copy(root().join("worker/shim.js"), folder.join("index.js"))?;
    }
    // Also without a rebuild: the file's time marks the build as current.
    fs::write(marked, stamp)?;
    let gzipped = weigh(&folder)?;
    // Only the shrunk module is deployed.
    if shrink == Shrink::Yes && gzipped > GZIPPED_MAX {
        bail!("the Worker has become too large");
    }
    if shrink == Shrink::Yes {
        let took = startup::measure(&folder)?;
        say(&format!(
            "start-up on workerd: {} ms more than an empty Worker",
            took.as_millis()
        ));
    }
    Ok(())
}

/// The folder of the built Worker.
fn folder(kind: Kind) -> PathBuf {
    root().join(match kind {
        Kind::Deployed => "worker/build",
        Kind::Measured => "worker/build-measured",
    })
}

const MODULE: &str = "glue_bg.wasm";

/// Identifies the inputs of the build, so that unchanged ones need no rebuild.
fn stamp(compiled: &Path, shrink: Shrink) -> Result<String> {
    let mut whole = blake3::Hasher::new();
    for part in [compiled, &root().join("worker/shim.js")] {
        whole.update(&fs::read(part)?);
    }
    Ok(format!("{} shrunk: {shrink:?}\n", whole.finalize()))
}

fn compile(kind: Kind) -> Result<PathBuf> {
    // Two compilers in one folder would rebuild everything at each switch.
    let target = target_folder().join("worker");
    let mut cargo = wasm::cargo_build()?;
    cargo
        .args(["--release", "--package", "pmx-worker", "--target-dir"])
        .arg(&target)
        // One unit of code is a tenth smaller than four, and the module has a bound.
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .args(SMALL.iter().flat_map(|(name, level)| {
            let setting = format!("profile.release.package.{name}.opt-level='{level}'");
            ["--config".to_owned(), setting]
        }))
        .current_dir(root())
        .stdin(Stdio::null());
    if kind == Kind::Measured {
        cargo.args(["--features", "measured"]);
    }
    let status = cargo.status().context("starting cargo for the Worker")?;
    ensure!(status.success(), "the Worker does not compile: {status}");
    Ok(target.join(wasm::TARGET).join("release/pmx_worker.wasm"))
}

fn glue(compiled: &Path, folder: &Path) -> Result<()> {
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(compiled)
        .out_name("glue")
        .typescript(false)
        // The shim restarts the module after a panic.
        .reset_state_function(true)
        .force_enable_abort_handler(true);
    bindgen
        .module(true)?
        .generate(folder)
        .context("making the glue of the Worker")?;
    // workerd imports WebAssembly modules without that keyword.
    let glue = folder.join("glue.js");
    let text = fs::read_to_string(&glue)?;
    ensure!(
        text.contains("import source "),
        "the glue of the Worker imports its module in another way than it did"
    );
    Ok(fs::write(glue, text.replace("import source ", "import "))?)
}

fn optimise(module: &Path) -> Result<()> {
    say("shrinking the module");
    let shrunk = module.with_extension("shrunk");
    let mut wasm_opt = Command::new(npm::program("wasm-opt"));
    wasm_opt
        .arg(module)
        .args(["-Os", "-o"])
        .arg(&shrunk)
        // The features that rustc used, and only ones that workerd supports.
        .args([
            "--enable-exception-handling",
            "--enable-simd",
            "--enable-mutable-globals",
            "--enable-sign-ext",
            "--enable-nontrapping-float-to-int",
            "--enable-bulk-memory",
            "--enable-multivalue",
            "--enable-reference-types",
        ]);
    let status = wasm_opt.stdin(Stdio::null()).status();
    let status = status.context("starting wasm-opt")?;
    ensure!(status.success(), "wasm-opt did not succeed: {status}");
    Ok(fs::rename(shrunk, module)?)
}

/// Prints the bytes of the Worker as Cloudflare counts them, and returns them.
fn weigh(folder: &Path) -> Result<usize> {
    let mut gzipped = 0;
    for file in ["index.js", "glue.js", MODULE] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&fs::read(folder.join(file))?)?;
        gzipped += encoder.finish()?.len();
    }
    let module = fs::metadata(folder.join(MODULE))?.len();
    say(&format!(
        "{}: {} KB, gzipped {} KB of at most {} KB",
        folder.strip_prefix(root()).unwrap_or(folder).display(),
        module / 1000,
        gzipped / 1000,
        GZIPPED_MAX / 1000
    ));
    Ok(gzipped)
}
