//! Layered configuration: flag, environment, `pmx.toml`, the user's file.
//!
//! `pmx` searches `pmx.toml` in the current folder and upward. Paths in it are relative to it.
//! Neither file holds a token: projects commit the one, and users copy the other between machines.
//! The user's file has full authority; `trust` limits a project file.

mod file;
mod trust;

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_sync::scan::{Collisions, Secrets};

use crate::args::{FolderArgs, ScanArgs, SiteArgs};
use crate::env::Environment;
use crate::error::Failure;
use crate::server::{self, LinkSecurity, ServerUrl};
use crate::token::Token;
use crate::trust::Trust;

pub use file::ProjectSettings;
use file::{FileLayer, Whose};
use trust::Named;

/// The name of a project's file.
pub const PROJECT_FILE: &str = "pmx.toml";

/// The folder that `pmx` publishes by default: PathMX's build output.
pub const DEFAULT_DIR: &str = ".pathmx";

/// Generic folder names, which say nothing about the site in them.
const OUTPUT_NAMES: &[&str] = &[
    "dist", "build", "out", "output", "public", "html", "site", "_site", "www", ".pathmx",
];

/// The layers below the command line.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The environment.
    pub env: Environment,
    here: PathBuf,
    home: Option<PathBuf>,
    project: Option<Project>,
    user: FileLayer,
}

#[derive(Debug, Clone)]
struct Project {
    file: PathBuf,
    folder: PathBuf,
    layer: FileLayer,
}

/// A site on a server, and the settings for publishing to it.
#[derive(Debug, Clone)]
pub struct SiteConfig {
    /// The server.
    pub server: ServerUrl,
    /// The site's name.
    pub space: SpaceName,
    /// The secret, if one was found.
    pub token: Option<Token>,
    /// The certificate authorities that the client trusts.
    pub trust: Trust,
}

/// A folder to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderConfig {
    /// Its path.
    pub dir: PathBuf,
    /// Patterns of excluded paths.
    pub exclude: Vec<String>,
    /// Whether `pmx` publishes colliding paths.
    pub collisions: Collisions,
    /// Whether `pmx` publishes private keys.
    pub secrets: Secrets,
    /// The only published Path of a PathMX build.
    pub path: Option<String>,
    /// The site's settings in the project's file.
    pub settings: Option<ProjectSettings>,
}

impl FolderConfig {
    /// Makes the folder's path absolute. If the current folder is removed and created again, only
    /// an absolute path finds the new one.
    #[must_use]
    pub fn absolute(self) -> Self {
        let dir = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        Self { dir, ..self }
    }
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

    /// Reads the layers for the current folder `here`.
    pub fn read(env: Environment, here: PathBuf, user: Option<&Path>) -> Result<Self, Failure> {
        let found = here.ancestors().map(|folder| folder.join(PROJECT_FILE));
        let mut project = None;
        for path in found {
            if let Some(layer) = file::read(&path, Whose::Project)? {
                let folder = path.parent().unwrap_or(&here).to_owned();
                project = Some(Project {
                    file: path,
                    folder,
                    layer,
                });
                break;
            }
        }
        let user = user
            .map(|path| file::read(path, Whose::User))
            .transpose()?
            .flatten()
            .unwrap_or_default();
        let home = env.path("HOME").or_else(|| etcetera::home_dir().ok());
        Ok(Self {
            env,
            here,
            home,
            project,
            user,
        })
    }

    /// The folder to publish.
    pub fn folder(&self, args: &FolderArgs) -> Result<FolderConfig, Failure> {
        self.folder_at(args.dir.as_deref(), &args.scan)
    }

    /// The folder to publish, named or default. A folder that the user did not name must be below
    /// the project.
    pub fn folder_at(&self, dir: Option<&Path>, scan: &ScanArgs) -> Result<FolderConfig, Failure> {
        let project = self.project.as_ref();
        let (dir, named) = match dir {
            Some(dir) => (self.here.join(dir), Named::ByUser),
            None => self.unnamed_folder(),
        };
        trust::check_folder(&dir, named, self.home.as_deref())?;
        let layers = [Some(&self.user), project.map(|project| &project.layer)];
        let layers = layers.into_iter().flatten();
        let mut exclude: Vec<_> = layers
            .clone()
            .flat_map(|layer| layer.exclude.clone())
            .collect();
        exclude.extend(scan.exclude.iter().cloned());
        let allow = scan.allow_collisions || layers.clone().any(|layer| layer.allow_collisions);
        let collisions = match (scan.strict, allow) {
            (true, _) => Collisions::Refuse,
            (false, true) => Collisions::Allow,
            (false, false) => Collisions::Warn,
        };
        // No configuration file may decide this.
        let secrets = if scan.allow_secrets {
            Secrets::Allow
        } else {
            Secrets::Refuse
        };
        Ok(FolderConfig {
            dir,
            exclude,
            collisions,
            secrets,
            path: scan.path.clone(),
            settings: project.and_then(|project| project.layer.settings()),
        })
    }

