use std::time::Duration;

use http::Request;

use super::super::token::Claims;
use super::*;

const SECRET: &str = "a secret of at least thirty-two bytes";
const KEY: &str = "a key of at least thirty-two bytes or more";
const NOW: Timestamp = Timestamp::from_millis(1_795_339_200_000);

fn access(secret: &str, keys: &str, public: &str) -> Access {
    Access::parse(Some(secret), Some(keys), Some(public)).unwrap()
}

fn token(keys: &Keys, streams: &str, scope: &str) -> String {
    let claims = Claims::new(streams, scope, NOW, Duration::from_mins(1), None);
    keys.sign(&claims.unwrap()).unwrap()
}

fn head(method: &str, address: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/v1/stream/{address}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// Who asks, in a word, or the code of the refusal.
fn asked(access: &Access, method: &str, address: &str, headers: &[(&str, &str)]) -> &'static str {
    let head = head(method, address, headers);
    let (name, _) = address.split_once('?').unwrap_or((address, ""));
    match access.admit(&head, &StreamName::parse(name).unwrap(), NOW) {
        Ok(Who::Anyone) => "anyone",
        Ok(Who::Holder(_)) => "holder",
        Ok(Who::Operator) => "operator",
        Err(problem) => problem.code.as_str(),
    }
}

#[test]
fn without_secret_and_keys_everybody_may_do_everything() {
    let open = access("", "", "");
    assert!(open.is_open());
    for (method, address) in [("GET", "a?token=x"), ("PUT", "a"), ("DELETE", "a?token=x")] {
        assert_eq!(asked(&open, method, address, &[]), "anyone");
    }
    assert_eq!(open.authorise(&HeaderMap::new()), Ok(()));
    // Keys alone close the server as well.
    let keys = access("", KEY, "");
    assert_eq!(asked(&keys, "GET", "a", &[]), "E_UNAUTHORISED");
    let problem = keys.authorise(&HeaderMap::new()).unwrap_err();
    assert_eq!(problem.code, Code::Unauthorised);
}

#[test]
fn a_token_opens_what_it_names_and_no_more() {
    let closed = access(SECRET, KEY, "");
    let may = |scope: &str, method: &str, address: &str| {
        let bearer = format!("Bearer {}", token(&closed.keys, "chat/*", scope));
        asked(&closed, method, address, &[("authorization", &bearer)])
    };
    for (scope, allowed) in [
        ("read", &["GET", "HEAD"][..]),
        ("write", &["POST"]),
        ("manage", &["PUT", "DELETE"]),
        ("read write", &["GET", "HEAD", "POST"]),
        (
            "manage read write",
            &["GET", "HEAD", "POST", "PUT", "DELETE"],
        ),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"] {
            let is_allowed =
                allowed.contains(&method) || (method == "PATCH" && scope.contains('m'));
            let expected = if is_allowed { "holder" } else { "E_FORBIDDEN" };
            assert_eq!(may(scope, method, "chat/a"), expected, "{scope} {method}");
            assert_eq!(may(scope, method, "chat"), "E_FORBIDDEN");
            assert_eq!(may(scope, method, "chat/a/b"), "E_FORBIDDEN");
            assert_eq!(may(scope, method, "chat%2Fa"), "E_FORBIDDEN");
        }
    }
    // What belongs to no stream is the operator's alone.
    let bearer = format!("Bearer {}", token(&closed.keys, "**", "read write manage"));
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer.parse().unwrap());
    assert!(closed.authorise(&headers).is_err());
    assert_eq!(
        asked(&closed, "GET", "__ds/x", &[("authorization", &bearer)]),
        "E_FORBIDDEN"
    );
    headers.insert(AUTHORIZATION, format!("bearer {SECRET}").parse().unwrap());
    assert_eq!(closed.authorise(&headers), Ok(()));
}

#[test]
fn a_fork_needs_leave_to_read_its_source() {
    let closed = access(SECRET, KEY, "news/*");
    let fork = |streams: &str, scope: &str, source: &str| {
        let bearer = format!("Bearer {}", token(&closed.keys, streams, scope));
        let headers = [
            ("authorization", bearer.as_str()),
            ("stream-forked-from", source),
        ];
        asked(&closed, "PUT", "a/b", &headers)
    };
    assert_eq!(fork("a/*", "manage", "/v1/stream/secret"), "E_FORBIDDEN");
    assert_eq!(
        fork("a/*", "manage read", "/v1/stream/secret"),
        "E_FORBIDDEN"
    );
    assert_eq!(fork("a/*", "manage", "/v1/stream/a/c"), "E_FORBIDDEN");
    assert_eq!(fork("a/*", "manage read", "/v1/stream/a/c"), "holder");
    assert_eq!(fork("a/*", "manage", "/v1/stream/news/1"), "holder");
    // It names nothing, and is refused for that.
    assert_eq!(fork("a/*", "manage", "secret"), "holder");
}

