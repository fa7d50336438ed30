//! Declared artifacts: the files and rules of a Path, from its two lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;

use super::super::error::{ScanFault, shown};
use super::super::stat::{self, FileKind};
use super::super::virtual_files::{Clash, VirtualFile, VirtualFiles};
use super::json::{self, Members, PATHS_FILE, invalid};
use super::rules::{BuildRules, raw_path};
use crate::limits::FILES_MAX;
use crate::path::SitePath;
use crate::rules::{CachePolicy, GeneratedRoute, RedirectStatus};

/// The folder of a site that belongs to the server.
const RESERVED: &str = "_pmx/";

/// Missing files that an error names.
const NAMED_MAX: usize = 5;

/// The folder and the lists of a Path, all below the top of the build.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct PathEntry {
    #[serde(rename = "outputPath")]
    pub(super) output: String,
    #[serde(rename = "artifactsPath")]
    pub(super) artifacts: String,
    #[serde(rename = "routesPath")]
    pub(super) routes: String,
}

#[derive(Deserialize)]
struct ArtifactsFile {
    artifacts: Members<Artifact>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    artifact_path: String,
    #[serde(default)]
    cache_policy: Option<DeclaredPolicy>,
}

#[derive(Deserialize)]
struct DeclaredPolicy {
    #[serde(default)]
    mode: Option<String>,
}

impl Artifact {
    /// The artifact's policy, if it has one. An unknown mode is the careful one: a later PathMX may
    /// add modes, and a page that is asked for again is never wrong.
    fn policy(&self) -> Option<CachePolicy> {
        let mode = self.cache_policy.as_ref()?.mode.as_deref()?;
        Some(match mode {
            "immutable" => CachePolicy::Immutable,
            _ => CachePolicy::Revalidate,
        })
    }
}

#[derive(Deserialize)]
struct RoutesFile {
    routes: Members<DeclaredRoute>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeclaredRoute {
    r#type: String,
    #[serde(default)]
    artifact_path: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    status: Option<u16>,
}

/// The artifacts of a build's Paths, as files and rules of one site.
pub(super) struct Declared<'a> {
    place: &'a Path,
    files: VirtualFiles,
    rules: BuildRules,
    /// Files on disk that the lists name.
    sources: BTreeSet<SitePath>,
}

/// A Path that is being added.
struct PathLists<'a> {
    prefix: &'a str,
    output: String,
    artifacts: SitePath,
    routes: SitePath,
}

impl PathLists<'_> {
    /// The file on disk of an artifact path.
    fn source(&self, list: &SitePath, artifact: &str) -> Result<SitePath, ScanFault> {
        let path = if self.output.is_empty() {
            artifact.to_owned()
        } else {
            format!("{}/{artifact}", self.output)
        };
        // An absolute path would otherwise look like one with an empty segment.
        let parsed = SitePath::parse(artifact).and_then(|_| SitePath::parse(&path));
        parsed
            .map_err(|fault| invalid(list.as_str(), format!("names a file that is none: {fault}")))
    }

    /// The path in the site of an artifact path.
    fn site_path(&self, artifact: &str) -> Result<SitePath, ScanFault> {
        Ok(SitePath::parse(&format!("{}{artifact}", self.prefix))?)
    }

    /// The artifact path of a list: relative to the Path's folder, if it is there.
    fn artifact_path<'l>(&self, list: &'l SitePath) -> &'l str {
        let inside = list.as_str().strip_prefix(&self.output);
        let inside = inside.and_then(|rest| match self.output.as_str() {
            "" => Some(rest),
            _ => rest.strip_prefix('/'),
        });
        inside.unwrap_or_else(|| list.name())
    }
}

impl<'a> Declared<'a> {
    pub(super) fn new(place: &'a Path) -> Self {
        Self {
            place,
            files: VirtualFiles::default(),
            rules: BuildRules::default(),
            sources: BTreeSet::new(),
        }
    }

    /// Adds the files and rules of a Path below a prefix.
    pub(super) fn add(&mut self, prefix: &str, entry: &PathEntry) -> Result<(), ScanFault> {
        let lists = PathLists {
            prefix,
            output: folder(&entry.output)?,
            artifacts: list(&entry.artifacts)?,
            routes: list(&entry.routes)?,
        };
        let mut named = BTreeMap::new();
        for list in [&lists.artifacts, &lists.routes] {
            let artifact = lists.artifact_path(list).to_owned();
            self.publish(&format!("{prefix}{artifact}"), list, None)?;
            named.insert(artifact, list.clone());
        }
        let public = self.add_artifacts(&lists, &mut named)?;
        self.add_routes(&lists, &named, &public)
    }

