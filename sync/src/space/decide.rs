//! The rules of activation, as pure functions of what the ledger says.

use super::ledger::Keyed;
use crate::code::Code;
use crate::id::Root;
use crate::wire::{CommitTerms, DeployView, Order, Problem, RollbackHead};

/// What a decision about activation looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The active deploy.
    pub(crate) active: Option<DeployView>,
    /// The deploy that was made under the same key already.
    pub(crate) keyed: Option<Keyed>,
    /// The newest build of the same kind, and its deploy.
    pub(crate) newest: Option<(Order, u64)>,
}

impl View {
    fn active_number(&self) -> u64 {
        self.active.as_ref().map_or(0, |deploy| deploy.number)
    }
}

/// What shall happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Make a deploy of this number that replaces `parent`.
    Activate {
        /// Its number.
        number: u64,
        /// The number of the deploy it replaces; 0 if it is the first.
        parent: u64,
    },
    /// The same request made this deploy before: answer as then.
    Repeat(Box<DeployView>),
}

/// Decides whether `root` may become active on the client's terms.
pub(crate) fn commit(view: &View, root: &Root, terms: &CommitTerms) -> Result<Verdict, Problem> {
    if let Some(repeat) = repeat(view, |made| made.root == *root)? {
        return Ok(repeat);
    }
    expect(view, terms.expect)?;
    if let (Some(order), Some((newest, deploy))) = (terms.order, view.newest)
        && order.is_older_than(newest)
    {
        let detail = format!(
            "this build ({order}) is older than deploy {deploy} ({newest}), which was published \
             before it"
        );
        let problem = Problem::new(Code::OutOfOrder, detail);
        return Err(problem.with_active(Some(view.active_number())));
    }
    Ok(next(view))
}

/// Decides whether a rollback to `target` may happen; `None` if its content is active already.
pub(crate) fn rollback(
    view: &View,
    head: &RollbackHead,
    target: &DeployView,
) -> Result<Option<Verdict>, Problem> {
    if let Some(repeat) = repeat(view, |made| made.root == target.root)? {
        return Ok(Some(repeat));
    }
    if let Some(expected) = head.expect {
        expect(view, expected)?;
    }
    let is_active = view
        .active
        .as_ref()
        .is_some_and(|active| active.root == target.root);
    Ok((!is_active).then(|| next(view)))
}

fn repeat(view: &View, is_same: impl Fn(&DeployView) -> bool) -> Result<Option<Verdict>, Problem> {
    match &view.keyed {
        None => Ok(None),
        Some(made) if is_same(&made.deploy) => {
            Ok(Some(Verdict::Repeat(Box::new(made.deploy.clone()))))
        }
        Some(made) => {
            let detail = format!(
                "the key {:?} made deploy {} of another root",
                made.key, made.deploy.number
            );
            Err(Problem::new(Code::IdempotencyReuse, detail))
        }
    }
}

fn expect(view: &View, expected: u64) -> Result<(), Problem> {
    let active = view.active_number();
    if expected == active {
        return Ok(());
    }
    let name = |number| match number {
        0 => "no deploy".to_owned(),
        number => format!("deploy {number}"),
    };
    let detail = format!(
        "this publish expected to replace {}, but {} is active",
        name(expected),
        name(active)
    );
    Err(Problem::new(Code::Conflict, detail).with_active(Some(active)))
}

