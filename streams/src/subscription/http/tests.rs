use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use super::response::code_and_status;
use super::*;
use crate::limits::{SUBSCRIPTION_BODY_BYTES_MAX, SUBSCRIPTION_STREAMS_MAX};
use crate::subscription::{Ack, SubscriptionRefusal, SubscriptionRequest};

fn parsed(
    method: &str,
    path: &str,
    body: &str,
) -> Result<SubscriptionRequest, SubscriptionRefusal> {
    let base_url = BaseUrl::parse("https://streams.dev/v1/stream").unwrap();
    let own = Domain::parse("streams.dev").unwrap();
    let context = RequestContext {
        base_url: &base_url,
        policy: WebhookPolicy::Loopback,
        own_domain: Some(&own),
        claimable: &Claimable::All,
    };
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_static("bearer t.o.k.e.n"));
    let method = method.parse().unwrap();
    parse(&method, path, &headers, body.as_bytes(), &context)
}

/// The name of the parsed request, or status and code of the refusal.
fn outcome(method: &str, path: &str, body: &str) -> String {
    match parsed(method, path, body) {
        Ok(request) => format!("{request:?}")
            .split([' ', '('])
            .next()
            .unwrap()
            .to_owned(),
        Err(refusal) => {
            let (code, status) = code_and_status(&refusal);
            format!("{} {code}", status.as_u16())
        }
    }
}

#[test]
fn parse_maps_addresses_and_methods_to_requests() {
    for (path, control) in [
        ("__ds", true),
        ("__ds/", true),
        ("/__ds/subscriptions/a", true),
        ("__dsx", false),
        ("a/__ds", false),
        ("", false),
    ] {
        assert_eq!(is_control(path), control, "{path}");
    }
    for (path, open) in [
        ("__ds/jwks.json", true),
        ("/__ds/subscriptions/a/callback", true),
        ("__ds/subscriptions/a/ack", true),
        ("__ds/subscriptions/a/release", true),
        ("__ds/subscriptions/a/claim", false),
        ("__ds/subscriptions/a", false),
        ("__ds/subscriptions/a/streams/ack", false),
        ("__ds/subscriptions/a/streams", false),
        ("x/subscriptions/a/ack", false),
    ] {
        assert_eq!(is_open(path), open, "{path}");
    }
    let long = format!("__ds/subscriptions/{}", "x".repeat(257));
    for (method, path, expected) in [
        ("GET", "__ds/jwks.json", "Keys"),
        ("POST", "__ds/jwks.json", "405 INVALID_REQUEST"),
        ("GET", "/__ds/subscriptions/a%20b", "Show"),
        ("DELETE", "__ds/subscriptions/a", "Delete"),
        ("PATCH", "__ds/subscriptions/a", "405 INVALID_REQUEST"),
        ("DELETE", "__ds/subscriptions/a/streams/x%2Fy", "Unlink"),
        ("DELETE", "__ds/subscriptions/a/streams/x/y", "Unlink"),
        (
            "DELETE",
            "__ds/subscriptions/a/streams/",
            "400 INVALID_REQUEST",
        ),
        ("GET", "__ds/subscriptions/a/streams", "405 INVALID_REQUEST"),
        ("GET", "__ds/subscriptions/a/claim", "405 INVALID_REQUEST"),
        (
            "POST",
            "__ds/subscriptions/a/claims",
            "404 SUBSCRIPTION_NOT_FOUND",
        ),
        ("GET", "__ds/subscriptions/", "404 SUBSCRIPTION_NOT_FOUND"),
        ("GET", "__ds/subscriptions/%ff", "400 INVALID_REQUEST"),
        ("GET", "__ds/other", "404 SUBSCRIPTION_NOT_FOUND"),
        ("GET", "__ds", "404 SUBSCRIPTION_NOT_FOUND"),
        ("GET", &long, "404 SUBSCRIPTION_NOT_FOUND"),
        ("POST", "__ds/subscriptions/a/ack", "Ack"),
        ("POST", "__ds/subscriptions/a/callback", "Callback"),
        ("POST", "__ds/subscriptions/a/release", "Release"),
        ("POST", "__ds/subscriptions/a/claim", "400 INVALID_REQUEST"),
    ] {
        assert_eq!(outcome(method, path, ""), expected, "{method} {path}");
    }
}

