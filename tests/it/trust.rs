//! Certificate trust: `pmx` trusts a private authority if the user names it, and every certificate
//! fault has its own message.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::scripted_servers::{ScriptedServer, http, no_deploys, pmx};

/// A company's authority, with its certificate in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(file: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Corp CA");
        fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
        }
    }

    /// A server with a certificate for a name, valid until a year.
    fn server(&self, name: &str, until_year: i32) -> ScriptedServer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until_year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        ScriptedServer::encrypted(&certificate, &key, |_| no_deploys())
    }
}

#[test]
fn private_authority_is_trusted_where_the_user_names_it() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("ca.pem");
    let corp = Authority::new(&file);
    Authority::new(&home.path().join("other.pem"));
    fs::create_dir(home.path().join("certs")).unwrap();
    fs::copy(&file, home.path().join("certs/corp.pem")).unwrap();
    fs::create_dir_all(home.path().join(".config/pmx")).unwrap();
    let server = corp.server("localhost", 2100).url("https", "localhost");
    let list = |args: &[&str], variables: &[(&str, &str)]| {
        let base = ["deploys", "--space", "docs", "--server", server.as_str()];
        pmx(home.path(), &[&base[..], args].concat(), variables)
    };
    let refused = list(&[], &[]).fails(5, "E_CERTIFICATE");
    assert!(refused.stderr.contains("--cacert"), "{refused:?}");
    let (pem, folder) = (file.to_str().unwrap(), home.path().join("certs"));
    list(&["--cacert", "ca.pem"], &[]).ok();
    list(&[], &[("PMX_CACERT", pem)]).ok();
    list(&[], &[("SSL_CERT_FILE", pem)]).ok();
    list(&[], &[("SSL_CERT_DIR", folder.to_str().unwrap())]).ok();
    list(&["--cacert", "other.pem"], &[("SSL_CERT_FILE", pem)]).fails(5, "E_CERTIFICATE");
    let lost = list(&[], &[("SSL_CERT_FILE", "none.pem")]).fails(5, "E_CERTIFICATE");
    assert!(lost.stderr.contains("SSL_CERT_FILE"), "{lost:?}");
    list(&["--cacert", "none.pem"], &[]).fails(2, "none.pem");
    let config = home.path().join(".config/pmx/config.toml");
    fs::write(&config, format!("cacert = \"{pem}\"")).unwrap();
    list(&[], &[]).ok();
    fs::remove_file(&config).unwrap();
    // A project file can't make `pmx` trust an authority.
    fs::write(home.path().join("pmx.toml"), "cacert = \"ca.pem\"").unwrap();
    list(&[], &[]).fails(2, "PMX_CACERT");
}

#[test]
fn certificate_faults_have_their_own_message() {
    let home = TempDir::new().unwrap();
    let corp = Authority::new(&home.path().join("ca.pem"));
    let mut own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let own = own.self_signed(&key).unwrap();
    fs::write(home.path().join("own.pem"), own.pem()).unwrap();
    let own = ScriptedServer::encrypted(&own, &key, |_| no_deploys());
    let expired = corp.server("localhost", 2001);
    let other = corp.server("elsewhere.example", 2100);
    let plain = ScriptedServer::handling(|mut stream| {
        let _gone = stream.write_all(&http("400 Bad Request", ""));
    });
    for (server, cacert, code, words) in [
        (&expired, "ca.pem", "E_CERTIFICATE", ["expired", "clock"]),
        (
            &other,
            "ca.pem",
            "E_CERTIFICATE",
            ["elsewhere.example", "names"],
        ),
        (
            &own,
            "own.pem",
            "E_CERTIFICATE",
            ["authority's own", "CA:FALSE"],
        ),
        (
            &plain,
            "ca.pem",
            "E_NETWORK",
            ["no TLS", "http://localhost"],
        ),
    ] {
        let url = server.url("https", "localhost");
        let args = [
            "deploys", "--space", "docs", "--cacert", cacert, "--server", &url,
        ];
        let ran = pmx(home.path(), &args, &[]).fails(5, code);
        let said = words.iter().all(|word| ran.stderr.contains(word));
        assert!(said, "{words:?}: {ran:?}");
    }
}
