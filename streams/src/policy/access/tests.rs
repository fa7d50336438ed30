use std::time::Duration;

use http::Request;

use super::super::token::Claims;
use super::*;

const SECRET: &str = "a secret of at least thirty-two bytes";
const KEY: &str = "a key of at least thirty-two bytes or more";
const NOW: Timestamp = Timestamp::from_millis(1_795_339_200_000);

fn access(secret: &str, keys: &str, public: &str) -> Access {
    let vars = AccessVars {
        secret: Some(secret),
        keys: Some(keys),
        public: Some(public),
        ..AccessVars::default()
    };
    Access::parse(vars).unwrap()
}

fn opened(access: &str) -> Access {
    let access = Some(access);
    let vars = AccessVars {
        access,
        ..AccessVars::default()
    };
    Access::parse(vars).unwrap()
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

/// The sender in a word, or the code of the refusal.
fn asked(access: &Access, method: &str, address: &str, headers: &[(&str, &str)]) -> &'static str {
    let (name, _) = address.split_once('?').unwrap_or((address, ""));
    admitted(access, &head(method, address, headers), name)
}

fn admitted(access: &Access, head: &Parts, name: &str) -> &'static str {
    match access.admit(head, &StreamName::parse(name).unwrap(), NOW) {
        Ok(Principal::Anonymous) => "anyone",
        Ok(Principal::Token(_)) => "holder",
        Ok(Principal::Operator) => "operator",
        Err(problem) => problem.code.as_str(),
    }
}

#[test]
fn access_without_secret_and_keys_is_closed_unless_opened_or_local() {
    let (closed, local) = (opened(""), opened("").in_local_mode(true));
    let token = [("authorization", "Bearer x")];
    for (access, exposure, expected) in [
        (&closed, Exposure::Public, "E_STREAMS_CLOSED"),
        (&closed, Exposure::Machine, "E_STREAMS_CLOSED"),
        (&local, Exposure::Local, "anyone"),
        // Through a proxy.
        (&local, Exposure::Public, "E_STREAMS_CLOSED"),
        (&opened("open"), Exposure::Public, "anyone"),
    ] {
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            for headers in [&[][..], &token] {
                let mut head = head(method, "a", headers);
                head.extensions.insert(exposure);
                assert_eq!(admitted(access, &head, "a"), expected, "{method}");
            }
        }
    }
    let none = head("GET", "", &[]);
    let problem = closed.authorise(&none, NOW).unwrap_err();
    assert_eq!((problem.code, problem.status), (Code::StreamsClosed, 403));
    for name in ["STREAM_SECRET", "STREAM_ACCESS=open"] {
        assert!(problem.hint.contains(name), "{problem:?}");
    }
    // Public streams stay readable on a closed server.
    let public = access("", "", "news/*");
    assert_eq!(asked(&public, "GET", "news/a", &[]), "anyone");
    assert_eq!(asked(&public, "PUT", "news/a", &[]), "E_STREAMS_CLOSED");
}

#[test]
fn access_mode_is_guarded_with_a_secret_whatever_else_is_set() {
    let vars = |secret, auth_token| AccessVars {
        secret,
        auth_token,
        access: Some("open"),
        ..AccessVars::default()
    };
    for vars in [
        vars(Some(SECRET), None),
        vars(None, Some(SECRET)),
        vars(Some(SECRET), Some(SECRET)),
        vars(Some(""), Some(SECRET)),
    ] {
        let guarded = Access::parse(vars).unwrap().in_local_mode(true);
        assert_eq!(guarded.access_mode(), AccessMode::Guarded);
        let bearer = format!("Bearer {SECRET}");
        let known = [("authorization", bearer.as_str())];
        assert_eq!(asked(&guarded, "PUT", "a", &known), "operator");
        assert_eq!(asked(&guarded, "PUT", "a", &[]), "E_UNAUTHORISED");
    }
    let two = Access::parse(vars(Some("a"), Some("b"))).unwrap_err();
    assert_eq!(two, InvalidAccess::TwoSecrets);
}

