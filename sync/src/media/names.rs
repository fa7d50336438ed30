//! Media types by file name: one table for the client and both hosts.
//!
//! The table is that of mime-db (IANA's registry, with additions of Apache and nginx). It is stored
//! here as text, so that no update of a dependency changes how a page is served. Two lists precede
//! it. One has types that mime-db lacks or that the web uses differently. The other has source
//! code, which a browser shows as plain text instead of a download, and never runs as a page or a
//! script.
//!
//! A type depends on the name alone, so every client makes the same root of a folder. Properties of
//! the bytes (a charset, whether a `.svgz` is compressed) are decided when a file is served. The
//! stat cache of the scan stores types: a change of this table needs a new cache format.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The media type of a file with this name; one without parameters.
pub fn media_of_name(name: &str) -> &'static str {
    if let Ok(at) = NAMES.binary_search_by_key(&name, |(known, _)| known) {
        return NAMES[at].1;
    }
    let Some((_, extension)) = name.rsplit_once('.') else {
        return UNKNOWN;
    };
    by_extension(&extension.to_ascii_lowercase()).unwrap_or(UNKNOWN)
}

fn by_extension(extension: &str) -> Option<&'static str> {
    if SOURCES.binary_search(&extension).is_ok() {
        return Some("text/plain");
    }
    match OWN.binary_search_by_key(&extension, |(known, _)| known) {
        Ok(at) => Some(OWN[at].1),
        Err(_) => table().get(extension).copied(),
    }
}

fn table() -> &'static BTreeMap<&'static str, &'static str> {
    static TABLE: OnceLock<BTreeMap<&str, &str>> = OnceLock::new();
    let rows = || MIME_DB.lines().filter(|line| !line.starts_with('#'));
    TABLE.get_or_init(|| rows().filter_map(|row| row.split_once(' ')).collect())
}

/// One row per extension, made from `db.json` of the npm package mime-db. Of several types, a
/// registered one takes precedence, and then one that is no `application/` type.
const MIME_DB: &str = include_str!("mime-db.txt");

const UNKNOWN: &str = "application/octet-stream";

/// Whole names whose type does not follow from an extension.
const NAMES: &[(&str, &str)] = &[
    ("AUTHORS", "text/plain"),
    ("CHANGELOG", "text/plain"),
    ("CNAME", "text/plain"),
    ("CONTRIBUTING", "text/plain"),
    ("COPYING", "text/plain"),
    ("COPYRIGHT", "text/plain"),
    ("Dockerfile", "text/plain"),
    ("Gemfile", "text/plain"),
    ("Jenkinsfile", "text/plain"),
    ("Justfile", "text/plain"),
    ("LICENCE", "text/plain"),
    ("LICENSE", "text/plain"),
    ("Makefile", "text/plain"),
    ("NOTICE", "text/plain"),
    ("Procfile", "text/plain"),
    ("README", "text/plain"),
    ("Rakefile", "text/plain"),
    ("Vagrantfile", "text/plain"),
    ("_headers", "text/plain"),
    ("_redirects", "text/plain"),
    ("apple-app-site-association", "application/json"),
    (
        "apple-developer-merchantid-domain-association",
        "text/plain",
    ),
    ("host-meta", "application/xrd+xml"),
    ("oauth-authorization-server", "application/json"),
    ("openid-configuration", "application/json"),
    ("webfinger", "application/jrd+json"),
];

/// Lower-case extensions that mime-db lacks, or that the web uses differently.
const OWN: &[(&str, &str)] = &[
    ("br", "application/x-brotli"),
    ("cjs", "text/javascript"),
    ("flac", "audio/flac"),
    ("har", "application/json"),
    ("ico", "image/x-icon"),
    ("jsonl", "application/jsonl"),
    ("mts", "video/mp2t"),
    ("ndjson", "application/x-ndjson"),
    ("tgz", "application/gzip"),
    ("topojson", "application/json"),
    ("wav", "audio/wav"),
    ("xml", "application/xml"),
    ("zst", "application/zstd"),
];

