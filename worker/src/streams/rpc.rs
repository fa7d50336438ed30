//! RPC between stream objects, by requests that no client can send.
//!
//! The edge hands on only what lies under `/v1/stream/` of a host of the API, and leaves the
//! address as it is. What streams ask of each other has another host and another path. Both sides
//! may be of different releases: what is added needs a default, as `crossing` says.

use bytes::Bytes;
use http::Uri;
use pmx_core::backend::BackendError;
use pmx_core::crossing::{Crosses, arrived};
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;
use pmx_core::time::Timestamp;
use pmx_streams::driver::OtherStreams;
use pmx_streams::limits::STREAM_APPEND_BYTES_MAX;
use pmx_streams::subscription::Copying;
use pmx_streams::{
    Append, Engine, Fork, ForkSnapshot, Generation, Offset, Producer, Refusal, StreamName,
    StreamTail, View, registry,
};
use serde::{Deserialize, Serialize};
use worker::{ObjectNamespace, Response};

use crate::crossing::{Callee, laid_out, response};
use crate::depth::Depth;
use crate::js_error::{backend, problem};

/// The objects of all streams, as one of them sees them.
pub(crate) struct StreamClient {
    namespace: ObjectNamespace,
    depth: Depth,
}

/// What is asked of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RpcRequest {
    /// One transaction of the stream.
    #[serde(rename = "Turn")]
    Step(StepRequest),
    /// To have messages copied into another stream: the hub asks.
    Copy(Box<Copying>),
}

/// What is asked of a stream that one turn of it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StepRequest {
    /// Retains a snapshot for a fork.
    #[serde(rename = "Lend")]
    Retain {
        fork: Fork,
        #[serde(rename = "edge")]
        reference: Generation,
    },
    /// Releases a fork's reference.
    #[serde(rename = "GiveBack")]
    Release {
        #[serde(rename = "edge")]
        reference: Generation,
    },
    /// Reports appends to the hub from now on; the hub sends this.
    Follow { round: u64 },
    /// Describes the stream; the hub sends this.
    Look,
    /// Appends JSON messages; the hub sends this.
    Append {
        #[serde(skip)]
        messages: Bytes,
        producer: Option<Producer>,
    },
    /// Appends entries to the registry, and creates it if it does not exist; the hub sends this.
    Register {
        #[serde(skip)]
        messages: Bytes,
        producer: Option<Producer>,
    },
}

/// What comes of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RpcReply {
    #[serde(rename = "Lent")]
    Retained(Box<ForkSnapshot>),
    Following(Option<StreamTail>),
    Seen(Option<View>),
    Copied(Offset),
    Appended,
    Done,
}

/// What a stream says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RpcResponse {
    pub(crate) outcome: Result<RpcReply, Refusal>,
}

impl Crosses for RpcRequest {
    fn strings(&mut self, each: &mut dyn FnMut(&mut Bytes)) {
        if let Self::Step(
            StepRequest::Append { messages, .. } | StepRequest::Register { messages, .. },
        ) = self
        {
            each(messages);
        }
    }
}

impl Crosses for RpcResponse {
    fn strings(&mut self, each: &mut dyn FnMut(&mut Bytes)) {
        if let Ok(RpcReply::Retained(snapshot)) = &mut self.outcome {
            snapshot.strings(each);
        }
    }
}

/// Where streams ask.
const HOST: &str = "stream";
const PATH: &str = "/peers";

/// A stub leads to its object whatever host the address names.
const ADDRESS: &str = "https://stream/peers";

/// Bytes of what is asked: at most an append, and what else is said of it.
pub(crate) const REQUEST_BYTES_MAX: usize = STREAM_APPEND_BYTES_MAX + 1024 * 1024;

/// Whether a request comes from another stream.
pub(crate) fn is_from_peer(address: &Uri) -> bool {
    address.host() == Some(HOST) && address.path() == PATH
}

impl RpcRequest {
    /// Reads what was asked.
    pub(crate) fn read(body: &Bytes) -> Result<Self, Problem> {
        arrived(body).map_err(|foreign| foreign.into_problem("reading what a stream asks"))
    }

    /// Whether a caller that got no answer may ask again: the wish counts once.
    const fn may_repeat(&self) -> bool {
        match self {
            Self::Step(
                StepRequest::Append { producer, .. } | StepRequest::Register { producer, .. },
            ) => producer.is_some(),
            Self::Step(
                StepRequest::Retain { .. }
                | StepRequest::Release { .. }
                | StepRequest::Follow { .. }
                | StepRequest::Look,
            )
            | Self::Copy(_) => true,
        }
    }

    /// What comes of it where there is no stream.
    pub(crate) fn without_stream(&self) -> Result<RpcReply, Refusal> {
        match self {
            Self::Step(step) => step.without_stream(),
            Self::Copy(_) => Err(Refusal::Unknown),
        }
    }

