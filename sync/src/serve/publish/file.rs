//! Deploy file download: the bytes of one path in a deploy, for clients that may publish.
//!
//! Unlike a page, it is read by the exact path of the manifest. So rule files have an answer too.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Response};
use pmx_core::code::Code;
use pmx_core::coding::Coding;
use pmx_core::domain::Selector;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::super::backend::Backend;
use super::super::body::Body;
use super::super::server::Server;
use super::super::stored::Scope;
use super::unexpected;
use crate::path::SitePath;
use crate::site::{DeployAge, LocatedFile, Lookup};
use crate::space::{Command, Reply};

impl<B: Backend> Server<B> {
    /// Answers with a file of a deploy.
    pub(super) async fn file(
        &self,
        space: &SpaceName,
        number: u64,
        path: SitePath,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let deploy = Selector::Number(number);
        let located = self.call(space, Command::Locate { deploy }, now).await?;
        let Reply::Pointer(pointer) = located else {
            return Err(unexpected(&located));
        };
        let scope = Scope::of(space, &pointer, now);
        let lookup = Lookup {
            age: DeployAge::SERVED,
            path,
        };
        let Some(held) = self.look_up(scope, &pointer, &lookup).await? else {
            let path = lookup.path;
            let detail = format!("deploy {number} has no file \"{path}\"");
            return Err(Problem::new(Code::NotFound, detail));
        };
        let body = self.blob(scope, &held, Coding::Identity, None).await?;
        let mut response = Response::new(body);
        *response.headers_mut() = headers(&held);
        Ok(response)
    }
}

/// Parses the path of a file.
pub(super) fn site_path(text: &str) -> Result<SitePath, Problem> {
    SitePath::parse(text).map_err(|error| Problem::new(Code::PathInvalid, error.to_string()))
}

/// The blob's id is the tag: a client checks what it received.
fn headers(held: &LocatedFile) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let bytes = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, bytes);
    headers.insert(CONTENT_LENGTH, held.entry.size.into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", held.entry.blob)) {
        headers.insert(ETAG, tag);
    }
    headers
}
