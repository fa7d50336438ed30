//! What a command works with, from its layers: flag, environment, `pmx.toml`, the user's file.
//!
//! `pmx.toml` is looked for in the current folder and upward; what it names is relative to it.
//! Neither file holds a token: the one is committed, the other is copied between machines.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use pmx_sync::code::Code;
use pmx_sync::name::SpaceName;
use serde::Deserialize;

use crate::args::{FolderArgs, ScanArgs, SiteArgs};
use crate::env::Environment;
use crate::error::Failure;
use crate::nearest::nearest;
use crate::server::{self, Reach, Server};
use crate::token::Token;

/// The name of a project's file.
pub const PROJECT_FILE: &str = "pmx.toml";

/// The folder that is published if none is named: PathMX's build output.
pub const DEFAULT_DIR: &str = ".pathmx";

/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Names of folders that say what they are but not what is in them.
const OUTPUT_NAMES: &[&str] = &[
    "dist", "build", "out", "output", "public", "html", "site", "_site", "www", ".pathmx",
];

/// The layers below the command line.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The environment.
    pub env: Environment,
    here: PathBuf,
    project: Option<Project>,
    user: FileLayer,
}

#[derive(Debug, Clone)]
struct Project {
    folder: PathBuf,
    layer: FileLayer,
}

/// What a configuration file may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileLayer {
    dir: Option<PathBuf>,
    server: Option<String>,
    space: Option<String>,
    data: Option<PathBuf>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    allow_collisions: bool,
}

const KEYS: &[&str] = &[
    "dir",
    "server",
    "space",
    "data",
    "exclude",
    "allow-collisions",
];

/// A site on a server, and what it takes to publish there.
#[derive(Debug, Clone)]
pub struct Site {
    /// The server.
    pub server: Server,
    /// The site's name.
    pub space: SpaceName,
    /// The secret, if one was found.
    pub token: Option<Token>,
}

/// A folder to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where it is.
    pub dir: PathBuf,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Whether colliding paths are published.
    pub collisions: pmx_sync::scan::Collisions,
}

impl Layers {
    /// Reads the layers of this program.
    pub fn of_program(env: Environment) -> Result<Self, Failure> {
        let here = std::env::current_dir().map_err(|error| {
            Failure::new(
                Code::Local,
                format!("can't tell the current folder: {error}"),
            )
        })?;
        let user = etcetera::choose_base_strategy().ok();
        let user = user.map(|dirs| dirs.config_dir().join("pmx").join("config.toml"));
        Self::read(env, here, user.as_deref())
    }

    /// Reads the layers as seen from the folder `here`.
    pub fn read(env: Environment, here: PathBuf, user: Option<&Path>) -> Result<Self, Failure> {
        let found = here.ancestors().map(|folder| folder.join(PROJECT_FILE));
        let mut project = None;
        for path in found {
            if let Some(layer) = read_file(&path)? {
                let folder = path.parent().unwrap_or(&here).to_owned();
                project = Some(Project { folder, layer });
                break;
            }
        }
        let user = user
            .map(read_file)
            .transpose()?
            .flatten()
            .unwrap_or_default();
        Ok(Self {
            env,
            here,
            project,
            user,
        })
    }

    /// The folder to publish.
    pub fn folder(&self, args: &FolderArgs) -> Folder {
        self.folder_at(args.dir.as_deref(), &args.scan)
    }

    /// The folder to publish, named or not.
    pub fn folder_at(&self, dir: Option<&Path>, scan: &ScanArgs) -> Folder {
        let configured = self.project.as_ref().and_then(|project| {
            let dir = project.layer.dir.as_ref()?;
            Some(project.folder.join(dir))
        });
        let beside = || match &self.project {
            Some(project) => project.folder.join(DEFAULT_DIR),
            None => self.here.join(DEFAULT_DIR),
        };
        let dir = match dir {
            Some(dir) => self.here.join(dir),
            None => configured.unwrap_or_else(beside),
        };
        let layers = [
            Some(&self.user),
            self.project.as_ref().map(|project| &project.layer),
        ];
        let layers = layers.into_iter().flatten();
        let mut exclude: Vec<_> = layers
            .clone()
            .flat_map(|layer| layer.exclude.clone())
            .collect();
        exclude.extend(scan.exclude.iter().cloned());
        let allow = scan.allow_collisions || layers.clone().any(|layer| layer.allow_collisions);
        let collisions = if allow {
            pmx_sync::scan::Collisions::Allow
        } else {
            pmx_sync::scan::Collisions::Refuse
        };
        Folder {
            dir,
            exclude,
            collisions,
        }
    }

    /// The site that is meant, which is named after `dir` if nothing else names it.
    pub fn site(&self, args: &SiteArgs, dir: &Path) -> Result<Site, Failure> {
        let server = self.server(args.server.as_deref())?;
        let token = self.token(args, &server)?;
        let space = self.space(args.space.as_deref(), dir)?;
        Ok(Site {
            server,
            space,
            token,
        })
    }

