//! Linux namespaces: a program with a network or a mount table of its own.

use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::world::skipped;

/// The namespaces that a program does not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    Mounts,
    MountsAndNetwork,
}

/// The folders of system programs, for a command with an empty environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The same command, run after a script of `sh` in its own namespaces. It keeps its process id, so
/// that signals reach it. `None`, after a message, if this system has no namespaces.
pub(crate) fn within(own: Own, setup: &str, inner: &Command) -> Option<Command> {
    if let Some(lack) = lack() {
        skipped("a network or a mount of one's own", lack);
        return None;
    }
    let script = format!("{setup}\nexec \"$0\" \"$@\"");
    let mut outer = unshare(own, &script);
    outer.arg(inner.get_program()).args(inner.get_args());
    outer.env_clear().env("PATH", PATH).stdin(Stdio::null());
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    if let Some(folder) = inner.get_current_dir() {
        outer.current_dir(folder);
    }
    Some(outer)
}

fn unshare(own: Own, script: &str) -> Command {
    let mut command = Command::new("unshare");
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root {
        command.arg("--map-root-user");
    }
    if own == Own::MountsAndNetwork {
        command.arg("--net");
    }
    command.args(["--mount", "sh", "-ec", script]);
    command
}

/// The reason why this system has no namespaces.
fn lack() -> Option<&'static str> {
    static LACK: OnceLock<Option<&str>> = OnceLock::new();
    *LACK.get_or_init(|| {
        let works = |script| {
            let mut command = unshare(Own::MountsAndNetwork, script);
            let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            ended.is_ok_and(|status| status.success())
        };
        if !cfg!(target_os = "linux") {
            Some("namespaces are Linux's")
        } else if !works("mount --bind /tmp /tmp") {
            Some("`unshare` may not: be root, or allow users to make namespaces")
        } else if !works("ip link set lo up") {
            Some("there is no `ip`: install iproute2")
        } else {
            None
        }
    })
}
