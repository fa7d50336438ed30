//! Deploy addresses: `N--SPACE.DOMAIN` shows deploy N, whichever deploy is active.

use pmx_core::limits::DNS_LABEL_BYTES_MAX;
use pmx_core::name::SpaceName;

/// The address of a deploy, from that of its site or preview. `None` if the site's host does not
/// begin with the space's name, or if the label would be too long.
pub(crate) fn of_deploy(site: &str, space: &SpaceName, number: u64) -> Option<String> {
    let (scheme, rest) = site.split_once("://")?;
    let (label, domain) = rest.split_once('.')?;
    let is_of_space = label == space.as_str()
        || label
            .strip_suffix(space.as_str())
            .is_some_and(|alias| alias.ends_with("--"));
    let label = format!("{number}--{space}");
    let fits = label.len() <= DNS_LABEL_BYTES_MAX && number > 0;
    (is_of_space && fits).then(|| format!("{scheme}://{label}.{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deploy_has_an_address_beside_its_site() {
        let docs = SpaceName::parse("docs").unwrap();
        for (site, number, expected) in [
            (
                "http://docs.localhost:8787/",
                12,
                Some("http://12--docs.localhost:8787/"),
            ),
            (
                "https://docs.example.org/",
                1,
                Some("https://1--docs.example.org/"),
            ),
            (
                "http://pr-7--docs.localhost/",
                3,
                Some("http://3--docs.localhost/"),
            ),
            ("https://www.example.org/", 3, None),
            ("https://mydocs.example.org/", 3, None),
            ("http://docs.localhost/", 0, None),
            ("docs", 1, None),
        ] {
            assert_eq!(
                of_deploy(site, &docs, number).as_deref(),
                expected,
                "{site}"
            );
        }
        let long = SpaceName::parse(&"x".repeat(60)).unwrap();
        let site = format!("http://{long}.localhost/");
        assert!(of_deploy(&site, &long, 9).is_some());
        assert_eq!(of_deploy(&site, &long, 10), None);
    }
}