    /// Adds the artifacts of a Path, and returns their public paths below the top.
    fn add_artifacts(
        &mut self,
        lists: &PathLists<'_>,
        named: &mut BTreeMap<String, SitePath>,
    ) -> Result<BTreeSet<String>, ScanFault> {
        let (list, mut all_public) = (&lists.artifacts, BTreeSet::new());
        let file: ArtifactsFile = json::parse_list(list.as_str(), &self.read(list)?)?;
        for (_, artifact) in &file.artifacts.0 {
            let source = lists.source(list, &artifact.artifact_path)?;
            let path = format!("{}{}", lists.prefix, artifact.artifact_path);
            self.publish(&path, &source, artifact.policy())?;
            named.insert(artifact.artifact_path.clone(), source);
        }
        for (public, artifact) in &file.artifacts.0 {
            let Some(path) = public.strip_prefix('/') else {
                let fault = format!("has a public path without a slash: \"{}\"", shown(public));
                return Err(invalid(list.as_str(), fault));
            };
            let source = lists.source(list, &artifact.artifact_path)?;
            let path = format!("{}{path}", lists.prefix);
            all_public.insert(path.clone());
            if is_file_path(&path, &self.files) {
                self.publish(&path, &source, artifact.policy())?;
            } else {
                let file = lists.site_path(&artifact.artifact_path)?;
                self.rules
                    .add_route(list, &path, GeneratedRoute::File { file })?;
            }
        }
        Ok(all_public)
    }

    fn add_routes(
        &mut self,
        lists: &PathLists<'_>,
        named: &BTreeMap<String, SitePath>,
        public: &BTreeSet<String>,
    ) -> Result<(), ScanFault> {
        let list = &lists.routes;
        let file: RoutesFile = json::parse_list(list.as_str(), &self.read(list)?)?;
        let mut own = BuildRules::default();
        for (url, route) in file.routes.0 {
            let Some(path) = url.strip_prefix('/') else {
                let fault = format!("has a route without a slash: \"{}\"", shown(&url));
                return Err(invalid(list.as_str(), fault));
            };
            let path = format!("{}{path}", lists.prefix);
            let route = route.parse(&url, lists, named)?;
            self.check_not_public(list, &path, &route, public)?;
            own.add_route(list, &path, route)?;
        }
        if let Some(id) = lists.prefix.strip_suffix('/') {
            let to_top = redirect(Some(308), "/", lists.prefix);
            let to_top = to_top.map_err(|fault| invalid(list.as_str(), fault))?;
            own.add_missing_route(id, to_top);
        }
        // The Path at the top comes first: its pages may have the id of another Path.
        self.rules.append_missing(own);
        Ok(())
    }

    /// Refuses a route at the public path of an artifact that shows anything else.
    fn check_not_public(
        &self,
        list: &SitePath,
        path: &str,
        route: &GeneratedRoute,
        public: &BTreeSet<String>,
    ) -> Result<(), ScanFault> {
        let file = |path: &SitePath| self.files.find(path);
        let declared = SitePath::parse(path).ok().and_then(|path| file(&path));
        let shows = match route {
            GeneratedRoute::File { file: shown } => file(shown),
            GeneratedRoute::Redirect { .. } => None,
        };
        if !public.contains(path) || declared.is_none() || shows == declared {
            return Ok(());
        }
        let url = shown(&raw_path(path));
        let fault = format!("has a route for \"{url}\", which is the public path of an artifact");
        Err(invalid(list.as_str(), fault))
    }

    /// Publishes a file on disk at a site path.
    fn publish(
        &mut self,
        path: &str,
        source: &SitePath,
        policy: Option<CachePolicy>,
    ) -> Result<(), ScanFault> {
        let path = SitePath::parse(path)?;
        if path.as_str().starts_with(RESERVED) {
            let fault = "is declared, but the server keeps this folder for itself";
            return Err(invalid(path.as_str(), fault.to_owned()));
        }
        let file = VirtualFile::Declared(source.clone());
        self.files
            .insert(&path, file)
            .map_err(|fault| clash(fault, &path))?;
        if self.files.len() > FILES_MAX {
            return Err(ScanFault::TooLarge {
                path: source.to_string(),
                unit: "files",
                actual: self.files.len(),
                limit: FILES_MAX,
            });
        }
        self.sources.insert(source.clone());
        self.rules.add_policy(&path, policy)?;
        if path.as_str().contains('%') {
            // PathMX compares the path of a request as it came, and a server decodes it.
            let file = path.clone();
            self.rules
                .add_missing_route(path.as_str(), GeneratedRoute::File { file });
        }
        Ok(())
    }

    /// The files of the site, with its rules, once all files are there.
    pub(super) fn finish(mut self) -> Result<VirtualFiles, ScanFault> {
        self.check_sources()?;
        let path = BuildRules::file();
        let rules = VirtualFile::Generated(Bytes::from(self.rules.encode()?));
        self.files
            .insert(&path, rules)
            .map_err(|fault| clash(fault, &path))?;
        Ok(self.files)
    }

