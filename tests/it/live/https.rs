//! A live page behind TLS in a real browser. The story is `tests/browser/https.mjs`.

use rcgen::{CertificateParams, KeyPair};

use super::browser::{check_stories, chromium, node};
use crate::world::{Host, World, pmx_path, skipped};

#[test]
fn live_pages_work_behind_tls_in_a_real_browser() {
    let chromium = match chromium() {
        Ok(chromium) => chromium,
        Err(lack) => return skipped("live pages", &lack),
    };
    let world = World::with_settings(Host::Embedded, &[("DOMAIN", "path.test")]);
    let key = KeyPair::generate().unwrap();
    let names = vec!["*.path.test".to_owned()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let [of_certificate, of_key] = ["cert.pem", "key.pem"].map(|file| world.temp.path().join(file));
    std::fs::write(&of_certificate, certificate).unwrap();
    std::fs::write(&of_key, key.serialize_pem()).unwrap();
    let mut stories = node(&world);
    stories
        .arg("https.mjs")
        .arg(world.server.port.to_string())
        .args([pmx_path(), &world.site(), &chromium])
        .args([of_certificate, of_key]);
    check_stories(stories, 1);
}
