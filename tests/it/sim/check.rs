//! Invariants of section 6 of the design, checked after every task has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::id::{Root, SpaceId};
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::sql::{Sql, SqlRow, Value};
use pmx_streams::{From, Offset, Read};
use pmx_sync::live::{ChangeMessage, EventReader};

use super::actors::{Acknowledged, ReportedOutcome, deploy_of, judge, page};
use super::chaos::Plan;
use super::store::check_store;
use super::world::{Wire, World};
use pmx_sync::testing::client::Client;
use pmx_sync::testing::host::block_on;

/// A deploy in the chain of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) root: Root,
    pub(crate) parent: u64,
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Added, modified, removed, unchanged.
    pub(crate) summary: [u64; 4],
    pub(crate) alias: Option<String>,
    /// Whether the space has its content.
    pub(crate) is_kept: bool,
}

/// Every deploy of a space, as its ledger records them.
pub(crate) fn chain(world: &World, space: &SpaceName) -> Vec<Link> {
    let select = "SELECT number, root, parent, kind, key, files, bytes,
         added, modified, removed, unchanged, alias, state FROM deploy ORDER BY number";
    let rows = rows(world, space, select);
    let link = |row: &SqlRow| Link {
        number: integer(&row[0]),
        root: Root::from_bytes(bytes(&row[1]).try_into().unwrap()),
        parent: integer(&row[2]),
        kind: text(&row[3]),
        key: text(&row[4]),
        files: integer(&row[5]),
        bytes: integer(&row[6]),
        summary: [7, 8, 9, 10].map(|at| integer(&row[at])),
        alias: (row[11] != Value::Null).then(|| text(&row[11])),
        is_kept: integer(&row[12]) == 0,
    };
    rows.iter().map(link).collect()
}

pub(crate) fn root_of(world: &World, space: &SpaceName, number: u64) -> Option<Root> {
    let select = format!("SELECT root FROM deploy WHERE number = {number}");
    let row = rows(world, space, &select).into_iter().next()?;
    Some(Root::from_bytes(bytes(&row[0]).try_into().unwrap()))
}

/// Reads the space's ledger without the hooks; nothing if the space does not exist, or if a fault
/// ended it before its first table.
pub(crate) fn rows(world: &World, space: &SpaceName, select: &str) -> Vec<SqlRow> {
    let Some(ledger) = world.spaces.ledger(space) else {
        return Vec::new();
    };
    let run = |select| ledger.inner().run(select, &[]).expect(select);
    if run("SELECT 1 FROM sqlite_schema LIMIT 1").is_empty() {
        return Vec::new();
    }
    run(select)
}

/// Stops all faults, drives the outbox, and checks everything.
pub(crate) fn settle(
    world: &Rc<World>,
    space: &SpaceName,
    promises: &[Acknowledged],
) -> Result<(), String> {
    world.chaos.set(Plan::Calm);
    drain(world, space)?;
    check_account(world, space)?;
    let chain = chain(world, space);
    check_chain(world, space, &chain)?;
    for promise in promises.iter().filter(|promise| promise.space == *space) {
        check_promise(&chain, promise)?;
    }
    check_channels(world, space, &chain)?;
    for link in &chain {
        let host = format!("{}--{space}", link.number);
        if link.is_kept {
            check_site(world, space, &host, link)?;
        } else {
            check_gone(world, &host)?;
        }
    }
    // Objects that no page needs any more may stay lost.
    if world.has_losses.get() {
        return Ok(());
    }
    check_store(world, space)
}

/// Compares the API's history with the requests of publishers and their replies.
fn check_account(world: &Rc<World>, space: &SpaceName) -> Result<(), String> {
    let client = Client {
        network: Wire(Rc::clone(world)),
        space: space.clone(),
        nodes: &world.catalogue.nodes,
        blobs: &world.catalogue.blobs,
        tries: 1,
    };
    let mut deploys = match ask(world, client.deploys()) {
        Ok(history) => history.deploys,
        Err(failure) if failure.code() == Code::NotFound => Vec::new(),
        Err(failure) => return Err(format!("the history of {space}: {failure:?}")),
    };
    deploys.reverse();
    let removed =
        |alias: Option<&AliasName>| was_removed(world, space, alias.map(AliasName::as_str));
    let account = &world.account;
    account.check(&world.catalogue, space, &deploys, removed)
}

