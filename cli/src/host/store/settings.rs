//! Store settings: the bucket, the prefix, and the credentials, which no output ever shows.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use object_store::aws::AmazonS3ConfigKey;
use reqwest::Url;
use thiserror::Error;

use crate::env::Environment;
use crate::host::error::{HostError, disk};
use crate::host::secret;

/// Bytes of a file of credentials: session tokens have a few thousand.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The beginning of the names of all variables.
const VARIABLES: &str = "AWS_";

/// Most characters of a prefix: a key of S3 has 1,024 bytes, and an object's own part 73.
const PREFIX_CHARS_MAX: usize = 512;

/// A place for objects: `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    pub(super) bucket: String,
    prefix: String,
}

/// The text is no place for objects. The message never repeats it: it may have a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the address of the objects {0}")]
pub struct InvalidStoreUrl(&'static str);

impl StoreUrl {
    /// The full key of an object, which begins with the prefix.
    pub(super) fn key(&self, own: &str) -> String {
        if self.prefix.is_empty() {
            own.to_owned()
        } else {
            format!("{}/{own}", self.prefix)
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(text: &str) -> Result<Self, InvalidStoreUrl> {
        if text.contains('@') {
            return Err(InvalidStoreUrl(
                "contains user information, which does not belong there",
            ));
        }
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err(InvalidStoreUrl("does not begin with s3://"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_plain = |text: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !matches!(text, "" | "." | "..") && text.bytes().all(known)
        };
        if !is_plain(bucket) {
            return Err(InvalidStoreUrl("names no valid bucket"));
        }
        let is_short = prefix.len() <= PREFIX_CHARS_MAX;
        if !is_short || !(prefix.is_empty() || prefix.split('/').all(is_plain)) {
            return Err(InvalidStoreUrl(
                "has a prefix with other characters than letters, digits, '.', '_', '-' and '/', or \
                 with more than 512",
            ));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

/// An object store, and how to reach it.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The place.
    pub url: StoreUrl,
    /// The credentials and the endpoint.
    pub variables: StoreVariables,
    /// Whether this server becomes the owner of the place, whichever server owns it now.
    pub takes_over: bool,
}

/// The variables `AWS_…` of a program or of a file.
#[derive(Clone, Default)]
pub struct StoreVariables(BTreeMap<String, String>);

/// Shows names, because the values are credentials.
impl fmt::Debug for StoreVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl StoreVariables {
    /// Those of the environment.
    pub fn of(env: &Environment) -> Self {
        let names = env.names().filter(|name| name.starts_with(VARIABLES));
        let pairs = names.map(|name| (name.to_owned(), env.var(name).unwrap_or_default()));
        Self(
            pairs
                .map(|(name, value)| (name, value.to_owned()))
                .collect(),
        )
    }

    /// Adds those of a file, which have priority. A file that others can read is refused.
    pub fn with_file(mut self, path: &Path) -> Result<Self, HostError> {
        let text = secret::private_text(path, FILE_BYTES_MAX).map_err(disk("read", path))?;
        let refused = |fault: String| HostError::Credentials {
            path: path.to_owned(),
            fault,
        };
        let text = text.map_err(|fault| refused(fault.to_owned()))?;
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let pair = line
                .split_once('=')
                .filter(|(name, _)| is_known(name.trim()));
            let Some((name, value)) = pair else {
                return Err(refused(format!(
                    "has no known AWS_NAME=VALUE in line {number}"
                )));
            };
            self.0
                .insert(name.trim().to_owned(), unquoted(value.trim()).to_owned());
        }
        Ok(self)
    }

    /// The settings that the client of the store knows.
    pub(super) fn known(&self) -> impl Iterator<Item = (AmazonS3ConfigKey, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let key = name.to_ascii_lowercase().parse().ok()?;
            Some((key, value.as_str()))
        })
    }

    /// Whether the store is on this machine.
    pub(super) fn is_near(&self) -> bool {
        self.endpoints().any(|(_, value)| {
            let url = Url::parse(value);
            url.is_ok_and(|url| is_loopback(&url))
        })
    }

    fn endpoints(&self) -> impl Iterator<Item = (&str, &str)> {
        let endpoints = self.0.iter();
        let endpoints = endpoints.map(|(name, value)| (name.as_str(), value.as_str()));
        endpoints.filter(|(name, _)| name.starts_with("AWS_ENDPOINT"))
    }

    /// Why an endpoint is not safe to send credentials to, with the name of its variable.
    pub(super) fn fault(&self) -> Option<String> {
        let allowed = self.0.get("AWS_ALLOW_HTTP");
        let allows_http = allowed.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let mut faults = self.endpoints().filter_map(|(name, value)| {
            endpoint_fault(value, allows_http).map(|fault| format!("{name} {fault}"))
        });
        faults.next()
    }
}

fn is_known(name: &str) -> bool {
    let parsed = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
    name.starts_with(VARIABLES) && parsed.is_ok()
}

fn unquoted(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn endpoint_fault(value: &str, allows_http: bool) -> Option<&'static str> {
    let Ok(url) = Url::parse(value) else {
        return Some("is no URL");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Some("contains user information, which does not belong there");
    }
    match url.scheme() {
        "https" => None,
        "http" if allows_http || is_loopback(&url) => None,
        "http" => Some("is http to another machine, which only AWS_ALLOW_HTTP=true allows"),
        _ => Some("is neither https nor http"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_has_a_bucket_and_perhaps_a_prefix() {
        for (text, shown, key) in [
            ("s3://sites", "s3://sites", "owner"),
            ("s3://sites/", "s3://sites", "owner"),
            (
                "s3://my.sites-1/a/b_c/",
                "s3://my.sites-1/a/b_c",
                "a/b_c/owner",
            ),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.key("owner"), key);
        }
        for text in [
            "",
            "sites",
            "gs://sites",
            "s3://",
            "s3:///a",
            "s3://a//b",
            "s3://a/../b",
            "s3://a?x=1",
            "s3://a/b#c",
            "s3://a/ b",
            "s3://user:hunter2@sites/a",
        ] {
            let refused = text.parse::<StoreUrl>().unwrap_err();
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
        assert!(
            format!("s3://a/{}", "b".repeat(513))
                .parse::<StoreUrl>()
                .is_err()
        );
    }

    #[test]
    fn endpoint_is_https_or_near() {
        for (value, is_safe) in [
            ("https://s3.example.com", true),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000", true),
            ("http://localhost:9000", true),
            ("http://s3.example.com", false),
            ("https://me:hunter2@s3.example.com", false),
            ("ftp://s3.example.com", false),
            ("nonsense", false),
        ] {
            let env = [("AWS_ENDPOINT_URL", value)].into_iter().collect();
            let fault = StoreVariables::of(&env).fault();
            assert_eq!(fault.is_none(), is_safe, "{value}: {fault:?}");
            assert!(!fault.unwrap_or_default().contains("hunter2"));
        }
        let env = [
            ("AWS_ENDPOINT", "http://far.example"),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        assert_eq!(StoreVariables::of(&env.into_iter().collect()).fault(), None);
    }

    #[cfg(unix)]
    #[test]
    fn file_of_credentials_is_private_and_never_shown() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("credentials");
        let with = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let env = [("AWS_SECRET_ACCESS_KEY", "old"), ("HOME", "/root")];
            StoreVariables::of(&env.into_iter().collect()).with_file(&path)
        };
        let text = "# mine\n\nAWS_ACCESS_KEY_ID = id\nAWS_SECRET_ACCESS_KEY=\"hunter2=\"\n";
        let read = with(text, 0o600).unwrap();
        assert_eq!(read.0["AWS_SECRET_ACCESS_KEY"], "hunter2=");
        assert_eq!(read.known().count(), 2);
        let shown = format!("{read:?}");
        assert_eq!(shown, r#"{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}"#);
        let open = with(text, 0o644).unwrap_err().to_string();
        assert!(open.contains("can be read by others"), "{open}");
        for text in ["hunter2", "AWS_NONSENSE=hunter2", "PATH=hunter2"] {
            let refused = with(text, 0o600).unwrap_err().to_string();
            assert!(
                refused.contains("line 1") && !refused.contains("hunter2"),
                "{refused}"
            );
        }
    }
}
