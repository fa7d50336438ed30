//! Registry: tables of stories, and random commands against its invariants.

use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_core::time::Timestamp;
use pmx_tests::sql::Sqlite;
use proptest::prelude::*;

use super::*;
use crate::limits::DOMAINS_OF_SPACE_MAX;

const DAY: u64 = 24 * 3_600_000;

struct World {
    sql: Sqlite,
    now: u64,
    drawn: u8,
}

fn host(name: &str) -> CustomHost {
    CustomHost::parse(name).unwrap()
}

fn space(name: &str) -> SpaceName {
    SpaceName::parse(name).unwrap()
}

impl World {
    fn new() -> Self {
        Self {
            sql: Sqlite::new(),
            now: 1_000,
            drawn: 0,
        }
    }

    fn ask(&self, command: DomainCommand) -> Result<DomainReply, Code> {
        let now = Timestamp::from_millis(self.now);
        execute(&self.sql, command, now).map_err(|problem| problem.code)
    }

    fn add(&mut self, of: &str, name: &str, is_trusted: bool) -> Result<Claim, Code> {
        self.drawn = self.drawn.wrapping_add(1);
        let fresh = ClaimRandomness {
            server: ServerId::from_bytes([self.drawn; 16]),
            challenge: Challenge::from_bytes([self.drawn; 16]),
        };
        let (host, space) = (host(name), space(of));
        match self.ask(DomainCommand::Add {
            host,
            space,
            is_trusted,
            fresh,
        })? {
            DomainReply::Claims {
                server: Some(server),
                mut claims,
            } => {
                assert_eq!(server, ServerId::from_bytes([1; 16]), "it is drawn once");
                Ok(claims.remove(0))
            }
            other => panic!("{other:?}"),
        }
    }

    fn list(&self, of: &str) -> Vec<Claim> {
        match self.ask(DomainCommand::List { space: space(of) }).unwrap() {
            DomainReply::Claims { claims, .. } => claims,
            other => panic!("{other:?}"),
        }
    }

    fn record(&self, of: &str, name: &str, finding: Finding) -> Result<Claim, Code> {
        let claims = self.list(of);
        let known = claims.into_iter().find(|claim| claim.host == host(name));
        let challenge = known.map_or(Challenge::from_bytes([0; 16]), |claim| claim.challenge);
        let (host, space) = (host(name), space(of));
        match self.ask(DomainCommand::Record {
            host,
            space,
            challenge,
            finding,
        })? {
            DomainReply::Claims { mut claims, .. } => Ok(claims.remove(0)),
            other => panic!("{other:?}"),
        }
    }

    fn remove(&self, of: &str, name: &str) -> u64 {
        let (host, space) = (host(name), space(of));
        match self.ask(DomainCommand::Remove { host, space }).unwrap() {
            DomainReply::Removed(count) => count,
            other => panic!("{other:?}"),
        }
    }

    fn routes(&self, command: DomainCommand) -> Vec<(CustomHost, Option<Route>)> {
        match self.ask(command).unwrap() {
            DomainReply::Routes(routes) => routes,
            other => panic!("{other:?}"),
        }
    }

    /// The space that a host shows.
    fn shown(&self, name: &str) -> Option<String> {
        let routes = self.routes(DomainCommand::Routes).into_iter();
        let mut found = routes.filter(|(known, _)| *known == host(name));
        let route = found.next().and_then(|(_, route)| route)?;
        Some(route.space.to_string())
    }

    /// Brings the readers' copy up to date, and returns what changed.
    fn delivered(&self) -> Vec<String> {
        let mut changed = Vec::new();
        for (host, route) in self.routes(DomainCommand::PendingRoutes) {
            let of = route.as_ref().map_or("-", |route| route.space.as_str());
            changed.push(format!("{host} {of}"));
            self.ask(DomainCommand::AckRoute { host, route }).unwrap();
        }
        changed
    }

