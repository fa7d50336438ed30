//! The rules of activation, as pure functions of what the ledger says.

use super::ledger::Keyed;
use crate::code::Code;
use crate::id::Root;
use crate::limits::ALIASES_MAX;
use crate::name::AliasName;
use crate::wire::{CommitTerms, DeployKind, DeployView, Order, Problem, RollbackHead};

/// What a decision about activation looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The preview that is published, if it is one.
    pub(crate) alias: Option<AliasName>,
    /// How many previews there are.
    pub(crate) aliases: u64,
    /// The active deploy; with a preview, the one that its alias names.
    pub(crate) active: Option<DeployView>,
    /// The greatest number of all deploys.
    pub(crate) last: u64,
    /// The deploy that was made under the same key already.
    pub(crate) keyed: Option<Keyed>,
    /// The newest build of the same kind, and its deploy.
    pub(crate) newest: Option<(Order, u64)>,
}

impl View {
    fn active_number(&self) -> u64 {
        self.active.as_ref().map_or(0, |deploy| deploy.number)
    }

    /// Whether there is no room for the preview.
    fn is_full(&self) -> bool {
        self.alias.is_some() && self.active.is_none() && self.aliases >= ALIASES_MAX
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

/// Decides whether `root` may become active, or its preview's, on the client's terms.
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
    if view.is_full() {
        let detail = format!("the site has {ALIASES_MAX} previews already");
        return Err(Problem::new(Code::TooManyPreviews, detail));
    }
    Ok(next(view))
}

/// The deploy that a rollback made when it was sent before, or why it can't happen whatever its
/// target is.
///
/// This comes before the target is looked for: the deploy before the active one is another one
/// once the rollback happened.
pub(crate) fn repeated_rollback(
    view: &View,
    head: &RollbackHead,
) -> Result<Option<DeployView>, Problem> {
    match &view.keyed {
        Some(made) if head.to.is_none() && made.deploy.kind == DeployKind::Rollback => {
            Ok(Some(made.deploy.clone()))
        }
        Some(_) => Ok(None),
        None => {
            head.expect
                .map_or(Ok(()), |expected| expect(view, expected))?;
            Ok(None)
        }
    }
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
        Some(made) if made.deploy.alias == view.alias && is_same(&made.deploy) => {
            Ok(Some(Verdict::Repeat(Box::new(made.deploy.clone()))))
        }
        Some(made) => {
            let detail = format!(
                "the key {:?} made deploy {} of another root or preview",
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
    let (expected, there) = (name(expected), name(active));
    let detail = match &view.alias {
        Some(alias) => format!(
            "this publish expected to replace {expected}, but {there} is the preview {alias}"
        ),
        None => format!("this publish expected to replace {expected}, but {there} is active"),
    };
    Err(Problem::new(Code::Conflict, detail).with_active(Some(active)))
}

fn next(view: &View) -> Verdict {
    let parent = view.active_number();
    Verdict::Activate {
        number: view.last + 1,
        parent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::time::Timestamp;
    use crate::wire::{DeployMeta, Summary};

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
            alias: None,
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
            last: 5,
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
    fn previews() {
        let alias = |name| AliasName::parse(name).unwrap();
        let view = |alias, active: Option<DeployView>| View {
            alias: Some(alias),
            aliases: ALIASES_MAX - 1,
            active,
            last: 9,
            ..View::default()
        };
        let new = view(alias("next"), None);
        let third = view(alias("next"), Some(deploy(3, "old")));
        let full = |view: &View| View {
            aliases: ALIASES_MAX,
            ..view.clone()
        };
        let keyed = |of: Option<AliasName>| View {
            keyed: Some(Keyed {
                deploy: DeployView {
                    alias: of,
                    ..deploy(9, "new")
                },
                key: "k".into(),
            }),
            ..third.clone()
        };
        for (story, view, expect, expected) in [
            ("a new one", new.clone(), 0, "0->10"),
            ("numbers are of the space", third.clone(), 3, "3->10"),
            ("replaced meanwhile", third.clone(), 2, "E_CONFLICT"),
            ("one too many", full(&new), 0, "E_TOO_MANY_PREVIEWS"),
            ("one that is there", full(&third), 3, "3->10"),
            ("sent twice", keyed(Some(alias("next"))), 2, "repeat 9"),
            ("a key of the site", keyed(None), 3, "E_IDEMPOTENCY_REUSE"),
            (
                "a key of another",
                keyed(Some(alias("x"))),
                3,
                "E_IDEMPOTENCY_REUSE",
            ),
        ] {
            let verdict = commit(&view, &root("new"), &terms(expect, None));
            assert_eq!(outcome(verdict), expected, "{story}");
        }
    }

    #[test]
    fn a_refusal_names_both_builds() {
        let view = View {
            active: Some(deploy(5, "old")),
            newest: Some((Order::Run(7), 5)),
            ..View::default()
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
            last: 5,
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

    #[test]
    fn a_rollback_sent_twice_is_one_whatever_is_active_by_then() {
        let head = RollbackHead {
            v: 1,
            space: crate::name::SpaceName::parse("s").unwrap(),
            to: None,
            expect: Some(5),
            key: "k".into(),
            meta: DeployMeta::default(),
        };
        let made = DeployView {
            kind: DeployKind::Rollback,
            restores: Some(4),
            ..deploy(6, "then")
        };
        let keyed = Keyed {
            deploy: made.clone(),
            key: "k".into(),
        };
        let mut view = View {
            active: Some(made.clone()),
            keyed: Some(keyed),
            ..View::default()
        };
        assert_eq!(repeated_rollback(&view, &head), Ok(Some(made)));
        view.keyed = None;
        let refused = repeated_rollback(&view, &head).map_err(|problem| problem.code);
        assert_eq!(refused, Err(Code::Conflict));
    }
}
