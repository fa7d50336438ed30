//! wasm32 toolchain: a cargo that compiles for wasm32, if this machine has one.
//!
//! rustup adds the target in seconds if it can reach its servers. Otherwise Debian's second
//! toolchain (`rustc-web`) is used. It comes with the sources of the standard library instead of
//! the library. So cargo builds the library as well, once for each target folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::say;

/// The target of the Worker.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// `cargo build` for wasm32, set up for C code and for the processor's features.
pub(crate) fn cargo_build() -> Result<Command> {
    let mut command = compiler()?;
    command
        .args(["--target", TARGET])
        // BLAKE3 and zstd are half as fast without it.
        .env("RUSTFLAGS", "-Ctarget-feature=+simd128")
        .env("CC_wasm32_unknown_unknown", clang()?)
        .env("CFLAGS_wasm32_unknown_unknown", ZSTD_WITHOUT)
        // rustc creates its own archive from this one, so the host's `ar` is sufficient.
        .env("AR_wasm32_unknown_unknown", "ar")
        // The glue of workers-rs expects this option of wasm-bindgen.
        .env("WASM_BINDGEN_USE_JS_SYS", "1");
    Ok(command)
}

/// Excludes zstd's slow searches. The Worker compresses only at zstd's fast levels, and the others
/// are a tenth of its size. If a caller requests an excluded level, zstd uses the next available
/// one.
const ZSTD_WITHOUT: &str = "-DZSTD_EXCLUDE_GREEDY_BLOCK_COMPRESSOR \
     -DZSTD_EXCLUDE_LAZY_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_LAZY2_BLOCK_COMPRESSOR \
     -DZSTD_EXCLUDE_BTLAZY2_BLOCK_COMPRESSOR -DZSTD_EXCLUDE_BTOPT_BLOCK_COMPRESSOR \
     -DZSTD_EXCLUDE_BTULTRA_BLOCK_COMPRESSOR";

fn compiler() -> Result<Command> {
    let own = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if !has_std(&own) {
        add_target();
    }
    if has_std(&own) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.arg("build");
        return Ok(command);
    }
    if !has_debian() || find("wasm-ld").is_none() {
        install(&["rustc-web", "cargo-web", "rust-web-src", "lld-22"])?;
    }
    let mut command = Command::new(DEBIAN_CARGO);
    command
        .args(["build", "-Zbuild-std=std,panic_abort"])
        .env("RUSTC", DEBIAN_RUSTC)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker()?)
        // Only this setting lets the toolchain build its own library; the project's code uses no
        // unstable features.
        .env("RUSTC_BOOTSTRAP", "1");
    Ok(command)
}

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// Whether a compiler has a standard library for wasm32.
fn has_std(rustc: &OsString) -> bool {
    let mut asked = Command::new(rustc);
    asked.args(["--print", "target-libdir", "--target", TARGET]);
    let Ok(answer) = asked.stderr(Stdio::null()).output() else {
        return false;
    };
    let folder = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name())
        .any(|name| name.to_string_lossy().starts_with("libstd-"))
}

fn add_target() {
    say(&format!("adding {TARGET} with rustup"));
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    // The check afterwards shows whether it worked.
    let _tried = rustup.env("RUSTUP_MAX_RETRIES", "1").status();
}

/// Whether Debian's toolchain is installed, with its sources.
fn has_debian() -> bool {
    let mut asked = Command::new(DEBIAN_RUSTC);
    let Ok(answer) = asked.args(["--print", "sysroot"]).output() else {
        return false;
    };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim());
    Path::new(DEBIAN_CARGO).exists() && sysroot.join("lib/rustlib/src/rust/library").exists()
}

fn clang() -> Result<String> {
    if let Some(found) = find("clang") {
        return Ok(found);
    }
    install(&["clang"])?;
    find("clang").context("clang was installed and is not there")
}

/// A linker: Debian's rustc comes without its default one.
fn linker() -> Result<String> {
    find("wasm-ld").context("lld-22 was installed, and wasm-ld is not there")
}

/// A program of LLVM, under any name of its package.
fn find(program: &str) -> Option<String> {
    let numbered = (14..40).rev().map(|version| format!("{program}-{version}"));
    let mut names = std::iter::once(program.to_owned()).chain(numbered);
    names.find(|name| {
        let mut asked = Command::new(name);
        let asked = asked.arg("--version").stdout(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    })
}

/// Installs Debian packages, if possible.
fn install(packages: &[&str]) -> Result<()> {
    let wanted = packages.join(" ");
    let id = Command::new("id").arg("-u").output();
    let is_root = id.is_ok_and(|id| id.stdout == b"0\n");
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    if !is_root && !is_ci {
        bail!("this is missing: {wanted}\n  sudo apt-get install {wanted}");
    }
    say(&format!("installing {wanted}"));
    for arguments in [
        ["update"].to_vec(),
        [&["install", "--yes", "--no-install-recommends"], packages].concat(),
    ] {
        let mut apt = Command::new(if is_root { "apt-get" } else { "sudo" });
        let program: &[&str] = if is_root { &[] } else { &["-n", "apt-get"] };
        apt.args(program)
            .args(&arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        let status = apt.stdin(Stdio::null()).status();
        let status = status.with_context(|| format!("installing {wanted}"))?;
        if !status.success() {
            bail!(
                "installing {wanted}: apt-get {} failed",
                arguments.join(" ")
            );
        }
    }
    Ok(())
}