    fn check_sources(&self) -> Result<(), ScanFault> {
        let mut missing = Vec::new();
        let mut folders = BTreeSet::new();
        for source in &self.sources {
            for folder in source.folders() {
                if folders.insert(folder) {
                    self.check_no_link(folder)?;
                }
            }
            self.check_no_link(source.as_str())?;
            let stat = stat::of_path(&self.place.join(source.as_str()));
            if !stat.is_ok_and(|stat| stat.kind == FileKind::File) {
                missing.push(shown(source.as_str()));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let more = match missing.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        missing.truncate(NAMED_MAX);
        let files = missing.join(", ");
        Err(ScanFault::BuildIncomplete {
            path: PATHS_FILE.to_owned(),
            fault: format!("leads to files that are not there: {files}{more}"),
        })
    }

    fn check_no_link(&self, path: &str) -> Result<(), ScanFault> {
        let stat = stat::of_path(&self.place.join(path));
        if stat.is_ok_and(|stat| stat.kind == FileKind::Link) {
            let fault = "is a symbolic link; a build's files are published from its own folder";
            return Err(invalid(path, fault.to_owned()));
        }
        Ok(())
    }

    fn read(&self, list: &SitePath) -> Result<Vec<u8>, ScanFault> {
        self.check_no_link(list.as_str())?;
        json::read(&self.place.join(list.as_str())).map_err(|error| ScanFault::BuildIncomplete {
            path: shown(list.as_str()),
            fault: format!("can't be read: {error}"),
        })
    }
}

impl DeclaredRoute {
    fn parse(
        self,
        url: &str,
        lists: &PathLists<'_>,
        named: &BTreeMap<String, SitePath>,
    ) -> Result<GeneratedRoute, ScanFault> {
        let fault = |fault: String| {
            let fault = format!("has a route \"{}\" {fault}", shown(url));
            invalid(lists.routes.as_str(), fault)
        };
        match (self.r#type.as_str(), self.artifact_path, self.to) {
            ("document", Some(artifact), _) if named.contains_key(&artifact) => {
                let file = lists.site_path(&artifact)?;
                Ok(GeneratedRoute::File { file })
            }
            ("document", Some(artifact), _) => {
                let artifact = shown(&artifact);
                Err(fault(format!(
                    "to \"{artifact}\", which no artifact declares"
                )))
            }
            ("redirect", _, Some(to)) => redirect(self.status, &to, lists.prefix).map_err(fault),
            ("document", None, _) => Err(fault("without an artifactPath".to_owned())),
            ("redirect", _, None) => Err(fault("without a target".to_owned())),
            (other, ..) => Err(fault(format!("of the unknown type \"{}\"", shown(other)))),
        }
    }
}

/// A redirect within a Path, or to a URL.
fn redirect(status: Option<u16>, to: &str, prefix: &str) -> Result<GeneratedRoute, String> {
    let status = status.and_then(|status| RedirectStatus::try_from(status).ok());
    let status = status.ok_or("whose status is none of 301, 302, 303, 307, 308")?;
    let is_url = ["https://", "http://"]
        .iter()
        .any(|scheme| to.starts_with(scheme));
    if is_url {
        let to = to.to_owned();
        return Ok(GeneratedRoute::Redirect { status, to });
    }
    match to.strip_prefix('/') {
        // A second slash would name another host.
        Some(rest) if !rest.starts_with(['/', '\\']) => Ok(GeneratedRoute::Redirect {
            status,
            to: format!(
                "{}{}",
                raw_path(prefix),
                raw_path(rest).trim_start_matches('/')
            ),
        }),
        Some(_) | None => Err(format!(
            "to \"{}\", which is neither a path of the site nor a URL",
            shown(to)
        )),
    }
}

/// Whether a public path can be a file of the site. Routes answer at all others, such as `x/` and
/// `x` beside `x/y`.
fn is_file_path(path: &str, files: &VirtualFiles) -> bool {
    SitePath::parse(path).is_ok_and(|path| {
        let mut above = path
            .folders()
            .filter_map(|folder| SitePath::parse(folder).ok());
        let is_below_file = above.any(|folder| files.find(&folder).is_some());
        files.folder(path.as_str()).is_none() && !is_below_file
    })
}

/// The path of a list below the top.
fn list(path: &str) -> Result<SitePath, ScanFault> {
    let parsed = SitePath::parse(path.strip_prefix("./").unwrap_or(path));
    parsed.map_err(|fault| invalid(PATHS_FILE, format!("names a list that is none: {fault}")))
}

/// The path of a Path's folder below the top; empty for the top itself.
fn folder(path: &str) -> Result<String, ScanFault> {
    match path.strip_prefix("./").unwrap_or(path) {
        "" | "." => Ok(String::new()),
        path => match SitePath::parse(path) {
            Ok(path) => Ok(path.as_str().to_owned()),
            Err(fault) => {
                let fault = format!("names a folder that is none: {fault}");
                Err(invalid(PATHS_FILE, fault))
            }
        },
    }
}

/// The fault of a site path that can't have its file.
pub(super) fn clash(clash: Clash, path: &SitePath) -> ScanFault {
    let fault = match clash {
        Clash::Taken => "is declared for two different files",
        Clash::Kind => "is declared both as a file and as a folder",
    };
    invalid(path.as_str(), fault.to_owned())
}
