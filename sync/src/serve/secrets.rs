//! Names of secrets in a server's environment: which of them the server knows.

/// The names that look like a secret of this server and are none, in order. A secret under a name
/// that the server does not read leaves open what its operator wants closed.
pub fn unknown_secrets<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut unknown: Vec<&str> = names.filter(|name| is_secret(name)).collect();
    unknown.retain(|name| !KNOWN.contains(name) && !is_foreign(name));
    unknown.sort_unstable();
    unknown.dedup();
    unknown
}

fn is_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    ENDINGS.iter().any(|ending| upper.ends_with(ending))
}

const ENDINGS: [&str; 2] = ["_TOKEN", "_SECRET"];

/// The names that the server, or the client on the same machine, reads.
const KNOWN: [&str; 6] = [
    "PUBLISH_SECRET",
    "STREAM_SECRET",
    "AUTH_TOKEN",
    "METRICS_API_TOKEN",
    "PMX_TOKEN",
    "PATHMX_PUBLISH_TOKEN",
];

/// Whether a name is another program's by its first words. Shells of developers and of CI are full
/// of these.
fn is_foreign(name: &str) -> bool {
    FOREIGN.iter().any(|start| name.starts_with(start))
}

const FOREIGN: [&str; 9] = [
    "GITHUB_", "GH_", "GITLAB_", "CI_", "AWS_", "AZURE_", "NPM_", "CARGO_", "ACTIONS_",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_secrets_are_named_without_those_of_other_programs() {
        let names = "HOME PUBLISH_SECRET AUTH_TOKEN PUBLISH_TOKEN STREAMS_SECRET stream_token \
            GITHUB_TOKEN AWS_SECRET TOKEN_COUNT AUTH_SECRET";
        assert_eq!(
            unknown_secrets(names.split_whitespace()),
            [
                "AUTH_SECRET",
                "PUBLISH_TOKEN",
                "STREAMS_SECRET",
                "stream_token"
            ]
        );
    }
}
