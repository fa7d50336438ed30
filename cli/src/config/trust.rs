//! Trust in project files: `pmx.toml` comes with a checkout, so another person may have written it.
//!
//! A project file only chooses among servers that the user knows. It cannot add a server that
//! receives a token, a folder outside the project, or a data folder whose secret is sent. `pmx`
//! refuses a file that another user of this machine owns, because the search upward passes folders
//! such as `/tmp`.

use std::path::{Component, Path, PathBuf};

use pmx_core::code::Code;

use crate::error::Failure;
use crate::host::SECRET_FILE;
use crate::owner::foreign_owner;
use crate::server::ServerUrl;

/// Folders below the user's home that hold credentials, whatever name a project uses for them.
const CREDENTIALS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".config/gcloud",
    ".config/gh",
    ".config/pmx",
    ".password-store",
    ".local/share/keyrings",
    "Library/Keychains",
];

/// The origin of a folder's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// On the command line.
    ByUser,
    /// By a project file or by default: the folder must be below this one.
    Below(&'a Path),
}

/// Refuses a folder to publish that the user did not choose.
pub(super) fn check_folder(
    dir: &Path,
    named: Named<'_>,
    home: Option<&Path>,
) -> Result<(), Failure> {
    // The scan reports a folder that does not exist.
    let Ok(real) = dir.canonicalize() else {
        return Ok(());
    };
    if let Named::Below(project) = named
        && !project
            .canonicalize()
            .is_ok_and(|project| real.starts_with(project))
    {
        let message = format!(
            "\"{}\" leads to \"{}\", outside of the project \"{}\"",
            dir.display(),
            real.display(),
            project.display()
        );
        let hint = "Name the folder on the command line if you mean to publish it.";
        return Err(untrusted(message).with_hint(hint));
    }
    let is_chosen = named == Named::ByUser && is_plain(dir, &real);
    if !is_chosen && let Some(private) = private(&real, home) {
        let message = format!(
            "\"{}\" is {private}: pmx does not publish it",
            dir.display()
        );
        return Err(untrusted(message).with_hint("Name another folder."));
    }
    Ok(())
}

/// Whether a path has no link, and so leads to its literal target.
fn is_plain(dir: &Path, real: &Path) -> bool {
    std::path::absolute(dir).is_ok_and(|dir| dir.components().eq(real.components()))
}

/// The kind of a private folder, which no project file may publish; `None` for others.
fn private(real: &Path, home: Option<&Path>) -> Option<String> {
    if real.parent().is_none() {
        return Some("the whole file system".into());
    }
    let home = home?.canonicalize().ok()?;
    if home.starts_with(real) {
        return Some("the home folder of the user, or above it".into());
    }
    let below = real.strip_prefix(&home).ok()?;
    let found = CREDENTIALS.iter().find(|name| below.starts_with(name))?;
    Some(format!("in ~/{found}, which holds credentials"))
}

/// Refuses a data folder of a project file that is not below the project.
pub(super) fn check_data(data: &Path, project: &Path) -> Result<(), Failure> {
    let project_is = project.canonicalize().ok();
    let is_below = |path: &Path| {
        let places = project_is.as_ref().zip(resolved(path));
        places.is_some_and(|(project, path)| path.starts_with(project))
    };
    // The secret itself may be a link.
    if is_below(data) && is_below(&data.join(SECRET_FILE)) {
        return Ok(());
    }
    let message = format!(
        "the project file names the data folder \"{}\", which is outside of the project",
        data.display()
    );
    Err(untrusted(message).with_hint("Name it with --data or PMX_DATA."))
}

/// The target of a path whose last folders may not exist yet.
fn resolved(path: &Path) -> Option<PathBuf> {
    let existing = path
        .ancestors()
        .find(|above| above.symlink_metadata().is_ok())?;
    let rest = path.strip_prefix(existing).ok()?;
    let is_simple = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    let real = existing.canonicalize().ok()?;
    rest.components().all(is_simple).then(|| real.join(rest))
}

/// The failure of a command whose server only a project file names.
pub(super) fn unknown_server(server: &ServerUrl, file: &Path) -> Failure {
    let message = format!(
        "\"{}\" names the server {server}, which you did not choose: no token goes there",
        file.display()
    );
    untrusted(message).with_hint(format!(
        "If you trust it, set PMX_SERVER={server}, pass --server, or list it under `servers` in your config.toml."
    ))
}

/// Refuses a file that another user of this machine owns.
pub(super) fn check_owner(path: &Path) -> Result<(), Failure> {
    let Some(owner) = foreign_owner(path) else {
        return Ok(());
    };
    let message = format!(
        "\"{}\" belongs to another user of this machine (uid {owner})",
        path.display()
    );
    Err(untrusted(message).with_hint("Make it yours with chown, or work in another folder."))
}

fn untrusted(message: String) -> Failure {
    Failure::new(Code::Untrusted, message)
}