/// Runs the alarm until it has no work left.
pub(crate) fn drain(world: &World, space: &SpaceName) -> Result<(), String> {
    let server = world.server();
    for _ in 0..TENDED_MAX {
        match block_on(server.tend(space, world.now())) {
            Ok(next) if next.is_none_or(|next| next > world.now()) => return Ok(()),
            Err(problem) if problem.code == Code::NotFound => return Ok(()),
            Ok(_) => {}
            Err(problem) => return Err(format!("the outbox of {space}: {problem}")),
        }
    }
    Err(format!("the outbox of {space} never gets empty"))
}

/// More steps than any collection of these sites takes.
const TENDED_MAX: usize = 400;

/// Checks that a deploy whose content was given up says so.
fn check_gone(world: &Rc<World>, host: &str) -> Result<(), String> {
    let wire = Wire(Rc::clone(world));
    let answers = ask(world, page(&wire, host, "index.html", false));
    match answers.last().map(|answer| answer.status.as_u16()) {
        Some(410) => Ok(()),
        status => Err(format!("{host} is gone, but answered {status:?}")),
    }
}

fn check_chain(world: &World, space: &SpaceName, chain: &[Link]) -> Result<(), String> {
    let mut keys = BTreeSet::new();
    for (link, number) in chain.iter().zip(1..) {
        let before = newest_of(&chain[..number as usize - 1], link.alias.as_deref());
        let active = newest_of(&chain[..number as usize - 1], None);
        let parent = before.map_or(0, |before| before.number);
        let is_fresh = link.parent == 0 && was_removed(world, space, link.alias.as_deref());
        if link.number != number || !(link.parent == parent || is_fresh) {
            return Err(format!("{space}: {link:?} is no {number}th link"));
        }
        if !keys.insert(&link.key) {
            return Err(format!("{space}: the key {:?} made two deploys", link.key));
        }
        let site = world.catalogue.site(&link.root);
        let site = site.ok_or_else(|| format!("{space}: no publisher made {link:?}"))?;
        if (link.files, link.bytes) != (site.files.len() as u64, site.bytes) {
            return Err(format!("{space}: {link:?} counts wrong"));
        }
        let compared = before.filter(|_| link.parent > 0).or(active);
        let summary = summary(world, compared, link);
        if link.summary != summary {
            return Err(format!("{space}: {link:?} should say {summary:?}"));
        }
    }
    Ok(())
}

/// The newest deploy of a preview, or of the active ones.
pub(crate) fn newest_of<'a>(chain: &'a [Link], alias: Option<&str>) -> Option<&'a Link> {
    chain.iter().rfind(|link| link.alias.as_deref() == alias)
}

fn channel(space: &SpaceName, alias: Option<&str>) -> Channel {
    let label = alias.map_or_else(|| space.to_string(), |alias| format!("{alias}--{space}"));
    Channel::of_label(&label).unwrap()
}

fn was_removed(world: &World, space: &SpaceName, alias: Option<&str>) -> bool {
    alias.is_some() && world.removed.borrow().contains(&channel(space, alias))
}