    /// The name of the site.
    pub fn space(&self, flag: Option<&str>, dir: &Path) -> Result<SpaceName, Failure> {
        let project = self
            .project
            .as_ref()
            .and_then(|project| project.layer.space.as_deref());
        let named = flag.or_else(|| self.env.var("PMX_SPACE")).or(project);
        match named.or(self.user.space.as_deref()) {
            Some(name) => Ok(SpaceName::parse(name)?),
            None => space_of_folder(dir),
        }
    }

    /// The data folder of the embedded host.
    pub fn data(&self, flag: Option<&Path>) -> Result<PathBuf, Failure> {
        let project = self.project.as_ref().and_then(|project| {
            let data = project.layer.data.as_ref()?;
            Some(project.folder.join(data))
        });
        let named = flag
            .map(Path::to_owned)
            .or_else(|| self.env.path("PMX_DATA"))
            .or(project);
        if let Some(data) = named.or_else(|| self.user.data.clone()) {
            return Ok(self.here.join(data));
        }
        let dirs = etcetera::choose_base_strategy().map_err(|_| {
            let message = "there is no home folder to keep the host's data in";
            Failure::usage(message).with_hint("Set PMX_DATA, or pass --data.")
        })?;
        Ok(dirs.data_dir().join("pmx"))
    }

    fn server(&self, flag: Option<&str>) -> Result<Server, Failure> {
        let project = self
            .project
            .as_ref()
            .and_then(|project| project.layer.server.as_deref());
        let named = flag.or_else(|| self.env.var("PMX_SERVER")).or(project);
        Server::parse(
            named
                .or(self.user.server.as_deref())
                .unwrap_or(server::DEFAULT),
        )
    }

    fn token(&self, args: &SiteArgs, server: &Server) -> Result<Option<Token>, Failure> {
        let env = || {
            self.env
                .var("PMX_TOKEN")
                .or_else(|| self.env.var("PATHMX_PUBLISH_TOKEN"))
        };
        if let Some(text) = args.token.as_deref().or_else(env) {
            return Token::parse(text).map(Some);
        }
        match (server.reach(), self.data(args.data.as_deref())) {
            (Reach::Loopback, Ok(folder)) => Token::of_host(&folder),
            // Without a home folder there is no host of this user either.
            (Reach::Loopback, Err(_)) | (Reach::Encrypted | Reach::Plain, _) => Ok(None),
        }
    }
}

fn read_file(path: &Path) -> Result<Option<FileLayer>, Failure> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(unreadable(path, &error)),
    };
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let message = format!(
            "\"{}\" is longer than {FILE_BYTES_MAX} bytes",
            path.display()
        );
        return Err(Failure::usage(message));
    }
    parse_file(path, &text).map(Some)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("can't read \"{}\": {error}", path.display()))
        .with_hint("Check its permissions.")
}

fn parse_file(path: &Path, text: &str) -> Result<FileLayer, Failure> {
    let fault = |error: &toml::de::Error| {
        let message = format!("\"{}\": {}", path.display(), error.to_string().trim_end());
        Failure::usage(message).with_hint(format!("It may say {}.", KEYS.join(", ")))
    };
    let table: toml::Table = text.parse().map_err(|error| fault(&error))?;
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let message = format!("\"{}\": there is no setting {key:?}", path.display());
        let hint = match (key.as_str(), nearest(key, KEYS)) {
            ("token", _) => "Set PMX_TOKEN instead: files like this one are shared.".to_owned(),
            (_, Some(near)) => format!("Did you mean {near:?}?"),
            (_, None) => format!("It may say {}.", KEYS.join(", ")),
        };
        return Err(Failure::usage(message).with_hint(hint));
    }
    toml::from_str(text).map_err(|error| fault(&error))
}

/// The name of a folder, or of the one above if it is only called after what it is.
fn space_of_folder(dir: &Path) -> Result<SpaceName, Failure> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let names = dir
        .ancestors()
        .filter_map(|folder| folder.file_name()?.to_str());
    let name = names
        .into_iter()
        .find(|name| !OUTPUT_NAMES.contains(name))
        .unwrap_or_default();
    SpaceName::parse(&label(name)).map_err(|_| {
        let message = format!(
            "the folder \"{}\" gives no name for the site",
            dir.display()
        );
        Failure::new(Code::NameInvalid, message)
            .with_hint("Name it with --space, PMX_SPACE or `space` in pmx.toml.")
    })
}

