//! Fan-out: messages of many streams, each in an envelope, in one stream that gathers them.
//!
//! A batch is what lies between two places of one stream, up to a budget. It has the same envelopes
//! whenever it is made, however the stream is cut into pages in the meantime, and it carries the
//! generation of its wake as the epoch of a producer: so a batch may be sent twice and counts once.

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::json::Messages;
use crate::limits::{FAN_OUT_BYTES, FAN_OUT_MESSAGE_BYTES_MAX};
use crate::registry;
use crate::{
    Append, From, Generation, MediaType, Offset, Page, Producer, Read, Refusal, StreamName,
};

/// What is to be copied, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copying {
    /// The stream it comes from.
    pub source: StreamName,
    /// Generation of the source, which the platform sets in the transaction that begins the wake.
    #[serde(rename = "life")]
    pub generation: Option<Generation>,
    /// Behind this place.
    pub from: Offset,
    /// Up to this one at most.
    pub until: Offset,
    /// The stream it goes to: one of JSON.
    pub target: StreamName,
    /// Makes it count once.
    pub producer: Producer,
}

/// A batch on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOutBatch {
    /// What the target has to take.
    pub append: Append,
    /// How far the source is copied with it.
    pub to: Offset,
}

/// A batch in the making.
struct Batch<'a> {
    copying: &'a Copying,
    /// The envelopes, between brackets.
    text: String,
    /// Bytes of a stream of bytes: they have no messages, so a batch is one piece of them.
    piece: Vec<u8>,
    at: u64,
}

impl Copying {
    /// Makes the batch. `read` reads pages of the source.
    pub async fn gather(
        &self,
        mut read: impl AsyncFnMut(Read) -> Result<Page, Refusal>,
    ) -> Result<FanOutBatch, Refusal> {
        let mut batch = Batch {
            copying: self,
            text: "[".to_owned(),
            piece: Vec::new(),
            at: self.from.position(),
        };
        let mut media_type = None;
        while !batch.is_whole() {
            let (before, from) = (batch.at, From::At(self.from.moved_to(batch.at).inside()));
            let page = read(Read { from }).await?;
            if self.generation != Generation::from_hex(&page.view.generation) {
                return Err(Refusal::Unknown);
            }
            batch.take(&page);
            media_type = Some(page.view.media_type);
            if batch.at == before {
                // No stream becomes shorter.
                return Err(Refusal::Beyond);
            }
        }
        let media_type = media_type.ok_or(Refusal::Empty)?;
        Ok(batch.sealed(&media_type))
    }
}

impl Batch<'_> {
    fn is_whole(&self) -> bool {
        let is_full = self.text.len() >= FAN_OUT_BYTES || self.piece.len() >= FAN_OUT_BYTES;
        is_full || self.at >= self.copying.until.position()
    }

    fn take(&mut self, page: &Page) {
        if page.view.media_type.is_json() {
            let mut messages = Messages(&page.body);
            while !self.is_whole()
                && let Some(message) = messages.next()
            {
                self.at += 1;
                let payload = match std::str::from_utf8(message) {
                    Ok(text) if text.len() <= FAN_OUT_MESSAGE_BYTES_MAX => Payload::Json(text),
                    Ok(_) | Err(_) => Payload::Omitted(message.len()),
                };
                self.put(&page.view.media_type, &payload);
            }
        } else {
            let left = self.copying.until.position().saturating_sub(self.at);
            let room = (FAN_OUT_BYTES - self.piece.len().min(FAN_OUT_BYTES)) as u64;
            let bytes = page.body.iter().take(left.min(room) as usize);
            let before = self.piece.len();
            self.piece.extend(bytes);
            self.at += (self.piece.len() - before) as u64;
        }
    }

    fn sealed(mut self, media_type: &MediaType) -> FanOutBatch {
        if !self.piece.is_empty() {
            let mut piece = std::mem::take(&mut self.piece);
            let is_text = media_type.essence().starts_with("text/");
            if is_text && self.at < self.copying.until.position() {
                // A character that the budget cut goes with the next batch.
                let cut = std::str::from_utf8(&piece).err();
                let cut = cut.filter(|cut| cut.error_len().is_none() && cut.valid_up_to() > 0);
                let whole = cut.map_or(piece.len(), |cut| cut.valid_up_to());
                self.at -= (piece.len() - whole) as u64;
                piece.truncate(whole);
            }
            let payload = match std::str::from_utf8(&piece) {
                Ok(text) if is_text => Payload::Text(text),
                Ok(_) | Err(_) => Payload::Bytes(&piece),
            };
            self.put(media_type, &payload);
        }
        self.text.push(']');
        FanOutBatch {
            append: Append {
                media_type: Some(registry::media_type()),
                body: Bytes::from(self.text),
                seq: None,
                producer: Some(self.copying.producer.clone()),
                close: false,
            },
            to: self.copying.from.moved_to(self.at),
        }
    }

    /// Writes an envelope for what ends where the batch is.
    fn put(&mut self, media_type: &MediaType, payload: &Payload<'_>) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        let source = quoted(self.copying.source.as_str());
        let media_type = quoted(media_type.as_str());
        let offset = self.copying.from.moved_to(self.at);
        let head = format!("{{\"stream\":{source},\"offset\":\"{offset}\",\"type\":{media_type},");
        self.text.push_str(&head);
        match payload {
            Payload::Json(text) => {
                self.text.push_str("\"payload\":");
                self.text.push_str(text);
            }
            Payload::Text(text) => {
                self.text.push_str("\"payload\":");
                self.text.push_str(&quoted(text));
            }
            Payload::Bytes(bytes) => {
                self.text.push_str("\"encoding\":\"base64\",\"payload\":\"");
                BASE64.encode_append(bytes, &mut self.text);
                self.text.push('"');
            }
            Payload::Omitted(bytes) => {
                let omitted = format!("\"omitted_bytes\":{bytes}");
                self.text.push_str(&omitted);
            }
        }
        self.text.push('}');
    }
}

/// What an envelope holds.
enum Payload<'a> {
    /// A message as it is.
    Json(&'a str),
    /// Text.
    Text(&'a str),
    /// Bytes that are no text.
    Bytes(&'a [u8]),
    /// Nothing: a message that is too long to be copied.
    Omitted(usize),
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
