//! Zstd context pool: requests reuse contexts, since making one costs more than a small page.

use std::sync::{Mutex, PoisonError};

use pmx_core::codec::{Decoder, Encoder};

/// Contexts that no request is using.
#[derive(Default)]
pub(crate) struct Codecs {
    decoders: Mutex<Vec<Decoder>>,
    encoders: Mutex<Vec<Encoder>>,
}

/// Contexts kept of each kind. More requests at once make their own and drop them.
const KEPT_MAX: usize = 4;

impl Codecs {
    /// Runs `body` with a decoder of the pool.
    pub(crate) fn decode<T>(&self, body: impl FnOnce(&mut Decoder) -> T) -> T {
        with_context(&self.decoders, Decoder::new, body)
    }

    /// Runs `body` with an encoder of the pool.
    pub(crate) fn encode<T>(&self, body: impl FnOnce(&mut Encoder) -> T) -> T {
        with_context(&self.encoders, Encoder::new, body)
    }
}

fn with_context<C, T>(kept: &Mutex<Vec<C>>, make: fn() -> C, body: impl FnOnce(&mut C) -> T) -> T {
    let mut context = kept
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop()
        .unwrap_or_else(make);
    let result = body(&mut context);
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT_MAX {
        kept.push(context);
    }
    result
}
