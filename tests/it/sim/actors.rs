//! Actors of a schedule: publishers, readers and the alarm.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, StatusCode};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::id::Root;
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use pmx_sync::push::{Base, BaseBlobs, Intent, Mode, PushOutcomeKind};
use pmx_sync::wire::{DeployMeta, DeployView, MaxDelete, Order, Replace};
use pmx_tests::rng::Rng;

use super::bugs::Bug;
use super::chaos::yields;
use super::check::{chain, root_of};
use super::model::Site;
use super::platform::url_path;
use super::run::Run;
use super::world::{Owner, Wire, World};
use pmx_sync::testing::client::{Client, ClientFailure, Network, WholeResponse};

/// Outcome that the server reported to a client: it must remain true for ever.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) space: SpaceName,
    pub(crate) key: String,
    pub(crate) root: Option<Root>,
    pub(crate) reported: ReportedOutcome,
    /// The active deploy, as reported.
    pub(crate) active: Base,
    /// The new deploy, as reported.
    pub(crate) made: Option<DeployView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportedOutcome {
    Published,
    Unchanged,
    RolledBack,
}

pub(crate) type Promises = Rc<RefCell<Vec<Acknowledged>>>;

/// A client that publishes and rolls back.
#[derive(Clone)]
pub(crate) struct Publisher {
    pub(crate) world: Rc<World>,
    pub(crate) promises: Promises,
    pub(crate) space: SpaceName,
    /// The preview that the client publishes, instead of the site itself.
    pub(crate) alias: Option<AliasName>,
    pub(crate) name: String,
    pub(crate) tries: usize,
}

