//! Transport faults: connections that fail, break, or are not trusted. Each fault gives its reason,
//! a hint, and whether a retry may help.

use std::io;

use pmx_core::code::Code;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::intermediary::{https_instead, proxy_login};
use super::{Broken, Client, retry};
use crate::error::Failure;
use crate::http_client::{cause, chain};
use crate::server::ServerUrl;
use crate::trust;

/// Attempts if no server is there.
const ATTEMPTS_ABSENT: u32 = 2;

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum TransportError {
    /// The client can't send the request, or can't read its answer.
    Http(reqwest::Error),
    /// The server was silent for too long during this step of the client.
    Silent(&'static str),
    /// The user wants to stop.
    Interrupted,
}

/// Cause of a fault.
enum Cause<'a> {
    Tls(&'a TlsError),
    /// The connection, or the lookup of the server's name.
    Io(&'a io::Error),
    Timeout(&'static str),
    /// The other side ended the connection.
    Closed,
    /// The proxy makes no connection.
    Proxy(String),
    /// The received bytes are not HTTP.
    Protocol(String),
    LargeHeaders,
    /// The request itself.
    Request(String),
    /// Another fault of the connection.
    Connection(String),
}

impl TransportError {
    fn cause(&self) -> Cause<'_> {
        match self {
            Self::Silent(what) => Cause::Timeout(what),
            Self::Interrupted => Cause::Request("interrupted".to_owned()),
            Self::Http(error) => of_http(error),
        }
    }
}

fn of_http(error: &reqwest::Error) -> Cause<'_> {
    if let Some(error) = chain(error).find_map(|it| it.downcast_ref()) {
        return Cause::Tls(error);
    }
    if error.is_builder() {
        return Cause::Request(cause(error));
    }
    if error.is_timeout() {
        return Cause::Timeout("connect");
    }
    if let Some(error) = chain(error).filter_map(|it| it.downcast_ref()).last() {
        return Cause::Io(error);
    }
    if let Some(refused) = chain(error).find_map(|it| refused_by_proxy(&it.to_string())) {
        return Cause::Proxy(refused);
    }
    let of_hyper = |error: &hyper::Error| match error {
        error if error.is_parse_too_large() => Some(Cause::LargeHeaders),
        error if error.is_parse() || is_early(error) => Some(Cause::Protocol(error.to_string())),
        error if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            Some(Cause::Closed)
        }
        _ => None,
    };
    let of_hyper = chain(error).find_map(|it| it.downcast_ref().and_then(of_hyper));
    of_hyper.unwrap_or_else(|| Cause::Connection(cause(error)))
}

/// Whether the server sent bytes before any request: hyper reports that only in its text.
fn is_early(error: &hyper::Error) -> bool {
    error.to_string().contains("unexpected message")
}

/// The rest of an error's text, if the error is that of a proxy's tunnel.
fn refused_by_proxy(text: &str) -> Option<String> {
    let of = |kind: &str| text.strip_prefix(kind).map(str::to_owned);
    of("tunnel error: ").or_else(|| of("SOCKS error: "))
}

impl Client {
    /// The failure of a request that got no answer.
    pub(super) fn broken(&self, fault: &TransportError) -> Broken {
        let cause = match fault {
            TransportError::Interrupted => return Broken::Final(Failure::interrupted()),
            TransportError::Http(_) | TransportError::Silent(_) => fault.cause(),
        };
        if let Cause::Tls(error) = cause {
            return Broken::Final(tls_failure(&self.server, error));
        }
        let message = format!("can't reach {}: {}", self.server, sentence(&cause));
        let failure = Failure::new(Code::Network, message);
        let failure = match hint(&self.server, &cause) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        };
        let is_passing = match cause {
            Cause::Io(_) | Cause::Timeout(_) | Cause::Closed | Cause::Connection(_) => true,
            Cause::Protocol(_) => self.has_answered(),
            Cause::Tls(_) | Cause::Proxy(_) | Cause::LargeHeaders | Cause::Request(_) => false,
        };
        if !is_passing {
            return Broken::Final(failure);
        }
        let attempts_max = match self.has_answered() {
            true => retry::ATTEMPTS_MAX,
            false if is_absent(&cause) => ATTEMPTS_ABSENT,
            false => retry::ATTEMPTS_MAX - 2,
        };
        Broken::Passing {
            failure,
            after: None,
            attempts_max,
        }
    }
}

fn tls_failure(server: &ServerUrl, error: &TlsError) -> Failure {
    let (code, why, hint) = match error {
        TlsError::InvalidCertificate(error) => {
            let (why, hint) = certificate(error);
            (Code::Certificate, why, hint)
        }
        TlsError::General(text) if text.contains("No CA certificates") => {
            return trust::store_fault();
        }
        TlsError::InvalidMessage(_) => {
            let hint = http_instead(server);
            (
                Code::Network,
                "what answers there is no TLS".to_owned(),
                hint,
            )
        }
        TlsError::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::AccessDenied,
        ) => (
            Code::Network,
            "it wants a certificate of the client, and pmx has none".to_owned(),
            "Let requests below /api/ pass without one: the token says who publishes.".to_owned(),
        ),
        TlsError::AlertReceived(
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity,
        )
        | TlsError::PeerIncompatible(_) => (
            Code::Network,
            format!("no way to encrypt is known to both sides: {error}"),
            "pmx speaks TLS 1.2 and 1.3: the server or the proxy before it is too old.".to_owned(),
        ),
        TlsError::AlertReceived(AlertDescription::UnrecognisedName) => (
            Code::Network,
            "it serves no host of this name".to_owned(),
            "Check the host's name in --server.".to_owned(),
        ),
        other => (
            Code::Network,
            format!("no TLS connection can be made: {other}"),
            "Check that the address is right, and that no proxy in between breaks TLS.".to_owned(),
        ),
    };
    Failure::new(code, format!("can't reach {server}: {why}")).with_hint(hint)
}

