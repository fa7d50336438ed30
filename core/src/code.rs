//! Error codes: the stable code of each failure, and the only table from code to HTTP status, exit
//! code and explanation.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Party that must act on a failure: it decides the exit code of `pmx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeKind {
    /// Anything else: exit 1.
    Other,
    /// The command line or the configuration: exit 2.
    Usage,
    /// A source file can't be read, is not publishable, or changed while read: exit 3.
    Source,
    /// Not authorised: exit 4.
    Auth,
    /// The network, after retries: exit 5.
    Network,
    /// The expected deploy was replaced, or a newer build is live: exit 6.
    Conflict,
    /// Bytes do not match their hash, or an encoding is invalid: exit 7.
    Integrity,
    /// A limit: exit 8.
    Limit,
}

impl CodeKind {
    /// The exit code of `pmx`.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::Usage => 2,
            Self::Source => 3,
            Self::Auth => 4,
            Self::Network => 5,
            Self::Conflict => 6,
            Self::Integrity => 7,
            Self::Limit => 8,
        }
    }
}

macro_rules! codes {
    ($($variant:ident $text:literal $kind:ident $status:literal $retriable:literal
        $hint:literal $explanation:literal)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $explanation] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as users see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The party that must act.
            pub const fn kind(self) -> CodeKind {
                match self { $(Self::$variant => CodeKind::$kind,)* }
            }

            /// The HTTP status an API answer with this code has.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Whether the same request may succeed later.
            pub const fn retriable(self) -> bool {
                match self { $(Self::$variant => $retriable,)* }
            }

            /// The `Retry-After` of an answer with this code, in seconds.
            pub const fn retry_after(self) -> Option<&'static str> {
                match self {
                    Self::TooMany | Self::SpaceBusy | Self::Unavailable => Some("1"),
                    _ => None,
                }
            }

            /// The hint: what to try.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$variant => $hint,)* }
            }

            /// The meaning, for `pmx explain`.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }
        }
    };
}

