//! Certificate trust: the authorities that a TLS connection accepts.
//!
//! By default those of the system, by the platform's own verifier: a company's authority that is
//! installed there is trusted, and so is a proxy that inspects TLS. Certificates are loaded at the
//! first TLS connection, so plain HTTP never waits for them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use pmx_core::code::Code;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::Failure;

/// Bytes of a file of certificates: the system's own bundles have a quarter of a megabyte.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The variables by which the system's store is replaced, as OpenSSL reads them.
const STORE_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Whose certificates are accepted.
#[derive(Clone, Default)]
pub struct Trust(Roots);

#[derive(Clone, Default)]
enum Roots {
    /// The system's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    #[default]
    System,
    /// Mozilla's, which come with the program.
    Bundled,
    /// These alone.
    Named(Arc<Vec<Certificate<'static>>>),
}

impl Trust {
    /// The authorities that come with the program, for a system that has none.
    pub const fn bundled() -> Self {
        Self(Roots::Bundled)
    }

    /// The authorities of a PEM file, and no others.
    pub fn of_file(path: &Path) -> Result<Self, Failure> {
        let fault = |why: &str| {
            Failure::usage(format!("the certificates of \"{}\": {why}", path.display())).with_hint(
                "A file of certificates is PEM: `-----BEGIN CERTIFICATE-----` and so on.",
            )
        };
        let pem = crate::files::read_bounded(path, FILE_BYTES_MAX).map_err(|why| fault(&why))?;
        let mut certificates = Vec::new();
        for item in parse_pem(&pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(fault(&error.to_string())),
            }
        }
        if certificates.is_empty() {
            return Err(fault("there is none in it"));
        }
        Ok(Self(Roots::Named(Arc::new(certificates))))
    }

    /// What a client of HTTP needs to know of it.
    pub fn config(&self) -> TlsConfig {
        let roots = match &self.0 {
            Roots::System => RootCerts::PlatformVerifier,
            Roots::Bundled => RootCerts::WebPki,
            Roots::Named(certificates) => RootCerts::Specific(Arc::clone(certificates)),
        };
        TlsConfig::builder().root_certs(roots).build()
    }

    /// The same for connections that carry no HTTP after their first request.
    pub fn connections(&self) -> Result<Arc<ClientConfig>, Failure> {
        let fault = |error: rustls::Error| {
            Failure::new(Code::Certificate, format!("preparing TLS: {error}"))
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(fault)?;
        let mut config = match &self.0 {
            Roots::Named(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates.iter() {
                    let der = CertificateDer::from(certificate.der().to_vec());
                    roots.add(der).map_err(fault)?;
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Roots::System | Roots::Bundled => {
                let verifier = Verifier::new(provider).map_err(fault)?;
                // It is the platform's own, as `config` uses it.
                let builder = builder.dangerous();
                let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
                builder.with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Roots::System => "Trust(system)",
            Roots::Bundled => "Trust(bundled)",
            Roots::Named(_) => "Trust(named)",
        })
    }
}

/// Whether an error means that the system has no certificates at all, as in a small container.
pub fn is_storeless(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::General(text) if text.contains("No CA certificates"))
        && STORE_VARIABLES
            .iter()
            .all(|name| std::env::var_os(name).is_none())
}

/// A fault of the store that `SSL_CERT_FILE` or `SSL_CERT_DIR` names.
pub fn store_fault() -> Failure {
    let named = |name: &&str| std::env::var_os(name).is_some();
    let names: Vec<_> = STORE_VARIABLES.into_iter().filter(named).collect();
    let message = format!("no certificate can be read from {}", names.join(" or "));
    Failure::new(Code::Certificate, message)
        .with_hint("Name a PEM file of authorities, or unset the variable to use the system's.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_certificates_is_read_or_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let fault = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let failure = Trust::of_file(&path).unwrap_err();
            assert_eq!(failure.exit(), 2);
            assert!(failure.message.contains("ca.pem"), "{failure}");
            failure.message
        };
        assert!(fault("").contains("there is none"));
        assert!(fault("-----BEGIN CERTIFICATE-----\n!\n").contains("PEM"));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        assert!(fault(&key).contains("there is none"));
        std::fs::write(&path, made.cert.pem() + &made.cert.pem()).unwrap();
        assert_eq!(
            format!("{:?}", Trust::of_file(&path).unwrap()),
            "Trust(named)"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(
            Trust::of_file(&path)
                .unwrap_err()
                .message
                .contains("ca.pem")
        );
    }
}
