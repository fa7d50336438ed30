//! Carries webhooks to where they go, copies what is followed into other streams, and comes by when
//! wakes are due.
//!
//! One thread keeps the order and the time; each webhook under way has a thread of its own, up to a
//! number, because a webhook may take as long as its worker's lease. What is lost with the process
//! is not lost: the ledger knows that nobody answered.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use pmx_core::time::Timestamp;
use pmx_streams::Refusal;
use pmx_streams::limits::WAKE_EFFECTS_MAX;
use pmx_streams::limits::WEBHOOK_ANSWER_BYTES_MAX;
use pmx_streams::subscription::{Copying, Effect, Errand, Outcome, Reach, Ticket};
use ureq::config::Config;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use super::cold::SegmentFolder;
use super::readers::Readers;
use super::savepoint::Batch;
use super::turn::{Turn, storage};
use super::writer::{WeakWriter, Writer, steadily};
use crate::host::journal::Log;
use crate::host::panics::guarded;
use crate::host::ready::block_on;
use crate::trust::{self, Trust};

/// What the courier hears.
pub(super) enum Order {
    /// Webhooks to carry, and what to copy.
    Carry(Vec<Effect>),
    /// When the next wake is due, if any is.
    Due(Option<Timestamp>),
    /// A webhook arrived, or did not.
    Free,
}

/// What waits for a thread. Those beyond count as failed, and come again later.
const WAITING_MAX: usize = 1_024;

const _: () = assert!(WAKE_EFFECTS_MAX * super::wakes::ROUNDS_MAX <= WAITING_MAX);

/// What is under way at once.
const UNDER_WAY_MAX: usize = 64;

/// The longest wait.
const IDLE_TIME: Duration = Duration::from_hours(1);

/// The shortest wait between two looks.
const PAUSE_TIME: Duration = Duration::from_millis(5);

/// The courier's thread and what it needs.
#[derive(Clone)]
pub(super) struct Courier {
    /// Not the writer itself: it ends when the host no longer needs it.
    pub(super) writer: WeakWriter,
    pub(super) readers: Arc<Readers>,
    pub(super) cold: Arc<SegmentFolder>,
    pub(super) own: Sender<Order>,
    pub(super) log: Log,
}

struct Round {
    courier: Courier,
    post: Post,
    waiting: VecDeque<(Effect, Instant)>,
    under_way: usize,
}

impl Courier {
    /// Starts the thread. It begins with a look: the process may have ended in the middle.
    pub(super) fn start(self, orders: Receiver<Order>) -> std::io::Result<()> {
        let name = "pmx-courier".to_owned();
        let mut round = Round {
            courier: self,
            post: Post::new(),
            waiting: VecDeque::new(),
            under_way: 0,
        };
        let thread = std::thread::Builder::new().name(name);
        let log = round.courier.log;
        let work = move || steadily(log, || round.run(&orders));
        thread.spawn(work).map(drop)
    }
}

impl Round {
    fn run(&mut self, orders: &Receiver<Order>) {
        let mut due = Some(Timestamp::from_millis(0));
        loop {
            let now = crate::host::now().as_millis();
            let wait = due.map_or(IDLE_TIME, |at| {
                Duration::from_millis(at.as_millis().saturating_sub(now)).max(PAUSE_TIME)
            });
            match orders.recv_timeout(wait.min(IDLE_TIME)) {
                Ok(Order::Due(next)) => due = next,
                Ok(Order::Carry(effects)) => self.take(effects),
                Ok(Order::Free) => self.under_way = self.under_way.saturating_sub(1),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // Whoever looks says when the next look is due.
                    due = None;
                    let look = |turn: &Turn<'_, Batch<'_>>| {
                        turn.look();
                        Ok(())
                    };
                    if !taken(&self.courier, look) {
                        return;
                    }
                }
            }
            self.send_off();
        }
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back((effect, Instant::now()));
            } else {
                tell(&self.courier, &effect.ticket, Outcome::Failed);
            }
        }
    }

    fn send_off(&mut self) {
        while self.under_way < UNDER_WAY_MAX
            && let Some((effect, since)) = self.waiting.pop_front()
        {
            let courier = self.courier.clone();
            let (post, ticket) = (self.post.clone(), effect.ticket);
            let thread = std::thread::Builder::new().name("pmx-webhook".to_owned());
            let carried = thread.spawn(move || {
                let carried = guarded(courier.log, || match effect.errand {
                    Errand::Copy(copying) => copy(&courier, ticket, &copying),
                    errand @ (Errand::Webhook { .. } | Errand::Append { .. }) => {
                        tell(&courier, &ticket, post.carry(errand, since));
                    }
                });
                if carried.is_err() {
                    tell(&courier, &ticket, Outcome::Failed);
                }
                // Fails only if the courier has ended. A place that is not given back is lost.
                let _ = courier.own.send(Order::Free);
            });
            match carried {
                Ok(_) => self.under_way += 1,
                Err(error) => {
                    self.courier
                        .log
                        .fault("starting a webhook's thread", &error);
                    tell(&self.courier, &ticket, Outcome::Failed);
                }
            }
        }
    }
}

