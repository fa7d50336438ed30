//! `pmx stream-token` on the command line.

use std::time::Duration;

use clap::Args;

/// `pmx stream-token`
#[derive(Debug, Args)]
pub struct StreamTokenArgs {
    /// Name of the stream, or a pattern: `*` is a segment of a name, `**` any number of them
    #[arg(long, value_name = "NAME|PATTERN")]
    pub stream: String,
    /// What the holder may do: read, write (append, close), manage (create, delete), claim
    /// (the work of subscriptions), or several
    #[arg(long, value_name = "SCOPE", default_value = "read")]
    pub scope: String,
    /// How long it counts: 90s, 15m, 1h, 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub expires: Duration,
    /// Who the holder is; tokens with the same id share one limit of requests
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
}

/// Reads a duration: a number and a unit of time.
fn time(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number and s, m, h or d".to_owned();
    let unit = text.chars().next_back().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default().parse::<u32>();
    let number = number.map_err(|_| expected())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "1", "h", "-1h", "1hh", "1.5h", "\u{20ac}"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
