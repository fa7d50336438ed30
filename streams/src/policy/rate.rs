//! Rate limits of clients and of streams.
//!
//! Each rate is a token bucket, stored as one number: the time at which the bucket is full again.
//! That is the generic cell rate algorithm (ITU-T I.371, "virtual scheduling"). A missing bucket
//! counts as full, so an idle client or stream needs no memory, and dropping a bucket errs towards
//! allowing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pmx_core::time::Timestamp;
use thiserror::Error;

use super::token::ClientId;
use crate::limits::{STREAM_RATE_BUCKETS_MAX, STREAM_RATE_BURST_MAX};

/// A rate: requests per time, and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds from one request to the next.
    interval: u64,
    burst: u64,
}

/// The text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0} is {1:?}; expected rules such as \"50/s\", \"50/s burst 200\" or \
     \"client 50/s burst 200, stream 5000/s\""
)]
pub struct InvalidRate(&'static str, String);

/// A bucket: the time at which it is full, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket(u64);

/// The decision about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The request is allowed.
    Granted {
        /// Further requests that are allowed immediately.
        left: u64,
        /// Time until the bucket is full without further requests.
        full_in: Duration,
    },
    /// The request is refused.
    Refused {
        /// Time until the next request is allowed.
        after: Duration,
    },
}

impl Rate {
    /// Parses `50/s` and `50/s burst 200`; also `/m` and `/h`. The default burst is the number of
    /// requests per unit.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (count, unit) = words.next()?.split_once('/')?;
        let unit: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return None,
        };
        let count = number(count)?;
        let burst = match (words.next(), words.next(), words.next()) {
            (None, None, None) => count,
            (Some("burst"), Some(burst), None) => number(burst)?,
            _ => return None,
        };
        let interval = unit * 1_000_000_000 / count;
        Some(Self { interval, burst })
    }

    /// Takes a token for a request out of the bucket, if there is one.
    pub fn take(&self, bucket: Option<Bucket>, now: Timestamp) -> (Bucket, Decision) {
        let now = now.as_millis().saturating_mul(1_000_000);
        let most = self.interval.saturating_mul(self.burst);
        // After the clock goes back, a client waits at most for an empty bucket.
        let full_at = bucket.map_or(now, |bucket| bucket.0.clamp(now, now.saturating_add(most)));
        let after = full_at.saturating_add(self.interval);
        let (bucket, missing) = match (after - now).checked_sub(most) {
            None | Some(0) => (Bucket(after), None),
            Some(missing) => (Bucket(full_at), Some(missing)),
        };
        let full_in = Duration::from_nanos(bucket.0 - now);
        let decision = match missing {
            Some(missing) => Decision::Refused {
                after: Duration::from_nanos(missing),
            },
            None => Decision::Granted {
                left: (most - (bucket.0 - now)) / self.interval,
                full_in,
            },
        };
        (bucket, decision)
    }

    /// The time in which an empty bucket fills.
    const fn window(self) -> Duration {
        Duration::from_nanos(self.interval.saturating_mul(self.burst))
    }
}

fn number(text: &str) -> Option<u64> {
    let number = text.parse().ok();
    number.filter(|number| (1..=STREAM_RATE_BURST_MAX).contains(number))
}

/// Kind of request, each with its own rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RateClass {
    /// GET and HEAD. A live reader counts as one request.
    Reads,
    /// PUT, POST and DELETE.
    Writes,
}

impl RateClass {
    /// The kind of a request.
    pub fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Reads,
            _ => Self::Writes,
        }
    }
}

/// The owner of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Per {
    /// The client that sends the requests.
    Client,
    /// The stream that gets the requests.
    Stream,
}

impl Per {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Stream => "stream",
        }
    }
}

/// All rates that the operator set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    reads: Pair,
    writes: Pair,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pair {
    client: Option<Rate>,
    stream: Option<Rate>,
}

impl Rates {
    /// Parses `STREAM_RATE_READS` and `STREAM_RATE_WRITES`: comma-separated rules, each for
    /// clients, for streams, or without either word for both.
    pub fn parse(reads: Option<&str>, writes: Option<&str>) -> Result<Self, InvalidRate> {
        Ok(Self {
            reads: Pair::parse("STREAM_RATE_READS", reads)?,
            writes: Pair::parse("STREAM_RATE_WRITES", writes)?,
        })
    }

    fn of(&self, traffic: RateClass, per: Per) -> Option<Rate> {
        let pair = match traffic {
            RateClass::Reads => self.reads,
            RateClass::Writes => self.writes,
        };
        match per {
            Per::Client => pair.client,
            Per::Stream => pair.stream,
        }
    }

