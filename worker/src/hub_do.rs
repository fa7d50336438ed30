//! Hub object (Durable Object): the hub of all streams.

#![expect(
    missing_docs,
    reason = "the methods that `#[durable_object]` writes have none"
)]

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use pmx_core::problem::Problem;
// The expansion of `#[durable_object]` refers to this name.
use worker::wasm_bindgen;
use worker::{DurableObject, Env, Request, Response, State, console_error, durable_object};

use crate::http::body;
use crate::response_body;
use crate::streams::alarm::LATE;
use crate::streams::hub::HubObject;
use crate::streams::hub_client::{UPDATE_BYTES_MAX, is_from_stream};
use crate::streams::request::{HeadReader, head};

/// The object that knows all streams.
#[durable_object(alarm)]
pub struct HubDO {
    state: State,
    env: Env,
    hub: AssertUnwindSafe<RefCell<Option<Rc<HubObject>>>>,
}

impl DurableObject for HubDO {
    fn new(state: State, env: Env) -> Self {
        let hub = AssertUnwindSafe(RefCell::default());
        Self { state, env, hub }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        match self.answer(&request).await {
            Ok(answer) => Ok(answer),
            Err(problem) => {
                console_error!("{problem}");
                response_body::problem(&problem, &request.inner().method())
            }
        }
    }

    async fn alarm(&self) -> worker::Result<Response> {
        let hub = match self.open() {
            Ok(hub) => hub,
            Err(problem) => {
                // The platform retries only a few times; a variable may be wrong for longer.
                console_error!("{problem}");
                self.state.storage().set_alarm(LATE).await?;
                return Response::empty();
            }
        };
        hub.depth.woken_by_alarm();
        if let Err(problem) = hub.wake().await {
            console_error!("{problem}");
            // The platform retries only a few times.
            hub.retry().await?;
        }
        Response::empty()
    }
}

impl HubDO {
    async fn answer(&self, request: &Request) -> Result<Response, Problem> {
        let hub = self.open()?;
        let head = head(request.inner(), HeadReader::Hub)?;
        if is_from_stream(&head.uri) {
            hub.depth.asked_by_object(request.inner());
            let request = body(request, UPDATE_BYTES_MAX).await?;
            return hub.ingest(&request).await;
        }
        hub.depth.asked_by_client();
        hub.answer(request, &head).await
    }

    fn open(&self) -> Result<Rc<HubObject>, Problem> {
        let open = self.hub.borrow().clone();
        if let Some(hub) = open {
            return Ok(hub);
        }
        let hub = Rc::new(HubObject::open(self.state.storage(), &self.env)?);
        self.hub.replace(Some(Rc::clone(&hub)));
        Ok(hub)
    }
}
