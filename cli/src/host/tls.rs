//! TLS of the listener: certificates by the name that a client asks for (SNI), read again when
//! their files change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::access_log::Log;
use super::error::HostError;

/// The files of a certificate: its chain and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the host's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How often the files are looked at.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// Makes the acceptor of TLS connections. The first certificate is for clients that name no host,
/// or one that no certificate is for.
pub(super) fn acceptor(files: &[TlsFiles], log: Log) -> Result<TlsAcceptor, HostError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let loaded = files.iter().map(|files| Loaded::read(files, &provider));
    let loaded = loaded.collect::<Result<Vec<_>, _>>()?;
    let certificates = Certificates {
        state: Mutex::new(State {
            loaded,
            looked: Instant::now(),
        }),
        provider: Arc::clone(&provider),
        log,
    };
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| unusable(Path::new("the listener"), &error))?;
    let mut config = config
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The certificates of the listener.
struct Certificates {
    state: Mutex<State>,
    provider: Arc<CryptoProvider>,
    log: Log,
}

struct State {
    loaded: Vec<Loaded>,
    looked: Instant,
}

/// A certificate, as its files were when it was read.
struct Loaded {
    files: TlsFiles,
    changed: [Option<SystemTime>; 2],
    key: Arc<CertifiedKey>,
}

impl Loaded {
    fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<Self, HostError> {
        let changed = times(files);
        let chain = CertificateDer::pem_file_iter(&files.certificate);
        let chain = chain.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| unusable(&files.certificate, &error))?;
        let key = PrivateKeyDer::from_pem_file(&files.key);
        let key = key.map_err(|error| unusable(&files.key, &error))?;
        let key = CertifiedKey::from_der(chain, key, provider);
        let key = key.map_err(|error| unusable(&files.certificate, &error))?;
        let (files, key) = (files.clone(), Arc::new(key));
        Ok(Self {
            files,
            changed,
            key,
        })
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let own = self
            .key
            .end_entity_cert()
            .and_then(ParsedCertificate::try_from);
        own.is_ok_and(|own| verify_server_name(&own, name).is_ok())
    }
}

impl Certificates {
    /// Reads files that changed. A pair that cannot be read stays as it was: programs write the
    /// certificate and the key one after the other.
    fn renew(&self, state: &mut State) {
        if state.looked.elapsed() < LOOK_TIME {
            return;
        }
        state.looked = Instant::now();
        for loaded in &mut state.loaded {
            if times(&loaded.files) == loaded.changed {
                continue;
            }
            match Loaded::read(&loaded.files, &self.provider) {
                Ok(new) => *loaded = new,
                Err(error) => self.log.fault("reading a certificate that changed", &error),
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew(&mut state);
        let name = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| state.loaded.iter().find(|it| it.is_for(&name)));
        let chosen = named.or_else(|| state.loaded.first())?;
        Some(Arc::clone(&chosen.key))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

/// When the files of a certificate changed last.
fn times(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|path| fs::metadata(path).ok()?.modified().ok())
}

fn unusable(path: &Path, why: &dyn fmt::Display) -> HostError {
    HostError::Tls {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, names: &[&str]) -> TlsFiles {
        let names = names.iter().map(|&name| name.to_owned());
        let made = rcgen::generate_simple_self_signed(names.collect::<Vec<_>>()).unwrap();
        let files = TlsFiles {
            certificate: folder.join("c.pem"),
            key: folder.join("k.pem"),
        };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn certificate_is_chosen_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), &["*.path.app", "docs.example.com"]);
        let provider = rustls::crypto::ring::default_provider();
        let loaded = Loaded::read(&files, &provider).unwrap();
        for (name, expected) in [
            ("docs.path.app", true),
            ("docs.example.com", true),
            ("path.app", false),
            ("blog.example.com", false),
        ] {
            let name = ServerName::try_from(name).unwrap();
            assert_eq!(loaded.is_for(&name), expected, "{name:?}");
        }
    }

    #[test]
    fn files_of_a_certificate_are_named_if_they_are_unusable() {
        let folder = tempfile::tempdir().unwrap();
        let good = files(folder.path(), &["docs.example.com"]);
        let provider = rustls::crypto::ring::default_provider();
        let other = tempfile::tempdir().unwrap();
        let foreign = files(other.path(), &["docs.example.com"]).key;
        for (certificate, key, named) in [
            (folder.path().join("none.pem"), good.key.clone(), "none.pem"),
            (
                good.certificate.clone(),
                folder.path().join("none.pem"),
                "none.pem",
            ),
            (good.certificate.clone(), good.certificate.clone(), "c.pem"),
            (good.certificate.clone(), foreign, "c.pem"),
        ] {
            let files = TlsFiles { certificate, key };
            let error = Loaded::read(&files, &provider).err().unwrap().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
