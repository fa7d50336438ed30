//! CI providers: how each numbers its runs, and which sequence a number belongs to.
//!
//! A number alone is ambiguous: another workflow, repository or provider counts from 1 as well. So
//! an order's kind names the provider, the repository and everything else that restarts the count.
//! A rerun has the number of its run, so it is neither older nor newer.

use std::fmt::Write as _;

use pmx_core::hash::Hash;
use pmx_core::limits::EXACT_INTEGER_MAX;
use pmx_sync::limits::ORDER_KIND_BYTES_MAX;
use pmx_sync::wire::Order;

use crate::env::Environment;

/// The variables of a provider.
struct Provider {
    name: &'static str,
    /// The variable with the run's number.
    number: &'static str,
    /// A variable that only this provider sets, if the number's name is too generic.
    marker: Option<&'static str>,
    /// The parts of the sequence's name. Each part lists variables, of which the first one set
    /// counts.
    sequence: &'static [&'static [&'static str]],
}

/// From their documentation. The number restarts with each new value of `sequence`, and never
/// within one.
const PROVIDERS: &[Provider] = &[
    // One count for each project; child pipelines share it.
    Provider {
        name: "gitlab",
        number: "CI_PIPELINE_IID",
        marker: None,
        sequence: &[&["CI_SERVER_HOST"], &["CI_PROJECT_ID", "CI_PROJECT_PATH"]],
    },
    // One count for each pipeline.
    Provider {
        name: "buildkite",
        number: "BUILDKITE_BUILD_NUMBER",
        marker: None,
        sequence: &[
            &["BUILDKITE_ORGANIZATION_SLUG"],
            &["BUILDKITE_PIPELINE_ID", "BUILDKITE_PIPELINE_SLUG"],
        ],
    },
    // One count of jobs for each project.
    Provider {
        name: "circleci",
        number: "CIRCLE_BUILD_NUM",
        marker: None,
        sequence: &[
            &["CIRCLE_PROJECT_ID", "CIRCLE_PROJECT_USERNAME"],
            &["CIRCLE_PROJECT_REPONAME"],
        ],
    },
    // One count for each repository.
    Provider {
        name: "bitbucket",
        number: "BITBUCKET_BUILD_NUMBER",
        marker: None,
        sequence: &[&["BITBUCKET_REPO_UUID", "BITBUCKET_REPO_FULL_NAME"]],
    },
    // Ids of an organisation, which are greater for later runs of each pipeline.
    Provider {
        name: "azure",
        number: "BUILD_BUILDID",
        marker: Some("TF_BUILD"),
        sequence: &[
            &["SYSTEM_COLLECTIONID", "SYSTEM_COLLECTIONURI"],
            &["SYSTEM_TEAMPROJECTID", "SYSTEM_TEAMPROJECT"],
            &["SYSTEM_DEFINITIONID"],
        ],
    },
    Provider {
        name: "drone",
        number: "DRONE_BUILD_NUMBER",
        marker: None,
        sequence: &[&["DRONE_SYSTEM_HOST"], &["DRONE_REPO"]],
    },
    Provider {
        name: "woodpecker",
        number: "CI_PIPELINE_NUMBER",
        marker: None,
        sequence: &[
            &["CI_SYSTEM_HOST", "CI_SYSTEM_URL"],
            &["CI_REPO_ID", "CI_REPO"],
        ],
    },
    Provider {
        name: "travis",
        number: "TRAVIS_BUILD_NUMBER",
        marker: None,
        sequence: &[&["TRAVIS_REPO_SLUG"]],
    },
    Provider {
        name: "appveyor",
        number: "APPVEYOR_BUILD_NUMBER",
        marker: None,
        sequence: &[
            &["APPVEYOR_ACCOUNT_NAME"],
            &["APPVEYOR_PROJECT_ID", "APPVEYOR_PROJECT_SLUG"],
        ],
    },
    // One count for each job; the name of a multibranch pipeline's job has its branch.
    Provider {
        name: "jenkins",
        number: "BUILD_NUMBER",
        marker: Some("JENKINS_URL"),
        sequence: &[&["JENKINS_URL"], &["JOB_NAME"]],
    },
];

/// GitHub's number of the run of a workflow; Gitea and Forgejo set it as well.
const GITHUB_NUMBER: &str = "GITHUB_RUN_NUMBER";

/// Whether a provider's variables say that this is one of its runs.
pub fn is_run(env: &Environment) -> bool {
    env.var(GITHUB_NUMBER).is_some()
        || PROVIDERS
            .iter()
            .any(|it| it.marker.is_none() && env.var(it.number).is_some())
}

/// The place of this run in its sequence; `None` outside CI, or if its number is invalid.
pub fn order(env: &Environment) -> Option<Order> {
    let (sequence, number) =
        github(env).or_else(|| PROVIDERS.iter().find_map(|provider| provider.find(env)))?;
    let number: u64 = number.parse().ok()?;
    (number <= EXACT_INTEGER_MAX).then_some(())?;
    Order::from_parts(&kind(&sequence), number)
}

impl Provider {
    fn find<'e>(&self, env: &'e Environment) -> Option<(Vec<&'e str>, &'e str)> {
        let number = env.var(self.number)?;
        let is_ours = self.marker.is_none_or(|marker| env.var(marker).is_some());
        is_ours.then_some(())?;
        let part = |names: &&[&str]| names.iter().find_map(|name| env.var(name)).unwrap_or("");
        let parts = self.sequence.iter().map(part);
        Some((std::iter::once(self.name).chain(parts).collect(), number))
    }
}