/// Checks that every channel points to its newest deploy and shows it, and that its log has exactly
/// its own deploys.
fn check_channels(world: &Rc<World>, space: &SpaceName, chain: &[Link]) -> Result<(), String> {
    let named = rows(world, space, "SELECT name, deploy FROM alias");
    let named: BTreeMap<String, u64> = named
        .iter()
        .map(|row| (text(&row[0]), integer(&row[1])))
        .collect();
    let aliases: BTreeSet<_> = chain.iter().map(|link| link.alias.as_deref()).collect();
    for alias in aliases.into_iter().chain([None]) {
        let there = channel(space, alias);
        let newest = newest_of(chain, alias);
        let is_gone = alias.is_some_and(|alias| !named.contains_key(alias));
        if is_gone && !was_removed(world, space, alias) {
            return Err(format!("{there} is gone, and no operator took it away"));
        }
        let active = newest.filter(|_| !is_gone);
        let number = active.map_or(0, |link| link.number);
        if alias.is_some_and(|alias| named.get(alias).copied().unwrap_or(0) != number) {
            return Err(format!(
                "{there} does not name its newest deploy: {named:?}"
            ));
        }
        let pointer = world.pointers.find(&there).filter(|pointer| !pointer.gone);
        let pointed = pointer.map_or(0, |pointer| pointer.deploy);
        if pointed != number {
            return Err(format!(
                "{there} points to deploy {pointed}, but {number} is active"
            ));
        }
        match active {
            Some(active) => {
                check_site(world, space, &there.to_string(), active)?;
                check_events(world, &there, chain)?;
            }
            None if alias.is_none() => {}
            None => {
                let answers = ask(
                    world,
                    page(
                        &Wire(Rc::clone(world)),
                        &there.to_string(),
                        "index.html",
                        false,
                    ),
                );
                if answers.iter().any(|answer| answer.status != 404) {
                    return Err(format!("{there} is gone, but still served"));
                }
            }
        }
    }
    Ok(())
}

/// Checks the events that the log returns to readers of one channel.
fn check_events(world: &World, channel: &Channel, chain: &[Link]) -> Result<(), String> {
    let alias = channel.alias.as_ref().map(AliasName::as_str);
    let own: Vec<&Link> = chain
        .iter()
        .filter(|link| link.alias.as_deref() == alias)
        .collect();
    let server = world.server();
    let read = |from, compact| {
        let page = block_on(server.log(
            channel,
            Read { from },
            compact,
            EventReader::Holder,
            world.now(),
        ));
        let page = page.map_err(|problem| format!("the log of {channel}: {problem}"))?;
        let array = [b"[", &page.body[..], b"]"].concat();
        let messages: Vec<ChangeMessage> = serde_json::from_slice(&array).unwrap();
        if !page.is_up_to_date() || page.end.position() != own.last().map_or(0, |l| l.number) {
            return Err(format!("the log of {channel} ends at {}", page.end));
        }
        Ok(messages)
    };
    let root = |number: u64| {
        chain
            .iter()
            .find(|link| link.number == number)
            .map(|l| l.root)
    };
    let sent: Vec<_> = read(From::Start, false)?
        .iter()
        .map(|sent| (sent.deploy, sent.root, sent.prev_root))
        .collect();
    let expected: Vec<_> = own
        .iter()
        .map(|l| (l.number, l.root, root(l.parent)))
        .collect();
    if sent != expected {
        return Err(format!("{channel} received {sent:?}, not {expected:?}"));
    }
    // From the first, and from one more, because each read takes simulation time.
    for (at, link) in own.iter().enumerate().step_by(2).take(2) {
        let from = || From::At(Offset::at(link.number));
        let rest: Vec<u64> = read(from(), false)?
            .iter()
            .map(|sent| sent.deploy)
            .collect();
        if !rest
            .iter()
            .eq(own[at + 1..].iter().map(|link| &link.number))
        {
            return Err(format!("{channel} received {rest:?} after {}", link.number));
        }
        if !link.is_kept {
            continue;
        }
        let net = read(from(), true)?;
        let is_net = |net: &ChangeMessage| {
            net.since == Some(link.number) && net.prev_root == Some(link.root)
        };
        if net.len() != usize::from(at + 1 < own.len()) || !net.iter().all(is_net) {
            return Err(format!("{channel} received {net:?} after {}", link.number));
        }
    }
    Ok(())
}

