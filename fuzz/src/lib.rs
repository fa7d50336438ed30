//! Fuzzed formats: each format from outside has a property of its reader that holds for any bytes,
//! and seeds.
//!
//! A property panics if it does not hold. `cargo xtask fuzz` runs each under libFuzzer. The tests
//! below run each on its seeds and on damaged copies of them.

#![forbid(unsafe_code)]

mod http_head;
mod manifest;
mod page;
mod publish;
mod rules;
mod seeds;
mod segment;

/// A format, by its name in commands.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// Its name.
    pub name: &'static str,
    /// The property of its reader, for any bytes.
    pub check: fn(&[u8]),
    /// Valid inputs, from which the fuzzer starts.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All formats.
pub const FORMATS: [Format; 10] = [
    Format {
        name: "node",
        check: manifest::node,
        seeds: seeds::nodes,
    },
    Format {
        name: "patch",
        check: manifest::patch,
        seeds: seeds::patches,
    },
    Format {
        name: "pack",
        check: publish::pack,
        seeds: seeds::packs,
    },
    Format {
        name: "part",
        check: publish::part,
        seeds: seeds::parts,
    },
    Format {
        name: "envelope",
        check: publish::envelope,
        seeds: seeds::envelopes,
    },
    Format {
        name: "segment",
        check: segment::object,
        seeds: seeds::segments,
    },
    Format {
        name: "events-message",
        check: page::events_message,
        seeds: seeds::events_messages,
    },
    Format {
        name: "stream-head",
        check: http_head::of_stream,
        seeds: seeds::stream_heads,
    },
    Format {
        name: "injection",
        check: page::injection,
        seeds: seeds::pages,
    },
    Format {
        name: "rules",
        check: rules::files,
        seeds: seeds::rules,
    },
];

/// The format with a name.
pub fn format(name: &str) -> Option<Format> {
    FORMATS.into_iter().find(|format| format.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_hold_for_their_seeds_and_for_damaged_ones() {
        for Format { name, check, seeds } in FORMATS {
            let seeds = seeds();
            assert!(!seeds.is_empty(), "{name} has no seed");
            for seed in seeds {
                check(&seed);
                for at in 0..seed.len().min(200) {
                    check(&seed[..at]);
                    let mut damaged = seed.clone();
                    damaged[at] ^= 1 << (at % 8);
                    check(&damaged);
                }
            }
        }
    }
}
