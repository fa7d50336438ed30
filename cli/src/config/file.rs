//! Configuration files: `pmx.toml` of a project and `config.toml` of the user.

use std::io::Read;
use std::path::{Path, PathBuf};

use pmx_sync::text;
use serde::Deserialize;

use super::trust;
use crate::error::Failure;
use crate::suggest::suggest;

/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Settings of a configuration file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FileLayer {
    pub(super) dir: Option<PathBuf>,
    pub(super) server: Option<String>,
    /// The user's other servers, from which a project may choose.
    #[serde(default)]
    pub(super) servers: Vec<String>,
    pub(super) space: Option<String>,
    pub(super) data: Option<PathBuf>,
    /// The only certificate authorities that the user trusts.
    pub(super) cacert: Option<PathBuf>,
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    #[serde(default)]
    pub(super) allow_collisions: bool,
    /// Settings of the published site.
    site: Option<toml::Table>,
    /// Their lines in the file.
    #[serde(skip)]
    site_lines: Option<String>,
}

/// Settings of the published site, in the project's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectSettings {
    /// `_site.toml`
    pub file: String,
    /// The lines of `pmx.toml` that have the settings, with empty lines in place of the others;
    /// none if the file writes them in another way than below `[site]`.
    pub lines: Option<String>,
}

impl FileLayer {
    /// The settings of the site.
    pub(super) fn settings(&self) -> Option<ProjectSettings> {
        Some(ProjectSettings {
            file: self.site.as_ref()?.to_string(),
            lines: self.site_lines.clone(),
        })
    }
}

/// The lines of `[site]`, if they have all of its settings.
fn site_lines(text: &str, site: &toml::Table) -> Option<String> {
    let (mut lines, mut is_site) = (String::new(), false);
    for line in text.lines() {
        let header = line.trim().strip_prefix('[');
        if let Some(header) = header {
            let name = header.split(']').next().unwrap_or_default();
            let below = name.trim().strip_prefix("site");
            is_site = below.is_some_and(|below| below.is_empty() || below.starts_with('.'));
            if let Some(table) = below.and_then(|below| below.strip_prefix('.')) {
                lines.extend(["[", table, "]"]);
            }
        } else if is_site {
            lines.push_str(line);
        }
        lines.push('\n');
    }
    let parsed: toml::Table = lines.parse().ok()?;
    (parsed == *site).then_some(lines)
}

/// The origin of a file, which decides the settings that it may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Project,
    User,
}

const PROJECT_KEYS: &[&str] = &[
    "dir",
    "server",
    "space",
    "data",
    "exclude",
    "allow-collisions",
    "site",
];

const USER_KEYS: &[&str] = &[
    "dir",
    "server",
    "servers",
    "space",
    "data",
    "cacert",
    "exclude",
    "allow-collisions",
];

impl Whose {
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Project => PROJECT_KEYS,
            Self::User => USER_KEYS,
        }
    }
}

/// Reads a file; `None` if it does not exist.
pub(super) fn read(path: &Path, whose: Whose) -> Result<Option<FileLayer>, Failure> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    };
    if !metadata.is_file() {
        let message = format!("\"{}\" is not a file", path.display());
        return Err(Failure::usage(message).with_hint("Rename it, or put the settings there."));
    }
    trust::check_owner(path)?;
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!(
            "\"{}\" is longer than {FILE_BYTES_MAX} bytes",
            path.display()
        );
        return Err(Failure::usage(message));
    }
    let text = text::decode(&bytes).map_err(|fault| {
        Failure::usage(format!("\"{}\" {fault}", path.display()))
            .with_hint("Save it as UTF-8: most editors offer that under \"Save with encoding\".")
    })?;
    parse(path, text, whose).map(Some)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("can't read \"{}\": {error}", path.display()))
        .with_hint("Check its permissions.")
}

