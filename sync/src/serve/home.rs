//! Home page of the API host: names the program that answers there, and where sites are.

use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, Response, StatusCode};

use super::answer::answer;
use super::backend::Backend;
use super::body::Body;
use super::server::Server;

impl<B: Backend> Server<B> {
    /// The page at the root of the API host.
    pub(super) fn home(&self) -> Response<Body> {
        let domain = self.domain();
        let version = env!("CARGO_PKG_VERSION");
        // A domain consists of letters, digits, hyphens and dots, so it needs no escaping.
        let page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <title>PathMX Sync</title>\n<h1>PathMX Sync {version}</h1>\n\
             <p>This is the publish API of a PathMX Sync server. Its sites are at \
             <code>NAME.{domain}</code>.\n\
             <p><code>pmx sync FOLDER</code> publishes one. <a href=\"/healthz\">/healthz</a> \
             says whether the server is well.\n</html>\n"
        );
        let mut response = answer(
            StatusCode::OK,
            "text/html; charset=utf-8",
            page.into_bytes(),
        );
        let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        response
            .headers_mut()
            .insert(CONTENT_SECURITY_POLICY, policy);
        response
    }
}
