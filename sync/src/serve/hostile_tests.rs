//! Hostile requests of anonymous clients: how often they reach a space.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use http::Request;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::domain::Selector;
use pmx_core::id::{NodeId, SpaceId};
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_streams::{Expiry, MediaType, Offset, Page, StreamProperties};

use super::{Body, Nonce, Pointers, Server, ServerSettings, Spaces};
use crate::limits::QUESTIONS_BURST;
use crate::live::{ChangeMessage, Event};
use crate::pointer::Pointer;
use crate::serve::token::DeployTokens;
use crate::space::{Command, Reply};
use crate::testing::{Single, pointer, ready, settings};
use crate::wire::DeployKind;

const HOSTILE: u64 = 10_000;

/// The newest deploy of the space `docs`, as its ledger has it.
const NEWEST: u64 = 5_000;

/// A platform that records the questions to its spaces, and answers without a ledger.
#[derive(Default)]
struct Counted {
    pointers: RefCell<BTreeMap<Channel, Pointer>>,
    asked: RefCell<BTreeMap<&'static str, u64>>,
}

impl Counted {
    fn asked(&self) -> u64 {
        self.asked.borrow().values().sum()
    }

    /// Whether the space shows its readers this deploy.
    fn shows(&self, space: &SpaceName, number: u64) -> bool {
        let pointers = self.pointers.borrow();
        let shown = pointers.get(&Channel::from(space.clone()));
        shown.is_some_and(|shown| shown.deploy == number)
    }

    fn times(&self, command: &str) -> u64 {
        self.asked.borrow().get(command).copied().unwrap_or(0)
    }
}

fn page() -> Page {
    Page {
        view: StreamProperties {
            media_type: MediaType::new("application/json"),
            next: Offset::at(NEWEST),
            closed: false,
            expiry: Expiry::Never,
            expiry_text: None,
            generation: "g".into(),
        },
        start: Offset::at(NEWEST),
        end: Offset::at(NEWEST),
        body: Bytes::new(),
    }
}

fn net(from: u64, to: u64) -> ChangeMessage {
    ChangeMessage {
        deploy: to,
        alias: None,
        root: NodeId::of(b"new"),
        prev_root: Some(NodeId::of(b"old")),
        since: Some(from),
        kind: DeployKind::Publish,
        at: Timestamp::from_millis(1),
        events: vec![Event::default()],
        know: None,
    }
}

impl Spaces for Counted {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        _now: Timestamp,
    ) -> Result<Reply, Problem> {
        // This platform has no objects, so the server reports a loss.
        if matches!(command, Command::Lost(_)) {
            return Err(Problem::new(Code::NotFound, "nothing is marked"));
        }
        // The server then asks whether the objects moved.
        if let Command::Locate {
            deploy: Selector::Number(number),
        } = command
            && self.shows(space, number)
        {
            return Ok(Reply::Pointer(Box::new(pointer(number))));
        }
        *self.asked.borrow_mut().entry(command.name()).or_default() += 1;
        let absent = || Err(Problem::new(Code::NotFound, "there is no such space"));
        if space.as_str() != "docs" {
            return absent();
        }
        match command {
            Command::Locate { deploy } => match deploy {
                Selector::Number(number) if number > NEWEST => {
                    Err(Problem::new(Code::DeployUnknown, "there is no such deploy"))
                }
                Selector::Number(number) => Ok(Reply::Pointer(Box::new(pointer(number)))),
                Selector::Active => Ok(Reply::Pointer(Box::new(pointer(NEWEST)))),
                Selector::Alias(_) => absent(),
            },
            Command::Events { .. } => Ok(Reply::Events {
                page: Box::new(page()),
                is_open: true,
            }),
            Command::DiffSince { from, to, .. } => Ok(Reply::DiffSince(Box::new(net(from, to)))),
            _ => absent(),
        }
    }
}

impl Pointers for Counted {
    async fn read(&self, channel: &Channel) -> Result<Option<Pointer>, BackendError> {
        Ok(self.pointers.borrow().get(channel).cloned())
    }

    fn may_lag(&self) -> bool {
        true
    }

    async fn write(&self, _channel: &Channel, _pointer: &Pointer) -> Result<(), BackendError> {
        Ok(())
    }

    fn note(&self, channel: &Channel, pointer: &Pointer) {
        let mut pointers = self.pointers.borrow_mut();
        pointers.insert(channel.clone(), pointer.clone());
    }
}

impl Blobs for Counted {
    async fn read(&self, _: ObjectKey, _: Range<u64>) -> Result<Option<Bytes>, BackendError> {
        Ok(None)
    }

    async fn write(&self, _: ObjectKey, _: Bytes) -> Result<(), BackendError> {
        Ok(())
    }

    async fn delete(&self, _: &[ObjectKey]) -> Result<(), BackendError> {
        Ok(())
    }

    async fn delete_some(&self, _: SpaceId, _: usize) -> Result<usize, BackendError> {
        Ok(0)
    }
}

