//! Bearer authentication: a client that sends the publish secret may use the publish API.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pmx_core::code::Code;
use pmx_core::hash::Hash;
use pmx_core::limits::TOKEN_BYTES_MAX;
use pmx_core::problem::Problem;
use subtle::ConstantTimeEq;

/// Checks the token of a request. Fails closed: without a secret no client may publish.
pub(crate) fn authorise(headers: &HeaderMap, secret: Option<&str>) -> Result<(), Problem> {
    let secret = secret.filter(|secret| !secret.is_empty()).ok_or_else(|| {
        Problem::new(
            Code::NotConfigured,
            "the publish API is closed: the server has no secret",
        )
    })?;
    // One answer for every kind of wrong token, so that it reveals nothing.
    let refused = || Problem::new(Code::Unauthorised, "the request carries no valid token");
    let token = bearer(headers).ok_or_else(refused)?;
    // Hashes have one length, so the comparison takes the same time for every token.
    let (given, expected) = (Hash::of(token), Hash::of(secret.as_bytes()));
    if bool::from(given.as_bytes().ct_eq(expected.as_bytes())) {
        Ok(())
    } else {
        Err(refused())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
    (is_bearer && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn publish_secret_alone_opens_the_api() {
        let check = |values: &[&[u8]], secret| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
            }
            authorise(&headers, secret).map_err(|problem| problem.code)
        };
        let long = [b"Bearer ".as_slice(), &[b'x'; TOKEN_BYTES_MAX + 1]].concat();
        assert_eq!(check(&[b"Bearer s3cret"], Some("s3cret")), Ok(()));
        assert_eq!(check(&[b"bearer s3cret"], Some("s3cret")), Ok(()));
        for bad in [
            &[][..],
            &[b"Bearer".as_slice()],
            &[b"Bearer "],
            &[b"Bearer s3cre"],
            &[b"Bearer s3cret "],
            &[b"Basic s3cret"],
            &[b"s3cret"],
            &[b"Bearer s3cret", b"Bearer s3cret"],
            &[b"Bearer \xff\xfe"],
            &[&long],
        ] {
            assert_eq!(
                check(bad, Some("s3cret")),
                Err(Code::Unauthorised),
                "{bad:?}"
            );
        }
        assert_eq!(check(&[], None), Err(Code::NotConfigured));
        assert_eq!(check(&[b"Bearer "], Some("")), Err(Code::NotConfigured));
    }
}
