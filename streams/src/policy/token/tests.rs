use proptest::prelude::*;

use super::*;

const KEY: &str = "a key of at least thirty-two bytes or more";
const OTHER: &str = "another key of at least thirty-two bytes";

/// 2026-11-22 09:20:00 UTC
const NOW: u64 = 1_795_339_200;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn keys(list: &str) -> Keys {
    Keys::parse(list).unwrap()
}

/// A token of these texts, as another library signs it.
fn signed_token(key: &str, header: &str, body: &str) -> String {
    let signed = format!(
        "{}.{}",
        BASE64URL_NOPAD.encode(header.as_bytes()),
        BASE64URL_NOPAD.encode(body.as_bytes())
    );
    let tag = mac(key.as_bytes(), signed.as_bytes()).finalize();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&tag.into_bytes()))
}

fn claims(streams: &str, scope: &str) -> Claims {
    Claims::new(streams, scope, at(NOW), Duration::from_mins(1), None).unwrap()
}

#[test]
fn mac_agrees_with_the_example_of_the_standard() {
    // RFC 7515, appendix A.1: header and body with line breaks, a binary key.
    let key =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = BASE64URL_NOPAD.decode(key.as_bytes()).unwrap();
    let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzOD\
                  AsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let tag = mac(&key, signed.as_bytes()).finalize().into_bytes();
    let expected = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    assert_eq!(BASE64URL_NOPAD.encode(&tag), expected);
    // Its header is valid, but its claims are not.
    let token = format!("{signed}.{expected}");
    assert_eq!(
        Keys(vec![key]).verify(token.as_bytes(), at(NOW)),
        Err(Refused::Invalid)
    );
}

#[test]
fn verify_accepts_a_token_of_each_key_until_it_expires() {
    let claims = claims("chat/*", "read write");
    let token = keys(KEY).sign(&claims).unwrap();
    assert_eq!(
        token.split('.').next().unwrap(),
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    );
    let verify = |list: &str, seconds| keys(list).verify(token.as_bytes(), at(seconds));
    assert_eq!(verify(KEY, NOW), Ok(claims.clone()));
    assert_eq!(verify(&format!("{OTHER},{KEY}"), NOW), Ok(claims.clone()));
    assert_eq!(verify(OTHER, NOW), Err(Refused::Invalid));
    assert_eq!(
        Keys::default().verify(token.as_bytes(), at(NOW)),
        Err(Refused::Invalid)
    );
    let fresh = keys(&format!("{OTHER}, {KEY}")).sign(&claims).unwrap();
    assert_eq!(
        keys(OTHER).verify(fresh.as_bytes(), at(NOW)),
        Ok(claims.clone())
    );
    // It expires at its time, with the leeway of clocks.
    assert_eq!(verify(KEY, NOW + 60 + 29), Ok(claims));
    assert_eq!(verify(KEY, NOW + 60 + 30), Err(Refused::Expired));
}

#[test]
fn keys_parse_refuses_short_and_too_many_keys() {
    assert_eq!(Keys::parse("short"), Err(InvalidKeys::Short(1)));
    assert_eq!(
        Keys::parse(&format!("{KEY},short")),
        Err(InvalidKeys::Short(2))
    );
    assert_eq!(Keys::parse(&[KEY; 9].join(",")), Err(InvalidKeys::Many));
    assert!(Keys::parse(" , ").unwrap().is_empty());
    assert!(Keys::of_secret("s3cret").is_empty(), "it could be guessed");
    let own = Keys::of_secret(KEY);
    assert_ne!(own, keys(KEY));
    // printf 'pmx-sync stream tokens v1' | openssl dgst -sha256 -hmac "$STREAM_SECRET"
    let key = "540fe23d7995db8acae2d51584dbc05085d4d8aef692011e55825ab12ac68980";
    assert_eq!(own, keys(key));
    assert_eq!(format!("{own:?}"), "Keys(1)");
}

