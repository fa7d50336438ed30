//! Limits of a deploy's metadata and of its key.

use pmx_core::code::Code;
use pmx_core::problem::Problem;

use crate::limits::{MESSAGE_BYTES_MAX, META_VALUE_BYTES_MAX};
use crate::wire::DeployMeta;

/// Refuses metadata and a key beyond their limits.
pub(super) fn check_meta(meta: &DeployMeta, key: &str) -> Result<(), Problem> {
    let values = [&meta.commit, &meta.branch, &meta.author]
        .into_iter()
        .flatten();
    let long = values
        .map(String::len)
        .any(|len| len > META_VALUE_BYTES_MAX)
        || key.len() > META_VALUE_BYTES_MAX
        || meta
            .message
            .as_ref()
            .is_some_and(|text| text.len() > MESSAGE_BYTES_MAX);
    if !long && !key.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "a deploy's message may have {MESSAGE_BYTES_MAX} bytes, its key 1 to \
         {META_VALUE_BYTES_MAX}, and its commit, branch and author {META_VALUE_BYTES_MAX} each"
    );
    Err(Problem::new(Code::TooLarge, detail))
}
