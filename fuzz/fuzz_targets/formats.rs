//! Fuzz target: one binary for all formats. `PMX_FUZZ_FORMAT` selects the format.

#![no_main]

use std::env;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pmx_fuzz::{Format, format};

static FORMAT: OnceLock<Format> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let format = FORMAT.get_or_init(|| {
        let name = env::var("PMX_FUZZ_FORMAT").unwrap_or_default();
        format(&name).expect("PMX_FUZZ_FORMAT names a format")
    });
    (format.check)(data);
});
