//! JSON publish: the requests and answers of clients that speak nothing but JSON.
//!
//! A client lists its files, sends each missing blob alone, and commits the same list. The server
//! builds the manifest, so the root is the one that `pmx` computes for the same files.

use pmx_core::code::Code;
use pmx_core::id::{BlobId, Root};
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::VERSION;
use super::deploys::{DeployMeta, DeployView};
use super::expiry::ExpiryText;
use super::max_delete::MaxDelete;
use super::order::Order;

/// The JSON of `POST /api/publish/begin` and of `POST /api/publish/commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonPublish {
    /// The version of the API; this one by default.
    #[serde(default = "this_version")]
    pub v: u8,
    /// The space, which the first releases called a subdomain.
    #[serde(alias = "subdomain")]
    pub space: SpaceName,
    /// The preview to publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasName>,
    /// The files of the site, in any order.
    pub files: Vec<JsonFile>,
    /// The rules that a build gives, as an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<serde_json::Value>,
    /// The deploy that the commit replaces; 0 if there is none yet. By default the deploy that was
    /// active at `begin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// Whether the commit replaces any deploy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The build's place in its sequence. The commit may also replace an older build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<JsonOrder>,
    /// Idempotency key of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The most files of the replaced deploy that the commit may remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delete: Option<MaxDelete>,
    /// With a preview: how long it stays, such as `7d`, or `never`. Absent, it keeps its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<ExpiryText>,
    /// The metadata of the deploy.
    #[serde(default, skip_serializing_if = "DeployMeta::is_empty")]
    pub meta: DeployMeta,
}

const fn this_version() -> u8 {
    VERSION
}

/// A file of a JSON publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonFile {
    /// Its path in the site.
    pub path: String,
    /// The BLAKE3 hash of its bytes, in hexadecimal digits.
    pub hash: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type; by default that of its name, as `pmx` has it.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub media: Option<String>,
}

/// A build's place: that of a run, or one in a named sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JsonOrder {
    /// The number of a run.
    Run(u64),
    /// A place in a named sequence.
    Named(Order),
}

impl From<JsonOrder> for Order {
    fn from(order: JsonOrder) -> Self {
        match order {
            JsonOrder::Run(number) => Self::run(number),
            JsonOrder::Named(order) => order,
        }
    }
}

impl JsonPublish {
    /// Reads a body. The calls of the first releases have an error of their own.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(body).map_err(|error| {
            let detail = match first_form(body) {
                Some(form) => format!("the request has \"{form}\", as of the first releases"),
                None => format!("reading a JSON publish: {error}"),
            };
            Problem::new(Code::PublishForm, detail)
        })
    }
}

/// The member by which a call of the first releases is known.
fn first_form(body: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(default)]
        hashes: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        roots: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        files: Option<serde::de::IgnoredAny>,
    }
    let members: Members = serde_json::from_slice(body).ok()?;
    match (members.files, members.hashes, members.roots) {
        (None, Some(_), _) => Some("hashes"),
        (None, None, Some(_)) => Some("roots"),
        _ => None,
    }
}

/// The answer of a JSON `begin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonBegun {
    /// The space.
    pub space: SpaceName,
    /// The root of the listed files.
    pub root: Root,
    /// The active deploy, which the commit replaces; 0 if there is none yet.
    pub active: u64,
    /// The blobs to upload.
    pub missing: Vec<MissingBlob>,
}

/// A blob that the space lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingBlob {
    /// Its hash.
    pub hash: BlobId,
    /// Its size in bytes.
    pub size: u64,
    /// The path of its upload at this server.
    #[serde(rename = "uploadUrl")]
    pub upload_url: String,
}

/// The answer of a JSON `commit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonCommitted {
    /// The site's address.
    pub url: String,
    /// The number of the active deploy.
    #[serde(rename = "deployId")]
    pub deploy_id: u64,
    /// The active deploy.
    pub deploy: DeployView,
    /// The root of the site.
    pub root: Root,
    /// Whether the commit changed the site.
    pub outcome: JsonOutcome,
    /// With a preview: when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// Whether a commit changed the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonOutcome {
    /// It made a deploy.
    Published,
    /// The site had these files already.
    Unchanged,
}

/// The body of a rollback as the first releases send it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JsonRollback {
    /// The space.
    #[serde(alias = "subdomain")]
    pub space: SpaceName,
    /// The deploy to restore.
    #[serde(rename = "deployId")]
    pub deploy_id: DeployId,
}

/// The number of a deploy, as a number or as text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum DeployId {
    /// A number.
    Number(u64),
    /// Its digits.
    Text(String),
}

impl DeployId {
    /// The number.
    pub fn number(&self) -> Result<u64, Problem> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| {
                let shown: String = text.chars().take(40).collect();
                let detail = format!("{shown:?} is not the number of a deploy");
                Problem::new(Code::DeployUnknown, detail)
            }),
        }
    }
}

/// The answer of a rollback of that form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonRolledBack {
    /// The site's address.
    pub url: String,
    /// The number of the active deploy.
    #[serde(rename = "deployId")]
    pub deploy_id: u64,
    /// The active deploy.
    pub deploy: DeployView,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_publish_is_read_and_older_forms_are_named() {
        for (json, expected) in [
            (r#"{"space":"docs","files":[]}"#, Ok(0)),
            (
                r#"{"subdomain":"docs","files":[{"path":"a","hash":"x","size":1}]}"#,
                Ok(1),
            ),
            (
                r#"{"v":1,"space":"docs","files":[],"order":7,"expect":0}"#,
                Ok(0),
            ),
            (
                r#"{"space":"docs","files":[],"order":{"kind":"x","value":7}}"#,
                Ok(0),
            ),
            (r#"{"subdomain":"docs","hashes":["x"]}"#, Err("\"hashes\"")),
            (r#"{"subdomain":"docs","roots":{}}"#, Err("\"roots\"")),
            (
                r#"{"space":"docs","files":[{"path":"a","size":1}]}"#,
                Err("`hash`"),
            ),
            (r#"{"space":"docs","files":[],"wat":1}"#, Err("`wat`")),
            ("", Err("EOF")),
        ] {
            let parsed = JsonPublish::parse(json.as_bytes());
            match (parsed, expected) {
                (Ok(publish), Ok(files)) => assert_eq!(publish.files.len(), files, "{json}"),
                (Err(problem), Err(named)) => {
                    assert_eq!(problem.code, Code::PublishForm);
                    assert!(problem.detail.contains(named), "{problem}");
                    assert!(problem.hint.contains("files"), "{}", problem.hint);
                }
                (parsed, _) => panic!("{json}: {parsed:?}"),
            }
        }
    }

    #[test]
    fn rollback_of_the_first_releases_is_read() {
        for (id, expected) in [("7", Some(7)), ("\"7\"", Some(7)), ("\"x\"", None)] {
            let json = format!(r#"{{"subdomain":"docs","deployId":{id},"events":[1]}}"#);
            let rollback: JsonRollback = serde_json::from_str(&json).unwrap();
            assert_eq!(rollback.deploy_id.number().ok(), expected, "{id}");
        }
    }
}
