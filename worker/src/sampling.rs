//! Log sampling: selects the requests and commands that get a line. Cloudflare bills each line.
//!
//! A line has the operations since the line before it. So the sum over all lines is the isolate's
//! total.

/// The share of ordinary lines that are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SampleRate(f64);

/// One page view in a hundred: enough for rates and times, at a hundredth of the price.
const SHARE: f64 = 0.01;

/// Origin of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A holder of the publish secret, or a command that changes a space.
    Publisher,
    /// A visitor.
    Reader,
}

impl SampleRate {
    /// Reads an operator's choice, from 0 to 1.
    pub(crate) fn parse(text: Option<&str>) -> Option<Self> {
        let Some(text) = text else {
            return Some(Self(SHARE));
        };
        let share = text.trim().parse::<f64>().ok();
        share.filter(|share| (0.0..=1.0).contains(share)).map(Self)
    }

    /// Whether a line is written. `draw` is uniform over 0 to 1, excluding 1.
    ///
    /// Publishes and errors always get a line. A missing path is no error of the server, and
    /// strangers request many. So it counts as a page view.
    pub(crate) fn takes(self, by: By, status: u16, draw: f64) -> bool {
        let is_error = status >= 400 && status != 404;
        by == By::Publisher || is_error || draw < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_and_errors_always_have_a_line() {
        let none = SampleRate::parse(Some("0")).unwrap();
        for (by, status, expected) in [
            (By::Publisher, 200, true),
            (By::Publisher, 404, true),
            (By::Reader, 500, true),
            (By::Reader, 401, true),
            (By::Reader, 404, false),
            (By::Reader, 304, false),
            (By::Reader, 200, false),
        ] {
            assert_eq!(none.takes(by, status, 0.0), expected, "{by:?} {status}");
        }
    }

    #[test]
    fn page_views_have_one_by_their_share() {
        let lines = |text: Option<&str>| {
            let share = SampleRate::parse(text).unwrap();
            let draws = (0..1000).map(|n| f64::from(n) / 1000.0);
            draws
                .filter(|draw| share.takes(By::Reader, 200, *draw))
                .count()
        };
        assert_eq!(lines(None), 10);
        assert_eq!(lines(Some("0.5")), 500);
        assert_eq!(lines(Some("1")), 1000);
        assert_eq!(lines(Some("0")), 0);
        for bad in ["", "-0.1", "1.1", "NaN", "inf", "10%"] {
            assert_eq!(SampleRate::parse(Some(bad)), None, "{bad}");
        }
    }
}
