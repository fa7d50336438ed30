//! Environment variables as a value, read once, so that tests can set them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pmx_sync::limits::META_VALUE_BYTES_MAX;
use pmx_sync::wire::DeployMeta;

/// The variables of a program.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

const CI_COMMITS: &[&str] = &[
    "GITHUB_SHA",
    "CI_COMMIT_SHA",
    "BUILDKITE_COMMIT",
    "CIRCLE_SHA1",
    "BITBUCKET_COMMIT",
];
const CI_BRANCHES: &[&str] = &[
    "GITHUB_HEAD_REF",
    "GITHUB_REF_NAME",
    "CI_COMMIT_REF_NAME",
    "BUILDKITE_BRANCH",
    "CIRCLE_BRANCH",
    "BITBUCKET_BRANCH",
];
const CI_AUTHORS: &[&str] = &[
    "GITHUB_ACTOR",
    "GITLAB_USER_LOGIN",
    "BUILDKITE_BUILD_CREATOR",
    "CIRCLE_USERNAME",
];

impl Environment {
    /// The environment of this program. It omits variables that are not UTF-8.
    pub fn of_program() -> Self {
        let pairs = std::env::vars_os();
        Self(
            pairs
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// A variable; an empty one counts as unset.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The names of all variables that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let set = self.0.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, _)| name.as_str())
    }

    /// A variable that names a file or folder.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from)
    }

    /// The metadata of a build, from the variables of the CI system.
    pub fn deploy_meta(&self) -> DeployMeta {
        let one = |names| {
            self.first(names)
                .map(|text| shortened(text, META_VALUE_BYTES_MAX))
        };
        DeployMeta {
            message: None,
            commit: one(CI_COMMITS),
            branch: one(CI_BRANCHES),
            author: one(CI_AUTHORS),
            live: false,
            events: false,
        }
    }

    fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.var(name))
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Environment {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
        )
    }
}

/// The longest prefix of the text within so many bytes.
fn shortened(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}
