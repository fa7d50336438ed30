//! How streams ask each other: by requests that no client can send.
//!
//! The edge hands on only what lies under `/v1/stream/`, and leaves the address as it is. What
//! streams ask of each other lies elsewhere.

use bytes::Bytes;
use http::Uri;
use pmx_sync::limits::STREAM_APPEND_BYTES_MAX;
use pmx_sync::serve::BackendError;
use pmx_sync::sql::Sql;
use pmx_sync::stream::execute::Peers;
use pmx_sync::stream::subscription::Copying;
use pmx_sync::stream::{
    Append, Engine, Fork, Generation, Loan, Offset, Place, Producer, Refusal, StreamName, View,
    registry,
};
use pmx_sync::time::Timestamp;
use pmx_sync::wire::Problem;
use serde::{Deserialize, Serialize};
use worker::js_sys::Uint8Array;
use worker::{Method, ObjectNamespace, Request, RequestInit, Response};

use crate::tally::{self, Kind};
use crate::thrown::{backend, problem};

/// The objects of all streams, as one of them sees them.
pub(crate) struct Neighbours(ObjectNamespace);

/// What is asked of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// To take a turn.
    Turn(Wish),
    /// To have messages copied into another stream: the hub asks.
    Copy(Box<Copying>),
}

/// What is asked of a stream that one turn of it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// To lend what a fork needs.
    Lend { fork: Fork, edge: Generation },
    /// To take it back.
    GiveBack { edge: Generation },
    /// To tell from now on how far it is: the hub asks.
    Follow { round: u64 },
    /// To say how it is: the hub asks.
    Look,
    /// To take JSON: the hub asks.
    Append {
        messages: String,
        producer: Option<Producer>,
    },
    /// To take entries of the registry, and to be it if it is not there: the hub asks.
    Register {
        messages: String,
        producer: Option<Producer>,
    },
}

/// What comes of it.
pub(crate) enum Obliged {
    Lent(Box<Loan>),
    Following(Option<Place>),
    Seen(Option<View>),
    Copied(Offset),
    Appended,
    Done,
}

/// Where streams ask.
const PATH: &str = "/peers";

/// A stub leads to its object whatever host the address names.
const ADDRESS: &str = "https://stream/peers";

/// Bytes of what is asked: at most an append whose every byte is escaped.
pub(crate) const ASKED_BYTES_MAX: usize = 2 * STREAM_APPEND_BYTES_MAX;

/// Whether a request comes from another stream.
pub(crate) fn is_from_peer(address: &Uri) -> bool {
    address.path() == PATH
}

impl Asked {
    /// Reads what was asked.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Problem> {
        let asked = serde_json::from_slice(body);
        asked.map_err(|error| problem("reading what a stream asks")(error.to_string()))
    }

    /// What comes of it where there is no stream.
    pub(crate) fn of_nobody(&self) -> Result<Obliged, Refusal> {
        match self {
            Self::Turn(wish) => wish.of_nobody(),
            Self::Copy(_) => Err(Refusal::Unknown),
        }
    }

    /// Whether it makes the stream if there is none.
    pub(crate) const fn makes_stream(&self) -> bool {
        matches!(self, Self::Turn(Wish::Register { .. }))
    }
}

impl Wish {
    fn of_nobody(&self) -> Result<Obliged, Refusal> {
        match self {
            Self::Lend { .. } => Err(Refusal::NoSource),
            Self::GiveBack { .. } => Ok(Obliged::Done),
            Self::Follow { .. } => Ok(Obliged::Following(None)),
            Self::Look => Ok(Obliged::Seen(None)),
            Self::Append { .. } | Self::Register { .. } => Err(Refusal::Unknown),
        }
    }

    /// Does it, in one turn. A stream that has to be made gets `life`.
    pub(crate) fn turn<S: Sql>(
        &self,
        engine: &Engine<'_, S>,
        life: Generation,
        now: Timestamp,
    ) -> Result<Obliged, Refusal> {
        match self {
            Self::Lend { fork, edge } => {
                let loan = engine.lend(fork, *edge, now)?;
                Ok(Obliged::Lent(Box::new(loan)))
            }
            Self::GiveBack { edge } => engine.give_back(*edge, now).map(|()| Obliged::Done),
            Self::Follow { round } => Ok(Obliged::Following(engine.follow(*round, now)?)),
            Self::Look => match engine.head(now) {
                Ok(view) => Ok(Obliged::Seen(Some(view))),
                Err(Refusal::Unknown | Refusal::Gone) => Ok(Obliged::Seen(None)),
                Err(refusal) => Err(refusal),
            },
            Self::Append { messages, producer } => append(engine, messages, producer.as_ref(), now),
            Self::Register { messages, producer } => {
                engine.create(&registry::create(), now, life)?;
                append(engine, messages, producer.as_ref(), now)
            }
        }
    }
}

