//! Webhook dispatcher: delivers webhooks, copies fan-outs, and looks for due wakes.
//!
//! One thread orders the deliveries and their times. Each delivery in flight has a thread of its
//! own, up to a limit, because a webhook may take as long as its worker's lease. The database
//! stores each wake until its outcome is recorded, so a crash loses none.

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
use pmx_streams::subscription::{Copying, Effect, EffectOutcome, LeaseRef, PlatformAction, Reach};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Request, Url};

use super::cold::SegmentFolder;
use super::readers::Readers;
use super::savepoint::Savepoints;
use super::transaction::{Transaction, storage};
use super::writer::{StreamWriter, WeakWriter, run_with_restarts};
use crate::error::Failure;
use crate::host::access_log::Log;
use crate::host::blocking::block_on;
use crate::host::panics::guarded;
use crate::http_client::{self, HttpClient, Versions};
use crate::trust::Trust;

/// A message to the dispatcher.
pub(super) enum DispatchRequest {
    /// Webhooks to send, and messages to copy.
    Deliver(Vec<Effect>),
    /// When the next wake is due, if any is.
    Due(Option<Timestamp>),
    /// A delivery finished.
    Finished,
}

/// Most deliveries that wait for a thread. Others count as failed, and are retried.
const WAITING_MAX: usize = 1_024;

const _: () = assert!(WAKE_EFFECTS_MAX * super::subscription_events::ROUNDS_MAX <= WAITING_MAX);

/// Most deliveries in flight.
const IN_FLIGHT_MAX: usize = 64;

/// The longest wait.
const IDLE_TIME: Duration = Duration::from_hours(1);

/// The shortest wait between two checks for due wakes.
const PAUSE_TIME: Duration = Duration::from_millis(5);

/// The state that deliveries need, and the dispatcher's own queue.
#[derive(Clone)]
pub(super) struct WebhookDispatcher {
    /// Weak, so that the dispatcher does not keep the writer running.
    pub(super) writer: WeakWriter,
    pub(super) readers: Arc<Readers>,
    pub(super) cold: Arc<SegmentFolder>,
    pub(super) requests: Sender<DispatchRequest>,
    pub(super) log: Log,
}

struct DispatchLoop {
    dispatcher: WebhookDispatcher,
    clients: WebhookClients,
    waiting: VecDeque<(Effect, Instant)>,
    in_flight: usize,
}

impl WebhookDispatcher {
    /// Starts the thread. It first checks for due wakes: a crash may have interrupted some.
    pub(super) fn start(self, requests: Receiver<DispatchRequest>) -> std::io::Result<()> {
        let name = "pmx-webhooks".to_owned();
        let mut dispatch = DispatchLoop {
            dispatcher: self,
            clients: WebhookClients::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
        };
        let thread = std::thread::Builder::new().name(name);
        let log = dispatch.dispatcher.log;
        let work = move || run_with_restarts(log, || dispatch.run(&requests));
        thread.spawn(work).map(drop)
    }
}

impl DispatchLoop {
    fn run(&mut self, requests: &Receiver<DispatchRequest>) {
        let mut due = Some(Timestamp::from_millis(0));
        loop {
            let now = crate::host::now().as_millis();
            let wait = due.map_or(IDLE_TIME, |at| {
                Duration::from_millis(at.as_millis().saturating_sub(now)).max(PAUSE_TIME)
            });
            match requests.recv_timeout(wait.min(IDLE_TIME)) {
                Ok(DispatchRequest::Due(next)) => due = next,
                Ok(DispatchRequest::Deliver(effects)) => self.enqueue(effects),
                Ok(DispatchRequest::Finished) => self.in_flight = self.in_flight.saturating_sub(1),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    // The transaction returns when the next wake is due.
                    due = None;
                    let check = |it: &Transaction<'_, Savepoints<'_>>| {
                        it.mark_due();
                        Ok(())
                    };
                    if !transact(&self.dispatcher, check) {
                        return;
                    }
                }
            }
            self.start_deliveries();
        }
    }

    fn enqueue(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back((effect, Instant::now()));
            } else {
                record_outcome(&self.dispatcher, &effect.lease, EffectOutcome::Failed);
            }
        }
    }

    fn start_deliveries(&mut self) {
        while self.in_flight < IN_FLIGHT_MAX
            && let Some((effect, since)) = self.waiting.pop_front()
        {
            let dispatcher = self.dispatcher.clone();
            let (clients, lease) = (self.clients.clone(), effect.lease);
            let thread = std::thread::Builder::new().name("pmx-webhook".to_owned());
            let started = thread.spawn(move || {
                let delivered = guarded(dispatcher.log, || match effect.action {
                    PlatformAction::Copy(copying) => copy(&dispatcher, lease, &copying),
                    action @ (PlatformAction::Webhook { .. } | PlatformAction::Append { .. }) => {
                        record_outcome(&dispatcher, &lease, clients.post(action, since));
                    }
                });
                if delivered.is_err() {
                    record_outcome(&dispatcher, &lease, EffectOutcome::Failed);
                }
                // Fails only if the dispatcher has ended.
                let _ = dispatcher.requests.send(DispatchRequest::Finished);
            });
            match started {
                Ok(_) => self.in_flight += 1,
                Err(error) => {
                    self.dispatcher
                        .log
                        .fault("starting a webhook's thread", &error);
                    record_outcome(&self.dispatcher, &lease, EffectOutcome::Failed);
                }
            }
        }
    }
}

