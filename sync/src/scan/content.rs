//! Secret detection by content: private keys, and files that belong to a host's data folder.
//!
//! The scan inspects only the first bytes of files that it reads anyway, so an unchanged site costs
//! nothing. A private key counts only if a file *begins* with it: a page with an example of a key
//! is a page.

use crate::text;

/// Inspected bytes of a file: room for a chain of certificates before its key.
pub(super) const HEAD_BYTES: usize = 16 * 1024;

/// Bytes of a host's secret file: `pmx_`, 64 digits, a line end.
const HOST_SECRET_BYTES_MAX: usize = 70;

/// Beginnings of text files that may contain a key later.
const OPENINGS: &[&str] = &[
    "-----BEGIN ",
    "---- BEGIN ",
    "Bag Attributes",
    "Key Attributes",
    "Certificate:",
    "subject=",
];

/// Beginnings of text files that are private keys.
const KEYS: &[&str] = &[
    "PuTTY-User-Key-File-",
    "AGE-SECRET-KEY-1",
    "Private-Key: (",
    "RSA Private-Key: (",
];

/// Tables that only the databases of a host have, as SQLite stores their definitions.
const TABLES: &[&str] = &[
    "CREATE TABLE pointer (\n    name TEXT NOT NULL PRIMARY KEY,\n    deploy INTEGER",
    "CREATE TABLE hub_stream (",
    "CREATE TABLE stream_producer (",
    "CREATE TABLE host_stream_names (",
    "CREATE TABLE deploy (\n        number INTEGER PRIMARY KEY, root BLOB",
];

/// Whether a file with this beginning must not be published.
pub(super) fn is_secret(head: &[u8]) -> bool {
    let head = &head[..head.len().min(HEAD_BYTES)];
    match head.first() {
        None => false,
        Some(b'S') if head.starts_with(b"SQLite format 3\0") => is_host_database(head),
        Some(0xff) if head.starts_with(b"\xff\xfe") => {
            // UTF-16, as a Windows shell redirects a program's output.
            let narrow: Vec<u8> = head[2..].iter().copied().step_by(2).collect();
            is_secret_text(&narrow)
        }
        Some(_) => is_host_secret(head) || is_secret_text(text::without_mark(head)),
    }
}

fn is_host_secret(head: &[u8]) -> bool {
    let digits = head.trim_ascii().strip_prefix(b"pmx_");
    head.len() <= HOST_SECRET_BYTES_MAX
        && digits.is_some_and(|it| it.len() == 64 && it.iter().all(u8::is_ascii_hexdigit))
}

fn is_host_database(head: &[u8]) -> bool {
    let holds = |text: &&str| {
        let mut places = head.windows(text.len());
        places.any(|place| place == text.as_bytes())
    };
    TABLES.iter().any(holds)
}

fn is_secret_text(head: &[u8]) -> bool {
    let text = behind_comments(head);
    let starts = |start: &&str| text.starts_with(start.as_bytes());
    if text.first() == Some(&b'{') {
        return is_service_account(text);
    }
    KEYS.iter().any(starts) || OPENINGS.iter().any(starts) && lines(text).any(begins_key)
}

/// The text after blank lines and comments.
fn behind_comments(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let is_comment = [&b"#"[..], b";", b"//"]
            .iter()
            .any(|it| text.starts_with(it));
        match text.iter().position(|&byte| byte == b'\n') {
            Some(end) if is_comment => text = &text[end..],
            Some(_) | None => return text,
        }
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n' || byte == b'\r')
        .map(<[u8]>::trim_ascii)
}

/// Whether a line is the first of an armoured private key (RFC 7468, RFC 4716, RFC 4880).
fn begins_key(line: &[u8]) -> bool {
    let armour = line
        .strip_prefix(b"-----BEGIN ")
        .and_then(|line| line.strip_suffix(b"-----"))
        .or_else(|| line.strip_prefix(b"---- BEGIN ")?.strip_suffix(b" ----"));
    armour.is_some_and(|label| {
        label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK")
    })
}

/// Whether JSON contains the key of a service account, in the format of cloud providers.
fn is_service_account(text: &[u8]) -> bool {
    let holds = |part: &[u8]| text.windows(part.len()).any(|place| place == part);
    holds(b"\"private_key\"") && holds(b"PRIVATE KEY-----") && holds(b"\"service_account\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_keys_are_secret_whatever_is_before_them() {
        let utf16: Vec<u8> = "\u{feff}-----BEGIN RSA PRIVATE KEY-----\r\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(is_secret(&utf16));
        let chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".repeat(50);
        for text in [
            "-----BEGIN RSA PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\r\n",
            "-----BEGIN DSA PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY-----\n",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n",
            "\u{feff}\r\n# mine\n\n-----BEGIN PRIVATE KEY-----\n",
            "-----BEGIN EC PARAMETERS-----\nBg==\n-----END EC PARAMETERS-----\n-----BEGIN EC PRIVATE KEY-----\n",
            "Bag Attributes\n    friendlyName: x\nKey Attributes: <No Attributes>\n-----BEGIN PRIVATE KEY-----\n",
            &format!("{chain}-----BEGIN PRIVATE KEY-----\n"),
            "PuTTY-User-Key-File-3: ssh-ed25519\n",
            "# created: 2026-01-01\n# public key: age1x\nAGE-SECRET-KEY-1QQ\n",
            "{\n  \"type\": \"service_account\",\n  \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMII\"}",
            &format!("pmx_{}\n", "0a".repeat(32)),
        ] {
            assert!(is_secret(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "-",
            "# Keys\n\n```\n-----BEGIN RSA PRIVATE KEY-----\n",
            "# Keys\n\nA key:\n\n-----BEGIN RSA PRIVATE KEY-----\n",
            "<pre>\n-----BEGIN RSA PRIVATE KEY-----\n",
            "-----BEGIN PUBLIC KEY-----\n",
            "-----BEGIN CERTIFICATE-----\n",
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
            "-----BEGIN CERTIFICATE-----\nsee PRIVATE KEY-----\n",
            "ssh-ed25519 AAAA me\n",
            "{\"private_key\":\"-----BEGIN PRIVATE KEY-----\"}",
            "pmx_is a name",
            "SQLite format 3\0 of another program CREATE TABLE deploy (",
        ] {
            assert!(!is_secret(text.as_bytes()), "{text}");
        }
        let database = "SQLite format 3\0 and CREATE TABLE hub_stream (";
        assert!(is_secret(database.as_bytes()));
    }
}
