//! Interleaved rounds: every contender once, then every contender again.
//!
//! A machine's speed drifts while a benchmark runs. Contenders that take turns drift together. So a
//! ratio within one round is more exact than a ratio of two medians. The result is the median of
//! the rounds' ratios.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::run::Run;

/// One measurement: cost of a process, and further facts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Seconds of wall time.
    pub(crate) wall: f64,
    /// Seconds of processor time.
    pub(crate) cpu: f64,
    /// Peak resident bytes.
    pub(crate) peak: f64,
    /// Other numbers by name, such as `sent` or `requests`.
    pub(crate) facts: BTreeMap<&'static str, f64>,
}

impl Sample {
    /// Adds a number to the sample.
    pub(crate) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.facts.insert(name, value);
        self
    }
}

impl From<&Run> for Sample {
    fn from(run: &Run) -> Self {
        Self {
            wall: run.wall.as_secs_f64(),
            cpu: run.cpu.as_secs_f64(),
            peak: run.peak_bytes as f64,
            facts: BTreeMap::new(),
        }
    }
}

/// A number of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Seconds of wall time.
    Wall,
    /// Seconds of processor time.
    Cpu,
    /// Peak resident bytes.
    Peak,
    /// One of the sample's other numbers.
    Fact(&'static str),
}

impl Measure {
    fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Wall => Some(sample.wall),
            Self::Cpu => Some(sample.cpu),
            Self::Peak => Some(sample.peak),
            Self::Fact(name) => sample.facts.get(name).copied(),
        }
    }
}

type Workload<'a> = Box<dyn FnMut(usize) -> Result<Sample> + 'a>;

/// A contender, which takes turns with others. Its preparation and cleanup are not part of the
/// sample.
pub(crate) struct Contender<'a> {
    name: &'static str,
    turn: Result<Workload<'a>>,
    rounds_max: usize,
}

impl<'a> Contender<'a> {
    /// A contender, and its turn in round `n` (0 is the unmeasured one).
    pub(crate) fn new(name: &'static str, turn: impl FnMut(usize) -> Result<Sample> + 'a) -> Self {
        Self {
            name,
            turn: Ok(Box::new(turn)),
            rounds_max: usize::MAX,
        }
    }

    /// A contender whose setup may have failed: then its rows give the reason.
    pub(crate) fn from_setup<T>(
        name: &'static str,
        made: Result<T>,
        mut turn: impl FnMut(&mut T, usize) -> Result<Sample> + 'a,
    ) -> Self
    where
        T: 'a,
    {
        match made {
            Ok(mut made) => Self::new(name, move |round| turn(&mut made, round)),
            Err(error) => Self {
                name,
                turn: Err(error),
                rounds_max: 0,
            },
        }
    }

    /// Limits the contender to the first `rounds`: for peers so slow that more would add no
    /// information.
    pub(crate) fn at_most(mut self, rounds: usize) -> Self {
        self.rounds_max = rounds;
        self
    }
}

/// Samples of one contender, round by round, or the reason for its absence.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    samples: Vec<Sample>,
    absent: Option<String>,
}

impl Series {
    /// The reason for missing numbers, if they are missing.
    pub(crate) fn absent(&self) -> Option<&str> {
        self.absent.as_deref()
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, measure: Measure) -> Option<f64> {
        median(self.samples.iter().filter_map(|sample| measure.of(sample)))
    }

    /// The largest over the rounds, for upper limits.
    pub(crate) fn worst(&self, measure: Measure) -> Option<f64> {
        self.samples
            .iter()
            .filter_map(|sample| measure.of(sample))
            .max_by(f64::total_cmp)
    }

    /// The smallest over the rounds, for lower limits.
    pub(crate) fn least(&self, measure: Measure) -> Option<f64> {
        self.samples
            .iter()
            .filter_map(|sample| measure.of(sample))
            .min_by(f64::total_cmp)
    }

    /// The median of `self / other` over the rounds that both have.
    pub(crate) fn ratio(&self, other: &Self, measure: Measure) -> Option<f64> {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.filter_map(|(a, b)| Some(measure.of(a)? / measure.of(b)?)))
    }
}

