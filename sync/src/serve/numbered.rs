//! Numbered deploy lookup: the reply of a space about a deploy number.

use pmx_core::code::Code;
use pmx_core::problem::Problem;

use crate::pointer::Pointer;

/// What a space said about the number of a deploy.
#[derive(Debug, Clone)]
pub(super) enum Numbered {
    /// The deploy's pointer.
    Kept(Pointer),
    /// There is no such deploy.
    Absent,
    /// The space gave its content up.
    GivenUp,
}

impl Numbered {
    /// The pointer, if there is such a deploy; fails if its content was given up.
    pub(super) fn found(self, number: u64) -> Result<Option<Pointer>, Problem> {
        match self {
            Self::Kept(pointer) => Ok(Some(pointer)),
            Self::Absent => Ok(None),
            Self::GivenUp => {
                let detail = format!("the content of deploy {number} was given up");
                Err(Problem::new(Code::DeployGone, detail))
            }
        }
    }
}
