//! Incident ids: each error answer has one, under which the server's log has the cause.
//!
//! A failure of the server itself may name its paths and objects. The log gets those; an anonymous
//! client gets only the id.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::code::Code;
use crate::problem::Problem;

/// Largest error answer that gets an id: far more bytes than any has.
pub const ERROR_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Audience of an error answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A client that holds the publish secret.
    Publisher,
    /// Any other client.
    Stranger,
}

/// An error answer with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The body to send.
    pub body: Vec<u8>,
    /// The cause of a server failure, for its log; `None` if the client is at fault.
    pub cause: Option<String>,
}

/// Adds an id to an error answer. `None` if the body is not one of this server's JSON objects.
pub fn identify(status: u16, body: &[u8], id: &str, audience: Audience) -> Option<Incident> {
    if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
        return identify_problem(problem, id, audience);
    }
    let mut object: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let mut cause = None;
    if status >= 500 && status != NOT_CONFIGURED {
        let message = object
            .get_mut("error")
            .and_then(|error| error.get_mut("message"));
        cause = message.as_ref().map(ToString::to_string);
        if let (Some(message), Audience::Stranger) = (message, audience) {
            *message = Value::from(CONCEALED);
        }
    }
    object.insert("id".to_owned(), Value::from(id));
    let body = serde_json::to_vec(&object).ok()?;
    Some(Incident { body, cause })
}

fn identify_problem(mut problem: Problem, id: &str, audience: Audience) -> Option<Incident> {
    let is_own_failure = matches!(
        problem.code,
        Code::Storage | Code::Unavailable | Code::Corrupt | Code::Local
    );
    let cause = is_own_failure.then(|| problem.detail.clone());
    if is_own_failure && audience == Audience::Stranger {
        CONCEALED.clone_into(&mut problem.detail);
        problem.items.clear();
    }
    let body = serde_json::to_vec(&Identified { problem, id }).ok()?;
    Some(Incident { body, cause })
}

/// A problem in the form that is sent.
#[derive(Serialize)]
struct Identified<'a> {
    #[serde(flatten)]
    problem: Problem,
    id: &'a str,
}

const CONCEALED: &str = "the server failed; its log has the cause under the id of this answer";

/// The status of a server that lacks a setting, which is no failure.
const NOT_CONFIGURED: u16 = 503;

/// An id from random bytes: sixteen hexadecimal digits.
pub fn incident_id(random: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identify_conceals_causes_from_strangers_alone() {
        let cause = "reading the object spaces/1/2: /data/objects is gone";
        for (code, status, concealed) in [
            (Code::Storage, 500, true),
            (Code::Unavailable, 503, true),
            (Code::Corrupt, 500, true),
            (Code::NotConfigured, 503, false),
            (Code::NotFound, 404, false),
            (Code::Unauthorised, 401, false),
        ] {
            let body = serde_json::to_vec(&Problem::new(code, cause)).unwrap();
            for audience in [Audience::Stranger, Audience::Publisher] {
                let incident = identify(status, &body, "7", audience).unwrap();
                let sent: Problem = serde_json::from_slice(&incident.body).unwrap();
                let hides = concealed && audience == Audience::Stranger;
                assert_eq!(sent.detail.contains("/data"), !hides, "{code} {audience:?}");
                assert!(incident.body.ends_with(br#","id":"7"}"#));
                assert_eq!(incident.cause.is_some(), concealed);
            }
        }
    }

    #[test]
    fn identify_takes_errors_of_other_protocols() {
        let body = br#"{"error":{"code":"INTERNAL","message":"/data is gone"}}"#;
        let incident = identify(500, body, "7", Audience::Stranger).unwrap();
        let text = String::from_utf8(incident.body).unwrap();
        assert!(
            text.contains(r#""id":"7""#) && !text.contains("/data"),
            "{text}"
        );
        assert_eq!(incident.cause.as_deref(), Some("\"/data is gone\""));
        for other in [&b"404 Not Found\n"[..], b"", b"[1]", b"{"] {
            assert_eq!(identify(404, other, "7", Audience::Stranger), None);
        }
        assert_eq!(incident_id([0, 0, 0, 0, 0, 0, 1, 255]), "00000000000001ff");
    }
}
