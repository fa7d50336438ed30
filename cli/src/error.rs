//! Command failure: a stable code, a message, a hint, and the exit code.

use std::fmt;
use std::io;
use std::path::Path;

use pmx_core::code::Code;
use pmx_core::name::InvalidName;
use pmx_core::problem::Problem;
use pmx_sync::manifest::ManifestError;
use pmx_sync::push::PushError;
use pmx_sync::scan::ScanError;

use crate::host::HostError;

/// Failure of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub code: Code,
    /// The operation, its object, and the reason why it failed.
    pub message: String,
    /// The hint for the user.
    pub hint: String,
    /// Paths or ids concerned.
    pub items: Vec<String>,
    /// The server's problem, if the server refused.
    pub problem: Option<Box<Problem>>,
}

impl Failure {
    /// A failure with the hint of its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: code.hint().to_owned(),
            items: Vec::new(),
            problem: None,
        }
    }

    /// An invalid command line or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A failure of a file that pmx itself stores.
    pub fn local(doing: &str, path: &Path, source: &io::Error) -> Self {
        Self::new(
            Code::Local,
            format!("{doing} \"{}\": {source}", path.display()),
        )
    }

    /// The user pressed Ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Code::Interrupted, "interrupted")
    }

    /// Replaces the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The exit code of `pmx`.
    pub fn exit(&self) -> u8 {
        match self.code {
            Code::Interrupted => 130,
            code => code.kind().exit(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            code: problem.code,
            message: problem.detail.clone(),
            hint: problem.hint.clone(),
            items: problem.items.clone(),
            problem: Some(Box::new(problem)),
        }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        let mut failure = Self::new(error.code(), error.to_string());
        if let Some(hint) = error
            .problems()
            .first()
            .and_then(pmx_sync::scan::ScanFault::hint)
        {
            hint.clone_into(&mut failure.hint);
        }
        let items = error
            .problems()
            .iter()
            .flat_map(pmx_sync::scan::ScanFault::items);
        failure.items = items.cloned().collect();
        failure
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Refused(problem) => (*problem).into(),
            PushError::Manifest(_) | PushError::Protocol(_) => {
                Self::new(error.code(), error.to_string())
            }
            PushError::Stalled { .. } => Self::new(error.code(), error.to_string()).with_hint(
                "Check proxies and firewalls on the way to the server, and the server's log and disk.",
            ),
        }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        Self::new(error.code(), message).with_hint(error.hint())
    }
}

impl From<InvalidName> for Failure {
    fn from(error: InvalidName) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_of_every_code() {
        let exits: Vec<_> = Code::ALL
            .iter()
            .map(|&code| format!("{} {}", Failure::new(code, "").exit(), code))
            .collect();
        insta::assert_snapshot!(exits.join("\n"), @r"
        3 E_PATH_INVALID
        3 E_PATH_DUPLICATE
        3 E_PATH_COLLISION
        3 E_SYMLINK_ESCAPE
        3 E_NOT_REGULAR
        3 E_UNREADABLE
        3 E_CHANGED_DURING_READ
        3 E_SOURCE_MISSING
        2 E_PUBLISH_FORM
        3 E_BUILD_INCOMPLETE
        3 E_SECRET
        8 E_TOO_LARGE
        2 E_EMPTY_SITE
        2 E_RULES_INVALID
        2 E_MAX_DELETE
        7 E_HASH_INVALID
        7 E_HASH_MISMATCH
        7 E_COMPRESSION
        7 E_MANIFEST_MALFORMED
        7 E_MANIFEST_MISMATCH
        7 E_PREFIX_MISSING
        7 E_PACK_MALFORMED
        7 E_REQUEST_MALFORMED
        7 E_LENGTH_REQUIRED
        6 E_MISSING_OBJECTS
        6 E_CONFLICT
        6 E_HELD
        6 E_OLDER_BUILD
        6 E_OUT_OF_ORDER
        6 E_IDEMPOTENCY_REUSE
        2 E_NUMBER_TOO_LARGE
        2 E_NAME_INVALID
        8 E_TOO_MANY_PREVIEWS
        2 E_DOMAIN_INVALID
        6 E_DOMAIN_TAKEN
        8 E_TOO_MANY_DOMAINS
        4 E_NAME_RESERVED
        4 E_UNAUTHORISED
        4 E_TOKEN_EXPIRED
        4 E_FORBIDDEN
        4 E_UNTRUSTED
        4 E_TOKEN_IN_QUERY
        4 E_INSECURE
        4 E_NOT_CONFIGURED
        1 E_NOT_FOUND
        1 E_DEPLOY_UNKNOWN
        1 E_METHOD_NOT_ALLOWED
        5 E_NETWORK
        5 E_PROTOCOL
        5 E_CERTIFICATE
        8 E_TOO_MANY
        2 E_USAGE
        130 E_INTERRUPTED
        1 E_STORAGE
        5 E_UNAVAILABLE
        7 E_CORRUPT
        1 E_SCHEMA_TOO_NEW
        1 E_LOCAL
        1 E_EVENTS_GONE
        1 E_DEPLOY_GONE
        6 E_DEPLOY_KEPT
        4 E_EVENTS_CLOSED
        1 E_SPACE_BUSY
        4 E_ORIGIN
        4 E_HOST_FOREIGN
        4 E_STREAMS_CLOSED
        1 E_STREAM_UNKNOWN
        1 E_STREAM_GONE
        1 E_STREAM_ANEW
        6 E_STREAM_CONFLICT
        6 E_STREAM_CLOSED
        6 E_STREAM_SEQUENCE
        6 E_STREAM_FENCED
        2 E_STREAM_REQUEST
        ");
    }

    #[test]
    fn failure_keeps_the_problem_of_the_server() {
        let problem =
            Problem::new(Code::Conflict, "deploy 3 is active").with_items(vec!["x".into()]);
        let failure = Failure::from(problem);
        assert_eq!(
            (failure.exit(), failure.message.as_str()),
            (6, "deploy 3 is active")
        );
        assert_eq!(failure.hint, Code::Conflict.hint());
        assert_eq!(failure.items, ["x"]);
    }
}
