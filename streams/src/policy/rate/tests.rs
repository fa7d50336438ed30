use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_795_339_200_000 + millis)
}

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

fn client(name: &str) -> ClientId {
    ClientId::of("address", name.as_bytes())
}

#[test]
fn parse_accepts_rules_for_clients_and_streams() {
    let both = |rate: &str| Some(Rate::parse(rate).unwrap());
    let parse = |text: &str| Pair::parse("STREAM_RATE_READS", Some(text));
    assert_eq!(parse(""), Ok(Pair::default()));
    let pair = parse("50/s burst 200").unwrap();
    assert_eq!(
        (pair.client, pair.stream),
        (both("50/s burst 200"), both("50/s burst 200"))
    );
    let pair = parse("client 50/s burst 200, stream 5000/s").unwrap();
    assert_eq!(
        (pair.client, pair.stream),
        (both("50/s burst 200"), both("5000/s burst 5000"))
    );
    let pair = parse("stream 3/m").unwrap();
    assert_eq!(
        (pair.client, pair.stream),
        (None, Some(rate("3/m burst 3")))
    );
    for text in [
        "50",
        "50/d",
        "/s",
        "0/s",
        "-1/s",
        "1.5/s",
        "50/s burst",
        "50/s burst 0",
        "50/s 200",
        "50/s burst 1 x",
        "user 50/s",
        "50/s, 60/s",
        "50/s, client 1/s",
        "1000001/s",
        "x",
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(
            error.contains("STREAM_RATE_READS") && error.contains(text),
            "{error}"
        );
    }
}

#[test]
fn take_empties_the_bucket_which_refills() {
    let rate = rate("10/s burst 3");
    let mut bucket = None;
    let mut take = |millis| {
        let (after, decision) = rate.take(bucket, at(millis));
        bucket = Some(after);
        decision
    };
    let granted = |left, millis| Decision::Granted {
        left,
        full_in: Duration::from_millis(millis),
    };
    let refused = |millis| Decision::Refused {
        after: Duration::from_millis(millis),
    };
    assert_eq!(take(0), granted(2, 100));
    assert_eq!(take(0), granted(1, 200));
    assert_eq!(take(0), granted(0, 300));
    assert_eq!(take(0), refused(100));
    assert_eq!(take(99), refused(1));
    assert_eq!(take(100), granted(0, 300));
    assert_eq!(take(10_000), granted(2, 100));
    // The clock goes back by an hour, and no client waits for an hour.
    let (_, decision) = rate.take(Some(Bucket(at(3_600_000).as_millis() * 1_000_000)), at(0));
    assert_eq!(decision, refused(100));
    let never = rate.take(Some(Bucket(u64::MAX)), Timestamp::from_millis(u64::MAX));
    assert!(matches!(
        never.1,
        Decision::Granted { .. } | Decision::Refused { .. }
    ));
}

#[test]
fn count_takes_no_token_unless_all_owners_grant() {
    let rates = Rates::parse(None, Some("client 1/s burst 2, stream 1/s burst 3")).unwrap();
    let mut limiter = Limiter::new(rates);
    let stream = (Per::Stream, client("s"));
    let mut ask = |name: &str| {
        let whose = [(Per::Client, client(name)), stream];
        limiter.count(RateClass::Writes, &whose, at(0)).refused()
    };
    assert_eq!(ask("a"), None);
    assert_eq!(ask("a"), None);
    let second = Duration::from_secs(1);
    for _ in 0..5 {
        assert_eq!(ask("a"), Some((Per::Client, second)));
    }
    // The refusals took no token of the stream.
    assert_eq!(ask("b"), None);
    assert_eq!(ask("b"), Some((Per::Stream, second)));
    let reads = limiter.count(RateClass::Reads, &[stream], at(0));
    assert_eq!(reads, Counted::default(), "reads are not limited");
}

#[test]
fn write_headers_renders_state_and_policy() {
    let rates = Rates::parse(Some("client 50/s burst 200, stream 1/m burst 1"), None).unwrap();
    assert!(rates.count(Per::Client) && rates.count(Per::Stream));
    assert!(!Rates::default().count(Per::Client));
    let mut limiter = Limiter::new(rates);
    let whose = [(Per::Client, client("a")), (Per::Stream, client("s"))];
    let mut rendered = || {
        let mut headers = HeaderMap::new();
        limiter
            .count(RateClass::Reads, &whose, at(0))
            .write_headers(&mut headers);
        let text = |name| headers[name].to_str().unwrap().to_owned();
        (text("ratelimit"), text("ratelimit-policy"))
    };
    let policy = r#""client";q=200;w=4, "stream";q=1;w=60"#.to_owned();
    let first = r#""client";r=199;t=1, "stream";r=0;t=60"#.to_owned();
    assert_eq!(rendered(), (first, policy.clone()));
    let second = r#""client";r=198;t=1, "stream";r=0;t=60"#.to_owned();
    assert_eq!(rendered(), (second, policy));
    let mut headers = HeaderMap::new();
    Counted::default().write_headers(&mut headers);
    assert!(headers.is_empty());
}

#[test]
fn limiter_bounds_buckets_and_keeps_those_in_use() {
    let mut limiter = Limiter::new(Rates::parse(Some("1/h burst 2"), None).unwrap());
    limiter.most = 8;
    let mut ask = |name: &str| {
        let counted = limiter.count(RateClass::Reads, &[(Per::Client, client(name))], at(0));
        assert!(limiter.young.len() <= 8 && limiter.old.len() <= 8);
        counted.refused().is_none()
    };
    assert!(ask("a"));
    assert!(ask("a"));
    for number in 0..7 {
        ask(&number.to_string());
    }
    assert!(!ask("a"), "it is known still");
    for number in 7..40 {
        ask(&number.to_string());
    }
    assert!(ask("a"), "it was forgotten");
}

proptest! {
    /// In every time span, it grants at most the burst and the rate's share.
    #[test]
    fn take_grants_at_most_the_burst_and_the_rate(
        per_second in 1u64..200,
        burst in 1u64..50,
        pauses in prop::collection::vec(0u64..80, 1..200),
    ) {
        let rate = rate(&format!("{per_second}/s burst {burst}"));
        let (mut bucket, mut now) = (None, 0);
        let mut granted = Vec::new();
        for pause in pauses {
            now += pause;
            let (after, decision) = rate.take(bucket, at(now));
            bucket = Some(after);
            match decision {
                Decision::Granted { left, full_in } => {
                    prop_assert!(left < burst && full_in <= rate.window());
                    granted.push(now);
                }
                Decision::Refused { after } => {
                    // A client that waits for `after` is granted.
                    let later = now + after.as_millis() as u64 + 1;
                    let again = rate.take(bucket, at(later)).1;
                    let is_granted = matches!(again, Decision::Granted { .. });
                    prop_assert!(is_granted, "after {:?}", after);
                }
            }
        }
        for (from, start) in granted.iter().enumerate() {
            for (to, end) in granted.iter().enumerate().skip(from) {
                let yielded = (end - start) * per_second / 1_000 + 1;
                prop_assert!((to - from + 1) as u64 <= burst + yielded);
            }
        }
    }
}
