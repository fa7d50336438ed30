//! Body stream: a response body that lasts as long as its reader is connected.
//!
//! Each reader has a queue of the runtime, from which it takes bytes at its own pace: sending never
//! waits for a reader. Usually the runtime signals that a reader has left. Sometimes it only stops
//! taking bytes (workerd issue 6832).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use worker::js_sys::{Object, Reflect, Uint8Array};
use worker::wasm_bindgen::closure::Closure;
use worker::wasm_bindgen::prelude::wasm_bindgen;
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::web_sys::ReadableStream;

/// The sending end of a reader's body.
pub(super) struct BodyStream {
    controller: Controller,
    reader: Rc<ReaderState>,
    flow: Flow,
}

/// Bytes that went through a body.
#[derive(Default)]
struct Flow {
    sent: Cell<f64>,
    /// Bytes that the reader had taken at the last check.
    fetched: Cell<f64>,
}

impl Flow {
    /// Whether bytes wait, and the reader took none since the last check.
    fn is_stuck(&self, waiting: f64) -> bool {
        let fetched = self.sent.get() - waiting;
        let before = self.fetched.replace(fetched);
        waiting > 0.0 && fetched <= before
    }
}

/// The state of the reader.
#[derive(Default)]
struct ReaderState {
    is_gone: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl BodyStream {
    /// Creates the sending end, and the body that the reader gets.
    pub(super) fn new() -> Result<(Self, ReadableStream), JsValue> {
        let reader = Rc::new(ReaderState::default());
        let kept = Rc::new(RefCell::new(None));
        let source = Object::new();
        let keeping = Rc::clone(&kept);
        let start = Closure::once_assert_unwind_safe(move |controller: Controller| {
            keeping.replace(Some(controller));
        });
        Reflect::set(&source, &"start".into(), start.as_ref())?;
        let leaving = Rc::clone(&reader);
        let cancel = Closure::<dyn FnMut()>::wrap_assert_unwind_safe(Box::new(move || {
            leaving.leave();
        }));
        // JavaScript owns the closure from here on.
        Reflect::set(&source, &"cancel".into(), &cancel.into_js_value())?;
        let queue = Object::new();
        Reflect::set(&queue, &"highWaterMark".into(), &QUEUE_BYTES.into())?;
        let body = Source::new(&source, &ByteLength::new(&queue)?)?;
        let controller = kept.take();
        let controller = controller.ok_or_else(|| JsValue::from_str("a stream did not start"))?;
        let flow = Flow::default();
        let sender = Self {
            controller,
            reader,
            flow,
        };
        Ok((sender, body.unchecked_into()))
    }

    /// Enqueues bytes. `Err` if the reader has left.
    pub(super) fn send(&self, bytes: &Uint8Array) -> Result<(), JsValue> {
        self.controller.enqueue(bytes)?;
        let sent = self.flow.sent.get() + f64::from(bytes.byte_length());
        self.flow.sent.set(sent);
        Ok(())
    }

    /// Whether the reader took nothing since the last call, although bytes wait.
    pub(super) fn is_stuck(&self) -> bool {
        let free = self.controller.desired_size().unwrap_or_default();
        self.flow.is_stuck(f64::from(QUEUE_BYTES) - free)
    }

    /// Whether the reader keeps up: the queue is not full.
    pub(super) fn has_room(&self) -> bool {
        self.controller
            .desired_size()
            .is_some_and(|size| size > 0.0)
    }

    /// Waits until the reader has left.
    pub(super) async fn left(&self) {
        poll_fn(|context| {
            if self.reader.is_gone.get() {
                return Poll::Ready(());
            }
            self.reader.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Ends the body.
    pub(super) fn close(&self) {
        // Fails if the reader has left.
        let _closed = self.controller.close();
    }
}

impl ReaderState {
    fn leave(&self) {
        self.is_gone.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// Queued bytes from which a reader counts as slow.
const QUEUE_BYTES: u32 = 512 * 1024;

/// Interval at which a slow reader is checked.
pub(super) const ROOM_PAUSE: Duration = Duration::from_millis(20);

#[wasm_bindgen(wasm_bindgen = worker::wasm_bindgen)]
extern "C" {
    /// A `ReadableStream` with a push source.
    #[wasm_bindgen(js_name = ReadableStream)]
    type Source;

    #[wasm_bindgen(constructor, catch, js_class = "ReadableStream")]
    fn new(source: &Object, strategy: &ByteLength) -> Result<Source, JsValue>;

    /// The queuing strategy of a body: by bytes.
    #[wasm_bindgen(js_name = ByteLengthQueuingStrategy)]
    type ByteLength;

    #[wasm_bindgen(constructor, catch, js_class = "ByteLengthQueuingStrategy")]
    fn new(options: &Object) -> Result<ByteLength, JsValue>;

    /// The controller of a body's queue.
    #[wasm_bindgen(js_name = ReadableStreamDefaultController)]
    type Controller;

    #[wasm_bindgen(method, catch)]
    fn enqueue(this: &Controller, chunk: &Uint8Array) -> Result<(), JsValue>;

    #[wasm_bindgen(method, getter, js_name = desiredSize)]
    fn desired_size(this: &Controller) -> Option<f64>;

    #[wasm_bindgen(method, catch)]
    fn close(this: &Controller) -> Result<(), JsValue>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_is_stuck_if_bytes_wait_and_none_are_taken() {
        let flow = Flow::default();
        let looks = |sent: f64, waiting: f64| {
            flow.sent.set(sent);
            flow.is_stuck(waiting)
        };
        assert!(!looks(100.0, 0.0), "all was fetched");
        assert!(!looks(200.0, 0.0));
        assert!(!looks(200.0, 0.0), "there was nothing to fetch");
        assert!(!looks(900.0, 650.0), "some was fetched");
        assert!(!looks(1_900.0, 1_640.0), "it grows, but some was fetched");
        assert!(looks(1_950.0, 1_690.0), "nothing was fetched");
        assert!(!looks(1_950.0, 1_000.0), "it goes on");
    }
}
