//! Transport faults: connections that can't be made, break, or are not to be trusted. Each says
//! why, what to try, and whether to try again.

use std::io;

use pmx_core::code::Code;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use ureq::Error;

use super::stranger::{https_instead, proxy_login};
use super::{Broken, Client, retry};
use crate::error::Failure;
use crate::server::Server;
use crate::trust;

/// Attempts to reach a server that is not there.
const ATTEMPTS_ABSENT: u32 = 2;

impl Client {
    /// What became of a request that got no answer.
    pub(super) fn broken(&self, error: &Error) -> Broken {
        if let Some(error) = tls_error(error) {
            return Broken::Final(tls_failure(&self.server, error));
        }
        let message = format!("can't reach {}: {}", self.server, sentence(error));
        let failure = Failure::new(Code::Network, message);
        let failure = match hint(&self.server, error) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        };
        let is_passing = match error {
            Error::Io(_) | Error::Timeout(_) | Error::HostNotFound | Error::ConnectionFailed => {
                true
            }
            Error::Protocol(_) => self.has_answered(),
            _ => false,
        };
        if !is_passing {
            return Broken::Final(failure);
        }
        let attempts_max = match self.has_answered() {
            true => retry::ATTEMPTS_MAX,
            false if is_absent(error) => ATTEMPTS_ABSENT,
            false => retry::ATTEMPTS_MAX - 2,
        };
        Broken::Passing {
            failure,
            after: None,
            attempts_max,
        }
    }
}

/// The fault of a TLS connection, if it is one.
pub(super) fn tls_error(error: &Error) -> Option<&TlsError> {
    match error {
        Error::Rustls(error) => Some(error),
        Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

fn tls_failure(server: &Server, error: &TlsError) -> Failure {
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

/// What is wrong with a certificate, and what to try.
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

/// Whether no server is there, as opposed to one that is gone for a moment.
fn is_absent(error: &Error) -> bool {
    match error {
        Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused || is_unknown(error),
        Error::HostNotFound => true,
        _ => false,
    }
}

/// Whether the name has no address: the standard library says so in words alone.
fn is_unknown(error: &io::Error) -> bool {
    error.to_string().contains("lookup address information")
}

fn sentence(error: &Error) -> String {
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there".into()
        }
        Error::Io(error) if is_closed(error) => "it closed the connection without an answer".into(),
        Error::Io(error) if is_unknown(error) => "there is no such host".into(),
        Error::Io(error) => error.to_string(),
        Error::HostNotFound => "there is no such host".into(),
        Error::ConnectionFailed => "no connection can be made".into(),
        Error::Timeout(what) => format!("no answer in time ({what})"),
        Error::ConnectProxyFailed(why) => format!("the proxy refuses: {why}"),
        Error::Protocol(error) => format!("what answers there is no HTTP ({error})"),
        Error::LargeResponseHeader(..) => "the headers of its answer are too large".into(),
        other => other.to_string(),
    }
}

/// What to try, where that is more than to look whether the server runs.
fn hint(server: &Server, error: &Error) -> Option<String> {
    let is_plain = server.as_str().starts_with("http://");
    match error {
        Error::Protocol(_) if is_plain => Some(https_instead(server)),
        Error::Io(error) if is_closed(error) && is_plain => Some(https_instead(server)),
        Error::Io(error) if is_closed(error) => Some(http_instead(server)),
        Error::Io(error) if is_unknown(error) => Some(unknown_host()),
        Error::HostNotFound => Some(unknown_host()),
        Error::ConnectProxyFailed(why) if why.contains("407") => Some(proxy_login()),
        Error::ConnectProxyFailed(_) => Some(
            "The proxy of HTTPS_PROXY, HTTP_PROXY or ALL_PROXY does not lead there: list the server in NO_PROXY to go without.".to_owned(),
        ),
        Error::Timeout(_) => Some(
            "A firewall may drop the connection: check the address and the port, or set HTTPS_PROXY.".to_owned(),
        ),
        _ => None,
    }
}

/// Whether the other side ended the connection without a word.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

/// To TLS on a port that speaks plain HTTP.
fn http_instead(server: &Server) -> String {
    let rest = server.as_str().trim_start_matches("https://");
    format!("If that port speaks plain HTTP, use http://{rest}.")
}

fn unknown_host() -> String {
    "Check the name in --server and the network; behind a proxy, set HTTPS_PROXY.".to_owned()
}