/// The text of a certificate's fault, and the hint.
fn certificate(error: &CertificateError) -> (String, String) {
    let (why, hint) = match error {
        CertificateError::UnknownIssuer => (
            "nothing here trusts the issuer of its certificate".to_owned(),
            "If it is your company's authority, or a proxy that inspects TLS: name its file with --cacert FILE or PMX_CACERT, or install it in the system.",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "its certificate has expired".to_owned(),
            "Renew the server's certificate; check this machine's clock as well.",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "its certificate is not valid yet".to_owned(),
            "Check this machine's clock.",
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().take(5).map(|name| named(name)).collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            (
                format!("its certificate is for another host: {names}"),
                "Use one of the names that the certificate has, or give the server one for this name.",
            )
        }
        CertificateError::NotValidForName => (
            "its certificate is for another host".to_owned(),
            "Use a name that the certificate has, or give the server one for this name.",
        ),
        CertificateError::Revoked => (
            "its certificate was revoked".to_owned(),
            "Give the server a new certificate.",
        ),
        CertificateError::Other(_) if format!("{error:?}").contains("CaUsedAsEndEntity") => (
            "its certificate is an authority's own".to_owned(),
            "Make a certificate for the server, signed by that authority (openssl: `basicConstraints=CA:FALSE`).",
        ),
        other => (
            format!("its certificate is not valid: {other}"),
            "Give the server another certificate.",
        ),
    };
    (why, hint.to_owned())
}

/// A name of a certificate: `DnsName("a.example")` as `a.example`.
fn named(presented: &str) -> String {
    let inner = presented
        .split_once('(')
        .map_or(presented, |(_, rest)| rest);
    let inner = inner.trim_end_matches(')').trim_matches('"');
    inner.chars().take(80).collect()
}

/// Whether no server is there, as opposed to one that is briefly unavailable.
fn is_absent(cause: &Cause<'_>) -> bool {
    match cause {
        Cause::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused || is_unknown(error),
        _ => false,
    }
}

/// Whether the name has no address: the standard library reports that only in its text.
fn is_unknown(error: &io::Error) -> bool {
    error.to_string().contains("lookup address information")
}

fn sentence(cause: &Cause<'_>) -> String {
    match cause {
        Cause::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there".into()
        }
        Cause::Io(error) if is_closed(error) => closed(),
        Cause::Closed => closed(),
        Cause::Io(error) if is_unknown(error) => "there is no such host".into(),
        Cause::Io(error) => error.to_string(),
        Cause::Timeout(what) => format!("no answer in time ({what})"),
        Cause::Proxy(why) => format!("the proxy refuses: {why}"),
        Cause::Protocol(why) => format!("what answers there is no HTTP ({why})"),
        Cause::LargeHeaders => "the headers of its answer are too large".into(),
        Cause::Tls(error) => error.to_string(),
        Cause::Request(why) | Cause::Connection(why) => why.clone(),
    }
}

fn closed() -> String {
    "it closed the connection without an answer".to_owned()
}

/// The hint, if it is more than to check whether the server runs.
fn hint(server: &ServerUrl, cause: &Cause<'_>) -> Option<String> {
    let is_plain = server.as_str().starts_with("http://");
    let is_end = match cause {
        Cause::Io(error) => is_closed(error),
        Cause::Closed => true,
        _ => false,
    };
    match cause {
        Cause::Protocol(_) if is_plain => Some(https_instead(server)),
        _ if is_end && is_plain => Some(https_instead(server)),
        _ if is_end => Some(http_instead(server)),
        Cause::Io(error) if is_unknown(error) => Some(unknown_host()),
        Cause::Proxy(why) if why.contains("auth") => Some(proxy_login()),
        Cause::Proxy(_) => Some(
            "The proxy of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY does not lead there: list the server in NO_PROXY to go without.".to_owned(),
        ),
        Cause::Timeout(_) => Some(
            "A firewall may drop the connection: check the address and the port, or set HTTPS_PROXY.".to_owned(),
        ),
        _ => None,
    }
}

/// Whether the other side closed the connection without an answer.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

/// Hint for TLS on a port that speaks plain HTTP.
fn http_instead(server: &ServerUrl) -> String {
    let rest = server.as_str().trim_start_matches("https://");
    format!("If that port speaks plain HTTP, use http://{rest}.")
}

fn unknown_host() -> String {
    "Check the name in --server and the network; behind a proxy, set HTTPS_PROXY.".to_owned()
}
