//! Preview names: slugs of the words on the command line.

use pmx_core::name::{AliasName, InvalidName};

/// The name of a preview, as a slug of the user's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewName {
    /// The name.
    pub alias: AliasName,
    /// The words of the command line.
    pub asked: String,
}

impl PreviewName {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidName> {
        Ok(Self {
            alias: AliasName::slug(text)?,
            asked: text.to_owned(),
        })
    }

    /// Whether the name differs from the user's words.
    pub fn is_changed(&self) -> bool {
        self.alias.as_str() != self.asked
    }
}