pub(super) fn parse(path: &Path, text: &str, whose: Whose) -> Result<FileLayer, Failure> {
    let keys = whose.keys();
    let fault = |error: &toml::de::Error| {
        let message = format!("\"{}\": {}", path.display(), error.to_string().trim_end());
        Failure::usage(message).with_hint(format!("It may say {}.", keys.join(", ")))
    };
    let table: toml::Table = text.parse().map_err(|error| fault(&error))?;
    if let Some(key) = table.keys().find(|key| !keys.contains(&key.as_str())) {
        let message = format!("\"{}\": there is no setting {key:?}", path.display());
        let hint = match (key.as_str(), suggest(key, keys)) {
            ("token", _) => "Set PMX_TOKEN instead: files like this one are shared.".to_owned(),
            ("cacert", _) => {
                "Set PMX_CACERT or pass --cacert: a project has no say in whom you trust."
                    .to_owned()
            }
            ("servers", _) => "List servers in the config.toml of the user.".to_owned(),
            (_, Some(near)) => format!("Did you mean {near:?}?"),
            (_, None) => format!("It may say {}.", keys.join(", ")),
        };
        return Err(Failure::usage(message).with_hint(hint));
    }
    let layer: FileLayer = toml::from_str(text).map_err(|error| fault(&error))?;
    let site_lines = layer.site.as_ref().and_then(|site| site_lines(text, site));
    Ok(FileLayer {
        site_lines,
        ..layer
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_settings_are_pointed_out() {
        let fault = |text: &str| {
            let failure = parse(Path::new("pmx.toml"), text, Whose::Project).unwrap_err();
            assert_eq!(failure.exit(), 2);
            format!("{} {}", failure.message, failure.hint)
        };
        insta::assert_snapshot!(fault("sever = \"x\""), @r#""pmx.toml": there is no setting "sever" Did you mean "server"?"#);
        insta::assert_snapshot!(fault("token = \"x\""), @r#""pmx.toml": there is no setting "token" Set PMX_TOKEN instead: files like this one are shared."#);
        insta::assert_snapshot!(fault("servers = [\"x\"]"), @r#""pmx.toml": there is no setting "servers" List servers in the config.toml of the user."#);
        insta::assert_snapshot!(fault("colour = \"x\""), @r#""pmx.toml": there is no setting "colour" It may say dir, server, space, data, exclude, allow-collisions, site."#);
        assert!(fault("dir = 3").contains("dir = 3"));
        assert!(fault("dir = ").contains("line 1"));
    }

    #[test]
    fn lines_of_the_site_stay_where_they_are() {
        let lines = |text: &str| {
            let layer = parse(Path::new("pmx.toml"), text, Whose::Project).unwrap();
            layer.settings().map(|settings| settings.lines)
        };
        for (text, expected) in [
            ("dir = \"x\"\n", None),
            (
                "dir = \"x\"\n\n[site] # it\n  html = \"x\"\n[site.types]\n\".a\" = \"b\"\n",
                Some(Some(
                    "\n\n\n  html = \"x\"\n[types]\n\".a\" = \"b\"\n".to_owned(),
                )),
            ),
            ("site = { html = \"x\" }\n", Some(None)),
        ] {
            assert_eq!(lines(text), expected, "{text}");
        }
    }

    #[test]
    fn read_takes_files_as_editors_write_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pmx.toml");
        let space = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let layer = read(&path, Whose::Project).map_err(|failure| failure.message)?;
            Ok::<_, String>(layer.unwrap().space)
        };
        for text in [
            "space = \"a\"\n",
            "\u{feff}space = \"a\"\r\nexclude = []\r\n",
        ] {
            assert_eq!(space(text.as_bytes()), Ok(Some("a".into())), "{text:?}");
        }
        let utf16: Vec<u8> = "\u{feff}space = \"a\"\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(space(&utf16).unwrap_err().contains("UTF-16"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(
            read(&path, Whose::Project)
                .unwrap_err()
                .message
                .contains("is not a file")
        );
    }
}