/// Runs one unmeasured round and then `rounds` measured ones. A contender that fails is dropped
/// with its reason; the others continue. The result has the order of `contenders`.
pub(crate) fn interleave<const N: usize>(
    rounds: usize,
    contenders: [Contender<'_>; N],
) -> [Series; N] {
    let mut entered = contenders.map(|contender| {
        let series = Series {
            name: contender.name,
            samples: Vec::new(),
            absent: contender
                .turn
                .as_ref()
                .err()
                .map(|error| format!("{error:#}")),
        };
        (contender, series)
    });
    for round in 0..=rounds {
        for (contender, series) in &mut entered {
            take_turn(contender, series, round);
        }
    }
    for (_, series) in &entered {
        say(series);
    }
    entered.map(|(_, series)| series)
}

fn take_turn(contender: &mut Contender<'_>, series: &mut Series, round: usize) {
    let Ok(turn) = &mut contender.turn else {
        return;
    };
    if series.absent.is_some() || round > contender.rounds_max {
        return;
    }
    match turn(round) {
        Ok(_) if round == 0 => {}
        Ok(sample) => series.samples.push(sample),
        Err(error) => {
            series.samples.clear();
            series.absent = Some(format!("{error:#}"));
        }
    }
}

fn say(series: &Series) {
    match (series.absent(), series.median(Measure::Wall)) {
        (Some(reason), _) => eprintln!("   {}: {reason}", series.name),
        // A library call is no process, so only the table has its numbers.
        (None, Some(0.0)) => {}
        (None, Some(seconds)) => eprintln!(
            "   {}: {seconds:.3} s, cpu {:.2} s, peak {:.0} MiB",
            series.name,
            series.median(Measure::Cpu).unwrap_or_default(),
            series.worst(Measure::Peak).unwrap_or_default() / f64::from(1 << 20),
        ),
        (None, None) => eprintln!("   {}: not measured", series.name),
    }
}

/// The middle value, or the mean of the two middle values.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use anyhow::bail;

    use super::*;

    fn taking(seconds: f64) -> Sample {
        Sample {
            wall: seconds,
            ..Sample::default()
        }
    }

    #[test]
    fn contenders_take_turns_and_the_first_round_is_not_measured() {
        let order = RefCell::new(String::new());
        let note = |name: char| {
            let order = &order;
            move |_: usize| {
                order.borrow_mut().push(name);
                Ok(taking(1.0))
            }
        };
        let [a, b] = interleave(
            3,
            [
                Contender::new("a", note('a')),
                Contender::new("b", note('b')).at_most(1),
            ],
        );
        assert_eq!(*order.borrow(), "ababaa");
        assert_eq!((a.samples.len(), b.samples.len()), (3, 1));
    }

    #[test]
    fn a_ratio_is_made_round_by_round() {
        // The machine is ten times slower in the second round, without effect on the ratio.
        let speed = [1.0, 1.0, 10.0, 1.0];
        let [a, b] = interleave(
            3,
            [
                Contender::new("a", |round| Ok(taking(2.0 * speed[round]))),
                Contender::new("b", |round| Ok(taking(4.0 * speed[round]))),
            ],
        );
        assert_eq!(a.ratio(&b, Measure::Wall), Some(0.5));
        assert_eq!(a.median(Measure::Wall), Some(2.0));
        assert_eq!(a.worst(Measure::Wall), Some(20.0));
    }

    #[test]
    fn one_that_fails_keeps_its_reason_and_the_others_go_on() {
        let [a, b, c] = interleave(
            2,
            [
                Contender::new("a", |_| bail!("broken")),
                Contender::new("b", |_| Ok(taking(1.0))),
                Contender::from_setup("c", Err::<(), _>(anyhow::anyhow!("missing")), |(), _| {
                    Ok(taking(1.0))
                }),
            ],
        );
        assert_eq!(a.absent(), Some("broken"));
        assert_eq!(b.median(Measure::Wall), Some(1.0));
        assert_eq!(c.absent(), Some("missing"));
        assert_eq!(b.ratio(&a, Measure::Wall), None);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