#[test]
fn verify_is_strict_about_encoding_header_and_claims() {
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let body = format!(r#"{{"sub":"a","scope":"read","exp":{}}}"#, NOW + 60);
    let with = |more: &str| format!(r#"{{"sub":"a","scope":"read","exp":{}{more}}}"#, NOW + 60);
    let verify = |token: &str| keys(KEY).verify(token.as_bytes(), at(NOW)).map(|_| ());
    for body in [
        body.clone(),
        with(&format!(r#","nbf":{NOW},"iat":{NOW},"jti":"x","iss":"me""#)),
        with(&format!(r#","nbf":{}"#, NOW + 30)),
        format!(
            r#" {{ "exp" : {}, "scope":"manage read", "sub":"**" }}"#,
            NOW + 60
        ),
    ] {
        assert_eq!(verify(&signed_token(KEY, header, &body)), Ok(()), "{body}");
    }
    let swapped = r#"{"typ":"JWT","alg":"HS256"}"#;
    assert_eq!(verify(&signed_token(KEY, swapped, &body)), Ok(()));
    for header in [
        r#"{"alg":"none","typ":"JWT"}"#,
        r#"{"alg":"None","typ":"JWT"}"#,
        r#"{"alg":"hs256","typ":"JWT"}"#,
        r#"{"alg":"HS512","typ":"JWT"}"#,
        r#"{"alg":"RS256","typ":"JWT"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"jwt"}"#,
        r#"{"alg":"HS256","typ":"JWT","kid":"1"}"#,
        r#"{"alg":"HS256","typ":"JWT","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","alg":"HS256","typ":"JWT"}"#,
        r#"["HS256","JWT","x"]"#,
        "",
    ] {
        let token = signed_token(KEY, header, &body);
        assert_eq!(verify(&token), Err(Refused::Invalid), "{header}");
    }
    let late = format!(
        r#"{{"sub":"a","scope":"read","exp":{}}}"#,
        NOW + 367 * 86_400
    );
    for body in [
        r#"{"sub":"a","scope":"read"}"#,
        r#"{"sub":"a","exp":1795339260}"#,
        r#"{"scope":"read","exp":1795339260}"#,
        r#"{"sub":"a","scope":"read","exp":"1795339260"}"#,
        r#"{"sub":"a","scope":"read","exp":1795339260.5}"#,
        r#"{"sub":"a","scope":"read","exp":-1}"#,
        r#"{"sub":"a","scope":["read"],"exp":1795339260}"#,
        r#"{"sub":"a b","scope":"read","exp":1795339260}"#,
        r#"{"sub":"","scope":"read","exp":1795339260}"#,
        r#"{"sub":"a","scope":"","exp":1795339260}"#,
        r#"{"sub":"a","scope":"admin","exp":1795339260}"#,
        r#"{"sub":"a","scope":"read  write","exp":1795339260}"#,
        r#"{"sub":"a","scope":"read read","exp":1795339260}"#,
        r#"{"sub":"a","sub":"b","scope":"read","exp":1795339260}"#,
        &late,
        &with(&format!(r#","nbf":{}"#, NOW + 31)),
        &with(r#","aud":"others""#),
        "null",
        "",
    ] {
        let token = signed_token(KEY, header, body);
        assert_eq!(verify(&token), Err(Refused::Invalid), "{body}");
    }
    let token = signed_token(KEY, header, &body);
    let (signed, tag) = token.rsplit_once('.').unwrap();
    let long = with(&format!(r#","x":"{}""#, "y".repeat(2_000)));
    for token in [
        signed.to_owned(),
        format!("{signed}."),
        format!("{token}."),
        format!("{token}.{tag}"),
        format!("{token}="),
        format!(" {token}"),
        format!("{signed}.{}", &tag[..42]),
        "..".to_owned(),
        String::new(),
        signed_token(KEY, header, &long),
    ] {
        assert_eq!(verify(&token), Err(Refused::Invalid), "{token}");
    }
}

#[test]
fn claims_new_validates_before_signing() {
    let new = |streams: &str, scope, seconds| {
        let time = Duration::from_secs(seconds);
        Claims::new(streams, scope, at(NOW), time, None).map(|claims| claims.expires())
    };
    assert_eq!(new("a", "read", 60), Ok(NOW + 60));
    assert_eq!(new("a", "reed", 60), Err(InvalidClaims::Scope));
    assert_eq!(new("a", "read", 0), Err(InvalidClaims::Time));
    assert_eq!(new("a", "read", 367 * 86_400), Err(InvalidClaims::Time));
    assert_eq!(
        new("a b", "read", 60),
        Err(InvalidClaims::Streams(InvalidPattern))
    );
    let id = Some("x".repeat(2_000));
    let long = Claims::new("a", "read", at(NOW), Duration::from_mins(1), id);
    assert_eq!(long, Err(InvalidClaims::Long));
    // The longest name fits.
    let longest = claims(&"x".repeat(1_024), "read write manage");
    let token = keys(KEY).sign(&longest).unwrap();
    assert_eq!(keys(KEY).verify(token.as_bytes(), at(NOW)), Ok(longest));
}

#[test]
fn client_is_identified_by_id_or_token() {
    let named = |id: &str, minutes| {
        let time = Duration::from_mins(minutes);
        let claims = Claims::new("a", "read", at(NOW), time, Some(id.into())).unwrap();
        let token = keys(KEY).sign(&claims).unwrap();
        claims.client(token.as_bytes())
    };
    assert_eq!(named("x", 1), named("x", 2));
    assert_ne!(named("x", 1), named("y", 1));
    let address = |text: &str| ClientId::of_address(text.parse().unwrap());
    assert_eq!(address("2001:db8::1"), address("2001:db8::2:3"));
    assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
    assert_eq!(address("192.0.2.1"), address("::ffff:192.0.2.1"));
    assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    let anonymous = claims("a", "read");
    assert_ne!(anonymous.client(b"t"), anonymous.client(b"u"));
}

proptest! {
    #[test]
    fn verify_rejects_a_changed_byte(at_byte: prop::sample::Index, byte: u8) {
        let token = keys(KEY).sign(&claims("a/**", "read")).unwrap().into_bytes();
        let mut changed = token.clone();
        changed[at_byte.index(token.len())] = byte;
        let verified = keys(KEY).verify(&changed, at(NOW));
        prop_assert_eq!(verified.is_ok(), changed == token);
    }

    #[test]
    fn verify_never_panics(token in "[A-Za-z0-9_.=-]{0,80}", bytes: Vec<u8>) {
        prop_assert_eq!(keys(KEY).verify(token.as_bytes(), at(NOW)), Err(Refused::Invalid));
        prop_assert_eq!(keys(KEY).verify(&bytes, at(NOW)), Err(Refused::Invalid));
    }
}