    /// Whether there is a rate for this owner.
    fn count(&self, per: Per) -> bool {
        let set = |traffic| self.of(traffic, per).is_some();
        set(RateClass::Reads) || set(RateClass::Writes)
    }
}

impl Pair {
    fn parse(variable: &'static str, text: Option<&str>) -> Result<Self, InvalidRate> {
        let text = text.unwrap_or_default();
        let invalid = || InvalidRate(variable, text.to_owned());
        let mut pair = Self::default();
        for rule in text.split(',').map(str::trim) {
            if rule.is_empty() {
                continue;
            }
            let (whose, rate) = match rule.split_once(' ') {
                Some(("client", rate)) => (&[Per::Client][..], rate),
                Some(("stream", rate)) => (&[Per::Stream][..], rate),
                Some(_) | None => (&[Per::Client, Per::Stream][..], rule),
            };
            let rate = Rate::parse(rate).ok_or_else(invalid)?;
            for per in whose {
                let slot = match per {
                    Per::Client => &mut pair.client,
                    Per::Stream => &mut pair.stream,
                };
                if slot.replace(rate).is_some() {
                    return Err(invalid());
                }
            }
        }
        Ok(pair)
    }
}

type Key = (Per, RateClass, ClientId);

/// The buckets of all recent clients and streams.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    /// The buckets used since `young` was last full; `old` has those used before.
    young: BTreeMap<Key, Bucket>,
    old: BTreeMap<Key, Bucket>,
    most: usize,
}

/// The decisions about a counted request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    decisions: Vec<(Per, Rate, Decision)>,
}

impl Limiter {
    /// A limiter for these owners; `None` if they have no rate.
    pub fn of(rates: Rates, whose: &[Per]) -> Option<Self> {
        let is_needed = whose.iter().any(|&per| rates.count(per));
        is_needed.then(|| Self::new(rates))
    }

    /// A limiter with full buckets.
    const fn new(rates: Rates) -> Self {
        Self {
            rates,
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            most: STREAM_RATE_BUCKETS_MAX,
        }
    }

    /// Counts a request for all its owners. If one refuses it, no bucket loses a token.
    pub fn count(
        &mut self,
        traffic: RateClass,
        whose: &[(Per, ClientId)],
        now: Timestamp,
    ) -> Counted {
        let mut taken = Vec::with_capacity(whose.len());
        for &(per, id) in whose {
            let Some(rate) = self.rates.of(traffic, per) else {
                continue;
            };
            let key = (per, traffic, id);
            let known = self.young.get(&key).or_else(|| self.old.get(&key));
            taken.push((key, rate, rate.take(known.copied(), now)));
        }
        let decisions = taken
            .iter()
            .map(|&((per, ..), rate, (_, decision))| (per, rate, decision));
        let counted = Counted {
            decisions: decisions.collect(),
        };
        let all = counted.refused().is_none();
        for (key, _, (bucket, decision)) in taken {
            // A refused bucket is saved too: dropping it would fill it.
            if all || matches!(decision, Decision::Refused { .. }) {
                self.insert(key, bucket);
            }
        }
        counted
    }

    fn insert(&mut self, key: Key, bucket: Bucket) {
        if self.young.len() >= self.most && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, bucket);
    }
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Counted {
    /// The owner and the delay of the longest refusal, if there is one.
    pub fn refused(&self) -> Option<(Per, Duration)> {
        let refused = self
            .decisions
            .iter()
            .filter_map(|(per, _, decision)| match decision {
                Decision::Refused { after } => Some((*per, *after)),
                Decision::Granted { .. } => None,
            });
        refused.max_by_key(|(_, after)| *after)
    }

    /// Adds the rate limit headers (draft-ietf-httpapi-ratelimit-headers-10), if there is a rate.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let (mut state, mut policy) = (String::new(), String::new());
        for (per, rate, decision) in &self.decisions {
            let (left, time) = match decision {
                Decision::Granted { left, full_in } => (*left, *full_in),
                Decision::Refused { after } => (0, *after),
            };
            let comma = if state.is_empty() { "" } else { ", " };
            let (name, time) = (per.name(), whole_seconds(time));
            let window = whole_seconds(rate.window());
            // Writing to a String does not fail.
            let _ = write!(state, "{comma}\"{name}\";r={left};t={time}");
            let _ = write!(policy, "{comma}\"{name}\";q={};w={window}", rate.burst);
        }
        for (name, text) in [(RATE_LIMIT, state), (RATE_LIMIT_POLICY, policy)] {
            if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(&text)) {
                headers.append(name, value);
            }
        }
    }
}

/// Seconds, rounded up.
pub(crate) const fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + (time.subsec_nanos() > 0) as u64
}

#[cfg(test)]
mod tests;
