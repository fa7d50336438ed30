//! Fan-out: copies messages of many streams into one stream, each in an envelope.
//!
//! A batch holds the messages between two offsets of one stream, up to a budget. A repeated batch
//! has the same envelopes, whatever the page boundaries are. Its producer's epoch is the generation
//! of the wake, so a batch that is sent twice counts once.

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use crate::json::Messages;
use crate::limits::{FAN_OUT_BYTES, FAN_OUT_MESSAGE_BYTES_MAX};
use crate::registry;
use crate::{
    Append, From, Generation, MediaType, Offset, Page, Producer, Read, Refusal, StreamName,
};

/// A copy of messages from one stream into another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copying {
    /// The stream to read.
    pub source: StreamName,
    /// Generation of the source, which the platform sets in the transaction that begins the wake.
    #[serde(rename = "life")]
    pub generation: Option<Generation>,
    /// Where the copy begins.
    pub from: Offset,
    /// Where it ends at the latest.
    pub until: Offset,
    /// The stream to append to: a JSON stream.
    pub target: StreamName,
    /// Makes a repeated copy count once.
    pub producer: Producer,
}

/// A complete batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOutBatch {
    /// The append to the target.
    pub append: Append,
    /// The offset of the source after the batch.
    pub to: Offset,
}

/// A batch that is being built.
struct BatchBuilder<'a> {
    copying: &'a Copying,
    /// The JSON array of envelopes, still without its closing bracket.
    text: String,
    /// Bytes of a stream of bytes, which has no messages: one envelope holds all of them.
    piece: Vec<u8>,
    at: u64,
}

impl Copying {
    /// Builds the batch. `read` reads pages of the source.
    pub async fn gather(
        &self,
        mut read: impl AsyncFnMut(Read) -> Result<Page, Refusal>,
    ) -> Result<FanOutBatch, Refusal> {
        let mut batch = BatchBuilder {
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
                // The source ends before `until`, although no stream becomes shorter.
                return Err(Refusal::Beyond);
            }
        }
        let media_type = media_type.ok_or(Refusal::Empty)?;
        Ok(batch.finish(&media_type))
    }
}

impl BatchBuilder<'_> {
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
            let budget = (FAN_OUT_BYTES - self.piece.len().min(FAN_OUT_BYTES)) as u64;
            let bytes = page.body.iter().take(left.min(budget) as usize);
            let before = self.piece.len();
            self.piece.extend(bytes);
            self.at += (self.piece.len() - before) as u64;
        }
    }

    fn finish(mut self, media_type: &MediaType) -> FanOutBatch {
        if !self.piece.is_empty() {
            let mut piece = std::mem::take(&mut self.piece);
            let is_text = media_type.essence().starts_with("text/");
            if is_text && self.at < self.copying.until.position() {
                // The next batch gets a character that the budget cut.
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

    /// Writes an envelope for a payload that ends at the current offset.
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

/// The payload of an envelope.
enum Payload<'a> {
    /// A JSON message, unchanged.
    Json(&'a str),
    /// Text of a `text/*` stream.
    Text(&'a str),
    /// Other bytes.
    Bytes(&'a [u8]),
    /// Only the length of a message that is too long to be copied.
    Omitted(usize),
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
