//! `pmx put` and `pmx rm`: one file of a site replaced, or a few removed, without the folder.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use pmx_sync::limits::BLOB_BYTES_MAX;
use pmx_sync::path::SitePath;
use pmx_sync::scan::{self, Scan};
use tempfile::{NamedTempFile, TempDir};

use super::edit::EditJob;
use super::pull::site_path;
use super::{Context, Ended};
use crate::args::{PutArgs, RmArgs, ScanArgs};
use crate::client::edited_site::SiteEdits;
use crate::error::Failure;
use crate::source_tree::{self, AllowEmpty};
use crate::ui::Counting;
use crate::warnings;

/// Names standard input in place of a file.
const STDIN: &str = "-";

pub(super) fn put(args: PutArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let path = site_path(&args.path)?;
    check_input(&args)?;
    let how = ScanArgs {
        strict: args.strict,
        allow_collisions: args.allow_collisions,
        allow_secrets: args.allow_secrets,
        ..ScanArgs::default()
    };
    let job = EditJob::new(args.edit, &how, context)?;
    let content = Content::of(&args.file)?;
    let options = scan::Options {
        secrets: job.secrets(),
        ..scan::Options::default()
    };
    let scan = read(&path, content.place(), &options, context)?;
    let edits = SiteEdits::put(scan);
    job.run(&edits, format!("puts {path}"), context)
}

pub(super) fn rm(args: RmArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let paths = args.paths.iter().map(|path| site_path(path));
    let edits = SiteEdits::remove(paths.collect::<Result<Vec<_>, _>>()?);
    let mut job = EditJob::new(args.edit, &ScanArgs::default(), context)?;
    if args.allow_empty {
        job.allow_empty = AllowEmpty::Yes;
    }
    let message = match &edits.paths().collect::<Vec<_>>()[..] {
        [path] => format!("removes {path}"),
        paths => format!("removes {} files", paths.len()),
    };
    job.run(&edits, message, context)
}

/// Standard input is read once: for the secret, or for the content.
fn check_input(args: &PutArgs) -> Result<(), Failure> {
    let secret = args.edit.site.at.token_file.as_deref();
    if args.file == Path::new(STDIN) && secret == Some(Path::new(STDIN)) {
        let message = "both the content and the secret are to come from standard input";
        return Err(Failure::usage(message).with_hint("Put the secret into PMX_TOKEN."));
    }
    Ok(())
}

/// Reads the file, and warns about its name as a sync does.
fn read(
    path: &SitePath,
    file: &Path,
    options: &scan::Options,
    context: &Context<'_>,
) -> Result<Scan, Failure> {
    if file.is_dir() {
        let message = format!("{} is a folder, and `pmx put` takes a file", file.display());
        return Err(Failure::usage(message).with_hint("`pmx sync DIR` publishes a folder."));
    }
    let bar = context.ui.bar(Counting::Files, 0);
    let scan = scan::scan_file(path, file, options, &bar, source_tree::now())?;
    bar.finish();
    warnings::report(&scan, context.ui);
    Ok(scan)
}

/// The content to put: a file of the user's, or a copy of standard input.
enum Content {
    File(PathBuf),
    /// The copy is alone in a folder that no other user can open.
    Copy {
        copy: NamedTempFile,
        _folder: TempDir,
    },
}

impl Content {
    fn of(file: &Path) -> Result<Self, Failure> {
        if file != Path::new(STDIN) {
            return Ok(Self::File(file.to_owned()));
        }
        let place = std::env::temp_dir();
        let failed = |error| Failure::local("can't copy standard input to", &place, &error);
        let folder = private_folder(&place).map_err(failed)?;
        let mut copy = NamedTempFile::new_in(folder.path()).map_err(failed)?;
        // One byte more than the limit says that there is too much.
        let mut input = io::stdin().lock().take(BLOB_BYTES_MAX + 1);
        io::copy(&mut input, copy.as_file_mut()).map_err(failed)?;
        Ok(Self::Copy {
            copy,
            _folder: folder,
        })
    }

    fn place(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Copy { copy, .. } => copy.path(),
        }
    }
}

/// Makes a temporary folder that no other user can open.
fn private_folder(place: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    builder.tempdir_in(place)
}