    fn due(&self) -> (Vec<String>, Option<u64>) {
        match self.ask(DomainCommand::Due).unwrap() {
            DomainReply::Due { claims, next, .. } => {
                let names = claims
                    .iter()
                    .map(|claim| format!("{} {}", claim.host, claim.space));
                (names.collect(), next.map(|at| at.as_millis() - self.now))
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn registry_shows_a_host_once_its_record_is_there() {
    let mut world = World::new();
    let claim = world.add("docs", "docs.example.com", false).unwrap();
    assert_eq!(claim.standing, ClaimState::Pending);
    assert_eq!(
        (world.shown("docs.example.com"), world.delivered()),
        (None, vec![])
    );
    world
        .record("docs", "docs.example.com", Finding::Absent)
        .unwrap();
    assert_eq!(world.shown("docs.example.com"), None);
    world
        .record("docs", "docs.example.com", Finding::Present)
        .unwrap();
    assert_eq!(world.shown("docs.example.com").as_deref(), Some("docs"));
    assert_eq!(world.delivered(), ["docs.example.com docs"]);
    // The daily check costs readers nothing, and a repeated addition changes nothing.
    world.now += DAY;
    world
        .record("docs", "docs.example.com", Finding::Present)
        .unwrap();
    let again = world.add("docs", "docs.example.com", false).unwrap();
    assert_eq!(again.challenge, claim.challenge);
    assert_eq!(world.delivered(), [] as [String; 0]);
    assert_eq!(world.remove("docs", "docs.example.com"), 1);
    assert_eq!(world.delivered(), ["docs.example.com -"]);
    assert_eq!(world.remove("docs", "docs.example.com"), 0);
    let unknown = world.record("docs", "docs.example.com", Finding::Present);
    assert_eq!(unknown, Err(Code::NotFound));
}

#[test]
fn registry_gives_a_host_to_one_space() {
    let mut world = World::new();
    let name = "docs.example.com";
    // Claims that wait do not exclude each other: the record decides.
    let one = world.add("one", name, false).unwrap();
    let two = world.add("two", name, false).unwrap();
    assert_ne!(one.challenge, two.challenge);
    world.record("two", name, Finding::Present).unwrap();
    let waits = world.record("one", name, Finding::Present).unwrap();
    assert_eq!(
        (waits.standing, world.shown(name).as_deref()),
        (ClaimState::Pending, Some("two"))
    );
    assert_eq!(world.add("three", name, false), Err(Code::DomainTaken));
    assert_eq!(world.add("three", name, true), Err(Code::DomainTaken));
    // Once the record of the first is gone, that of another takes the host at once.
    world.record("two", name, Finding::Absent).unwrap();
    assert_eq!(world.shown(name).as_deref(), Some("two"));
    world.record("one", name, Finding::Present).unwrap();
    assert_eq!(world.shown(name).as_deref(), Some("one"));
    assert_eq!(world.list("two"), []);
    // A finding for an older challenge counts nothing.
    world.remove("one", name);
    let (host, space) = (host(name), space("one"));
    world.add("one", name, false).unwrap();
    let (challenge, finding) = (one.challenge, Finding::Present);
    let late = world.ask(DomainCommand::Record {
        host,
        space,
        challenge,
        finding,
    });
    assert_eq!(late.map(drop), Err(Code::NotFound));
}

#[test]
fn registry_stops_a_host_after_the_grace_and_forgets_claims_without_proof() {
    let mut world = World::new();
    world.add("docs", "a.example.com", false).unwrap();
    world.add("docs", "b.example.com", true).unwrap();
    world
        .record("docs", "a.example.com", Finding::Present)
        .unwrap();
    world.delivered();
    world.now += DAY;
    assert_eq!(world.due().0, ["a.example.com docs"]);
    world
        .record("docs", "a.example.com", Finding::Absent)
        .unwrap();
    assert_eq!(
        world.delivered(),
        ["a.example.com docs"],
        "with the time of its end"
    );
    world.now += GRACE.as_millis() as u64;
    assert_eq!(world.shown("a.example.com"), None, "without any check");
    assert_eq!(world.shown("b.example.com").as_deref(), Some("docs"));
    assert_eq!(world.due().0, ["a.example.com docs"]);
    world
        .record("docs", "a.example.com", Finding::Absent)
        .unwrap();
    assert_eq!(world.delivered(), ["a.example.com -"]);
    world.now += 30 * DAY;
    assert_eq!(world.due(), (vec![], None));
    let left: Vec<_> = world
        .list("docs")
        .into_iter()
        .map(|claim| claim.host)
        .collect();
    assert_eq!(left, [host("b.example.com")]);
    world
        .ask(DomainCommand::RemoveSpace {
            space: space("docs"),
        })
        .unwrap();
    assert_eq!(
        (world.list("docs"), world.shown("b.example.com")),
        (vec![], None)
    );
}

#[test]
fn registry_bounds_the_domains_of_a_space() {
    let mut world = World::new();
    for number in 0..DOMAINS_OF_SPACE_MAX {
        world
            .add("docs", &format!("h{number}.example.com"), false)
            .unwrap();
    }
    assert_eq!(
        world.add("docs", "one.example.com", false),
        Err(Code::TooManyDomains)
    );
    world.add("docs", "h1.example.com", false).unwrap();
    world.add("blog", "one.example.com", false).unwrap();
    world.now += 60_000;
    let (claims, next) = world.due();
    assert_eq!(
        (claims.len(), next),
        (16, Some(0)),
        "the others follow at once"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, usize, bool),
    Record(usize, usize, Finding),
    Remove(usize, usize),
    Due,
    Deliver,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let finding = prop_oneof![
        Just(Finding::Present),
        Just(Finding::Absent),
        Just(Finding::Unknown)
    ];
    prop_oneof![
        (0..3usize, 0..2usize, any::<bool>()).prop_map(|(s, h, t)| Step::Add(s, h, t)),
        (0..3usize, 0..2usize, finding).prop_map(|(s, h, f)| Step::Record(s, h, f)),
        (0..3usize, 0..2usize).prop_map(|(s, h)| Step::Remove(s, h)),
        Just(Step::Due),
        Just(Step::Deliver),
        (1..200u64).prop_map(|hours| Step::Wait(hours * 3_600_000)),
    ]
}

const SPACES: [&str; 3] = ["one", "two", "three"];
const HOSTS: [&str; 2] = ["a.example.com", "b.example.com"];

proptest! {
    /// At every moment a host has at most one space, none without a proof or the operator's word;
    /// and readers of a delivered copy see what the registry decided.
    #[test]
    fn registry_keeps_its_invariants(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let mut copy = std::collections::BTreeMap::<CustomHost, Option<Route>>::new();
        for step in steps {
            match step {
                Step::Add(s, h, t) => drop(world.add(SPACES[s], HOSTS[h], t)),
                Step::Record(s, h, f) => drop(world.record(SPACES[s], HOSTS[h], f)),
                Step::Remove(s, h) => drop(world.remove(SPACES[s], HOSTS[h])),
                Step::Due => drop(world.due()),
                Step::Wait(time) => world.now += time,
                Step::Deliver => {}
            }
            let now = Timestamp::from_millis(world.now);
            let claims: Vec<Claim> = SPACES.iter().flat_map(|space| world.list(space)).collect();
            for name in HOSTS {
                let of_host = claims.iter().filter(|claim| claim.host == host(name));
                let served: Vec<_> = of_host.filter(|claim| claim.is_served(now)).collect();
                prop_assert!(served.len() <= 1, "{served:?}");
                let is_proved = served.iter().all(|claim| claim.standing != ClaimState::Pending);
                prop_assert!(is_proved, "{served:?}");
                let owner = served.first().map(|claim| claim.space.to_string());
                prop_assert_eq!(world.shown(name), owner);
            }
            for (host, route) in world.routes(DomainCommand::PendingRoutes) {
                copy.insert(host.clone(), route.clone());
                world.ask(DomainCommand::AckRoute { host, route }).unwrap();
            }
            for name in HOSTS {
                let read = copy.get(&host(name)).cloned().flatten();
                let read = read.filter(|route| route.is_shown(now));
                let read = read.map(|route| route.space.to_string());
                prop_assert_eq!(read, world.shown(name), "{}", name);
            }
        }
    }
}

#[test]
fn call_and_response_cross() {
    use pmx_core::crossing::{Crossing, arrived};
    let claim = World::new().add("docs", "docs.example.com", false).unwrap();
    let command = DomainCommand::AckRoute {
        host: host("docs.example.com"),
        route: Some(Route {
            space: space("docs"),
            until: Some(Timestamp::from_millis(5)),
        }),
    };
    let call = DomainCall {
        now: Timestamp::from_millis(1),
        command,
    };
    let sent = format!("{call:?}");
    let bytes = Crossing::of(call).unwrap().to_bytes();
    assert_eq!(
        format!("{:?}", arrived::<DomainCall>(&bytes).unwrap()),
        sent
    );
    let next = Some(Timestamp::from_millis(1).after(Duration::from_secs(1)));
    let server = Some(ServerId::from_bytes([7; 16]));
    let reply = DomainReply::Due {
        server,
        claims: vec![claim],
        next,
    };
    let response = DomainResponse { outcome: Ok(reply) };
    let sent = format!("{response:?}");
    let bytes = Crossing::of(response).unwrap().to_bytes();
    assert_eq!(
        format!("{:?}", arrived::<DomainResponse>(&bytes).unwrap()),
        sent
    );
}
