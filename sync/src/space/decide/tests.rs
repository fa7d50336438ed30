//! Activation rules, each by a table.

use pmx_core::id::NodeId;
use pmx_core::time::Timestamp;

use super::*;
use crate::wire::{DeployContent, DeployMeta, Summary};

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
        content: DeployContent::Kept,
        pinned: false,
    }
}

fn preconditions(expect: u64, order: Option<Order>) -> CommitPreconditions {
    CommitPreconditions {
        expect: Some(expect),
        replace: Replace::Exact,
        key: "k".into(),
        order,
        max_delete: None,
        meta: DeployMeta::default(),
        expires: None,
        restore: Vec::new(),
    }
}

fn outcome(verdict: Result<CommitDecision, Problem>) -> String {
    match verdict {
        Ok(CommitDecision::Activate { number, parent }) => format!("{parent}->{number}"),
        Ok(CommitDecision::Repeat(deploy)) => format!("repeat {}", deploy.number),
        Err(problem) => problem.code.to_string(),
    }
}

#[test]
fn decide_activates_or_refuses_commits() {
    let (run, commit_of) = (Order::run, Order::commit);
    let keyed = |number, name: &str| DeployWithKey {
        deploy: deploy(number, name),
        key: "k".into(),
    };
    let first = ChannelState::default();
    let fifth = ChannelState {
        active: Some(deploy(5, "old")),
        last: 5,
        ..ChannelState::default()
    };
    let ordered = |newest| ChannelState {
        newest: Some((newest, 4)),
        ..fifth.clone()
    };
    let repeated = |made| ChannelState {
        same_key: Some(made),
        ..fifth.clone()
    };
    for (story, view, preconditions, expected) in [
        ("the first", first.clone(), preconditions(0, None), "0->1"),
        (
            "the first, expecting another",
            first,
            preconditions(3, None),
            "E_CONFLICT",
        ),
        ("as expected", fifth.clone(), preconditions(5, None), "5->6"),
        (
            "replaced in between",
            fifth.clone(),
            preconditions(4, None),
            "E_CONFLICT",
        ),
        (
            "made in between",
            fifth.clone(),
            preconditions(0, None),
            "E_CONFLICT",
        ),
        (
            "a newer run",
            ordered(run(7)),
            preconditions(5, Some(run(8))),
            "5->6",
        ),
        (
            "the same run again",
            ordered(run(7)),
            preconditions(5, Some(run(7))),
            "5->6",
        ),
        (
            "an older run",
            ordered(run(7)),
            preconditions(5, Some(run(6))),
            "E_OUT_OF_ORDER",
        ),
        (
            "another kind",
            ordered(run(7)),
            preconditions(5, Some(commit_of(6))),
            "5->6",
        ),
        (
            "no order said",
            ordered(run(7)),
            preconditions(5, None),
            "5->6",
        ),
        (
            "sent twice",
            repeated(keyed(5, "new")),
            preconditions(4, None),
            "repeat 5",
        ),
        (
            "a key used again",
            repeated(keyed(5, "x")),
            preconditions(5, None),
            "E_IDEMPOTENCY_REUSE",
        ),
    ] {
        assert_eq!(
            outcome(commit(&view, &root("new"), &preconditions)),
            expected,
            "{story}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn decide_allows_replacing_by_policy() {
    use Replace::{Any, Exact, Named, Seen};
    let live = ChannelState {
        active: Some(deploy(5, "old")),
        last: 5,
        ..ChannelState::default()
    };
    let built = |value| ChannelState {
        newest: Some((Order::run(value), 5)),
        comparable: Some(Order::run(value)),
        ..live.clone()
    };
    let held = |is_lifted| ChannelState {
        hold: Some(Hold {
            deploy: 5,
            since: 3,
            at: Timestamp::from_millis(5),
            is_lifted,
        }),
        ..built(7)
    };
    let over = ChannelState {
        hold: Some(Hold {
            deploy: 4,
            ..held(false).hold.unwrap()
        }),
        ..live.clone()
    };
    let none = ChannelState::default();
    for (story, view, replace, expect, run, expected) in [
        ("seen last", &live, Seen, Some(5), None, "5->6"),
        ("no cache", &live, Seen, None, None, "5->6"),
        ("never seen", &live, Seen, Some(4), None, "E_CONFLICT"),
        (
            "an order, none live",
            &live,
            Seen,
            Some(4),
            Some(8),
            "E_CONFLICT",
        ),
        (
            "an older build live",
            &built(7),
            Seen,
            Some(4),
            Some(8),
            "5->6",
        ),
        ("a rerun", &built(7), Seen, Some(4), Some(7), "5->6"),
        (
            "an older build",
            &built(7),
            Seen,
            Some(5),
            Some(6),
            "E_OLDER_BUILD",
        ),
        (
            "to a client of before",
            &built(7),
            Exact,
            Some(5),
            Some(6),
            "E_OUT_OF_ORDER",
        ),
        (
            "named, older",
            &built(7),
            Named,
            Some(5),
            Some(6),
            "E_OLDER_BUILD",
        ),
        (
            "named, another live",
            &built(7),
            Named,
            Some(4),
            Some(8),
            "E_CONFLICT",
        ),
        (
            "exact, another live",
            &built(7),
            Exact,
            Some(4),
            Some(8),
            "E_CONFLICT",
        ),
        ("forced, older", &built(7), Any, None, Some(6), "5->6"),
        ("held, seen", &held(false), Seen, Some(5), None, "E_HELD"),
        (
            "held, no cache",
            &held(false),
            Seen,
            None,
            Some(8),
            "E_HELD",
        ),
        (
            "held, of before",
            &held(false),
            Exact,
            Some(5),
            None,
            "E_CONFLICT",
        ),
        (
            "held, older",
            &held(false),
            Seen,
            Some(5),
            Some(6),
            "E_HELD",
        ),
        ("held, named", &held(false), Named, Some(5), None, "5->6"),
        (
            "held, another named",
            &held(false),
            Named,
            Some(3),
            None,
            "E_HELD",
        ),
        ("held, forced", &held(false), Any, None, None, "5->6"),
        (
            "lifted, saw it before",
            &held(true),
            Seen,
            Some(3),
            None,
            "5->6",
        ),
        (
            "lifted, saw it long ago",
            &held(true),
            Seen,
            Some(2),
            None,
            "E_CONFLICT",
        ),
        (
            "lifted, of before",
            &held(true),
            Exact,
            Some(5),
            None,
            "5->6",
        ),
        ("a hold that is over", &over, Seen, Some(5), None, "5->6"),
        ("nothing to lose", &none, Seen, Some(4), None, "0->1"),
        (
            "nothing is named",
            &none,
            Named,
            Some(4),
            None,
            "E_CONFLICT",
        ),
        (
            "nothing is said",
            &live,
            Exact,
            None,
            None,
            "E_REQUEST_MALFORMED",
        ),
    ] {
        let preconditions = CommitPreconditions {
            expect,
            replace,
            ..preconditions(0, run.map(Order::run))
        };
        let found = outcome(commit(view, &root("new"), &preconditions));
        assert_eq!(found, expected, "{story}");
    }
}

#[test]
fn decide_keeps_previews_apart() {
    let alias = |name| AliasName::parse(name).unwrap();
    let view = |alias, active: Option<DeployView>| ChannelState {
        alias: Some(alias),
        aliases: ALIASES_MAX - 1,
        active,
        last: 9,
        ..ChannelState::default()
    };
    let new = view(alias("next"), None);
    let third = view(alias("next"), Some(deploy(3, "old")));
    let full = |view: &ChannelState| ChannelState {
        aliases: ALIASES_MAX,
        ..view.clone()
    };
    let keyed = |of: Option<AliasName>| ChannelState {
        same_key: Some(DeployWithKey {
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
        ("replaced in between", third.clone(), 2, "E_CONFLICT"),
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
        let verdict = commit(&view, &root("new"), &preconditions(expect, None));
        assert_eq!(outcome(verdict), expected, "{story}");
    }
}

#[test]
fn refusal_names_both_builds() {
    let view = ChannelState {
        active: Some(deploy(5, "old")),
        newest: Some((Order::run(7), 5)),
        ..ChannelState::default()
    };
    let problem = commit(&view, &root("new"), &preconditions(5, Some(Order::run(6)))).unwrap_err();
    assert!(problem.detail.contains("CI run 6"), "{problem}");
    assert!(problem.detail.contains("CI run 7"), "{problem}");
    assert!(problem.detail.contains("deploy 5"), "{problem}");
}

#[test]
fn decide_restores_older_deploys() {
    let head = |expect| RollbackHead {
        v: 1,
        space: pmx_core::name::SpaceName::parse("s").unwrap(),
        to: None,
        expect,
        key: "k".into(),
        meta: DeployMeta::default(),
    };
    let view = ChannelState {
        active: Some(deploy(5, "now")),
        last: 5,
        ..ChannelState::default()
    };
    let to = |name: &str, expect| rollback(&view, &head(expect), &deploy(2, name));
    assert_eq!(
        to("then", None),
        Ok(Some(CommitDecision::Activate {
            number: 6,
            parent: 5
        }))
    );
    assert_eq!(to("now", None), Ok(None));
    assert_eq!(to("then", Some(4)).map_err(|p| p.code), Err(Code::Conflict));
}

#[test]
fn rollback_sent_twice_is_one_whatever_is_active() {
    let head = RollbackHead {
        v: 1,
        space: pmx_core::name::SpaceName::parse("s").unwrap(),
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
    let keyed = DeployWithKey {
        deploy: made.clone(),
        key: "k".into(),
    };
    let mut view = ChannelState {
        active: Some(made.clone()),
        same_key: Some(keyed),
        ..ChannelState::default()
    };
    assert_eq!(repeated_rollback(&view, &head), Ok(Some(made)));
    view.same_key = None;
    let refused = repeated_rollback(&view, &head).map_err(|problem| problem.code);
    assert_eq!(refused, Err(Code::Conflict));
}
