//! Stream object (Durable Object).
//!
//! It does not use the macro of workers-rs, which converts requests and responses to objects of
//! this module. So an append takes the fewest possible calls.

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use pmx_core::problem::Problem;
// The expansion of `#[wasm_bindgen]` refers to this name.
use worker::js_sys::Promise;
use worker::js_sys::futures::future_to_promise;
use worker::wasm_bindgen;
use worker::wasm_bindgen::JsValue;
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::worker_sys::DurableObjectState;
use worker::{Env, State, console_error, web_sys};

use crate::head::announced;
use crate::response_body;
use crate::streams::alarm::LATE;
use crate::streams::request::{HeadReader, ObjectRequest, head};
use crate::streams::rpc::{REQUEST_BYTES_MAX, RpcRequest, is_rpc};
use crate::streams::stream::{Contents, Stream};

/// One stream.
#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
pub struct StreamDO(AssertUnwindSafe<Rc<Object>>);

#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
impl StreamDO {
    /// Creates the object of this state.
    #[wasm_bindgen(constructor)]
    pub fn new(state: DurableObjectState, env: Env) -> Self {
        Self(AssertUnwindSafe(Rc::new(Object {
            state: State::from(state),
            env,
            stream: RefCell::default(),
        })))
    }

    /// Answers a request, whose body the shim may have read, with a response or a promise of one.
    pub fn fetch(
        &self,
        request: web_sys::Request,
        body: Option<Vec<u8>>,
    ) -> Result<JsValue, JsValue> {
        let object = Rc::clone(&self.0);
        let body = body.map(Into::into);
        let incoming = ObjectRequest { request, body };
        at_once(async move { object.fetch(&incoming).await })
    }

    /// Runs the due jobs.
    pub fn alarm(&self) -> Promise {
        let object = Rc::clone(&self.0);
        let waking = async move { object.wake().await };
        future_to_promise(AssertUnwindSafe(waking))
    }
}

/// The result of a future, or a promise of it if the future waits. Most appends do not wait.
fn at_once(
    answering: impl Future<Output = Result<JsValue, JsValue>> + 'static,
) -> Result<JsValue, JsValue> {
    let mut answering = Box::pin(answering);
    let relay = Arc::new(Relay::default());
    let waker = Waker::from(Arc::clone(&relay));
    let first = answering.as_mut().poll(&mut Context::from_waker(&waker));
    if let Poll::Ready(outcome) = first {
        return outcome;
    }
    let waiting = poll_fn(move |context| {
        relay.lead_to(context.waker());
        answering.as_mut().poll(&mut Context::from_waker(&waker))
    });
    Ok(future_to_promise(AssertUnwindSafe(waiting)).into())
}

/// Wakes the promise that polls a future: a `Delay` keeps the waker of its first poll.
#[derive(Default)]
struct Relay(Mutex<Option<Waker>>);

impl Relay {
    fn lead_to(&self, waker: &Waker) {
        if let Ok(mut to) = self.0.lock() {
            *to = Some(waker.clone());
        }
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        // Without a waker, the promise has not polled yet.
        if let Ok(Some(to)) = self.0.lock().map(|mut to| to.take()) {
            to.wake();
        }
    }
}

struct Object {
    state: State,
    env: Env,
    stream: RefCell<Option<Rc<Stream>>>,
}

impl Object {
    async fn fetch(&self, incoming: &ObjectRequest) -> Result<JsValue, JsValue> {
        match self.answer(incoming).await {
            Ok(answer) => Ok(answer.into()),
            Err(problem) => {
                console_error!("{problem}");
                let answer = response_body::problem(&problem, &incoming.request.method())?;
                Ok(web_sys::Response::from(answer).into())
            }
        }
    }

    async fn wake(&self) -> Result<JsValue, JsValue> {
        let stream = match self.open() {
            Ok(stream) => stream,
            Err(problem) => {
                // The platform retries only a few times; a variable may be wrong for longer.
                console_error!("{problem}");
                self.state.storage().set_alarm(LATE).await?;
                return Ok(JsValue::UNDEFINED);
            }
        };
        stream.depth.woken_by_alarm();
        let done = match stream.jobs().await {
            Ok(Contents::Present) => Ok(()),
            Ok(Contents::Empty) => {
                self.stream.replace(None);
                stream.forget().await
            }
            Err(problem) => Err(problem),
        };
        if let Err(problem) = done {
            console_error!("{problem}");
            // The platform retries only a few times.
            stream.retry().await?;
        }
        Ok(JsValue::UNDEFINED)
    }

    async fn answer(&self, incoming: &ObjectRequest) -> Result<web_sys::Response, Problem> {
        let stream = self.open()?;
        let request = &incoming.request;
        let head = head(request, HeadReader::Stream)?;
        if is_rpc(&head.uri) {
            stream.depth.asked_by_object(request);
            let announced = announced(&head.headers);
            let asked = incoming.body(announced, REQUEST_BYTES_MAX).await?;
            return stream
                .handle(&RpcRequest::read(&asked)?)
                .await
                .map(Into::into);
        }
        stream.depth.asked_by_client();
        stream.answer(incoming, &head).await
    }

    fn open(&self) -> Result<Rc<Stream>, Problem> {
        let open = self.stream.borrow().clone();
        if let Some(stream) = open {
            return Ok(stream);
        }
        // An object that a client addressed by name knows that name, even when an alarm wakes it.
        let name = self.state.id().name();
        let stream = Stream::open(self.state.storage(), &self.env, name.as_deref())?;
        let stream = Rc::new(stream);
        self.stream.replace(Some(Rc::clone(&stream)));
        Ok(stream)
    }
}