codes! {
    PathInvalid "E_PATH_INVALID" Source 422 false
        "Rename the file, or leave it out with --exclude."
        "A path can't be a site path. Paths are UTF-8 and relative, have no empty, \".\" or \"..\" segment, no backslash and no control character, at most 1,024 bytes, 255 a segment, 128 segments."
    PathDuplicate "E_PATH_DUPLICATE" Source 422 false
        "Keep one of the two."
        "A path appears twice, or is both a file and a folder."
    PathCollision "E_PATH_COLLISION" Source 422 false
        "Rename one of the two, or pass --allow-collisions if both are meant."
        "Two paths differ only in case or in Unicode normalisation: some file systems can't hold both, and readers can't tell them apart."
    SymlinkEscape "E_SYMLINK_ESCAPE" Source 422 false
        "Replace the link by its content, or leave it out with --exclude."
        "A symbolic link leads out of the folder, to nothing, or in a circle. Publishing it could disclose files that are not part of the site."
    NotRegular "E_NOT_REGULAR" Source 422 false
        "Leave it out with --exclude."
        "Something in the folder is neither a file nor a folder: a FIFO, a socket or a device. Reading it could block for ever."
    Unreadable "E_UNREADABLE" Source 422 false
        "Check its permissions, or leave it out with --exclude."
        "A file or folder can't be read."
    ChangedDuringRead "E_CHANGED_DURING_READ" Source 422 true
        "Wait until the build is finished, then sync again."
        "A file changed while it was read, three times in a row. Nothing is published from a moving build."
    SourceMissing "E_SOURCE_MISSING" Source 422 false
        "Run the build, or name the folder it writes to."
        "The folder to publish does not exist, or is not a folder."
    PublishForm "E_PUBLISH_FORM" Usage 400 false
        "Send {\"space\":NAME,\"files\":[{\"path\":PATH,\"hash\":BLAKE3,\"size\":BYTES}]} to begin, each missing blob to its uploadUrl, and the same object to commit."
        "A JSON publish has another form. docs/pathmx.md describes the form, and examples/publish.mjs uses it."
    BuildIncomplete "E_BUILD_INCOMPLETE" Source 422 false
        "Run the build again."
        "PathMX's build output names files that its folder lacks, or its roots.json or manifest.json can't be read."
    Secret "E_SECRET" Source 422 false
        "Leave them out with .pmxignore or --exclude. Pass --allow-secrets if they are meant to be public."
        "A file in the folder is a private key, or a secret or database of a pmx host. Publishing it would make it public."
    TooLarge "E_TOO_LARGE" Limit 413 false
        "Leave the file out with --exclude, or split it."
        "A file, a request or a site is larger than the limit."
    EmptySite "E_EMPTY_SITE" Usage 422 false
        "Pass --allow-empty if the site is meant to be empty."
        "The folder has no files to publish. Publishing it would remove every page of the site."
    RulesInvalid "E_RULES_INVALID" Usage 422 false
        "Mend the lines, or pass --lenient to publish without them."
        "A rule file of the site (_redirects, _headers, _site.toml or _pmx/rules.json) has lines that are not valid. Nothing is published, because a site without some of its rules answers differently. `pmx rules` lists the lines."
    MaxDelete "E_MAX_DELETE" Usage 422 false
        "Pass a larger --max-delete if so many removals are meant."
        "The publish would remove more files than --max-delete allows."
    HashInvalid "E_HASH_INVALID" Integrity 400 false
        "Send 64 lower-case hexadecimal digits."
        "A hash is not spelled as 64 lower-case hexadecimal digits."
    HashMismatch "E_HASH_MISMATCH" Integrity 422 true
        "Send it again. If it happens again, something between here and there changes bytes."
        "Bytes do not have the hash that names them. Nothing was stored."
    Compression "E_COMPRESSION" Integrity 422 false
        "Use a current pmx."
        "A compressed body is not one plain zstd frame within the limits of window and size."
    ManifestMalformed "E_MANIFEST_MALFORMED" Integrity 422 false
        "Use a current pmx."
        "A manifest node or patch is not a canonical encoding."
    ManifestMismatch "E_MANIFEST_MISMATCH" Integrity 422 false
        "Sync again. If it happens again, report it: two programs disagree about a manifest."
        "A patch applied to its base does not arrive at the announced root."
    PrefixMissing "E_PREFIX_MISSING" Integrity 409 false
        "Send the pack without what it refers to; pmx does that automatically."
        "A pack refers to files of an older deploy that are not available to the server: the deploy is gone or not yet known where the pack arrived, its files are stored in too many places, or they are damaged."
    PackMalformed "E_PACK_MALFORMED" Integrity 422 false
        "Use a current pmx."
        "A pack is not a canonical encoding."
    RequestMalformed "E_REQUEST_MALFORMED" Integrity 400 false
        "Use a current pmx."
        "A request is not understood."
    LengthRequired "E_LENGTH_REQUIRED" Integrity 411 false
        "Send a Content-Length."
        "An upload did not say how long it is."
    MissingObjects "E_MISSING_OBJECTS" Conflict 409 true
        "Sync again: only what is missing is sent."
        "A commit refers to blobs or nodes that the space does not hold."
    Conflict "E_CONFLICT" Conflict 409 false
        "Look at what is live with `pmx diff`; `--expect` with its number replaces it, `pmx sync --force` whatever is live."
        "Another deploy is live than the one that this publish or rollback may replace. It is the one that --expect names, or the one that this machine saw last. A build with an order may also replace an older build of its sequence."
    Held "E_HELD" Conflict 409 false
        "`pmx resume` lets publishing go on; `--expect` with the held deploy's number, or `--force`, replaces it at once."
        "A rollback holds the site: no publish replaces the deploy that it made active, until a client that knows of it says so."
    OlderBuild "E_OLDER_BUILD" Conflict 409 false
        "Nothing to do: the newer build stays. `--older ok` makes this no failure; `--order none` publishes regardless."
        "A newer build of the same sequence (the runs of one workflow, say) was published already, or found nothing to change, so this older one replaces nothing."
    OutOfOrder "E_OUT_OF_ORDER" Conflict 409 false
        "Nothing to do: the newer build stays. `--order none` publishes regardless."
        "What E_OLDER_BUILD says, to a pmx from before that code: a newer build was published already."
    IdempotencyReuse "E_IDEMPOTENCY_REUSE" Conflict 422 false
        "Use a new key for a new publish."
        "The key of an earlier commit was sent again with a different root."
    NumberTooLarge "E_NUMBER_TOO_LARGE" Usage 400 false
        "Use a number up to 9007199254740991 (2^53 - 1)."
        "A number (of a deploy, of a build's order, of bytes) is too large to cross JSON and both hosts' databases exactly."
    NameInvalid "E_NAME_INVALID" Usage 422 false
        "Use lower-case letters, digits and single hyphens, at most 63 characters."
        "The name of a space or a preview must be a DNS label, without two hyphens in a row (they separate the two), and both together must fit one. A preview's has at most 37 characters and is no number."
    TooManyPreviews "E_TOO_MANY_PREVIEWS" Limit 409 false
        "Take one away: `pmx preview rm NAME`. `pmx deploys` lists them."
        "The site has as many previews as it may have."
    DomainInvalid "E_DOMAIN_INVALID" Usage 422 false
        "Name a host such as docs.example.com or example.com, outside of the server's own domain."
        "A domain of a space is a host name of at least two labels, without scheme and port. It is no IP address, no name under localhost, and neither the server's own domain nor a name under it."
    DomainTaken "E_DOMAIN_TAKEN" Conflict 409 false
        "Remove it from the other space first: `pmx domain rm HOST --space OTHER`."
        "A host shows one space. This one is a domain of another space of the server, whose record is still there."
    TooManyDomains "E_TOO_MANY_DOMAINS" Limit 409 false
        "Remove one: `pmx domain rm HOST`. `pmx domain list` names them."
        "The space, or the server, has as many domains as it may have."
    NameReserved "E_NAME_RESERVED" Auth 403 false
        "Choose another name."
        "The name is reserved for the service itself."
    Unauthorised "E_UNAUTHORISED" Auth 401 false
        "Set PMX_TOKEN to the server's publish secret. A pmx on the same machine as the server finds it automatically."
        "The request carries no valid token."
    TokenExpired "E_TOKEN_EXPIRED" Auth 401 false
        "Get a new token."
        "The token was valid once, but its time is over."
    Forbidden "E_FORBIDDEN" Auth 403 false
        "Get a token for this stream whose scope has it."
        "The token is valid, but does not allow this with this stream."
    Untrusted "E_UNTRUSTED" Auth 403 false
        "Name the server with PMX_SERVER or --server, and the folder on the command line."
        "A project file asks for more than it may decide: a server that the user never named, a folder outside of the project, or a file that another user owns. No token and no file was sent."
    TokenInQuery "E_TOKEN_IN_QUERY" Auth 400 false
        "Send the token in the Authorization header."
        "A token in a URL ends up in logs, so it is refused."
    Insecure "E_INSECURE" Auth 403 false
        "Use https:// in --server or PMX_SERVER. The token was readable on its way: give the server a new one."
        "A token came by plain http to a server that is reached by https. It is refused instead of redirected, so that the mistake shows."
    NotConfigured "E_NOT_CONFIGURED" Auth 503 false
        "Set PUBLISH_SECRET on the server."
        "The server has no publish secret, so its publish API is closed."
    NotFound "E_NOT_FOUND" Other 404 false
        "Check the name."
        "There is no such route, space or deploy."
    DeployUnknown "E_DEPLOY_UNKNOWN" Other 404 false
        "`pmx deploys` lists the deploys of the space."
        "The space has no deploy with that number."
    MethodNotAllowed "E_METHOD_NOT_ALLOWED" Other 405 false
        "See the Allow header."
        "The route exists, but not for this method."
    Network "E_NETWORK" Network 502 true
        "Check the server's address and that it runs: `pmx serve` starts one here."
        "The server can't be reached, or the connection broke, also after retries."
    Protocol "E_PROTOCOL" Network 502 false
        "Check that the address is a PathMX server of the same version."
        "The server's answer is not one of this protocol."
    Certificate "E_CERTIFICATE" Network 502 false
        "Name the authority's file with --cacert FILE, or PMX_CACERT; SSL_CERT_FILE works as well."
        "The server's certificate can't be trusted: its issuer is unknown here, it has expired, or it is another host's. Nothing was sent."
    TooMany "E_TOO_MANY" Limit 429 true
        "Wait, then try again."
        "Too many requests at once."
    Usage "E_USAGE" Usage 400 false
        "See `pmx help`."
        "The command line or the configuration does not make sense."
    Interrupted "E_INTERRUPTED" Other 499 true
        "Run the same command again: it resumes where it stopped."
        "The command was interrupted. What was uploaded is kept; the live site did not change, unless the commit was on its way already: `pmx status` shows it."
    Storage "E_STORAGE" Other 500 true
        "Check the server's log and its disk."
        "The server's storage failed."
    Unavailable "E_UNAVAILABLE" Network 503 true
        "Wait a few seconds, then try again."
        "A part of the platform under the server did not answer, or is just being updated to another release. Nothing is wrong with the request."
    Corrupt "E_CORRUPT" Integrity 500 false
        "Run `pmx sync` with the folder that has this file: the server asks for what is lost. What no folder has any more comes back from a backup of the server's objects only."
        "Stored bytes are lost, or not what was written."
    SchemaTooNew "E_SCHEMA_TOO_NEW" Other 500 false
        "Start the pmx that wrote the database, or a newer one; or restore a backup from before that pmx first started."
        "A newer server wrote one of the server's databases, in a form that this server does not know. It changes nothing there."
    Local "E_LOCAL" Other 500 false
        "Check the disk and the permissions of the folder that is named."
        "A local file that pmx itself keeps can't be read or written."
    EventsGone "E_EVENTS_GONE" Other 410 false
        "Load the page again, and read on from the offset it comes with."
        "The deploy that the offset stands for is no longer kept, so the server does not know what changed since."
    DeployGone "E_DEPLOY_GONE" Other 410 false
        "List the deploys that are kept with `pmx deploys`, or publish the content again."
        "The content of the deploy was given up: by the space's retention policy, with the preview that it was of, or with `pmx deploys rm`."
    DeployKept "E_DEPLOY_KEPT" Conflict 409 false
        "Roll back or publish first, remove the preview, or unpin the deploy with `pmx deploys unpin`."
        "A deploy that is active, that a preview shows, or that is pinned can't be removed."
    EventsClosed "E_EVENTS_CLOSED" Auth 403 false
        "Send the publish secret as a bearer token, or publish the site with --live."
        "The list of what changed names every path of the site. It is for holders of the publish secret, and for sites that opted in: published with --live, a PathMX build, a preview, or on a server with LIVE=all."
    SpaceBusy "E_SPACE_BUSY" Other 503 true
        "Wait a second, then try again."
        "Anonymous clients asked too much about this site that only its ledger can answer: unknown deploy numbers, pages of its events, differences of deploys. Pages of the site itself are not affected."
    Origin "E_ORIGIN" Auth 403 false
        "Ask from a page of the site itself. A server in local mode admits other pages that STREAM_ORIGINS lists."
        "A page of another site asked for the events of this one, or asked a server in local mode for anything."
    HostForeign "E_HOST_FOREIGN" Auth 403 false
        "Use localhost, a loopback address or a name under localhost; or start the server with --domain or --public-url."
        "The request names a host that is not this server's. In local mode it is refused, since such a name may be a stranger's (DNS rebinding)."
    StreamsClosed "E_STREAMS_CLOSED" Auth 403 false
        "Set STREAM_SECRET on the server and send it as a bearer token, or set STREAM_ACCESS=open to open streams to everybody."
        "The server has no secret for streams, is not in local mode, and its operator did not open streams, so no request can use them."
    StreamUnknown "E_STREAM_UNKNOWN" Other 404 false
        "Create it with PUT."
        "There is no stream of this name: it was never created, was deleted, or has expired."
    StreamGone "E_STREAM_GONE" Other 410 false
        "Read one of its forks."
        "The stream was deleted. What it had is kept for its forks only."
    StreamAnew "E_STREAM_ANEW" Other 410 false
        "Read the stream from its beginning: offset=-1."
        "The offset belongs to an earlier stream of the same name, which was deleted or has expired. The stream that has the name now did not go on where that one ended."
    StreamConflict "E_STREAM_CONFLICT" Conflict 409 false
        "Look at the stream with HEAD, or choose another name."
        "The stream exists on other terms, has another media type, or its name is not free yet."
    StreamClosed "E_STREAM_CLOSED" Conflict 409 false
        "Append to another stream: a closed one is never opened again."
        "The stream is closed: nothing can be appended to it."
    StreamSequence "E_STREAM_SEQUENCE" Conflict 409 false
        "Send what was left out first; Producer-Expected-Seq says from where."
        "An append came out of its order: Stream-Seq did not grow, or a producer left out a number."
    StreamFenced "E_STREAM_FENCED" Conflict 403 false
        "Start a later epoch, if this producer is the one that shall go on."
        "A later epoch of the producer is at work, so this one may not append any more."
    StreamRequest "E_STREAM_REQUEST" Usage 400 false
        "See the protocol of Durable Streams."
        "A request to a stream is not one of its protocol."
}

impl Code {
    /// The code with this text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A newer server may send codes that this program does not know: the rest of its answer
        // stays.
        Ok(Self::from_text(&text).unwrap_or(Self::Protocol))
    }
}
