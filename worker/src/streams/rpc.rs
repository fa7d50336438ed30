//! RPC between stream objects, by requests that no client can send.
//!
//! The edge forwards only requests below `/v1/stream/` of the API's host, with an unchanged
//! address. RPC requests have another host and another path. Both sides may run different releases,
//! so a new field needs a default (see `crossing`).

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
    StreamProperties, StreamTail, registry,
};
use serde::{Deserialize, Serialize};
use worker::{ObjectNamespace, Response};

use crate::crossing::{Callee, encoded, response};
use crate::depth::Depth;
use crate::js_error::{backend, problem};

/// Client of the objects of all streams.
pub(crate) struct StreamClient {
    namespace: ObjectNamespace,
    depth: Depth,
}

/// A request to a stream object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RpcRequest {
    /// One transaction of the stream.
    #[serde(rename = "Turn")]
    Step(StepRequest),
    /// Copies messages into another stream; the hub sends this.
    Copy(Box<Copying>),
}

/// A request that one transaction of the stream answers.
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

/// The result of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RpcReply {
    #[serde(rename = "Lent")]
    Retained(Box<ForkSnapshot>),
    Following(Option<StreamTail>),
    Seen(Option<StreamProperties>),
    Copied(Offset),
    Appended,
    Done,
}

/// The response of a stream object.
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

/// Host and path of RPC requests.
const HOST: &str = "stream";
const PATH: &str = "/peers";

/// A stub forwards to its object, whatever host the address has.
const ADDRESS: &str = "https://stream/peers";

/// Largest request in bytes: an append with its other fields.
pub(crate) const REQUEST_BYTES_MAX: usize = STREAM_APPEND_BYTES_MAX + 1024 * 1024;

/// Whether a request is an RPC request.
pub(crate) fn is_rpc(address: &Uri) -> bool {
    address.host() == Some(HOST) && address.path() == PATH
}

impl RpcRequest {
    /// Decodes a request.
    pub(crate) fn read(body: &Bytes) -> Result<Self, Problem> {
        arrived(body).map_err(|foreign| foreign.into_problem("reading what a stream asks"))
    }

    /// Whether a caller without a response may repeat the request: it is idempotent.
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

    /// The result if the stream does not exist.
    pub(crate) fn without_stream(&self) -> Result<RpcReply, Refusal> {
        match self {
            Self::Step(step) => step.without_stream(),
            Self::Copy(_) => Err(Refusal::Unknown),
        }
    }

    /// Whether it creates the stream if needed.
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

    /// Handles the request in one transaction. A stream that it creates gets `generation`.
    pub(crate) fn handle<S: Sql>(
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

/// Encodes the response to another object.
pub(crate) fn respond(outcome: Result<RpcReply, Refusal>) -> Result<Response, Problem> {
    response(RpcResponse { outcome }).map_err(problem("answering a stream"))
}

impl StreamClient {
    pub(crate) const fn new(namespace: ObjectNamespace, depth: Depth) -> Self {
        Self { namespace, depth }
    }

    /// Sends a request to a stream object.
    pub(super) async fn send(
        &self,
        name: &StreamName,
        request: RpcRequest,
    ) -> Result<Result<RpcReply, Refusal>, BackendError> {
        let doing = format!("asking the stream {name}");
        let callee = Callee {
            namespace: &self.namespace,
            name: name.as_str(),
            address: ADDRESS,
            hint: None,
            may_repeat: request.may_repeat(),
            depth: self.depth.next(),
        };
        let body = encoded(request).map_err(backend(&*doing))?;
        let (status, body) = callee.ask(&body).await.map_err(backend(&*doing))?;
        match status {
            200 => {
                let response = arrived::<RpcResponse>(&body);
                let response =
                    response.map_err(|foreign| BackendError::new(doing, foreign).passing())?;
                Ok(response.outcome)
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
        let request = RpcRequest::Step(StepRequest::Retain {
            fork: fork.clone(),
            reference,
        });
        match self.send(source, request).await?? {
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
        let request = RpcRequest::Step(StepRequest::Release { reference });
        let released = self.send(source, request).await?;
        let refused = |refusal| BackendError::new(format!("releasing {source}"), refusal);
        released.map(drop).map_err(refused)
    }
}

#[cfg(test)]
mod tests;
