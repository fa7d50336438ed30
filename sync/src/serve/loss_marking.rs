//! Loss marking: the server records the losses that readers find in the space's ledger.

use pmx_core::problem::Problem;

use super::backend::{Backend, Spaces};
use super::server::Server;
use super::stored::Scope;
use crate::index::IndexError;
use crate::space::{Command, Loss, Lost};

impl<B: Backend> Server<B> {
    /// Marks a loss in the space's ledger.
    pub(super) async fn mark(&self, scope: Scope<'_>, loss: Loss) {
        if self.marks().admit(scope.id, loss, scope.now) {
            let command = Command::Lost(loss);
            let spaces = self.backend().spaces();
            // The reader gets the same answer whether the space noted the loss or not.
            let _noted = spaces.call(scope.name, command, scope.now).await;
        }
    }

    /// Marks a loss that an index read found; returns the client's answer.
    pub(super) async fn index_failed(&self, scope: Scope<'_>, error: IndexError) -> Problem {
        if let Some(loss) = loss_of(&error) {
            self.mark(scope, loss).await;
        }
        error.into()
    }
}

fn loss_of(error: &IndexError) -> Option<Loss> {
    let (id, at, is_absent) = match error {
        IndexError::Backend(_) => return None,
        IndexError::Missing { id, at, .. } => (*id, *at, true),
        IndexError::Rotten { id, at, .. } => (*id, *at, false),
    };
    Some(Loss {
        lost: Lost::Node { node: id, at },
        object: at.object,
        is_absent,
    })
}