/// Extensions of source code and of other readable text.
#[rustfmt::skip]
const SOURCES: &[&str] = &[
    "ada", "adb", "adoc", "ads", "asciidoc", "asm", "astro", "bash", "bat", "bib", "c", "cc",
    "cfg", "clj", "cljc", "cljs", "cmake", "cmd", "coffee", "cpp", "cr", "cs", "cts", "cxx",
    "d", "dart", "dic", "diff", "dockerfile", "editorconfig", "el", "elm", "erl", "etx", "ex",
    "exs", "f", "f77", "f90", "fish", "for", "frag", "fs", "fsx", "gd", "gitattributes",
    "gitignore", "glsl", "go", "gql", "gradle", "graphql", "groovy", "h", "hbs", "hcl", "hh",
    "hpp", "hrl", "hs", "htc", "hxx", "java", "jl", "jsonc", "jsx", "kt", "kts", "less", "lisp",
    "lock", "lua", "makefile", "mdx", "mk", "mkd", "ml", "mli", "nfo", "nim", "nix", "p", "pas",
    "patch", "pde", "php", "pl", "pm", "po", "prisma", "properties", "proto", "ps1", "psm1",
    "pug", "py", "pyi", "pyw", "r", "rb", "rs", "rst", "s", "sass", "scala", "scss", "sfv",
    "sh", "sol", "sql", "styl", "stylus", "svelte", "swift", "tcl", "tex", "tf", "tla", "toml",
    "tsx", "uu", "v", "vb", "vert", "vhd", "vhdl", "vue", "ymp", "zig", "zsh",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Media;

    #[test]
    fn media_tables_are_sorted_and_valid() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(OWN.is_sorted_by(|a, b| a.0 < b.0));
        assert!(SOURCES.is_sorted_by(|a, b| a < b));
        assert!(table().len() > 1_200);
        let all = NAMES.iter().chain(OWN).map(|(_, media)| media);
        for media in all.chain(table().values()) {
            assert!(Media::parse(media).is_ok(), "{media}");
        }
    }

    #[test]
    fn media_of_names() {
        for (name, expected) in [
            ("index.html", "text/html"),
            ("INDEX.HTML", "text/html"),
            ("a.xhtml", "application/xhtml+xml"),
            ("a.css", "text/css"),
            ("a.js", "text/javascript"),
            ("a.min.mjs", "text/javascript"),
            ("a.cjs", "text/javascript"),
            ("a.wasm", "application/wasm"),
            ("site.webmanifest", "application/manifest+json"),
            ("a.avif", "image/avif"),
            ("a.jxl", "image/jxl"),
            ("a.md", "text/markdown"),
            ("a.json", "application/json"),
            ("a.jsonld", "application/ld+json"),
            ("a.js.map", "application/json"),
            ("sitemap.xml", "application/xml"),
            ("feed.rss", "application/rss+xml"),
            ("feed.atom", "application/atom+xml"),
            ("a.woff2", "font/woff2"),
            ("robots.txt", "text/plain"),
            ("a.svg", "image/svg+xml"),
            ("a.svgz", "image/svg+xml"),
            ("favicon.ico", "image/x-icon"),
            ("a.jpg", "image/jpeg"),
            ("a.mp3", "audio/mpeg"),
            ("a.mp4", "video/mp4"),
            ("a.m4a", "audio/mp4"),
            ("a.m3u8", "application/vnd.apple.mpegurl"),
            ("a.mpd", "application/dash+xml"),
            ("a.ts", "video/mp2t"),
            ("a.tar.gz", "application/gzip"),
            ("a.zip", "application/zip"),
            ("a.pdf", "application/pdf"),
            ("a.csv", "text/csv"),
            ("a.vtt", "text/vtt"),
            ("a.ics", "text/calendar"),
            ("a.yaml", "text/yaml"),
            ("a.geojson", "application/geo+json"),
            ("a.glb", "model/gltf-binary"),
            ("CNAME", "text/plain"),
            ("LICENSE", "text/plain"),
            ("apple-app-site-association", "application/json"),
            ("license", "application/octet-stream"),
            ("noextension", "application/octet-stream"),
            ("a.nosuchextension", "application/octet-stream"),
            ("a.", "application/octet-stream"),
            (".nojekyll", "application/octet-stream"),
        ] {
            assert_eq!(media_of_name(name), expected, "{name}");
        }
    }

    #[test]
    fn source_code_is_shown_and_never_run() {
        for extension in [
            "c", "cpp", "go", "h", "java", "jsx", "kt", "lua", "php", "pl", "py", "rb", "rs", "sh",
            "sql", "swift", "toml", "tsx", "vue", "zig",
        ] {
            assert_eq!(media_of_name(&format!("a.{extension}")), "text/plain");
        }
    }
}