/// Tells the ledger what came of a webhook.
fn tell(courier: &Courier, ticket: &Ticket, outcome: Outcome) {
    let ticket = *ticket;
    taken(courier, move |turn| {
        turn.told(&ticket, &outcome).map_err(storage)
    });
}

/// Copies messages from a stream to another. Reading holds up no writer, and the copies and that
/// they are made are kept in one turn.
fn copy(courier: &Courier, ticket: Ticket, copying: &Copying) {
    let read = async |read| {
        let Courier { readers, cold, .. } = courier;
        let page = readers.page(&copying.source, read, cold, crate::host::now());
        page.map(|(page, ..)| page)
    };
    match block_on(copying.gather(read)) {
        Ok(copies) => {
            let target = copying.target.clone();
            taken(courier, move |turn| {
                turn.gathered(&ticket, &target, &copies)
            });
        }
        Err(_) => tell(courier, &ticket, Outcome::Failed),
    }
}

/// Takes a turn, unless the host has ended.
fn taken(
    courier: &Courier,
    work: impl FnOnce(&Turn<'_, Batch<'_>>) -> Result<(), Refusal> + Send + 'static,
) -> bool {
    let Some(writer) = courier.writer.upgrade() else {
        return false;
    };
    if let Err(error) = block_on(Writer::turn(&writer, 0, work, |()| ())) {
        courier.log.fault("waking subscribers", &error);
        // The next look comes soon, whatever was to be noted.
        let soon = crate::host::now().after(Duration::from_secs(5));
        let _ = courier.own.send(Order::Due(Some(soon)));
    }
    true
}

/// Two clients: what may connect to this machine can connect to nothing else, and the other way
/// round.
#[derive(Clone)]
struct Post {
    public: Agents,
    loopback: Agents,
}

/// A client that trusts the system's certificates, and one for a system that has none.
#[derive(Clone)]
struct Agents {
    system: Agent,
    bundled: Agent,
}

impl Post {
    fn new() -> Self {
        Self {
            public: Agents::new(Reach::Public),
            loopback: Agents::new(Reach::Loopback),
        }
    }

    /// Posts a webhook that waited since a moment.
    fn carry(&self, errand: Errand, since: Instant) -> Outcome {
        let Errand::Webhook {
            url,
            headers,
            body,
            timeout,
            tried: _,
        } = errand
        else {
            return Outcome::Failed;
        };
        let agents = match url.reach() {
            Reach::Public => &self.public,
            Reach::Loopback => &self.loopback,
        };
        let send = |agent: &Agent| {
            let left = timeout.saturating_sub(since.elapsed());
            let mut request = agent.post(url.as_str());
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            let request = request.config().timeout_global(Some(left)).build();
            request.send(body.as_ref())
        };
        if timeout <= since.elapsed() {
            return Outcome::Failed;
        }
        let sent = match send(&agents.system) {
            Err(Error::Rustls(error)) if trust::is_storeless(&error) => send(&agents.bundled),
            sent => sent,
        };
        match sent {
            Ok(mut response) => {
                let status = response.status().as_u16();
                let mut body = Vec::new();
                let reader = response.body_mut().as_reader();
                let read = reader
                    .take(WEBHOOK_ANSWER_BYTES_MAX as u64)
                    .read_to_end(&mut body);
                match read {
                    Ok(_) => Outcome::Answered {
                        status,
                        body: Bytes::from(body),
                    },
                    Err(_) => Outcome::Failed,
                }
            }
            Err(_) => Outcome::Failed,
        }
    }
}

impl Agents {
    fn new(reach: Reach) -> Self {
        Self {
            system: agent(reach, &Trust::default()),
            bundled: agent(reach, &Trust::bundled()),
        }
    }
}

fn agent(reach: Reach, trust: &Trust) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A proxy would resolve the name itself, out of our sight.
        .proxy(None)
        .max_idle_connections_per_host(4)
        .tls_config(trust.config())
        .user_agent(concat!("pmx/", env!("CARGO_PKG_VERSION")))
        .build();
    let resolver = Admitted {
        reach,
        inner: DefaultResolver::default(),
    };
    Agent::with_parts(config, DefaultConnector::default(), resolver)
}

/// Resolves names to addresses that a webhook may go to, and to no others.
#[derive(Debug)]
struct Admitted {
    reach: Reach,
    inner: DefaultResolver,
}

impl Resolver for Admitted {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let resolved = self.inner.resolve(uri, config, timeout)?;
        let mut admitted = self.empty();
        for address in resolved.iter().filter(|it| self.admits(it.ip())) {
            admitted.push(*address);
        }
        if admitted.is_empty() {
            return Err(Error::HostNotFound);
        }
        Ok(admitted)
    }
}

impl Admitted {
    fn admits(&self, address: IpAddr) -> bool {
        self.reach.admits(address)
    }
}