fn next(view: &View) -> Verdict {
    let parent = view.active_number();
    Verdict::Activate {
        number: parent + 1,
        parent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::time::Timestamp;
    use crate::wire::{DeployKind, DeployMeta, Summary};

    fn root(name: &str) -> Root {
        NodeId::of(name.as_bytes())
    }

    fn deploy(number: u64, name: &str) -> DeployView {
        DeployView {
            number,
            root: root(name),
            parent: number - 1,
            kind: DeployKind::Publish,
            restores: None,
            at: Timestamp::from_millis(number),
            files: 1,
            bytes: 1,
            new_bytes: 1,
            summary: Summary::default(),
            order: None,
            meta: DeployMeta::default(),
        }
    }

    fn terms(expect: u64, order: Option<Order>) -> CommitTerms {
        CommitTerms {
            expect,
            key: "k".into(),
            order,
            meta: DeployMeta::default(),
        }
    }

    fn outcome(verdict: Result<Verdict, Problem>) -> String {
        match verdict {
            Ok(Verdict::Activate { number, parent }) => format!("{parent}->{number}"),
            Ok(Verdict::Repeat(deploy)) => format!("repeat {}", deploy.number),
            Err(problem) => problem.code.to_string(),
        }
    }

    #[test]
    fn commits() {
        use Order::{Commit, Run};
        let keyed = |number, name: &str| Keyed {
            deploy: deploy(number, name),
            key: "k".into(),
        };
        let first = View::default();
        let fifth = View {
            active: Some(deploy(5, "old")),
            ..View::default()
        };
        let ordered = |newest| View {
            newest: Some((newest, 4)),
            ..fifth.clone()
        };
        let repeated = |made| View {
            keyed: Some(made),
            ..fifth.clone()
        };
        for (story, view, terms, expected) in [
            ("the first", first.clone(), terms(0, None), "0->1"),
            (
                "the first, expecting another",
                first,
                terms(3, None),
                "E_CONFLICT",
            ),
            ("as expected", fifth.clone(), terms(5, None), "5->6"),
            (
                "replaced meanwhile",
                fifth.clone(),
                terms(4, None),
                "E_CONFLICT",
            ),
            (
                "made meanwhile",
                fifth.clone(),
                terms(0, None),
                "E_CONFLICT",
            ),
            (
                "a newer run",
                ordered(Run(7)),
                terms(5, Some(Run(8))),
                "5->6",
            ),
            (
                "the same run again",
                ordered(Run(7)),
                terms(5, Some(Run(7))),
                "5->6",
            ),
            (
                "an older run",
                ordered(Run(7)),
                terms(5, Some(Run(6))),
                "E_OUT_OF_ORDER",
            ),
            (
                "another kind",
                ordered(Run(7)),
                terms(5, Some(Commit(6))),
                "5->6",
            ),
            ("no order said", ordered(Run(7)), terms(5, None), "5->6"),
            (
                "sent twice",
                repeated(keyed(5, "new")),
                terms(4, None),
                "repeat 5",
            ),
            (
                "a key used again",
                repeated(keyed(5, "x")),
                terms(5, None),
                "E_IDEMPOTENCY_REUSE",
            ),
        ] {
            assert_eq!(
                outcome(commit(&view, &root("new"), &terms)),
                expected,
                "{story}"
            );
        }
    }

    #[test]
    fn a_refusal_names_both_builds() {
        let view = View {
            active: Some(deploy(5, "old")),
            newest: Some((Order::Run(7), 5)),
            keyed: None,
        };
        let problem = commit(&view, &root("new"), &terms(5, Some(Order::Run(6)))).unwrap_err();
        assert!(problem.detail.contains("CI run 6"), "{problem}");
        assert!(problem.detail.contains("CI run 7"), "{problem}");
        assert!(problem.detail.contains("deploy 5"), "{problem}");
    }

    #[test]
    fn rollbacks() {
        let head = |expect| RollbackHead {
            v: 1,
            space: crate::name::SpaceName::parse("s").unwrap(),
            to: None,
            expect,
            key: "k".into(),
            meta: DeployMeta::default(),
        };
        let view = View {
            active: Some(deploy(5, "now")),
            ..View::default()
        };
        let to = |name: &str, expect| rollback(&view, &head(expect), &deploy(2, name));
        assert_eq!(
            to("then", None),
            Ok(Some(Verdict::Activate {
                number: 6,
                parent: 5
            }))
        );
        assert_eq!(to("now", None), Ok(None));
        assert_eq!(to("then", Some(4)).map_err(|p| p.code), Err(Code::Conflict));
    }
}
