//! Head conversion between JavaScript and this module: one text for all headers, because a call for
//! each costs more than the header.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use worker::js_sys::{Array, Object, Reflect};
use worker::wasm_bindgen::JsValue;
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::{Headers, web_sys};

use crate::js_error::problem;

#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen, module = "/src/head.js")]
extern "C" {
    #[wasm_bindgen(catch, js_name = picked)]
    fn picked_text(request: &web_sys::Request, lists: &Object) -> Result<String, JsValue>;

    #[wasm_bindgen(catch, js_name = all)]
    fn all_text(request: &web_sys::Request) -> Result<String, JsValue>;

    #[wasm_bindgen(catch, js_name = accepted)]
    fn accepted_text(request: &web_sys::Request) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch, js_name = headersOf)]
    fn headers_of(text: &str) -> Result<web_sys::Headers, JsValue>;

    #[wasm_bindgen(catch, js_name = answered)]
    fn answered_with(
        status: u16,
        headers: &str,
        body: &JsValue,
        is_encoded: bool,
    ) -> Result<web_sys::Response, JsValue>;
}

/// The headers to read from a request, by its method.
pub(crate) struct Names {
    of: fn(&Method) -> Vec<HeaderName>,
    lists: Object,
}

/// The methods that may have their own list of headers.
const METHODS: [Method; 6] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
];

impl Names {
    /// The headers that `of` names for each method.
    pub(crate) fn new(of: fn(&Method) -> Vec<HeaderName>) -> Self {
        let lists = Object::new();
        let lists_of = METHODS.iter().map(|method| (method.as_str(), of(method)));
        for (method, names) in lists_of.chain([("OTHER", of(&Method::TRACE))]) {
            let names = names.iter().map(|name| JsValue::from_str(name.as_str()));
            let list: Array = names.collect();
            // Setting a property of a new object cannot fail.
            let _set = Reflect::set(&lists, &method.into(), &list);
        }
        Self { of, lists }
    }
}

/// The head of a request, with the listed headers.
pub(crate) fn picked(request: &web_sys::Request, names: &Names) -> Result<Parts, Problem> {
    let text = picked_text(request, &names.lists).map_err(problem(READING))?;
    read_picked(names.of, &text)
}

fn read_picked(of: fn(&Method) -> Vec<HeaderName>, text: &str) -> Result<Parts, Problem> {
    let mut lines = text.split('\n');
    let mut head = begun(&mut lines)?;
    for (name, value) in of(&head.method).into_iter().zip(lines) {
        if value != NONE {
            let value = header_value(value);
            let value = value.ok_or_else(|| unreadable("headers", &name))?;
            head.headers.insert(name, value);
        }
    }
    Ok(head)
}

/// Marks an absent header: no header value can be this.
const NONE: &str = "\0";

const READING: &str = "reading the head of a request";

/// The head of a request. It omits invalid headers.
pub(crate) fn all(request: &web_sys::Request) -> Result<Parts, Problem> {
    read_all(&all_text(request).map_err(problem(READING))?)
}

fn read_all(text: &str) -> Result<Parts, Problem> {
    let mut lines = text.split('\n');
    let mut head = begun(&mut lines)?;
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Some(value)) = (name, header_value(value)) {
            head.headers.append(name, value);
        }
    }
    Ok(head)
}

/// A head with the first two lines: method and address.
fn begun<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<Parts, Problem> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    let method = Method::from_bytes(lines.next().unwrap_or_default().as_bytes());
    head.method = method.map_err(|error| unreadable("method", &error))?;
    head.uri = address(lines.next().unwrap_or_default())?;
    Ok(head)
}

/// Reads the address of a request.
pub(crate) fn address(url: &str) -> Result<Uri, Problem> {
    let uri = url.parse::<Uri>();
    uri.map_err(|error| unreadable("address", &error))
}

fn unreadable(what: &str, why: &dyn std::fmt::Display) -> Problem {
    let detail = format!("reading the {what} of the request: {why}");
    Problem::new(Code::RequestMalformed, detail)
}