/// One count for each workflow of a repository, by the path of its file: a renamed workflow starts
/// again.
fn github(env: &Environment) -> Option<(Vec<&str>, &str)> {
    let number = env.var(GITHUB_NUMBER)?;
    let server = env.var("GITHUB_SERVER_URL").unwrap_or("https://github.com");
    let name = env.var("GITHUB_REPOSITORY").unwrap_or("");
    let repository = env.var("GITHUB_REPOSITORY_ID").unwrap_or(name);
    // `owner/repository/.github/workflows/file.yml@refs/heads/branch`
    let path = env.var("GITHUB_WORKFLOW_REF").map(|reference| {
        let path = reference
            .rsplit_once("@refs/")
            .map_or(reference, |(path, _)| path);
        path.strip_prefix(name)
            .map_or(path, |path| path.trim_start_matches('/'))
    });
    let workflow = path.or_else(|| env.var("GITHUB_WORKFLOW")).unwrap_or("");
    let mut parts = vec!["github", repository, workflow];
    if server != "https://github.com" {
        // Repository numbers are unique within one server.
        parts.insert(1, server);
    }
    Some((parts, number))
}

/// The name of a sequence: its parts, escaped, between colons; a long one ends with its hash.
fn kind(parts: &[&str]) -> String {
    let escaped: Vec<String> = parts.iter().map(|part| escaped(part)).collect();
    let kind = escaped.join(":");
    if kind.len() <= ORDER_KIND_BYTES_MAX {
        return kind;
    }
    let hash = &Hash::of(kind.as_bytes()).to_hex()[..HASH_CHARS];
    let kept = &kind[..ORDER_KIND_BYTES_MAX - HASH_CHARS - 1];
    format!("{kept}#{hash}")
}

const HASH_CHARS: usize = 32;

