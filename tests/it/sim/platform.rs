//! Names and addresses of simulated sites.

use pmx_core::name::SpaceName;

pub(crate) fn space(name: &str) -> SpaceName {
    SpaceName::parse(name).unwrap()
}

/// The path of a file in a request.
pub(crate) fn url_path(path: &str) -> String {
    let mut url = String::from("/");
    for byte in path.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => url.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => url.push(byte.into()),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}
