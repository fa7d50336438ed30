//! Site serving: one pure function from a request to a response plan.
//!
//! [`Hosts`] maps a host name to a site, [`SiteRequest`] has the relevant parts of the request, and
//! [`plan()`] answers with a [`Plan`]: status, headers, and which bytes to send in which coding.
//! Lookups of paths are asynchronous on every host, so the function makes none. It returns the
//! [`MissingLookups`]; the host looks them up and calls it again, at most [`ROUNDS_MAX`] times.
//!
//! ```text
//! let mut lookups = Lookups::default();
//! let plan = loop {
//!     match plan(&request, &snapshot, &rules, &lookups) {
//!         Ok(plan) => break plan,
//!         Err(missing) => for lookup in missing.lookups {
//!             let file = /* the row of lookup.path in the index of lookup.age */;
//!             lookups.insert(lookup, file);
//!         }
//!     }
//! };
//! ```

mod answer;
mod clean_urls;
mod conditional;
mod content_sniffing;
mod dictionary;
mod fingerprint;
mod host;
mod hosts;
mod local;
mod lookups;
mod plan;
mod planner;
mod preview;
mod range;
mod request;
mod response;
mod rule_check;
mod rule_headers;
mod rule_plan;
mod spelling;
#[cfg(test)]
mod test_support;

pub(crate) use answer::Described;
pub use answer::{Plan, PlanBody, Snapshot};
pub use clean_urls::page_address;
pub(crate) use content_sniffing::SniffedContent;
pub use dictionary::available_dictionary;
pub(crate) use dictionary::{
    CODING as DIFFERENCE, MAGIC as DIFFERENCE_MAGIC, Offered, is_dictionary,
};
pub use fingerprint::is_fingerprinted;
pub use host::Addressed;
pub use hosts::{CustomSite, Hosts, LOOPBACK_API};
pub use local::LocalMode;
pub use lookups::{DeployAge, LocatedFile, Lookup, Lookups, MissingLookups};
pub use plan::{ROUNDS_MAX, absent, plan};
pub use preview::{AnswerPreview, preview};
pub use request::{Pages, SiteRequest, is_reserved};
pub use rule_check::check_rules;