#[test]
fn parse_validates_configurations() {
    let pull = |rest: &str| format!(r#"{{"type":"pull-wake","wake_stream":"w"{rest}}}"#);
    let hook =
        |url: &str| format!(r#"{{"type":"webhook","pattern":"a/*","webhook":{{"url":"{url}"}}}}"#);
    let bad = "400 INVALID_REQUEST";
    let many = format!(
        r#","streams":[{}"x"]"#,
        r#""x","#.repeat(SUBSCRIPTION_STREAMS_MAX)
    );
    for (body, expected) in [
        (pull(r#","pattern":"a/*""#), "Create"),
        (
            pull(r#","streams":["a","/b/"],"lease_ttl_ms":1000,"description":"d""#),
            "Create",
        ),
        (pull(r#","streams":["a"],"unknown":[1]"#), "Create"),
        (pull(r#","streams":["a"],"filter":{}"#), bad),
        (pull(r#","streams":["a"],"lease_ttl_ms":999"#), bad),
        (pull(r#","streams":["a"],"lease_ttl_ms":600001"#), bad),
        (pull(r#","streams":["a"],"lease_ttl_ms":1000.5"#), bad),
        (pull(r#","streams":["a"],"lease_ttl_ms":"1000""#), bad),
        (pull(r#","streams":["w"]"#), bad),
        (pull(r#","streams":[]"#), bad),
        (pull(r#","streams":["a b"]"#), bad),
        (pull(r#","streams":["__ds/x"]"#), bad),
        (pull(r#","streams":[1]"#), bad),
        (pull(r#","pattern":"""#), bad),
        (pull(&many), bad),
        (pull(""), bad),
        (hook("https://worker.dev/"), "Create"),
        (hook("http://127.0.0.1:1/"), "Create"),
        (hook("http://10.0.0.1/hook"), "400 WEBHOOK_URL_REJECTED"),
        (
            hook("https://api.streams.dev/v1/stream/a"),
            "400 WEBHOOK_URL_REJECTED",
        ),
        (hook(""), "400 WEBHOOK_URL_REJECTED"),
        (r#"{"type":"webhook","pattern":"a"}"#.into(), bad),
        (r#"{"type":"pull-wake","pattern":"a"}"#.into(), bad),
        (r#"{"type":"push","pattern":"a"}"#.into(), bad),
        (r#"["webhook"]"#.into(), bad),
        ("{".into(), bad),
        (String::new(), bad),
        (
            " ".repeat(SUBSCRIPTION_BODY_BYTES_MAX + 1),
            "413 INVALID_REQUEST",
        ),
    ] {
        let shown = body.get(..200).unwrap_or(&body);
        assert_eq!(
            outcome("PUT", "__ds/subscriptions/a", &body),
            expected,
            "{shown}"
        );
    }
}

#[test]
fn parse_requires_a_token_for_reports() {
    let base_url = BaseUrl::parse("https://streams.dev/v1/stream/").unwrap();
    let context = RequestContext {
        base_url: &base_url,
        policy: WebhookPolicy::Public,
        own_domain: None,
        claimable: &Claimable::All,
    };
    for (value, token) in [("Bearer x", true), ("Basic x", false), ("Bearer ", false)] {
        let headers = [(AUTHORIZATION, HeaderValue::from_static(value))];
        let headers = headers.into_iter().collect();
        let path = "__ds/subscriptions/a/ack";
        let parsed = parse(&Method::POST, path, &headers, b"", &context);
        let is_ack = matches!(parsed, Ok(SubscriptionRequest::Ack(..)));
        assert_eq!(is_ack, token, "{value}");
        let is_refused = matches!(parsed, Err(SubscriptionRefusal::Token));
        assert_eq!(is_refused, !token, "{value}");
    }
    let body = r#"{"wake_id":"w","generation":3,"done":true,
        "acks":[{"stream":"a","offset":"1"},{"path":"b","offset":"2"},{}]}"#;
    let request = parsed("POST", "__ds/subscriptions/a/ack", body);
    let Ok(SubscriptionRequest::Ack(_, report)) = request else {
        panic!("{request:?}");
    };
    let ack = |stream: &str, offset: &str| Ack {
        stream: stream.into(),
        offset: offset.into(),
    };
    assert_eq!(report.acks, [ack("a", "1"), ack("b", "2"), ack("", "")]);
    assert_eq!((report.generation, report.done), (Some(3), true));
    assert_eq!(report.token, "t.o.k.e.n");
}

#[test]
fn respond_names_the_holder_of_a_lease_and_the_allowed_methods() {
    let refusal = SubscriptionRefusal::Taken {
        holder: "worker-1".into(),
        generation: 7,
    };
    let response = respond(Err(refusal));
    assert_eq!(response.status(), 409);
    let body = std::str::from_utf8(response.body()).unwrap();
    let expected = r#"{"error":{"code":"ALREADY_CLAIMED","message":"worker-1 holds the lease","current_holder":"worker-1","generation":7}}"#;
    assert_eq!(body, expected);
    let response = respond(Err(SubscriptionRefusal::Method("GET")));
    assert_eq!(response.headers()[ALLOW], "GET");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
}