    /// Whether it makes the stream if there is none.
    pub(crate) const fn makes_stream(&self) -> bool {
        matches!(self, Self::Step(StepRequest::Register { .. }))
    }
}

impl StepRequest {
    fn without_stream(&self) -> Result<RpcReply, Refusal> {
        match self {
            Self::Retain { .. } => Err(Refusal::NoSource),
            Self::Release { .. } => Ok(RpcReply::Done),
            Self::Follow { .. } => Ok(RpcReply::Following(None)),
            Self::Look => Ok(RpcReply::Seen(None)),
            Self::Append { .. } | Self::Register { .. } => Err(Refusal::Unknown),
        }
    }

    /// Does it, in one turn. A stream that has to be made gets `generation`.
    pub(crate) fn transaction<S: Sql>(
        &self,
        engine: &Engine<'_, S>,
        generation: Generation,
        now: Timestamp,
    ) -> Result<RpcReply, Refusal> {
        match self {
            Self::Retain { fork, reference } => {
                let snapshot = engine.retain(fork, *reference, now)?;
                Ok(RpcReply::Retained(Box::new(snapshot)))
            }
            Self::Release { reference } => engine.release(*reference, now).map(|()| RpcReply::Done),
            Self::Follow { round } => Ok(RpcReply::Following(engine.follow(*round, now)?)),
            Self::Look => match engine.head(now) {
                Ok(view) => Ok(RpcReply::Seen(Some(view))),
                Err(Refusal::Unknown | Refusal::Gone) => Ok(RpcReply::Seen(None)),
                Err(refusal) => Err(refusal),
            },
            Self::Append { messages, producer } => append(engine, messages, producer.as_ref(), now),
            Self::Register { messages, producer } => {
                engine.create(&registry::create(), now, generation)?;
                append(engine, messages, producer.as_ref(), now)
            }
        }
    }
}

fn append<S: Sql>(
    engine: &Engine<'_, S>,
    messages: &Bytes,
    producer: Option<&Producer>,
    now: Timestamp,
) -> Result<RpcReply, Refusal> {
    let append = Append {
        media_type: Some(registry::media_type()),
        body: messages.clone(),
        seq: None,
        producer: producer.cloned(),
        close: false,
    };
    engine.append(&append, now).map(|_| RpcReply::Appended)
}

/// What a stream is told by another.
pub(crate) fn answer(outcome: Result<RpcReply, Refusal>) -> Result<Response, Problem> {
    response(RpcResponse { outcome }).map_err(problem("answering a stream"))
}

impl StreamClient {
    pub(crate) const fn new(namespace: ObjectNamespace, depth: Depth) -> Self {
        Self { namespace, depth }
    }

    /// Asks a stream, and says what it answers.
    pub(super) async fn ask(
        &self,
        name: &StreamName,
        asked: RpcRequest,
    ) -> Result<Result<RpcReply, Refusal>, BackendError> {
        let doing = format!("asking the stream {name}");
        let callee = Callee {
            namespace: &self.namespace,
            name: name.as_str(),
            address: ADDRESS,
            hint: None,
            may_repeat: asked.may_repeat(),
            depth: self.depth.next(),
        };
        let body = laid_out(asked).map_err(backend(&*doing))?;
        let (status, body) = callee.ask(&body).await.map_err(backend(&*doing))?;
        match status {
            200 => {
                let said = arrived::<RpcResponse>(&body);
                let said = said.map_err(|foreign| BackendError::new(doing, foreign).passing())?;
                Ok(said.outcome)
            }
            503 => Err(BackendError::new(doing, "it is not available").passing()),
            status => Err(BackendError::new(doing, format!("the status {status}"))),
        }
    }
}

impl OtherStreams for StreamClient {
    async fn retain(
        &self,
        source: &StreamName,
        fork: &Fork,
        reference: Generation,
        _now: Timestamp,
    ) -> Result<ForkSnapshot, Refusal> {
        let asked = RpcRequest::Step(StepRequest::Retain {
            fork: fork.clone(),
            reference,
        });
        match self.ask(source, asked).await?? {
            RpcReply::Retained(snapshot) => Ok(*snapshot),
            other => Err(Refusal::Unavailable {
                why: format!("{source} answers another question: {other:?}"),
            }),
        }
    }

    async fn release(
        &self,
        source: &StreamName,
        reference: Generation,
        _now: Timestamp,
    ) -> Result<(), BackendError> {
        let asked = RpcRequest::Step(StepRequest::Release { reference });
        let done = self.ask(source, asked).await?;
        let refused = |refusal| BackendError::new(format!("giving {source} back"), refusal);
        done.map(drop).map_err(refused)
    }
}

#[cfg(test)]
mod tests;
