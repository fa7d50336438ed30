//! Carries webhooks to where they go, copies what is followed into other streams, and comes by when
//! wakes are due.
//!
//! One thread keeps the order and the time; each webhook under way has a thread of its own, up to a
//! number, because a webhook may take as long as its worker's lease. What is lost with the process
//! is not lost: the ledger knows that nobody answered.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderName;
use pmx_core::time::Timestamp;
use pmx_streams::Refusal;
use pmx_streams::limits::{WAKE_EFFECTS_MAX, WEBHOOK_ANSWER_BYTES_MAX};
use pmx_streams::subscription::{Copying, Effect, Errand, Outcome, Reach, Ticket};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Request, Url};

use super::cold::SegmentFolder;
use super::readers::Readers;
use super::savepoint::Batch;
use super::turn::{Turn, storage};
use super::writer::{WeakWriter, Writer, steadily};
use crate::error::Failure;

use crate::host::access_log::Log;
use crate::host::blocking::block_on;
use crate::host::panics::guarded;
use crate::http_client::{self, HttpClient, Versions};
use crate::trust::Trust;

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
    public: Arc<Route>,
    loopback: Arc<Route>,
}

/// A client of the hosts within a reach, built when the first webhook goes there.
struct Route {
    reach: Reach,
    http: OnceLock<Option<HttpClient>>,
}

impl Post {
    fn new() -> Self {
        let route = |reach| Route {
            reach,
            http: OnceLock::new(),
        };
        Self {
            public: Arc::new(route(Reach::Public)),
            loopback: Arc::new(route(Reach::Loopback)),
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
        let route = match url.reach() {
            Reach::Public => &self.public,
            Reach::Loopback => &self.loopback,
        };
        let left = timeout.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Outcome::Failed;
        }
        let posted = route.post(url.as_str(), &headers, body, left);
        posted.unwrap_or(Outcome::Failed)
    }
}

impl Route {
    /// Posts a body and reads the beginning of the answer, all of it within a time. Returns nothing
    /// if there is no answer.
    fn post(
        &self,
        url: &str,
        headers: &[(HeaderName, String)],
        body: impl Into<reqwest::Body>,
        time: Duration,
    ) -> Option<Outcome> {
        let http = self.http.get_or_init(|| connections(self.reach).ok());
        let http = http.as_ref()?;
        let mut request = http.client().post(url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.build().ok()?;
        if !admits_literal(self.reach, request.url()) {
            return None;
        }
        // Within the event loop, whose clock it is.
        let answered = async { tokio::time::timeout(time, answered(http, request)).await };
        http.wait(answered).ok()?.ok()
    }
}

async fn answered(http: &HttpClient, request: Request) -> reqwest::Result<Outcome> {
    let mut response = http.client().execute(request).await?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < WEBHOOK_ANSWER_BYTES_MAX
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(WEBHOOK_ANSWER_BYTES_MAX);
    Ok(Outcome::Answered {
        status,
        body: Bytes::from(body),
    })
}

fn connections(reach: Reach) -> Result<HttpClient, Failure> {
    // No proxy: it would resolve the name itself, out of our sight.
    let builder = http_client::builder(&Trust::default(), Versions::Http1)?
        .pool_max_idle_per_host(4)
        .dns_resolver(Arc::new(Admitted { reach }))
        .user_agent(concat!("pmx/", env!("CARGO_PKG_VERSION")));
    HttpClient::new(builder)
}

/// Whether a webhook may go to the address that a URL has in place of a name, which is connected to
/// without being resolved.
fn admits_literal(reach: Reach, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address: Result<IpAddr, _> = bare.parse();
    address.map_or(true, |address| reach.admits(address))
}

/// Resolves names to addresses that a webhook may go to, and to no others.
#[derive(Debug)]
struct Admitted {
    reach: Reach,
}

impl Resolve for Admitted {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.reach;
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut admitted = resolved.filter(|it| reach.admits(it.ip())).peekable();
            if admitted.peek().is_none() {
                return Err("the host has no address that a webhook may go to".into());
            }
            let admitted: Vec<SocketAddr> = admitted.collect();
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_is_made_only_within_the_reach() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let post = Post::new();
        // Names are judged by what they resolve to, and addresses however they are spelt.
        for host in [
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0x7f.1",
            "[::ffff:127.0.0.1]",
        ] {
            let url = format!("http://{host}:{port}/hook");
            let time = Duration::from_secs(10);
            let posted = post.public.post(&url, &[], "body", time);
            assert!(posted.is_none(), "{host}");
            let accepted = listener.accept().map(drop).map_err(|error| error.kind());
            assert_eq!(accepted, Err(ErrorKind::WouldBlock), "{host}");
        }
        let time = Duration::from_millis(500);
        let url = format!("http://localhost:{port}/hook");
        // Nothing answers, but the connection is made.
        let posted = post.loopback.post(&url, &[], "body", time);
        assert!(posted.is_none());
        assert!(listener.accept().is_ok());
        let outside = "http://192.0.2.1/hook";
        let since = Instant::now();
        let posted = post.loopback.post(outside, &[], "body", time);
        assert!(
            posted.is_none() && since.elapsed() < time,
            "refused, not lost"
        );
    }
}
