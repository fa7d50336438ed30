use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Expiry;
use crate::reply::StreamProperties;

/// A source stream whose pages end at given positions.
struct Source<'a> {
    media_type: &'a str,
    /// The messages; a stream of bytes is their concatenation.
    messages: &'a [Vec<u8>],
    cuts: Vec<usize>,
}

impl Source<'_> {
    fn tail(&self) -> u64 {
        if self.media_type == "application/json" {
            self.messages.len() as u64
        } else {
            self.messages.concat().len() as u64
        }
    }

    fn page(&mut self, read: Read) -> Page {
        let From::At(start) = read.from else {
            panic!("it reads from an offset");
        };
        let at = start.position() as usize;
        let most = self.cuts.pop().unwrap_or(usize::MAX).max(1);
        let end = at.saturating_add(most).min(self.tail() as usize);
        let body = if self.media_type == "application/json" {
            self.messages[at..end].join(&b','.to_owned())
        } else {
            self.messages.concat()[at..end].to_vec()
        };
        Page {
            view: StreamProperties {
                media_type: MediaType::new(self.media_type),
                next: Offset::at(self.tail()),
                closed: false,
                expiry: Expiry::Never,
                expiry_text: None,
                generation: GENERATION.to_string(),
            },
            start,
            end: Offset::at(end as u64),
            body: body.into(),
        }
    }
}

fn gathered(source: &mut Source<'_>, from: u64, until: u64) -> Result<FanOutBatch, Refusal> {
    let name = |text: &str| StreamName::parse(text).unwrap();
    let copying = Copying {
        source: name("a/b"),
        generation: Some(GENERATION),
        from: Offset::at(from),
        until: Offset::at(until),
        target: name("all"),
        producer: Producer {
            id: "p".to_owned(),
            epoch: 7,
            seq: 0,
        },
    };
    let mut made = pin!(copying.gather(async |read| Ok(source.page(read))));
    match made.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(made) => made,
        Poll::Pending => panic!("nothing waits here"),
    }
}

fn envelopes(copies: &FanOutBatch) -> Vec<Value> {
    assert!(copies.append.body.len() < 16 * FAN_OUT_BYTES);
    serde_json::from_slice(&copies.append.body).unwrap()
}

const GENERATION: Generation = Generation::from_bytes([3; 16]);

/// All batches from the beginning to the tail.
fn all(source: &mut Source<'_>) -> Vec<FanOutBatch> {
    let (mut at, mut batches) = (0, Vec::new());
    while at < source.tail() {
        let copies = gathered(source, at, source.tail()).unwrap();
        assert!(copies.to.position() > at);
        at = copies.to.position();
        batches.push(copies);
    }
    batches
}

#[test]
fn gather_renders_envelopes() {
    let offset = |at: u64| format!("0000000000000000_{at:016}");
    let messages = [b"{\"n\": 1}".to_vec(), b"\"two\"".to_vec(), b"[3]".to_vec()];
    let mut source = Source {
        media_type: "application/json",
        messages: &messages,
        cuts: Vec::new(),
    };
    let copies = gathered(&mut source, 1, 3).unwrap();
    let envelope = |at: u64, payload: &Value| {
        let media_type = "application/json";
        json!({"stream": "a/b", "offset": offset(at), "type": media_type, "payload": payload})
    };
    let expected = [envelope(2, &json!("two")), envelope(3, &json!([3]))];
    assert_eq!(envelopes(&copies), expected);
    assert_eq!(copies.to, Offset::at(3));
    // The next batch has the messages after `until`.
    assert_eq!(gathered(&mut source, 0, 2).unwrap().to, Offset::at(2));
    assert_eq!(gathered(&mut source, 0, 4), Err(Refusal::Beyond));
    for (media_type, body, payload) in [
        (
            "text/plain; charset=utf-8",
            "h\u{fc}\"\n",
            json!({"payload": "h\u{fc}\"\n"}),
        ),
        ("text/plain", "\u{0}", json!({"payload": "\u{0}"})),
        (
            "image/png",
            "h",
            json!({"payload": "aA==", "encoding": "base64"}),
        ),
    ] {
        let messages = [body.as_bytes().to_vec()];
        let mut source = Source {
            media_type,
            messages: &messages,
            cuts: vec![1, 1],
        };
        let copies = gathered(&mut source, 0, body.len() as u64).unwrap();
        let mut expected = payload;
        expected["stream"] = "a/b".into();
        expected["offset"] = offset(body.len() as u64).into();
        expected["type"] = media_type.into();
        assert_eq!(envelopes(&copies), [expected], "{media_type}");
    }
    let messages = [vec![0xff, b'a']];
    let mut source = Source {
        media_type: "text/plain",
        messages: &messages,
        cuts: Vec::new(),
    };
    let copies = gathered(&mut source, 0, 2).unwrap();
    assert_eq!(envelopes(&copies)[0]["payload"], "/2E=");
}

#[test]
fn gather_omits_a_message_that_is_too_long() {
    let long = format!("\"{}\"", "x".repeat(FAN_OUT_MESSAGE_BYTES_MAX));
    let messages = [long.clone().into_bytes(), b"1".to_vec()];
    let mut source = Source {
        media_type: "application/json",
        messages: &messages,
        cuts: Vec::new(),
    };
    let copies = gathered(&mut source, 0, 2).unwrap();
    let envelopes = envelopes(&copies);
    assert_eq!(envelopes[0]["omitted_bytes"], long.len());
    assert_eq!(envelopes[0].get("payload"), None);
    assert_eq!(envelopes[1]["payload"], 1);
}

#[test]
fn gather_never_cuts_a_character() {
    let text = format!("a{}", "\u{fc}".repeat(FAN_OUT_BYTES));
    let messages = [text.clone().into_bytes()];
    let mut source = Source {
        media_type: "text/plain",
        messages: &messages,
        cuts: Vec::new(),
    };
    let batches = all(&mut source);
    assert_eq!(batches.len(), 3);
    let payloads = batches
        .iter()
        .map(|batch| envelopes(batch)[0]["payload"].clone());
    let whole: String = payloads.map(|it| it.as_str().unwrap().to_owned()).collect();
    assert_eq!(whole, text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn gather_is_independent_of_page_boundaries(
        lengths in proptest::collection::vec(prop_oneof![0..9_usize, 0..700_000_usize], 1..12),
        cuts in proptest::collection::vec(prop_oneof![1..3_usize, 1..900_000_usize], 0..40),
        media_type in prop_oneof![Just("application/json"), Just("text/plain"), Just("x/y")],
    ) {
        let is_json = media_type == "application/json";
        let message = |length: &usize| {
            let text = "x".repeat(*length);
            if is_json { format!("\"{text}\"") } else { format!("{text}.") }
        };
        let messages: Vec<Vec<u8>> = lengths.iter().map(|it| message(it).into_bytes()).collect();
        let source = |cuts| Source { media_type, messages: &messages, cuts };
        let whole = all(&mut source(Vec::new()));
        prop_assert_eq!(&all(&mut source(cuts)), &whole);
        let count: usize = whole.iter().map(|batch| envelopes(batch).len()).sum();
        prop_assert!(!is_json || count == messages.len());
    }
}