#[test]
fn admit_allows_everything_on_an_open_server() {
    let open = opened("open");
    assert_eq!(open.access_mode(), AccessMode::Open);
    for (method, address) in [("GET", "a?token=x"), ("PUT", "a"), ("DELETE", "a?token=x")] {
        assert_eq!(asked(&open, method, address, &[]), "anyone");
    }
    assert_eq!(open.authorise(&head("GET", "", &[]), NOW), Ok(()));
    // Keys alone close the server as well.
    let keys = access("", KEY, "");
    assert_eq!(asked(&keys, "GET", "a", &[]), "E_UNAUTHORISED");
    let problem = keys.authorise(&head("GET", "", &[]), NOW).unwrap_err();
    assert_eq!(problem.code, Code::Unauthorised);
    assert!(problem.hint.contains("STREAM_SECRET"), "{problem:?}");
}

#[test]
fn admit_limits_a_token_to_its_streams_and_scope() {
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
    // Only the operator may send requests that are not about a stream.
    let bearer = format!("Bearer {}", token(&closed.keys, "**", "read write manage"));
    let with = |bearer: &str| head("GET", "", &[("authorization", bearer)]);
    let problem = closed.authorise(&with(&bearer), NOW).unwrap_err();
    assert_eq!(
        problem.code,
        Code::Forbidden,
        "the token is one, but not for this"
    );
    assert_eq!(
        asked(&closed, "GET", "__ds/x", &[("authorization", &bearer)]),
        "E_FORBIDDEN"
    );
    let secret = with(&format!("bearer {SECRET}"));
    assert_eq!(closed.authorise(&secret, NOW), Ok(()));
}

#[test]
fn claim_needs_its_own_scope() {
    let closed = access(SECRET, KEY, "");
    let claim = |bearer: String| {
        let bearer = format!("Bearer {bearer}");
        let head = head("POST", "", &[("authorization", &bearer)]);
        closed.claim(&head, NOW).map_err(|problem| problem.code)
    };
    let own = Pattern::parse("jobs/*").unwrap();
    let token = |scope| token(&closed.keys, "jobs/*", scope);
    assert_eq!(claim(SECRET.into()), Ok(Claimable::All));
    assert_eq!(claim(token("claim")), Ok(Claimable::Within(own.clone())));
    assert_eq!(claim(token("read claim")), Ok(Claimable::Within(own)));
    assert_eq!(claim(token("read write manage")), Err(Code::Forbidden));
    assert_eq!(claim("x".into()), Err(Code::Unauthorised));
    let none = head("POST", "", &[]);
    let problem = closed.claim(&none, NOW).unwrap_err();
    assert_eq!(problem.code, Code::Unauthorised);
    assert_eq!(opened("open").claim(&none, NOW), Ok(Claimable::All));
}

#[test]
fn admit_requires_read_access_to_the_source_of_a_fork() {
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
    // An invalid source is refused later.
    assert_eq!(fork("a/*", "manage", "secret"), "holder");
}

#[test]
fn admit_allows_only_reads_of_public_streams() {
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
    // A token for another stream does not remove public access.
    let bearer = format!("Bearer {}", token(&closed.keys, "x", "write"));
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(asked(&closed, "GET", "blog", &headers), "holder");
    assert_eq!(asked(&closed, "POST", "blog", &headers), "E_FORBIDDEN");
    let wrong = [("authorization", "Bearer wrong")];
    assert_eq!(asked(&closed, "GET", "blog", &wrong), "E_UNAUTHORISED");
}

#[test]
fn admit_takes_a_token_in_the_query_for_get_only() {
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
    // The secret is not accepted in the query.
    let secret = "a?token=a+secret+of+at+least+thirty-two+bytes";
    assert_eq!(asked(&closed, "GET", secret, &[]), "E_UNAUTHORISED");
    assert_eq!(asked(&closed, "GET", "a?token=", &[]), "E_UNAUTHORISED");
    assert_eq!(asked(&closed, "GET", "a?tokens=x", &[]), "E_UNAUTHORISED");
}

#[test]
fn admit_takes_one_well_formed_credential() {
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
fn parse_refuses_invalid_settings() {
    let parse = |keys: &str, public: &str| {
        let parsed = Access::parse(AccessVars {
            secret: Some(SECRET),
            keys: Some(keys),
            public: Some(public),
            ..AccessVars::default()
        });
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
    // A short secret could be guessed from a token, so no key is derived from it.
    let short = access("s3cret", "", "");
    assert!(short.keys.is_empty());
    assert_eq!(short.access_mode(), AccessMode::Guarded);
    let vars = AccessVars {
        access: Some("opne"),
        ..AccessVars::default()
    };
    let error = Access::parse(vars).unwrap_err().to_string();
    assert!(error.contains("STREAM_ACCESS"), "{error}");
    assert!(!format!("{short:?}").contains("s3cret"));
}