fn append<S: Sql>(
    engine: &Engine<'_, S>,
    messages: &str,
    producer: Option<&Producer>,
    now: Timestamp,
) -> Result<Obliged, Refusal> {
    let append = Append {
        media_type: Some(registry::media_type()),
        body: Bytes::copy_from_slice(messages.as_bytes()),
        seq: None,
        producer: producer.cloned(),
        close: false,
    };
    engine.append(&append, now).map(|_| Obliged::Appended)
}

/// What a stream is told by another.
pub(crate) fn answer(obliged: Result<Obliged, Refusal>) -> Result<Response, Problem> {
    let (status, body) = match obliged {
        Ok(Obliged::Lent(loan)) => (200, loan.encode()),
        Ok(Obliged::Done | Obliged::Appended) => (200, Vec::new()),
        Ok(Obliged::Following(place)) => (200, json(&place)?),
        Ok(Obliged::Seen(view)) => (200, json(&view)?),
        Ok(Obliged::Copied(to)) => (200, json(&to)?),
        Err(refusal) => (REFUSED, json(&refusal)?),
    };
    let answer = Response::from_bytes(body).map_err(problem("answering a stream"))?;
    Ok(answer.with_status(status))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    let failed = |error: serde_json::Error| error.to_string();
    let body = serde_json::to_vec(value).map_err(failed);
    body.map_err(problem("writing what a stream is told"))
}

/// The status of a refusal.
const REFUSED: u16 = 409;

impl Neighbours {
    pub(crate) const fn new(namespace: ObjectNamespace) -> Self {
        Self(namespace)
    }

    /// Asks a stream, and says what it answers.
    pub(super) async fn ask(
        &self,
        name: &StreamName,
        asked: &Asked,
    ) -> Result<Result<Vec<u8>, Refusal>, BackendError> {
        let doing = format!("asking the stream {name}");
        let unreadable = |error: serde_json::Error| BackendError::new(doing.clone(), error);
        let body = serde_json::to_vec(asked).map_err(unreadable)?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post)
            .with_body(Some(Uint8Array::from(body.as_slice()).into()));
        let request = Request::new_with_init(ADDRESS, &init).map_err(backend(&*doing))?;
        let stub = self
            .0
            .get_by_name(name.as_str())
            .map_err(backend(&*doing))?;
        tally::note(Kind::SpaceCall);
        let sent = stub.fetch_with_request(request).await;
        let mut answer = sent.map_err(backend(&*doing))?;
        let body = answer.bytes().await.map_err(backend(&*doing))?;
        match answer.status_code() {
            200 => Ok(Ok(body)),
            REFUSED => serde_json::from_slice(&body).map(Err).map_err(unreadable),
            status => Err(BackendError::new(doing, format!("the status {status}"))),
        }
    }
}

impl Peers for Neighbours {
    async fn lend(
        &self,
        source: &StreamName,
        fork: &Fork,
        edge: Generation,
        _now: Timestamp,
    ) -> Result<Loan, Refusal> {
        let storage = |why: String| Refusal::Storage { why };
        let asked = Asked::Turn(Wish::Lend {
            fork: fork.clone(),
            edge,
        });
        let lent = self.ask(source, &asked).await;
        let lent = lent.map_err(|error| storage(error.to_string()))??;
        Loan::decode(lent.into()).map_err(|error| storage(error.to_string()))
    }

    async fn give_back(
        &self,
        source: &StreamName,
        edge: Generation,
        _now: Timestamp,
    ) -> Result<(), BackendError> {
        let asked = Asked::Turn(Wish::GiveBack { edge });
        let done = self.ask(source, &asked).await?;
        let refused = |refusal| BackendError::new(format!("giving {source} back"), refusal);
        done.map(drop).map_err(refused)
    }
}
