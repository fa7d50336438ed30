//! Zstd encoder: writes frames that every decoder of this project accepts.

use zstd_safe::{CCtx, CParameter, ResetDirective};

use super::Level;
use crate::limits::WIRE_WINDOW_LOG_MAX;

/// Writes frames, always with content size, never with checksum or dictionary.
pub struct Encoder {
    context: CCtx<'static>,
    settings: Option<EncoderSettings>,
    /// Buffer for the worst case of the largest input so far, reused so that it is not cleared and
    /// mapped anew each time.
    room: Vec<u8>,
}

impl Encoder {
    /// An encoder with its own context, for reuse.
    pub fn new() -> Self {
        Self {
            context: CCtx::create(),
            settings: None,
            room: Vec::new(),
        }
    }

    /// Compresses one blob to a separate frame, for storage.
    pub fn frame(&mut self, bytes: &[u8], level: Level) -> Vec<u8> {
        let mut out = Vec::new();
        self.append_frame(&mut out, bytes, level);
        out
    }

    /// Appends what [`Self::frame`] returns to `out`.
    pub fn append_frame(&mut self, out: &mut Vec<u8>, bytes: &[u8], level: Level) {
        let settings = EncoderSettings {
            level,
            kind: FrameKind::Frame,
        };
        self.append(out, bytes, settings);
    }

    /// Compresses many blobs at once, for the wire: every byte may refer to every earlier one, so
    /// that common text is sent once.
    pub fn solid(&mut self, bytes: &[u8], level: Level) -> Vec<u8> {
        let mut out = Vec::new();
        let settings = EncoderSettings {
            level,
            kind: FrameKind::Solid {
                window_log: window_log(bytes.len()),
            },
        };
        self.append(&mut out, bytes, settings);
        out
    }

    /// Compresses many blobs at once against a prefix that the receiver has, so that common text is
    /// not sent. Only a receiver with the same prefix, to the byte, can decode the frame.
    ///
    /// It uses zstd's reference prefix (`ZSTD_CCtx_refPrefix`), with long-distance matching,
    /// because an old page is megabytes before its new version.
    pub fn compress_with_prefix(&mut self, prefix: &[u8], bytes: &[u8], level: Level) -> Vec<u8> {
        // The context borrows the prefix, so it serves only this frame.
        let mut context = CCtx::create();
        let settings = EncoderSettings {
            level,
            kind: FrameKind::WithPrefix {
                window_log: window_log(prefix.len() + bytes.len()),
            },
        };
        settings.apply(&mut context);
        let referred = context.ref_prefix(prefix);
        referred.expect("no frame is in progress");
        let worst = zstd_safe::compress_bound(bytes.len());
        if self.room.len() < worst {
            self.room.resize(worst, 0);
        }
        let written = context.compress2(&mut self.room[..], bytes);
        let written = written.expect("there is room for the worst case");
        self.room[..written].to_vec()
    }

    fn append(&mut self, out: &mut Vec<u8>, bytes: &[u8], settings: EncoderSettings) {
        if self.settings != Some(settings) {
            settings.apply(&mut self.context);
            self.settings = Some(settings);
        }
        let worst = zstd_safe::compress_bound(bytes.len());
        if self.room.len() < worst {
            self.room.resize(worst, 0);
        }
        let written = self.context.compress2(&mut self.room[..], bytes);
        let written = written.expect("there is room for the worst case");
        out.extend_from_slice(&self.room[..written]);
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Equal bytes that long-distance matching needs to start a match. It is meant for whole pages;
/// zstd finds shorter matches nearby. With zstd's own 64, a fiftieth more is sent.
const FAR_MATCH_BYTES: u32 = 128;

/// log2 of the candidates that long-distance matching compares for one hash. Pages share much text,
/// so it compares each of zstd's own 8 over kilobytes. 4 take a tenth less time, for 5 % more
/// bytes.
const FAR_CANDIDATES_LOG: u32 = 2;

/// Parameters of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EncoderSettings {
    level: Level,
    kind: FrameKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Frame,
    Solid { window_log: u32 },
    WithPrefix { window_log: u32 },
}

impl EncoderSettings {
    fn apply(self, context: &mut CCtx<'_>) {
        let mut parameters = vec![
            CParameter::CompressionLevel(i32::from(self.level.number())),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        match self.kind {
            FrameKind::Frame => {}
            FrameKind::Solid { window_log } => parameters.push(CParameter::WindowLog(window_log)),
            FrameKind::WithPrefix { window_log } => parameters.extend([
                CParameter::WindowLog(window_log),
                CParameter::EnableLongDistanceMatching(true),
                CParameter::LdmMinMatch(FAR_MATCH_BYTES),
                CParameter::LdmBucketSizeLog(FAR_CANDIDATES_LOG),
            ]),
        }
        let reset = context.reset(ResetDirective::SessionAndParameters);
        reset.expect("no frame is in progress");
        for parameter in parameters {
            let set = context.set_parameter(parameter);
            set.expect("levels and windows are within zstd's own bounds");
        }
    }
}

/// The smallest window for `len` bytes, within zstd's lower and this crate's upper bound.
fn window_log(len: usize) -> u32 {
    len.next_power_of_two()
        .trailing_zeros()
        .clamp(10, WIRE_WINDOW_LOG_MAX)
}
