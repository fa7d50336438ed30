use proptest::prelude::*;
use serde_json::json;

use super::*;

fn deploy(number: u64, content: &str, alias: Option<&str>) -> SavedDeploy {
    let mut deploy = json!({
        "number": number, "root": "ab".repeat(32), "parent": number - 1, "kind": "publish",
        "at": 1_764_583_200_000_u64, "files": 1, "bytes": 2, "new_bytes": 2,
        "summary": {"added": 1, "modified": 0, "removed": 0, "unchanged": 0},
        "content": content, "meta": {"message": "caf\u{e9}\n"},
    });
    if let Some(alias) = alias {
        deploy["alias"] = json!(alias);
    }
    SavedDeploy {
        deploy: serde_json::from_value(deploy).unwrap(),
        key: format!("key-{number}"),
    }
}

/// Deploys 5 to 8: given up, active, and two of a preview.
fn snapshot() -> Snapshot {
    let alias = |name| AliasName::parse(name).unwrap();
    Snapshot {
        head: SnapshotHead {
            v: VERSION,
            server: "http://127.0.0.1:8787".to_owned(),
            space: SpaceName::parse("docs").unwrap(),
            at: Timestamp::from_millis(1_700_000_000_000),
            base: 4,
            aliases: [(alias("pr-7"), 8)].into(),
            expires: [(alias("pr-7"), Timestamp::from_millis(1_800_000_000_000))].into(),
            hold: None,
            policy: Some(RetentionPolicy {
                keep_last: Some(3),
                ..RetentionPolicy::default()
            }),
            domains: vec!["docs.example.com".to_owned()],
        },
        deploys: vec![
            deploy(5, "dropped", None),
            deploy(6, "kept", None),
            deploy(7, "kept", Some("pr-7")),
            deploy(8, "kept", Some("pr-7")),
        ],
    }
}

#[test]
fn snapshot_survives_a_round_trip_and_knows_its_active_deploy() {
    let bytes = snapshot().encode().unwrap();
    assert_eq!(Snapshot::decode(&bytes).unwrap(), snapshot());
    assert_eq!(snapshot().active().unwrap().number, 6);
    let kept: Vec<_> = snapshot().kept().map(|deploy| deploy.number).collect();
    assert_eq!(kept, [8, 7, 6]);
    assert_eq!(snapshot().deploy(4), None);
    assert_eq!(snapshot().deploy(9), None);
}

#[test]
fn snapshot_settles_without_the_content_that_was_given_up() {
    let mut snapshot = snapshot();
    snapshot.head.hold = Some(HoldView {
        deploy: 6,
        at: snapshot.head.at,
    });
    let settled = |snapshot: &Snapshot| {
        let mut settled = snapshot.clone();
        settled.settle();
        Snapshot::decode(&settled.encode().unwrap()).unwrap().head
    };
    assert_eq!(settled(&snapshot), snapshot.head);
    snapshot.deploys[3] = deploy(8, "dropped", Some("pr-7"));
    let head = settled(&snapshot);
    assert!(head.aliases.is_empty() && head.expires.is_empty() && head.hold.is_some());
    snapshot.deploys[1] = deploy(6, "purged", None);
    assert_eq!(settled(&snapshot).hold, None);
}

/// The same lines with another text, and the right hash.
fn respelt(from: &str, to: &str) -> Result<Snapshot, String> {
    let bytes = snapshot().encode().unwrap();
    let text = String::from_utf8(checked_body(&bytes).unwrap().to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    let mut text = text.replacen(from, to, 1);
    let blake3 = blake3::hash(text.as_bytes()).to_hex().to_string();
    text += &serde_json::to_string(&Sum { blake3 }).unwrap();
    text.push('\n');
    Snapshot::decode(text.as_bytes())
}

#[test]
fn snapshot_has_one_spelling_and_a_history_that_a_space_can_have() {
    assert!(respelt("caf", "Caf").is_ok());
    for (from, to, why) in [
        ("{\"v\":1", "{ \"v\":1", "spelt in another way"),
        ("\"v\":1", "\"v\":2", "version 2"),
        ("\n", "\n\n", "spelt in another way"),
        ("\"base\":4", "\"base\":3", "deploy 5 follows 3"),
        ("\"number\":7", "\"number\":9", "deploy 9 follows 6"),
        (
            "{\"pr-7\":8}",
            "{\"pr-7\":6}",
            "preview pr-7 shows deploy 6",
        ),
        (
            "{\"pr-7\":8}",
            "{\"pr-7\":9}",
            "preview pr-7 shows deploy 9",
        ),
        ("{\"pr-7\":8}", "{}", "preview pr-7 ends and is none"),
        (
            "\"hold\":null",
            "\"hold\":{\"deploy\":5,\"at\":1764583200000}",
            "not active",
        ),
        ("\"domains\":", "\"more\":1,\"domains\":", "unknown field"),
        ("\"key\":\"key-7\"", "\"key\":7", "a deploy: "),
    ] {
        let refused = respelt(from, to).unwrap_err();
        assert!(refused.contains(why), "{from} -> {to}: {refused}");
    }
}

proptest! {
    #[test]
    fn snapshot_with_any_damage_is_refused(
        at in 0_usize..4096, flip in 1_u8..=255, cut in any::<bool>(),
    ) {
        let mut bytes = snapshot().encode().unwrap();
        let at = at % bytes.len();
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        prop_assert!(Snapshot::decode(&bytes).is_err());
    }
}