/// Records the outcome of a delivery.
fn record_outcome(dispatcher: &WebhookDispatcher, lease: &LeaseRef, outcome: EffectOutcome) {
    let lease = *lease;
    transact(dispatcher, move |it| {
        it.on_delivery_result(&lease, &outcome).map_err(storage)
    });
}

/// Copies messages from one stream to another. The read does not block the writer, and one
/// transaction appends the copies and records the outcome.
fn copy(dispatcher: &WebhookDispatcher, lease: LeaseRef, copying: &Copying) {
    let read = async |read| {
        let WebhookDispatcher { readers, cold, .. } = dispatcher;
        let page = readers.page(&copying.source, read, cold, crate::host::now());
        page.map(|(page, ..)| page)
    };
    match block_on(copying.gather(read)) {
        Ok(copies) => {
            let target = copying.target.clone();
            transact(dispatcher, move |it| {
                it.append_copies(&lease, &target, &copies)
            });
        }
        Err(_) => record_outcome(dispatcher, &lease, EffectOutcome::Failed),
    }
}

/// Runs a transaction. Returns false if the host has ended.
fn transact(
    dispatcher: &WebhookDispatcher,
    work: impl FnOnce(&Transaction<'_, Savepoints<'_>>) -> Result<(), Refusal> + Send + 'static,
) -> bool {
    let Some(writer) = dispatcher.writer.upgrade() else {
        return false;
    };
    if let Err(error) = block_on(StreamWriter::transact(&writer, 0, work, |()| ())) {
        dispatcher.log.fault("waking subscribers", &error);
        // The outcome is lost, so the dispatcher checks for due wakes soon.
        let soon = crate::host::now().after(Duration::from_secs(5));
        let _ = dispatcher.requests.send(DispatchRequest::Due(Some(soon)));
    }
    true
}

/// Two clients: one connects only to public addresses, the other only to this machine.
#[derive(Clone)]
struct WebhookClients {
    public: Arc<Route>,
    loopback: Arc<Route>,
}

/// The client for one reach, built for its first webhook.
struct Route {
    reach: Reach,
    http: OnceLock<Option<HttpClient>>,
}

impl WebhookClients {
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

    /// Posts a webhook that has waited since a time.
    fn post(&self, action: PlatformAction, since: Instant) -> EffectOutcome {
        let PlatformAction::Webhook {
            url,
            headers,
            body,
            timeout,
            attempt: _,
        } = action
        else {
            return EffectOutcome::Failed;
        };
        let route = match url.reach() {
            Reach::Public => &self.public,
            Reach::Loopback => &self.loopback,
        };
        let left = timeout.saturating_sub(since.elapsed());
        if left.is_zero() {
            return EffectOutcome::Failed;
        }
        let posted = route.send(url.as_str(), &headers, body, left);
        posted.unwrap_or(EffectOutcome::Failed)
    }
}

impl Route {
    /// Posts a body and reads the beginning of the response, within a time limit. `None` if there
    /// is no response.
    fn send(
        &self,
        url: &str,
        headers: &[(HeaderName, String)],
        body: impl Into<reqwest::Body>,
        time: Duration,
    ) -> Option<EffectOutcome> {
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
        // The timeout needs the runtime's clock.
        let answered = async { tokio::time::timeout(time, answered(http, request)).await };
        http.wait(answered).ok()?.ok()
    }
}

async fn answered(http: &HttpClient, request: Request) -> reqwest::Result<EffectOutcome> {
    let mut response = http.client().execute(request).await?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < WEBHOOK_ANSWER_BYTES_MAX
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(WEBHOOK_ANSWER_BYTES_MAX);
    Ok(EffectOutcome::Answered {
        status,
        body: Bytes::from(body),
    })
}

fn connections(reach: Reach) -> Result<HttpClient, Failure> {
    // No proxy: it would resolve the name itself, without the check.
    let builder = http_client::builder(&Trust::default(), Versions::Http1)?
        .pool_max_idle_per_host(4)
        .dns_resolver(Arc::new(AdmittingResolver { reach }))
        .user_agent(concat!("pmx/", env!("CARGO_PKG_VERSION")));
    HttpClient::new(builder)
}

/// Whether a webhook may go to a URL's IP address, which the client does not resolve. True for
/// names.
fn admits_literal(reach: Reach, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address: Result<IpAddr, _> = bare.parse();
    address.map_or(true, |address| reach.admits(address))
}

/// Resolver that returns only addresses that a webhook may go to.
#[derive(Debug)]
struct AdmittingResolver {
    reach: Reach,
}

impl Resolve for AdmittingResolver {
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
    fn send_connects_only_within_the_reach() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let clients = WebhookClients::new();
        // The resolver checks names by their addresses. Addresses are checked in any notation.
        for host in [
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0x7f.1",
            "[::ffff:127.0.0.1]",
        ] {
            let url = format!("http://{host}:{port}/hook");
            let time = Duration::from_secs(10);
            let posted = clients.public.send(&url, &[], "body", time);
            assert!(posted.is_none(), "{host}");
            let accepted = listener.accept().map(drop).map_err(|error| error.kind());
            assert_eq!(accepted, Err(ErrorKind::WouldBlock), "{host}");
        }
        let time = Duration::from_millis(500);
        let url = format!("http://localhost:{port}/hook");
        // The client connects, but no server answers.
        let posted = clients.loopback.send(&url, &[], "body", time);
        assert!(posted.is_none());
        assert!(listener.accept().is_ok());
        let outside = "http://192.0.2.1/hook";
        let since = Instant::now();
        let posted = clients.loopback.send(outside, &[], "body", time);
        assert!(
            posted.is_none() && since.elapsed() < time,
            "refused, not lost"
        );
    }
}