/// The summary of a deploy against the one before, from a comparison of their files.
fn summary(world: &World, before: Option<&Link>, link: &Link) -> [u64; 4] {
    let files = |link: &Link| &world.catalogue.site(&link.root).unwrap().files;
    let empty = BTreeMap::new();
    let (old, new) = (before.map_or(&empty, files), files(link));
    let added = new.keys().filter(|path| !old.contains_key(*path)).count();
    let removed = old.keys().filter(|path| !new.contains_key(*path)).count();
    let same = new
        .iter()
        .filter(|(path, bytes)| old.get(*path) == Some(bytes))
        .count();
    [added, new.len() - added - same, removed, same].map(|count| count as u64)
}

fn check_promise(chain: &[Link], promise: &Acknowledged) -> Result<(), String> {
    let sent = promise.active;
    let broken = |why: &str| Err(format!("{why}: {promise:?}"));
    let Some(link) = chain.get((sent.deploy as usize).wrapping_sub(1)) else {
        return broken("a deploy that was reported to a client is lost");
    };
    let made = promise.made.as_ref();
    let is_other = made.is_some_and(|made| made.root != link.root || made.parent != link.parent);
    if link.root != sent.root || is_other {
        return broken("a deploy is another than was reported");
    }
    if promise.root.is_some_and(|root| root != link.root) {
        return broken("a client's deploy is of another root");
    }
    let mine = chain.iter().filter(|link| link.key == promise.key).count();
    match promise.reported {
        ReportedOutcome::Published if link.key != promise.key || mine != 1 => {
            broken("a publish is not in the chain once")
        }
        ReportedOutcome::Published | ReportedOutcome::Unchanged | ReportedOutcome::RolledBack => {
            Ok(())
        }
    }
}

/// Reads every file of a deploy, decoded and as stored.
fn check_site(world: &Rc<World>, space: &SpaceName, host: &str, link: &Link) -> Result<(), String> {
    let site = world
        .catalogue
        .site(&link.root)
        .expect("the chain was checked");
    let wire = Wire(Rc::clone(world));
    for (path, zstd) in site
        .files
        .keys()
        .flat_map(|path| [(path, false), (path, true)])
    {
        let answers = ask(world, page(&wire, host, path, zstd));
        let Some(last) = answers.last() else {
            return Err(format!("{host} did not answer to {path}"));
        };
        if last.status != 200 || deploy_of(last) != Some(link.number) {
            let problem = String::from_utf8_lossy(&last.body);
            return Err(format!(
                "{host} answered {} to {path}: {problem}",
                last.status
            ));
        }
        judge(world, space, path, last)?;
    }
    Ok(())
}

/// Runs a request while no other client sends any.
pub(crate) fn ask<F: Future>(world: &World, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        world.run();
    }
}

/// Everything that a space stores, for a later comparison.
pub(crate) fn dump(world: &World, space: &SpaceName) -> String {
    let tables = "meta node have pack part deploy outbox alias hold build loss lost_blob damaged";
    let tables = tables.split(' ').chain(["arrived"]);
    let tables: Vec<_> = tables
        .map(|table| rows(world, space, &format!("SELECT * FROM {table}")))
        .collect();
    let mut objects = world.blobs.all();
    let id = tables[0]
        .iter()
        .find(|row| row[0] == Value::Text("space".into()));
    let id = id.map(|row| SpaceId::from_hex(&text(&row[1])).unwrap());
    objects.retain(|key, _| Some(key.space) == id);
    format!(
        "{tables:?} {objects:?} {:?}",
        world.pointers.find(&space.clone().into())
    )
}

pub(crate) fn integer(value: &Value) -> u64 {
    match value {
        Value::Integer(value) => u64::try_from(*value).unwrap(),
        other => panic!("{other:?} is no integer"),
    }
}

pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => panic!("{other:?} is no text"),
    }
}

pub(crate) fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::Blob(bytes) => bytes,
        other => panic!("{other:?} is no blob"),
    }
}
