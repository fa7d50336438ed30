//! A loan as bytes, for streams that share no memory.
//!
//! First the length of a head, as varint, and the head in JSON, which says what is short; then the
//! footers of the segments, each as long as the head says; then the log, to the end.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Lent, Loan};
use crate::encode::{Malformed, Reader, write_bytes};
use crate::stream::call::{Expiry, MediaType};
use crate::stream::generation::Generation;

#[derive(Serialize, Deserialize)]
struct Head {
    media_type: MediaType,
    expiry: Expiry,
    expiry_text: Option<String>,
    at: u64,
    hot_start: u64,
    segments: Vec<LentHead>,
}

#[derive(Serialize, Deserialize)]
struct LentHead {
    start: u64,
    finish: u64,
    generation: Generation,
    object_end: u64,
    footer_bytes: usize,
}

impl Loan {
    /// The loan as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let segments = self.segments.iter().map(|lent| LentHead {
            start: lent.start,
            finish: lent.finish,
            generation: lent.generation,
            object_end: lent.object_end,
            footer_bytes: lent.footer.len(),
        });
        let head = Head {
            media_type: self.media_type.clone(),
            expiry: self.expiry,
            expiry_text: self.expiry_text.clone(),
            at: self.at,
            hot_start: self.hot_start,
            segments: segments.collect(),
        };
        let mut out = Vec::with_capacity(self.hot.len() + 512);
        // Nothing in it can fail to become JSON; an empty head would be refused.
        write_bytes(&mut out, &serde_json::to_vec(&head).unwrap_or_default());
        for lent in &self.segments {
            out.extend_from_slice(&lent.footer);
        }
        out.extend_from_slice(&self.hot);
        out
    }

    /// Reads what [`Loan::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let head = reader.bytes(bytes.len(), "the head of a loan")?;
        let head: Head = serde_json::from_slice(head)
            .map_err(|_| Malformed::NotCanonical("the head of a loan"))?;
        let mut segments = Vec::with_capacity(head.segments.len());
        for lent in head.segments {
            segments.push(Lent {
                start: lent.start,
                finish: lent.finish,
                generation: lent.generation,
                object_end: lent.object_end,
                footer: reader.take(lent.footer_bytes)?.to_vec(),
            });
        }
        Ok(Self {
            media_type: head.media_type,
            expiry: head.expiry,
            expiry_text: head.expiry_text,
            at: head.at,
            segments,
            hot: Bytes::copy_from_slice(reader.take(reader.remaining())?),
            hot_start: head.hot_start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_crosses() {
        let lent = |start| Lent {
            start,
            finish: start + 10,
            generation: Generation::from_random([start as u8; 16]),
            object_end: start + 20,
            footer: vec![start as u8; start as usize],
        };
        let loan = Loan {
            media_type: MediaType::new("text/plain; charset=utf-8"),
            expiry: Expiry::Idle(7),
            expiry_text: Some("7".to_owned()),
            at: 25,
            segments: vec![lent(0), lent(10)],
            hot: Bytes::from_static(b"\0\xffabc"),
            hot_start: 20,
        };
        let bytes = loan.encode();
        assert_eq!(Loan::decode(&bytes).unwrap(), loan);
        let footers = bytes.len() - loan.hot.len();
        for cut in 0..footers {
            Loan::decode(&bytes[..cut]).unwrap_err();
        }
    }
}
