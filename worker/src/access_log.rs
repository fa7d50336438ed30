//! Access log: one JSON object a line, which Workers Logs indexes. Each request gets a line, and
//! each command that a space executes.
//!
//! No secret may reach the log. So no line has a URL's query, or a header other than the host.

use serde_json::{Map, Value, json};

/// Characters of a text that the client chose.
const SHOWN_CHARS_MAX: usize = 200;

/// The log line of a request, with the module's bytes of memory.
pub(crate) fn request(
    method: &str,
    url: &str,
    status: u16,
    millis: u64,
    operations: &Map<String, Value>,
    memory: usize,
) -> String {
    let uri = url.parse::<http::Uri>().unwrap_or_default();
    let host = uri.authority().map_or("", http::uri::Authority::as_str);
    let line = json!({
        "type": "request", "v": 1, "method": cut(method), "host": cut(host),
        "path": cut(uri.path()), "status": status, "ms": millis, "ops": operations,
        "memory": memory
    });
    line.to_string()
}

/// The log line of a command: its name, and the code of the problem if it failed.
pub(crate) fn command(
    space: &str,
    what: &str,
    code: Option<&str>,
    millis: u64,
    operations: &Map<String, Value>,
) -> String {
    let line = json!({
        "type": "command", "v": 1, "space": space, "command": what, "code": code, "ms": millis,
        "ops": operations
    });
    line.to_string()
}

/// The log line of an error answer: its id, and the cause if the server failed.
pub(crate) fn incident(id: &str, status: u16, cause: Option<&str>) -> String {
    let kind = if cause.is_some() { "fault" } else { "refusal" };
    let line = json!({ "type": kind, "v": 1, "id": id, "status": status, "why": cause });
    line.to_string()
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_one_object_without_the_query() {
        let url = "https://docs.path.app/a%22b?token=secret";
        assert_eq!(
            request("GET", url, 404, 3, &Map::new(), 65_536),
            r#"{"host":"docs.path.app","memory":65536,"method":"GET","ms":3,"ops":{},"path":"/a%22b","status":404,"type":"request","v":1}"#
        );
        assert_eq!(
            command("docs", "Open", Some("E_STORAGE"), 1, &Map::new()),
            r#"{"code":"E_STORAGE","command":"Open","ms":1,"ops":{},"space":"docs","type":"command","v":1}"#
        );
        assert_eq!(
            incident("00ff", 404, None),
            r#"{"id":"00ff","status":404,"type":"refusal","v":1,"why":null}"#
        );
    }
}
