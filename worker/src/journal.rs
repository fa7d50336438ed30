//! One line of JSON for each request, as Workers Logs index them.

/// What is said of a request: never its headers, which hold the token.
pub(crate) fn line(method: &str, url: &str, status: u16, millis: u64) -> String {
    let line = serde_json::json!({
        "type": "request", "method": method, "url": url, "status": status, "ms": millis
    });
    line.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object() {
        assert_eq!(
            line("GET", "https://docs.path.app/a\"b\n", 404, 3),
            r#"{"method":"GET","ms":3,"status":404,"type":"request","url":"https://docs.path.app/a\"b\n"}"#
        );
    }
}