/// The nearest DNS label without two hyphens in a row.
fn label(name: &str) -> String {
    let mut label = String::new();
    for char in name.chars().map(|char| char.to_ascii_lowercase()) {
        match char {
            'a'..='z' | '0'..='9' => label.push(char),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.truncate(pmx_sync::limits::SPACE_NAME_BYTES_MAX);
    label.truncate(label.trim_end_matches('-').len());
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(env: &[(&str, &str)], project: &str, user: &str) -> (tempfile::TempDir, Layers) {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().join("my Site").join("dist");
        std::fs::create_dir_all(&here).unwrap();
        if !project.is_empty() {
            std::fs::write(folder.path().join("my Site").join(PROJECT_FILE), project).unwrap();
        }
        let user_file = folder.path().join("user.toml");
        std::fs::write(&user_file, user).unwrap();
        let env = env.iter().copied().collect();
        let layers = Layers::read(env, here, Some(&user_file)).unwrap();
        (folder, layers)
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_project_over_the_user() {
        let (env, project, user) = (
            ("PMX_SERVER", "env.example"),
            "server = \"project.example\"",
            "server = \"user.example\"",
        );
        for (flag, env, project, user, expected) in [
            (
                Some("flag.example"),
                Some(env),
                project,
                user,
                "https://flag.example",
            ),
            (None, Some(env), project, user, "https://env.example"),
            (None, None, project, user, "https://project.example"),
            (None, None, "", user, "https://user.example"),
            (None, None, "", "", server::DEFAULT),
            (None, Some(("PMX_SERVER", "")), "", "", server::DEFAULT),
        ] {
            let (_folder, layers) = layers(env.as_slice(), project, user);
            assert_eq!(layers.server(flag).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn the_folder_is_relative_to_who_names_it() {
        let (root, named) = layers(&[], "dir = \"out\"\nexclude = [\"*.map\"]", "");
        let project = root.path().join("my Site");
        let scan = ScanArgs {
            exclude: vec!["x".into()],
            ..ScanArgs::default()
        };
        let folder = named.folder_at(None, &scan);
        assert_eq!(folder.dir, project.join("out"));
        assert_eq!(folder.exclude, ["*.map", "x"]);
        assert_eq!(
            named.folder_at(Some(Path::new("a")), &scan).dir,
            project.join("dist/a")
        );
        let (root, silent) = layers(&[], "space = \"x\"", "");
        assert_eq!(
            silent.folder_at(None, &scan).dir,
            root.path().join("my Site/.pathmx")
        );
    }

    #[test]
    fn a_site_is_named_after_its_folder() {
        let (_root, layers) = layers(&[], "", "");
        let folder = layers.folder_at(Some(Path::new(".")), &ScanArgs::default());
        assert_eq!(layers.space(None, &folder.dir).unwrap().as_str(), "my-site");
        assert_eq!(
            layers.space(Some("docs"), &folder.dir).unwrap().as_str(),
            "docs"
        );
        for (name, expected) in [
            ("A  b__c", "a-b-c"),
            ("--x--", "x"),
            ("Übung 1", "bung-1"),
            ("é", ""),
        ] {
            assert_eq!(label(name), expected);
        }
        assert_eq!(space_of_folder(Path::new("/")).unwrap_err().exit(), 2);
        let reserved = Path::new("/nowhere/admin/dist");
        assert_eq!(
            space_of_folder(reserved).unwrap_err().code,
            Code::NameInvalid
        );
    }

    #[test]
    fn a_token_comes_from_the_environment_and_goes_only_where_it_should() {
        let both = [("PMX_TOKEN", "one"), ("PATHMX_PUBLISH_TOKEN", "two")];
        let token = |layers: &Layers, server: &str, data: Option<PathBuf>| {
            let args = SiteArgs {
                server: Some(server.into()),
                data,
                ..SiteArgs::default()
            };
            let found = layers.site(&args, Path::new("/x")).unwrap().token;
            found.map(|token| token.reveal().to_owned())
        };
        let (_a, first) = layers(&both, "", "");
        assert_eq!(token(&first, "example.org", None).as_deref(), Some("one"));
        let (_b, second) = layers(&both[1..], "", "");
        assert_eq!(token(&second, "example.org", None).as_deref(), Some("two"));
        // The secret of the host on this machine is for this machine only.
        let (root, none) = layers(&[], "", "");
        let secret = root.path().join(crate::host::SECRET_FILE);
        std::fs::write(&secret, "local").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let data = || Some(root.path().to_owned());
        assert_eq!(
            token(&none, "localhost:1", data()).as_deref(),
            Some("local")
        );
        assert_eq!(token(&none, "example.org", data()), None);
        assert_eq!(token(&none, "http://10.0.0.1", data()), None);
    }

    #[test]
    fn misspelt_settings_are_pointed_out() {
        let fault = |text: &str| {
            let failure = parse_file(Path::new("pmx.toml"), text).unwrap_err();
            assert_eq!(failure.exit(), 2);
            format!("{} {}", failure.message, failure.hint)
        };
        insta::assert_snapshot!(fault("sever = \"x\""), @r#""pmx.toml": there is no setting "sever" Did you mean "server"?"#);
        insta::assert_snapshot!(fault("token = \"x\""), @r#""pmx.toml": there is no setting "token" Set PMX_TOKEN instead: files like this one are shared."#);
        insta::assert_snapshot!(fault("colour = \"x\""), @r#""pmx.toml": there is no setting "colour" It may say dir, server, space, data, exclude, allow-collisions."#);
        assert!(fault("dir = 3").contains("dir = 3"));
        assert!(fault("dir = ").contains("line 1"));
    }
}
