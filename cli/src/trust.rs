//! Certificate trust: the authorities that a TLS connection accepts.
//!
//! By default, the platform's own verifier accepts those of the system. So it trusts a company's
//! installed authority, and a proxy that inspects TLS. The first TLS connection loads the
//! certificates, so plain HTTP never waits for them.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use pmx_core::code::Code;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::error::Failure;

/// Bytes of a certificate file: the system's own bundles have a quarter of a megabyte.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The variables that replace the system's store, as OpenSSL reads them.
const STORE_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The accepted certificate authorities.
#[derive(Clone, Default)]
pub struct Trust(Roots);

#[derive(Clone, Default)]
enum Roots {
    /// The system's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. On a system without
    /// any, as in a small container, Mozilla's, which the program includes.
    #[default]
    System,
    /// Only these.
    Named(Arc<Vec<CertificateDer<'static>>>),
}

impl Trust {
    /// Only the authorities of a PEM file.
    pub fn of_file(path: &Path) -> Result<Self, Failure> {
        let fault = |why: &str| {
            Failure::usage(format!("the certificates of \"{}\": {why}", path.display())).with_hint(
                "A file of certificates is PEM: `-----BEGIN CERTIFICATE-----` and so on.",
            )
        };
        let pem = crate::files::read_bounded(path, FILE_BYTES_MAX).map_err(|why| fault(&why))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|error| fault(&format!("no PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(fault("there is none in it"));
        }
        Ok(Self(Roots::Named(Arc::new(certificates))))
    }

    /// TLS configuration for connections that offer these protocols.
    pub(crate) fn config(&self, protocols: &[&[u8]]) -> Result<ClientConfig, Failure> {
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
                    roots.add(certificate.clone()).map_err(fault)?;
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Roots::System => {
                let verifier = SystemVerifier {
                    provider,
                    loaded: OnceLock::new(),
                };
                // The verifier leaves every decision to the platform's.
                let builder = builder.dangerous();
                let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
                builder.with_no_client_auth()
            }
        };
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Ok(config)
    }
}

/// The platform's verifier, which loads its certificates at the first verification.
#[derive(Debug)]
struct SystemVerifier {
    provider: Arc<CryptoProvider>,
    loaded: OnceLock<Result<Arc<dyn ServerCertVerifier>, rustls::Error>>,
}

impl SystemVerifier {
    fn load(&self) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        match Verifier::new(Arc::clone(&self.provider)) {
            Ok(verifier) => Ok(Arc::new(verifier)),
            Err(error) if is_storeless(&error) => {
                let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
                let roots: RootCertStore = roots.collect();
                let provider = Arc::clone(&self.provider);
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build();
                Ok(verifier.map_err(|error| OtherError(Arc::new(error)))?)
            }
            Err(error) => Err(error),
        }
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ServerCertVerifier for SystemVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.loaded.get_or_init(|| self.load()).as_ref();
        let verifier = verifier.map_err(Clone::clone)?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Roots::System => "Trust(system)",
            Roots::Named(_) => "Trust(named)",
        })
    }
}

/// Whether an error means that the system has no certificates.
fn is_storeless(error: &rustls::Error) -> bool {
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
    fn file_of_certificates_is_read_or_refused_by_its_name() {
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