/// A server whose pointer of `docs` lags: it shows deploy 100.
fn server(live: bool) -> Server<Single<Counted>> {
    let platform = Counted::default();
    let docs = Channel::of_label("docs").unwrap();
    let late = Pointer {
        live,
        ..pointer(100)
    };
    platform.note(&docs, &late);
    let settings = ServerSettings {
        publish_secret: Some("secret".to_owned()),
        ..settings()
    };
    Server::new(Single(platform), settings)
}

/// Status of a GET, and whether it has `Retry-After`. All requests arrive at one moment.
fn get(
    server: &Server<Single<Counted>>,
    host: &str,
    path: &str,
    header: Option<(&str, &str)>,
) -> (u16, bool) {
    let mut request = Request::get(path).header("host", format!("{host}.localhost"));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Bytes::new()).unwrap();
    let now = Timestamp::from_millis(1_700_000_000_000);
    let answer = ready(server.handle(request, None, now, Nonce([1; 32])));
    let waits = answer.headers().contains_key("retry-after");
    assert!(!matches!(answer.body(), Body::Pieces(_)));
    (answer.status().as_u16(), waits)
}

/// The answer for a deploy that exists, on a platform without objects.
const FOUND: (u16, bool) = (500, false);

#[test]
fn unknown_deploy_numbers_reach_the_space_within_a_budget() {
    let server = server(false);
    let mut absent = 0;
    for number in 0..HOSTILE {
        match get(&server, &format!("{}--docs", 6_000 + number), "/", None) {
            (404, false) => absent += 1,
            (503, true) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.backend().0.asked(), QUESTIONS_BURST / 2);
    assert_eq!(
        absent,
        QUESTIONS_BURST / 2,
        "only the space's word is a 404"
    );
    // The server still finds a deploy that exists, and asks for it once.
    for _ in 0..HOSTILE {
        assert_eq!(get(&server, "7--docs", "/%zz", None), (400, false));
    }
    assert_eq!(server.backend().0.asked(), QUESTIONS_BURST / 2 + 1);
}

#[test]
fn unknown_spaces_share_one_budget() {
    let server = server(false);
    let mut absent = 0;
    for number in 0..HOSTILE {
        for (host, path) in [
            (format!("7--s{number}"), "/"),
            (format!("s{number}"), "/"),
            (format!("next--s{number}"), "/a.js"),
            (format!("t{number}"), "/_events?offset=-1"),
        ] {
            match get(&server, &host, path, None) {
                (404, false) => absent += 1,
                (503, true) => {}
                other => panic!("{host}{path}: {other:?}"),
            }
        }
    }
    assert_eq!(
        absent,
        QUESTIONS_BURST / 2,
        "only the space's word is a 404"
    );
    assert_eq!(server.backend().0.asked(), QUESTIONS_BURST / 2);
}

#[test]
fn false_claims_reach_no_space_and_hold_up_no_true_one() {
    let server = server(false);
    let docs = Channel::of_label("docs").unwrap();
    let token = DeployTokens::of(Some("secret"))
        .token(&docs, NEWEST)
        .unwrap();
    let forged = DeployTokens::of(Some("guess"))
        .token(&docs, NEWEST)
        .unwrap();
    for number in 0..HOSTILE {
        let plain = number.to_string();
        let claim = if number % 2 == 0 { &plain } else { &forged };
        assert_eq!(
            get(&server, "docs", "/", Some(("x-pmx-know", claim))),
            FOUND
        );
    }
    assert_eq!(server.backend().0.asked(), 0);
    for _ in 0..HOSTILE {
        get(&server, "docs", "/", Some(("x-pmx-know", &token)));
    }
    assert_eq!(
        server.backend().0.asked(),
        1,
        "the answer to a true claim is kept"
    );
    let shown = server.backend().0.pointers.borrow()[&docs].deploy;
    assert_eq!(shown, NEWEST);
}

#[test]
fn lists_of_a_closed_site_reach_no_space() {
    let server = server(false);
    for _ in 0..HOSTILE {
        let answer = get(&server, "docs", "/_events?offset=-1", None);
        assert_eq!(answer, (403, false));
    }
    assert_eq!(server.backend().0.asked(), 0);
    let bearer = Some(("authorization", "Bearer secret"));
    for _ in 0..100 {
        let answer = get(&server, "docs", "/_events?offset=-1", bearer);
        assert_eq!(answer, (200, false), "a holder has no budget");
    }
}

#[test]
fn differences_are_kept_and_within_a_budget() {
    let server = server(true);
    let ask = |from: u64| {
        let path = format!("/_events?offset={}&compact=1", Offset::at(from));
        get(&server, "docs", &path, None)
    };
    assert_eq!(ask(7), (200, false));
    assert_eq!(ask(7), (200, false));
    assert_eq!(
        server.backend().0.times("net"),
        1,
        "the same difference is kept"
    );
    for from in 0..HOSTILE {
        let answer = ask(from % NEWEST);
        assert!(matches!(answer, (200, false) | (503, true)), "{answer:?}");
    }
    let asked = server.backend().0.asked();
    assert!(asked <= QUESTIONS_BURST, "{asked} questions");
    assert!(server.backend().0.times("net") <= QUESTIONS_BURST / 8);
}