/// Escapes a part's separators, its unprintable characters, and the mark of a hash.
fn escaped(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'@' => {
                out.push(char::from(byte));
            }
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

impl Environment {
    /// Whether this runs under a CI system.
    pub fn is_ci(&self) -> bool {
        self.var("CI")
            .is_some_and(|value| value != "false" && value != "0")
            || is_run(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn described(pairs: Pairs<'_>) -> String {
        let env: Environment = pairs.iter().copied().collect();
        let order = order(&env).map(|order| format!("{} {}", order.kind(), order.value()));
        order.unwrap_or_default()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn sequence_is_named_by_each_provider() {
        let github = [
            ("GITHUB_RUN_NUMBER", "41"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_REPOSITORY_ID", "1296269"),
            (
                "GITHUB_WORKFLOW_REF",
                "o/r/.github/workflows/a b.yml@refs/heads/x@refs",
            ),
            ("GITHUB_SERVER_URL", "https://github.com"),
        ];
        let cases: &[(Pairs<'_>, &str)] = &[
            (&github, "github:1296269:.github/workflows/a%20b.yml 41"),
            (
                &[
                    ("GITHUB_RUN_NUMBER", "4"),
                    ("GITHUB_REPOSITORY", "o/r"),
                    ("GITHUB_WORKFLOW", "d"),
                ],
                "github:o/r:d 4",
            ),
            (
                &[
                    ("GITHUB_RUN_NUMBER", "4"),
                    ("GITHUB_SERVER_URL", "https://git.example"),
                ],
                "github:https%3A//git.example:: 4",
            ),
            (
                &[
                    ("CI_PIPELINE_IID", "5"),
                    ("CI_PROJECT_ID", "9"),
                    ("CI_SERVER_HOST", "gitlab.com"),
                ],
                "gitlab:gitlab.com:9 5",
            ),
            (
                &[
                    ("BUILDKITE_BUILD_NUMBER", "6"),
                    ("BUILDKITE_ORGANIZATION_SLUG", "acme"),
                    ("BUILDKITE_PIPELINE_SLUG", "docs"),
                ],
                "buildkite:acme:docs 6",
            ),
            (
                &[
                    ("CIRCLE_BUILD_NUM", "7"),
                    ("CIRCLE_PROJECT_USERNAME", "o"),
                    ("CIRCLE_PROJECT_REPONAME", "r"),
                ],
                "circleci:o:r 7",
            ),
            (
                &[
                    ("BITBUCKET_BUILD_NUMBER", "8"),
                    ("BITBUCKET_REPO_UUID", "{1-2}"),
                ],
                "bitbucket:%7B1-2%7D 8",
            ),
            (
                &[
                    ("TF_BUILD", "True"),
                    ("BUILD_BUILDID", "9"),
                    ("SYSTEM_COLLECTIONID", "c"),
                    ("SYSTEM_TEAMPROJECTID", "p"),
                    ("SYSTEM_DEFINITIONID", "3"),
                ],
                "azure:c:p:3 9",
            ),
            (
                &[
                    ("JENKINS_URL", "http://ci/"),
                    ("BUILD_NUMBER", "10"),
                    ("JOB_NAME", "docs/main"),
                ],
                "jenkins:http%3A//ci/:docs/main 10",
            ),
            (
                &[("TRAVIS_BUILD_NUMBER", "11"), ("TRAVIS_REPO_SLUG", "o/r")],
                "travis:o/r 11",
            ),
            (
                &[("DRONE_BUILD_NUMBER", "12"), ("DRONE_REPO", "o/r")],
                "drone::o/r 12",
            ),
            (
                &[("CI_PIPELINE_NUMBER", "13"), ("CI_REPO_ID", "4")],
                "woodpecker::4 13",
            ),
            (
                &[
                    ("APPVEYOR_BUILD_NUMBER", "14"),
                    ("APPVEYOR_PROJECT_ID", "5"),
                ],
                "appveyor::5 14",
            ),
            (&[], ""),
            (&[("CI", "true")], ""),
            (&[("GITHUB_RUN_NUMBER", "many")], ""),
            (&[("GITHUB_RUN_NUMBER", "9007199254740992")], ""),
            // These names are too generic to be trusted alone.
            (&[("BUILD_NUMBER", "9")], ""),
            (&[("BUILD_BUILDID", "9")], ""),
        ];
        for (pairs, expected) in cases {
            assert_eq!(described(pairs), *expected, "{pairs:?}");
        }
    }

    #[test]
    fn sequence_names_keep_their_parts_apart() {
        assert_ne!(kind(&["a", "b:c"]), kind(&["a:b", "c"]));
        let long = |last: &str| kind(&["github", &"x".repeat(500), last]);
        assert_eq!(long("a").len(), ORDER_KIND_BYTES_MAX);
        assert_ne!(long("a"), long("b"));
        assert!(Order::from_parts(&long("a"), 1).is_some());
        assert!(Order::from_parts(&kind(&["é\u{1b} \n"]), 1).is_some());
    }
}
