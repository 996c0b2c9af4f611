//! What `trigon lab` can be asked for, and what excludes what.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Error;

/// Command line of `trigon lab`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What goes wrong in each round
    #[arg(long, value_enum, default_value_t = Fault::Kill)]
    pub fault: Fault,

    /// How many times; each round starts from a repaired, stable cluster
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// Milliseconds between VRRP advertisements
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=40_950))]
    pub advert_interval: u64,

    /// No fault: keep every processor busy for this many seconds, and see that no address moves
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["fault", "rounds", "keep"], value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub soak: Option<u32>,

    /// With --soak: requests a second
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "soak", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,

    /// A stock frpc binary as the tunnel client, instead of the built-in one
    #[arg(long, value_name = "PATH")]
    pub frpc: Option<PathBuf>,

    /// Two nodes without a witness
    #[arg(long)]
    pub pair: bool,

    /// Three web nodes behind the address, with requests of their own
    #[arg(long, conflicts_with = "soak")]
    pub web: bool,

    /// A Galera cluster of three nodes behind the address, with transactions of its own
    #[arg(long, conflicts_with = "soak")]
    pub galera: bool,

    /// Leave everything running after the last round, until Ctrl-C
    #[arg(long)]
    pub keep: bool,

    /// Print one JSON object on standard output; progress goes to standard error
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The advertisement interval as a duration.
    pub fn advert_every(&self) -> Duration {
        Duration::from_millis(self.advert_interval)
    }

    /// The time between two requests of `--soak`.
    pub(super) fn request_every(&self) -> Duration {
        Duration::from_secs(1) / self.rate
    }

    /// Refuses what cannot be, before anything is touched.
    ///
    /// # Errors
    /// [`Error::Excluded`] with the option as the user wrote it.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.pair && self.fault == Fault::WitnessLoss {
            let instead = "a pair has no witness to lose; leave --pair out";
            return Err(Error::Excluded { option: format!("--fault {}", self.fault), instead });
        }
        Ok(())
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Nothing: load and measurement only, the control experiment
    None,
    /// Power cut of the Active: its link goes down and all its processes die in that instant
    Kill,
    /// The Active's worker process is killed, its kernel and its guardian live on
    Crash,
    /// Planned hand-over: the Active is told to stop and hands the address over
    Drain,
    /// The Active's switch port forwards nothing any more, its carrier stays
    Isolate,
    /// The nodes do not hear each other's advertisements any more, the control links live
    SegmentCut,
    /// Power cut of the witness: the nodes are left to themselves
    WitnessLoss,
}

impl Fault {
    /// Whether the address is expected to move to the other node.
    pub(super) fn moves_address(self) -> bool {
        matches!(self, Self::Kill | Self::Crash | Self::Drain | Self::Isolate)
    }

    /// Whether the preferred node takes the address back. After an isolation it must not: a
    /// network that has just been mended deserves no further move.
    pub(super) fn preempts(self) -> bool {
        self != Self::Isolate
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Crash => "crash",
            Self::Drain => "drain",
            Self::Isolate => "isolate",
            Self::SegmentCut => "segment-cut",
            Self::WitnessLoss => "witness-loss",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(words: &[&str]) -> Options {
        Line::try_parse_from([&["lab"], words].concat()).unwrap().options
    }

    #[test]
    fn defaults_are_one_power_cut_at_100_ms() {
        let options = parse(&[]);
        assert_eq!(options.fault, Fault::Kill);
        assert_eq!(options.rounds, 1);
        assert_eq!(options.advert_every(), Duration::from_millis(100));
        assert_eq!(options.soak, None);
        assert!(options.check().is_ok());
    }

    #[test]
    fn a_soak_has_no_fault_and_a_rate_of_its_own() {
        let options = parse(&["--soak", "600", "--rate", "500"]);
        assert_eq!((options.soak, options.request_every()), (Some(600), Duration::from_millis(2)));
        for words in [&["lab", "--soak", "9", "--fault", "kill"][..], &["lab", "--rate", "9"]] {
            assert!(Line::try_parse_from(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_pair_has_no_witness_to_lose() {
        let table = [
            (&["--pair"][..], None),
            (&["--fault", "witness-loss"], None),
            (&["--pair", "--fault", "witness-loss"], Some("--fault witness-loss")),
        ];
        for (words, refused) in table {
            match (parse(words).check(), refused) {
                (Ok(()), None) => {}
                (Err(error), Some(named)) => {
                    assert_eq!(error.exit_code(), 2, "{words:?}");
                    assert!(error.to_string().starts_with(named), "{error}");
                }
                (verdict, _) => panic!("{words:?}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn the_command_line_and_the_report_spell_a_fault_alike() {
        for fault in Fault::value_variants() {
            let name = fault.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(name, fault.to_string());
        }
    }
}