    /// The folder of the layers below the command line.
    fn unnamed_folder(&self) -> (PathBuf, Named<'_>) {
        let Some(project) = &self.project else {
            return (self.here.join(DEFAULT_DIR), Named::Below(&self.here));
        };
        let dir = project.layer.dir.as_deref();
        let dir = dir.unwrap_or(Path::new(DEFAULT_DIR));
        (project.folder.join(dir), Named::Below(&project.folder))
    }

    /// The user's site. `dir` names it if no layer does.
    pub fn site(&self, args: &SiteArgs, dir: &Path) -> Result<SiteConfig, Failure> {
        let server = self.server(args.at.server.as_deref())?;
        let token = self.token(args, &server)?;
        self.check_server(args, &server, token.as_ref())?;
        let space = self.space(args.space.as_deref(), dir)?;
        let trust = self.trust(args.at.cacert.as_deref())?;
        Ok(SiteConfig {
            server,
            space,
            token,
            trust,
        })
    }

    /// The trusted certificate authorities. A project's file cannot set them, because it comes with
    /// a checkout.
    fn trust(&self, flag: Option<&Path>) -> Result<Trust, Failure> {
        let named = flag
            .map(Path::to_owned)
            .or_else(|| self.env.path("PMX_CACERT"))
            .or_else(|| self.user.cacert.clone());
        let file = named.map(|file| self.here.join(file));
        file.map_or_else(|| Ok(Trust::default()), |file| Trust::of_file(&file))
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
        let named = flag
            .map(Path::to_owned)
            .or_else(|| self.env.path("PMX_DATA"));
        let named = match named {
            Some(data) => Some(data),
            None => self.project_data()?,
        };
        if let Some(data) = named.or_else(|| self.user.data.clone()) {
            return Ok(self.here.join(data));
        }
        let dirs = etcetera::choose_base_strategy().map_err(|_| {
            let message = "there is no home folder to keep the host's data in";
            Failure::usage(message).with_hint("Set PMX_DATA, or pass --data.")
        })?;
        Ok(dirs.data_dir().join("pmx"))
    }

    fn project_data(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(project) = &self.project else {
            return Ok(None);
        };
        let data = project.layer.data.as_ref();
        let data = data.map(|data| project.folder.join(data));
        if let Some(data) = &data {
            trust::check_data(data, &project.folder)?;
        }
        Ok(data)
    }

    fn server(&self, flag: Option<&str>) -> Result<ServerUrl, Failure> {
        let project = self
            .project
            .as_ref()
            .and_then(|project| project.layer.server.as_deref());
        let named = flag.or_else(|| self.env.var("PMX_SERVER")).or(project);
        ServerUrl::parse(named.unwrap_or(self.users_server()))
    }

    /// The user's server if neither a flag nor a variable names one.
    fn users_server(&self) -> &str {
        self.user.server.as_deref().unwrap_or(server::DEFAULT)
    }

    /// Refuses a server that only the project file names. Without a token, the client may contact a
    /// server on this machine.
    fn check_server(
        &self,
        args: &SiteArgs,
        server: &ServerUrl,
        token: Option<&Token>,
    ) -> Result<(), Failure> {
        let is_named = args.at.server.is_some() || self.env.var("PMX_SERVER").is_some();
        let project = self.project.as_ref();
        let Some(project) = project.filter(|it| !is_named && it.layer.server.is_some()) else {
            return Ok(());
        };
        let users = self.user.servers.iter().map(String::as_str);
        for known in users.chain([self.users_server()]) {
            if ServerUrl::parse(known)? == *server {
                return Ok(());
            }
        }
        match (server.reach(), token) {
            (LinkSecurity::Loopback, None) => Ok(()),
            (LinkSecurity::Loopback | LinkSecurity::Encrypted | LinkSecurity::Plain, _) => {
                Err(trust::unknown_server(server, &project.file))
            }
        }
    }

    fn token(&self, args: &SiteArgs, server: &ServerUrl) -> Result<Option<Token>, Failure> {
        let env = || {
            self.env
                .var("PMX_TOKEN")
                .or_else(|| self.env.var("PATHMX_PUBLISH_TOKEN"))
        };
        if let Some(file) = &args.at.token_file {
            let is_stdin = file.as_os_str() == "-";
            return if is_stdin {
                Token::of_stdin().map(Some)
            } else {
                Token::of_file(&self.here.join(file)).map(Some)
            };
        }
        if let Some(text) = args.at.token.as_deref().or_else(env) {
            return Token::parse(text).map(Some);
        }
        match (server.reach(), self.data(args.at.data.as_deref())) {
            (LinkSecurity::Loopback, Ok(folder)) => Token::of_host(&folder),
            (LinkSecurity::Loopback, Err(failure)) if failure.code == Code::Untrusted => {
                Err(failure)
            }
            // Without a home folder, this user has no host either.
            (LinkSecurity::Loopback, Err(_))
            | (LinkSecurity::Encrypted | LinkSecurity::Plain, _) => Ok(None),
        }
    }
}

/// The name of a folder, or of its parent if the name is generic.
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
    label.truncate(pmx_core::limits::SPACE_NAME_BYTES_MAX);
    label.truncate(label.trim_end_matches('-').len());
    label
}

#[cfg(test)]
mod tests;
