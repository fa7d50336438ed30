//! A stream as a Durable Object.

#![expect(
    missing_docs,
    reason = "the methods that `#[durable_object]` writes have none"
)]

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use pmx_sync::wire::Problem;
// What `#[durable_object]` writes refers to this name.
use worker::wasm_bindgen;
use worker::{DurableObject, Env, Request, Response, State, console_error, durable_object};

use crate::http::body;
use crate::outbound;
use crate::streams::alarm::LATE;
use crate::streams::peers::{ASKED_BYTES_MAX, Asked, is_from_peer};
use crate::streams::request::{Look, address, head};
use crate::streams::stream::{Kept, Stream};

/// One stream.
#[durable_object(alarm)]
pub struct StreamDO {
    state: State,
    env: Env,
    stream: AssertUnwindSafe<RefCell<Option<Rc<Stream>>>>,
}

impl DurableObject for StreamDO {
    fn new(state: State, env: Env) -> Self {
        let stream = AssertUnwindSafe(RefCell::default());
        Self { state, env, stream }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        match self.answer(&request).await {
            Ok(answer) => Ok(answer),
            Err(problem) => {
                console_error!("{problem}");
                outbound::problem(&problem, &request.inner().method())
            }
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        let stream = match self.open() {
            Ok(stream) => stream,
            Err(problem) => {
                // The platform itself tries a few times only; a variable may be wrong for longer.
                console_error!("{problem}");
                self.state.storage().set_alarm(LATE).await?;
                return Response::empty();
            }
        };
        stream.depth.rung();
        let done = match stream.chores().await {
            Ok(Kept::Something) => Ok(()),
            Ok(Kept::Nothing) => {
                self.stream.replace(None);
                stream.forget().await
            }
            Err(problem) => Err(problem),
        };
        if let Err(problem) = done {
            console_error!("{problem}");
            // The platform itself tries a few times only.
            stream.retry().await?;
        }
        Response::empty()
    }
}

impl StreamDO {
    async fn answer(&self, request: &Request) -> Result<Response, Problem> {
        let stream = self.open()?;
        let address = address(&request.inner().url())?;
        if is_from_peer(&address) {
            stream.depth.asked_by_object(request);
            let asked = body(request, ASKED_BYTES_MAX).await?;
            return stream.oblige(&Asked::read(&asked)?).await;
        }
        stream.depth.asked_by_client();
        let head = head(request.inner(), address, Look::Call)?;
        stream.answer(request, &head).await
    }

    fn open(&self) -> Result<Rc<Stream>, Problem> {
        let open = self.stream.borrow().clone();
        if let Some(stream) = open {
            return Ok(stream);
        }
        // An object that was asked for by name knows it, even when an alarm wakes it.
        let name = self.state.id().name();
        let stream = Stream::open(self.state.storage(), &self.env, name.as_deref())?;
        let stream = Rc::new(stream);
        self.stream.replace(Some(Rc::clone(&stream)));
        Ok(stream)
    }
}