impl Publisher {
    pub(crate) fn client(&self) -> Client<'_, Wire> {
        self.client_over(Wire(Rc::clone(&self.world)))
    }

    fn client_over<N: Network>(&self, network: N) -> Client<'_, N> {
        Client {
            network,
            space: self.space.clone(),
            nodes: &self.world.catalogue.nodes,
            blobs: &self.world.catalogue.blobs,
            tries: self.tries,
        }
    }

    /// Publishes a few times: sometimes without delay, from an outdated base, or twice.
    pub(crate) async fn publishes(self, mut rng: Rng) {
        let mut base = None;
        for round in 0..=rng.below(3) {
            yields(rng.below(40)).await;
            if rng.once_in(3) {
                base = self.newest().await.or(base);
            }
            let mut intent = self.intent(&mut rng, base, round);
            self.world.account.asks(&intent);
            if self.world.bug == Some(Bug::CacheTrusted) && rng.once_in(4) {
                intent.root = rng.pick(&self.world.catalogue.sites).root;
            }
            for _ in 0..=rng.below(3) {
                match self.publish(intent.clone()).await {
                    Ok(active) => {
                        base = Some(active);
                        if rng.below(4) > 0 {
                            break;
                        }
                    }
                    Err(ClientFailure::Broken) => {}
                    Err(failure) if matches!(failure.code(), Code::Storage | Code::Unavailable) => {
                    }
                    Err(_) => break,
                }
            }
        }
    }

    fn intent(&self, rng: &mut Rng, base: Option<Base>, round: usize) -> Intent {
        let root = rng.pick(&self.world.catalogue.sites).root;
        let order = rng.once_in(2).then(|| {
            let sequence = *rng.pick(&SEQUENCES);
            Order::from_parts(sequence, rng.below(6) as u64).expect("within its limits")
        });
        let expect = match (rng.below(3), base) {
            (0, Some(base)) => Some(base.deploy),
            (0, None) => Some(0),
            _ => None,
        };
        let base = match rng.below(10) {
            0 | 1 => None,
            // A cache with a wrong root or a wrong deploy number.
            2 => Some(Base {
                root: rng.pick(&self.world.catalogue.sites).root,
                deploy: rng.below(6) as u64,
            }),
            _ => base,
        };
        let key = format!("{}.{round}", self.name);
        let mut intent = self.wants(root, base, expect, order, key);
        if expect.is_none() && rng.once_in(10) {
            intent.replace = Replace::Any;
        }
        intent.max_delete = match rng.below(8) {
            0 => Some(MaxDelete::Files(rng.below(3) as u64)),
            1 => Some(MaxDelete::Percent(50)),
            _ => None,
        };
        intent
    }

    pub(crate) fn wants(
        &self,
        root: Root,
        base: Option<Base>,
        expect: Option<u64>,
        order: Option<Order>,
        key: String,
    ) -> Intent {
        let space = self.space.clone();
        let meta = DeployMeta {
            message: Some(format!("as {key}")),
            ..DeployMeta::default()
        };
        Intent {
            space,
            alias: self.alias.clone(),
            root,
            base,
            replace: if expect.is_some() {
                Replace::Named
            } else {
                Replace::Seen
            },
            expect: expect.or(base.map(|base| base.deploy)),
            max_delete: None,
            key,
            order,
            meta,
            expires: None,
            mode: Mode::Publish,
            base_blobs: BaseBlobs::Available,
            restore: Vec::new(),
        }
    }

    /// Requests the newest deploy.
    pub(super) async fn newest(&self) -> Option<Base> {
        let deploys = self.client().deploys().await.ok()?.deploys;
        let mut deploys = deploys.into_iter();
        let newest = deploys.find(|deploy| deploy.alias == self.alias)?;
        Some(Base {
            root: newest.root,
            deploy: newest.number,
        })
    }

    /// Publishes once, and checks that the outcome is an allowed one.
    pub(crate) async fn publish(&self, intent: Intent) -> Result<Base, ClientFailure> {
        let (key, root) = (intent.key.clone(), Some(intent.root));
        let wanted = intent.root;
        let bounded = intent.max_delete.is_some();
        let (chaos, account) = (&self.world.chaos, &self.world.account);
        account.asks(&intent);
        chaos.note(|| {
            let number = self
                .world
                .catalogue
                .sites
                .iter()
                .position(|site| Some(site.root) == root);
            format!(
                "{key} publishes site {number:?} on {:?}, expects {:?}",
                intent.base, intent.expect
            )
        });
        let run = Run::new(&self.world, &key);
        let outcome = match self.client_over(run).publish(intent).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                chaos.note(|| format!("{key} gives up: {failure:?}"));
                match failure.code() {
                    // Bytes that changed in transit arrive as other blobs, so the expected ones are
                    // missing.
                    Code::HashMismatch
                    | Code::MissingObjects
                    | Code::PackMalformed
                    | Code::Compression
                    | Code::TooLarge
                        if chaos.rates().is_some_and(|rates| rates.corrupt > 0) => {}
                    Code::Network | Code::Storage | Code::Unavailable => {}
                    Code::MissingObjects if self.world.is_slow.get() => {}
                    Code::MaxDelete if bounded => {}
                    Code::MissingObjects | Code::Corrupt if self.world.has_losses.get() => {}
                    Code::Conflict | Code::Held | Code::OlderBuild => {
                        if let Err(why) = self.world.account.explains(&key, failure.code()) {
                            chaos.violate(why);
                        }
                    }
                    _ => chaos.violate(format_args!("{key} failed: {failure:?}")),
                }
                return Err(failure);
            }
        };
        account.answered(&key, outcome.kind, outcome.active);
        let reported = match outcome.kind {
            PushOutcomeKind::Published => ReportedOutcome::Published,
            PushOutcomeKind::Unchanged => ReportedOutcome::Unchanged,
            PushOutcomeKind::Planned | PushOutcomeKind::Superseded => {
                unreachable!("no publisher runs dry here")
            }
        };
        let active = Base {
            root: wanted,
            deploy: outcome.active,
        };
        chaos.note(|| format!("{key} got: {reported:?}, deploy {}", active.deploy));
        self.promise(key, root, reported, active, outcome.deploy);
        Ok(active)
    }

    pub(super) fn promise(
        &self,
        key: String,
        root: Option<Root>,
        reported: ReportedOutcome,
        active: Base,
        made: Option<DeployView>,
    ) {
        let space = self.space.clone();
        let promise = Acknowledged {
            space,
            key,
            root,
            reported,
            active,
            made,
        };
        self.promises.borrow_mut().push(promise);
    }
}

/// Sequences of builds: the server compares only builds of one sequence.
const SEQUENCES: [&str; 4] = ["run", "commit", "github:1:a.yml", "github:1:b.yml"];

/// Drives the outbox, as the alarm of a platform does.
pub(crate) async fn alarm(world: Rc<World>, space: SpaceName, mut rng: Rng) {
    for _ in 0..rng.below(6) {
        yields(10 + rng.below(80)).await;
        let (server, now, space) = (world.server(), world.now(), space.clone());
        world.spawn(Owner::Server, async move {
            let _again = server.tend(&space, now).await;
        });
    }
}

/// Reads the pages of the current deploy, one after the other.
pub(crate) async fn reads(world: Rc<World>, channel: Channel, mut rng: Rng) {
    let space = &channel.space;
    let mut seen = 0;
    for _ in 0..3 + rng.below(8) {
        yields(rng.below(40)).await;
        let site = rng.pick(&world.catalogue.sites);
        let at = rng.below(site.files.len());
        let path = site
            .files
            .keys()
            .nth(at)
            .cloned()
            .unwrap_or_else(|| "index.html".into());
        let zstd = rng.once_in(2);
        let host = channel.to_string();
        for answer in page(&Wire(Rc::clone(&world)), &host, &path, zstd).await {
            match deploy_of(&answer) {
                Some(number) if number >= seen => seen = number,
                None if seen == 0 || answer.status.is_server_error() => {}
                None if world.removed.borrow().contains(&channel) => {}
                number => world.chaos.violate(format_args!(
                    "a reader of {channel} saw deploy {seen} and then {number:?}"
                )),
            }
            if let Err(what) = judge(&world, space, &path, &answer) {
                world
                    .chaos
                    .violate(format_args!("a reader of {channel}: {what}"));
            }
        }
    }
}

