//! DNS messages (RFC 1035): the query for a TXT record, and the reading of its answer.
//!
//! They travel by DNS over HTTPS (RFC 8484). A record counts only under the asked name itself: an
//! alias (CNAME) may lead to a zone of another owner, a wildcard's for one.

use bytes::Bytes;
use thiserror::Error;

use super::host::CustomHost;
use crate::limits::DNS_MESSAGE_BYTES_MAX;

const TYPE_TXT: u16 = 16;
const CLASS_IN: u16 = 1;

/// Flags of a query: recursion desired.
const RECURSION_DESIRED: u16 = 0x0100;
const IS_RESPONSE: u16 = 0x8000;
const IS_TRUNCATED: u16 = 0x0200;
const RCODE: u16 = 0x000f;
const NO_ERROR: u16 = 0;
const NAME_ERROR: u16 = 3;

/// The query for the TXT record of a host. Its id is 0, as RFC 8484 advises.
pub fn query(host: &CustomHost) -> Bytes {
    let mut message = Vec::new();
    for field in [0, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend_from_slice(&u16::to_be_bytes(field));
    }
    for label in host.record().split('.') {
        // A label of a host has at most 63 bytes.
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    for field in [TYPE_TXT, CLASS_IN] {
        message.extend_from_slice(&u16::to_be_bytes(field));
    }
    message.into()
}

/// The texts of the TXT records in an answer. A name that does not exist has none.
pub fn texts(host: &CustomHost, answer: &[u8]) -> Result<Vec<Vec<u8>>, InvalidAnswer> {
    if answer.len() > DNS_MESSAGE_BYTES_MAX {
        return Err(InvalidAnswer::TooLong);
    }
    let mut message = Message { all: answer, at: 2 };
    let flags = message.number()?;
    let (questions, answers) = (message.number()?, message.number()?);
    message.skip(4)?;
    if flags & IS_RESPONSE == 0 || flags & IS_TRUNCATED != 0 {
        return Err(InvalidAnswer::NoAnswer);
    }
    match flags & RCODE {
        NO_ERROR => {}
        NAME_ERROR => return Ok(Vec::new()),
        rcode => return Err(InvalidAnswer::Failed { rcode }),
    }
    let record = host.record();
    if questions != 1 || message.name()? != record {
        return Err(InvalidAnswer::NoAnswer);
    }
    message.skip(4)?;
    let mut texts = Vec::new();
    for _ in 0..answers {
        let name = message.name()?;
        let (kind, class) = (message.number()?, message.number()?);
        message.skip(4)?;
        let len = message.number()?;
        let data = message.bytes(usize::from(len))?;
        if name == record && kind == TYPE_TXT && class == CLASS_IN {
            texts.push(joined(data)?);
        }
    }
    Ok(texts)
}

/// The text of a TXT record: its character strings, one after the other.
fn joined(data: &[u8]) -> Result<Vec<u8>, InvalidAnswer> {
    let (mut strings, mut text) = (Message { all: data, at: 0 }, Vec::new());
    while strings.at < data.len() {
        let len = strings.byte()?;
        text.extend_from_slice(strings.bytes(usize::from(len))?);
    }
    Ok(text)
}

/// A reader of a message.
struct Message<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Message<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], InvalidAnswer> {
        let end = self.at.checked_add(len).ok_or(InvalidAnswer::Short)?;
        let bytes = self.all.get(self.at..end).ok_or(InvalidAnswer::Short)?;
        self.at = end;
        Ok(bytes)
    }

    fn skip(&mut self, len: usize) -> Result<(), InvalidAnswer> {
        self.bytes(len).map(drop)
    }

    fn byte(&mut self) -> Result<u8, InvalidAnswer> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Result<u16, InvalidAnswer> {
        self.bytes(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name in lower case, without the root's dot. Each pointer of a compressed name must lead
    /// further back than the one before, so that no name goes round in a circle.
    fn name(&mut self) -> Result<String, InvalidAnswer> {
        let (mut name, mut back) = (String::new(), self.at);
        let mut reader = Message { ..*self };
        let mut end = None;
        loop {
            let len = reader.byte()?;
            match len >> 6 {
                0 if len == 0 => break,
                0 => {
                    let label = reader.bytes(usize::from(len))?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    // A dot within a label would read as a boundary.
                    let is_plain = label.iter().all(|b| b.is_ascii_graphic() && *b != b'.');
                    let label = std::str::from_utf8(label).ok().filter(|_| is_plain);
                    name.push_str(label.ok_or(InvalidAnswer::Name)?);
                }
                3 => {
                    let low = reader.byte()?;
                    end = end.or(Some(reader.at));
                    let to = usize::from(len & 0x3f) << 8 | usize::from(low);
                    if to >= back {
                        return Err(InvalidAnswer::Name);
                    }
                    (back, reader.at) = (to, to);
                }
                _ => return Err(InvalidAnswer::Name),
            }
            if name.len() > NAME_BYTES_MAX {
                return Err(InvalidAnswer::Name);
            }
        }
        self.at = end.unwrap_or(reader.at);
        name.make_ascii_lowercase();
        Ok(name)
    }
}

/// Bytes of a domain name as text (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// The bytes are no answer to the query.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum InvalidAnswer {
    /// The message is longer than its limit.
    #[error("the answer has more than {DNS_MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// The message ends too early.
    #[error("the answer ends too early")]
    Short,
    /// A name is malformed.
    #[error("the answer has a malformed name")]
    Name,
    /// The message answers nothing, or another question.
    #[error("it is no answer to the question")]
    NoAnswer,
    /// The resolver could not find out.
    #[error("the resolver failed with code {rcode}")]
    Failed {
        /// The code of the answer (RFC 6895, section 2.3).
        rcode: u16,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host() -> CustomHost {
        CustomHost::parse("docs.example.com").unwrap()
    }

    /// A resolver's answer: flags, and records of name, type and data.
    fn answer(flags: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut message = query(&host()).to_vec();
        message[2..4].copy_from_slice(&(IS_RESPONSE | flags).to_be_bytes());
        message[7] = records.len() as u8;
        for (name, kind, data) in records {
            message.extend_from_slice(name);
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            message.extend_from_slice(&(data.len() as u16).to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    /// The asked name, as a pointer to the question.
    const ASKED: &[u8] = &[0xc0, 12];
    const OTHER: &[u8] = b"\x05other\x07example\x03com\0";

    #[test]
    fn query_has_the_bytes_of_rfc_1035() {
        let expected =
            b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x04_pmx\x04docs\x07example\x03com\0\0\x10\0\x01";
        assert_eq!(query(&host()), &expected[..]);
    }

    #[test]
    fn texts_are_those_of_the_asked_name() {
        let texts = |message: &[u8]| texts(&host(), message);
        let two = answer(0, &[(ASKED, 16, b"\x01a"), (ASKED, 16, b"\x02bc\x01d")]);
        assert_eq!(texts(&two), Ok(vec![b"a".to_vec(), b"bcd".to_vec()]));
        let upper = b"\x04_PMX\x04DOCS\x07example\x03com\0";
        assert_eq!(
            texts(&answer(0, &[(upper, 16, b"\x01a")])),
            Ok(vec![b"a".to_vec()])
        );
        // An alias proves nothing, wherever it leads.
        let alias = answer(0, &[(ASKED, 5, OTHER), (OTHER, 16, b"\x01a")]);
        assert_eq!(texts(&alias), Ok(Vec::new()));
        assert_eq!(texts(&answer(0, &[])), Ok(Vec::new()));
        assert_eq!(texts(&answer(NAME_ERROR, &[])), Ok(Vec::new()));
        assert_eq!(
            texts(&answer(2, &[])),
            Err(InvalidAnswer::Failed { rcode: 2 })
        );
        assert_eq!(
            texts(&answer(IS_TRUNCATED, &[])),
            Err(InvalidAnswer::NoAnswer)
        );
        assert_eq!(texts(&query(&host())), Err(InvalidAnswer::NoAnswer));
        let asked = CustomHost::parse("blog.example.com").unwrap();
        assert_eq!(super::texts(&asked, &two), Err(InvalidAnswer::NoAnswer));
    }

    #[test]
    fn texts_refuse_names_that_lead_in_circles_and_cut_messages() {
        let own = answer(0, &[(&[0xc0, 39], 16, b"\x01a")]);
        assert_eq!(texts(&host(), &own), Err(InvalidAnswer::Name));
        let whole = answer(0, &[(ASKED, 16, b"\x01a")]);
        for len in 0..whole.len() {
            assert!(texts(&host(), &whole[..len]).is_err(), "{len}");
        }
        assert!(texts(&host(), &answer(0, &[(ASKED, 16, b"\x09a")])).is_err());
        assert_eq!(
            texts(&host(), &vec![0; 70_000]),
            Err(InvalidAnswer::TooLong)
        );
    }

    proptest! {
        #[test]
        fn texts_read_any_bytes_without_a_panic(bytes: Vec<u8>, at in 0usize..60, value: u8) {
            let _ = texts(&host(), &bytes);
            let mut message = answer(0, &[(ASKED, 16, b"\x01a"), (OTHER, 16, b"\x01a")]);
            let at = at % message.len();
            message[at] = value;
            let _ = texts(&host(), &message);
        }
    }
}