#[test]
fn what_everybody_may_read_they_may_not_write() {
    let closed = access(SECRET, "", "news/*, blog");
    for (method, address, expected) in [
        ("GET", "news/a", "anyone"),
        ("HEAD", "blog", "anyone"),
        ("GET", "blog/a", "E_UNAUTHORISED"),
        ("GET", "other", "E_UNAUTHORISED"),
        ("POST", "news/a", "E_UNAUTHORISED"),
        ("PUT", "news/a", "E_UNAUTHORISED"),
        ("DELETE", "news/a", "E_UNAUTHORISED"),
    ] {
        assert_eq!(
            asked(&closed, method, address, &[]),
            expected,
            "{method} {address}"
        );
    }
    // The holder of another stream's token may what everybody may.
    let bearer = format!("Bearer {}", token(&closed.keys, "x", "write"));
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(asked(&closed, "GET", "blog", &headers), "holder");
    assert_eq!(asked(&closed, "POST", "blog", &headers), "E_FORBIDDEN");
    let wrong = [("authorization", "Bearer wrong")];
    assert_eq!(asked(&closed, "GET", "blog", &wrong), "E_UNAUTHORISED");
}

#[test]
fn a_token_in_the_address_reads_and_does_no_more() {
    let closed = access(SECRET, KEY, "");
    let token = token(&closed.keys, "a", "read write manage");
    let address = format!("a?offset=-1&live=sse&token={token}");
    assert_eq!(asked(&closed, "GET", &address, &[]), "holder");
    for method in ["HEAD", "POST", "PUT", "DELETE"] {
        assert_eq!(asked(&closed, method, &address, &[]), "E_TOKEN_IN_QUERY");
    }
    let escaped = format!("a?%74oken={token}");
    assert_eq!(asked(&closed, "GET", &escaped, &[]), "holder");
    assert_eq!(asked(&closed, "POST", &escaped, &[]), "E_TOKEN_IN_QUERY");
    let twice = format!("{address}&token={token}");
    assert_eq!(asked(&closed, "GET", &twice, &[]), "E_STREAM_REQUEST");
    let bearer = format!("Bearer {token}");
    let both = [("authorization", bearer.as_str())];
    assert_eq!(asked(&closed, "GET", &address, &both), "E_UNAUTHORISED");
    // The secret is never sent there.
    let secret = "a?token=a+secret+of+at+least+thirty-two+bytes";
    assert_eq!(asked(&closed, "GET", secret, &[]), "E_UNAUTHORISED");
    assert_eq!(asked(&closed, "GET", "a?token=", &[]), "E_UNAUTHORISED");
    assert_eq!(asked(&closed, "GET", "a?tokens=x", &[]), "E_UNAUTHORISED");
}

#[test]
fn only_one_way_of_sending_a_token_is_taken() {
    let closed = access(SECRET, KEY, "");
    let bearer = format!("Bearer {SECRET}");
    let known = ("authorization", bearer.as_str());
    assert_eq!(asked(&closed, "PUT", "a", &[known]), "operator");
    assert_eq!(
        asked(&closed, "PUT", "a", &[known, known]),
        "E_UNAUTHORISED"
    );
    let long = format!("Bearer {}", "x".repeat(2_049));
    for value in ["Bearer", "Bearer ", SECRET, "Basic x", "Bearer a b", &long] {
        let headers = [("authorization", value)];
        assert_eq!(
            asked(&closed, "PUT", "a", &headers),
            "E_UNAUTHORISED",
            "{value}"
        );
    }
    let claims = Claims::new("a", "read", NOW, Duration::from_mins(1), None).unwrap();
    let expired = format!("Bearer {}", closed.keys.sign(&claims).unwrap());
    let head = head("GET", "a", &[("authorization", &expired)]);
    let later = NOW.after(Duration::from_mins(2));
    let problem = closed.admit(&head, &StreamName::parse("a").unwrap(), later);
    let problem = problem.unwrap_err();
    assert_eq!(
        (problem.code.as_str(), problem.status),
        ("E_TOKEN_EXPIRED", 401)
    );
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let parse = |keys: &str, public: &str| {
        let parsed = Access::parse(Some(SECRET), Some(keys), Some(public));
        parsed.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(parse("", " , "), Ok(()));
    assert!(
        parse("short", "")
            .unwrap_err()
            .contains("STREAM_TOKEN_KEYS")
    );
    assert!(parse("", "a, b c").unwrap_err().contains("\"b c\""));
    assert!(parse("", &"a,".repeat(101)).is_err());
    // A secret that could be guessed from a token signs none.
    let short = access("s3cret", "", "");
    assert!(short.keys.is_empty() && !short.is_open());
    assert!(!format!("{short:?}").contains("s3cret"));
}
