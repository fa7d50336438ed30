//! Secret names in a server's environment: finds misspelt ones.

/// The names that look like a secret of this server but are not, in order. A secret under a name
/// that the server does not read leaves open what its operator means to close.
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

/// The names that the server reads, or the client on the same machine.
const KNOWN: [&str; 6] = [
    "PUBLISH_SECRET",
    "STREAM_SECRET",
    "AUTH_TOKEN",
    "METRICS_API_TOKEN",
    "PMX_TOKEN",
    "PATHMX_PUBLISH_TOKEN",
];

/// Whether the first words of a name show that it belongs to another program. The shells of
/// developers and of CI hold many such names.
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