/// The codings that the client itself accepts.
pub(crate) fn accepted_encodings(request: &web_sys::Request) -> Option<String> {
    accepted_text(request).ok()?.as_string()
}

/// The headers of an answer as the runtime has them: each byte a character.
pub(crate) fn headers(map: &HeaderMap) -> Result<Headers, Problem> {
    let made = headers_of(&written(map)).map_err(problem("writing the headers of an answer"));
    made.map(Headers)
}

/// Builds a response, in one call of the runtime.
pub(crate) fn answered(
    status: StatusCode,
    headers: &HeaderMap,
    body: &JsValue,
) -> Result<web_sys::Response, Problem> {
    let is_encoded = headers.contains_key(CONTENT_ENCODING);
    let made = answered_with(status.as_u16(), &written(headers), body, is_encoded);
    made.map_err(problem("making an answer"))
}

fn written(map: &HeaderMap) -> String {
    let mut text = String::with_capacity(64 * map.len());
    for (name, value) in map {
        for piece in [name.as_str().as_bytes(), value.as_bytes()] {
            text.extend(piece.iter().copied().map(char::from));
            text.push('\n');
        }
    }
    text
}

/// The body length that a request announces.
pub(crate) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A header's bytes, each of which is a character in JavaScript.
pub(crate) fn header_value(text: &str) -> Option<HeaderValue> {
    let bytes = text.chars().map(|c| u8::try_from(c).ok());
    HeaderValue::from_bytes(&bytes.collect::<Option<Vec<_>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_bytes() {
        let bytes = |text: &str| header_value(text).map(|value| value.as_bytes().to_vec());
        assert_eq!(bytes("a, b"), Some(b"a, b".to_vec()));
        assert_eq!(bytes("\u{fc}"), Some(vec![0xfc]));
        assert_eq!(bytes("\u{100}"), None);
        assert_eq!(bytes("a\nb"), None);
    }

    #[test]
    fn picked_headers_are_those_that_are_there() {
        let of = |method: &Method| match *method {
            Method::POST => ["origin", "stream-seq", "producer-id"]
                .map(HeaderName::from_static)
                .to_vec(),
            _ => Vec::new(),
        };
        let head = read_picked(of, "POST\nhttps://path.app/a?b\n\0\n\nw\u{fc}").unwrap();
        assert_eq!(head.method, Method::POST);
        assert_eq!(head.uri, "https://path.app/a?b");
        assert_eq!(head.headers.len(), 2);
        assert_eq!(head.headers["stream-seq"], "");
        assert_eq!(head.headers["producer-id"].as_bytes(), [b'w', 0xfc]);
        for (text, why) in [
            ("POST\nhttps://path.app/\n\0\n\0\n\u{100}", "headers"),
            ("P T\nhttps://path.app/", "method"),
            ("PUT\nhttps://[", "address"),
        ] {
            let refused = read_picked(of, text).unwrap_err();
            assert_eq!(refused.code, Code::RequestMalformed);
            assert!(refused.detail.contains(why), "{}", refused.detail);
        }
    }

    #[test]
    fn headers_return_from_the_text_that_they_became() {
        let mut map = HeaderMap::new();
        map.append("vary", HeaderValue::from_static("origin"));
        map.append("vary", HeaderValue::from_static("authorization"));
        map.append("etag", HeaderValue::from_bytes(b"\"\xfc\"").unwrap());
        map.append("x-empty", HeaderValue::from_static(""));
        let headers = |lines: &str| {
            let head = read_all(&format!("GET\n/\n{lines}"));
            head.unwrap().headers
        };
        assert_eq!(headers(&written(&map)), map);
        assert_eq!(read_all("GET\n/").unwrap().headers.len(), 0);
        assert_eq!(headers("a b\n1\nc\n2\nd\n\u{100}").len(), 1);
    }

    #[test]
    fn content_length_is_parsed() {
        let of = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            announced(&HeaderMap::from_iter([(CONTENT_LENGTH, value)]))
        };
        assert_eq!([of("0"), of("190"), of("x")], [Some(0), Some(190), None]);
        assert_eq!(announced(&HeaderMap::new()), None);
    }
}