/// Requests a file, and follows redirects to its clean URL; returns every response.
pub(crate) async fn page(
    wire: &impl Network,
    host: &str,
    path: &str,
    zstd: bool,
) -> Vec<WholeResponse> {
    let mut answers = Vec::new();
    let mut url = url_path(path);
    for _ in 0..3 {
        let mut request = Request::builder()
            .uri(&url)
            .header("host", format!("{host}.localhost"));
        if zstd {
            request = request.header("accept-encoding", "gzip, zstd");
        }
        let Ok(answer) = wire.send(request.body(Bytes::new()).unwrap()).await else {
            break;
        };
        let next = answer
            .headers
            .get("location")
            .map(|to| to.to_str().unwrap().to_owned());
        answers.push(answer);
        match next {
            Some(next) => url = next,
            None => break,
        }
    }
    answers
}

pub(crate) fn deploy_of(answer: &WholeResponse) -> Option<u64> {
    answer
        .headers
        .get("x-pmx-deploy")?
        .to_str()
        .unwrap()
        .parse()
        .ok()
}

/// Checks that a response to a request for a file belongs to the deploy that it names.
pub(crate) fn judge(
    world: &World,
    space: &SpaceName,
    path: &str,
    answer: &WholeResponse,
) -> Result<(), String> {
    if answer.status.is_server_error() {
        let problem: Option<Problem> = serde_json::from_slice(&answer.body).ok();
        return match problem {
            Some(problem) if problem.code == Code::Storage => Ok(()),
            Some(problem) if problem.code == Code::Corrupt && world.has_losses.get() => Ok(()),
            problem => Err(format!(
                "{path} was answered {}: {problem:?}",
                answer.status
            )),
        };
    }
    let Some(number) = deploy_of(answer) else {
        return match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            status => Err(format!("{path} was answered {status} of no deploy")),
        };
    };
    let root = root_of(world, space, number);
    let root = root.ok_or_else(|| format!("{path} is of deploy {number}, which does not exist"))?;
    let site = world.catalogue.site(&root);
    let site =
        site.ok_or_else(|| format!("deploy {number} is of a root that no publisher made"))?;
    let body = decoded(answer).ok_or_else(|| format!("{path} of {number} can't be decoded"))?;
    match answer.status {
        StatusCode::TEMPORARY_REDIRECT => Ok(()),
        StatusCode::OK => match site.files.get(path) {
            Some(bytes) if *bytes == body => Ok(()),
            Some(bytes) => Err(format!(
                "{path} of deploy {number} is {body:?}, not {bytes:?}"
            )),
            None if is_kept(world, space, number, path, &body) => Ok(()),
            None => Err(format!("{path} was served, but deploy {number} lacks it")),
        },
        StatusCode::NOT_FOUND if site.files.contains_key(path) => {
            Err(format!("{path} of deploy {number} was not found"))
        }
        StatusCode::NOT_FOUND => match site.files.get("404.html") {
            Some(page) if *page != body => Err(format!("deploy {number} has another 404 page")),
            _ => Ok(()),
        },
        status => Err(format!("{path} of deploy {number} was answered {status}")),
    }
}

/// Whether an asset belonged to an earlier deploy.
fn is_kept(world: &World, space: &SpaceName, number: u64, path: &str, body: &Bytes) -> bool {
    let earlier = chain(world, space)
        .into_iter()
        .filter(|deploy| deploy.number < number);
    let had = |site: &Site| site.files.get(path).is_some_and(|bytes| bytes == body);
    !path.ends_with(".html")
        && earlier
            .into_iter()
            .any(|deploy| world.catalogue.site(&deploy.root).is_some_and(had))
}

fn decoded(answer: &WholeResponse) -> Option<Bytes> {
    use pmx_core::codec::{Bounds, Decoder};
    thread_local! {
        static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new());
    }
    if !answer.headers.contains_key("content-encoding") {
        return Some(without_script(&answer.body));
    }
    let decode = |it: &mut Decoder| it.frame_up_to(&answer.body, Bounds::STORED).ok();
    DECODER.with_borrow_mut(decode).map(Bytes::from)
}

/// A page of a preview without the live script.
fn without_script(body: &Bytes) -> Bytes {
    let find = |what: &str, from: usize| {
        let rest = body.get(from..)?;
        let at = rest
            .windows(what.len())
            .position(|at| at == what.as_bytes())?;
        Some(from + at)
    };
    let Some(start) = find("<script src=\"/_pmx/live.js\"", 0) else {
        return body.clone();
    };
    let end = find("</script>", start).expect("it ends") + "</script>".len();
    [&body[..start], &body[end..]].concat().into()
}
