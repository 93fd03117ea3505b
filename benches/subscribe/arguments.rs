//! What can be asked for on the command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::engine::Engine;
use crate::server::BUILT;
use crate::sizes::Sizes;

/// Rounds of runs unless told otherwise; the median counts, so an odd number.
const ROUNDS: u32 = 3;

/// Something to measure, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// One subject, many readers, against core NATS
    Fanout,
    /// The same against Redis Streams
    Redis,
    /// Several publishers at once
    Lossless,
    /// Every reader on a subject of its own, and what that costs appends
    Subjects,
    /// Memory and processor of readers that wait
    Idle,
    /// A long subject from its beginning, against raw reads of the databases
    Replay,
    /// A prefix and the list of subjects in a long log
    Log,
}

/// Measures subscriptions to this server against core NATS, Redis Streams and the raw databases.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench subscribe --")]
pub(crate) struct Arguments {
    /// Small sizes and one round: shows that everything works; the numbers say little
    #[arg(long)]
    quick: bool,
    /// What to measure; everything unless told
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CASES")]
    only: Vec<Case>,
    /// The databases of the replay
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sqlite,mariadb,postgres")]
    pub(crate) engines: Vec<Engine>,
    /// Seconds that a run under load takes
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,
    /// Runs of each kind; the median counts
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// A server to measure in place of the built one
    #[arg(long, value_name = "PROGRAM", default_value = BUILT, hide_default_value = true)]
    pub(crate) server: PathBuf,
    /// The folder for the databases in files; needs some ten gigabytes
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<PathBuf>,
    /// The folder for the table and the plots
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks"))]
    pub(crate) out: PathBuf,
    /// What cargo says to every benchmark.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

impl Arguments {
    /// What to measure, in the order in which it is done.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let is_wanted = |case: &&Case| self.only.is_empty() || self.only.contains(case);
        Case::value_variants().iter().filter(is_wanted).copied().collect()
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { ROUNDS })
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let sizes = if self.quick { Sizes::QUICK } else { Sizes::FULL };
        Sizes { seconds: self.seconds.map_or(sizes.seconds, u64::from), ..sizes }
    }

    /// The command to repeat this.
    pub(crate) fn command(&self) -> String {
        let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            value().map_or_else(String::new, |value| value.get_name().to_owned())
        };
        let cases: Vec<String> = self.only.iter().map(|case| name(&|| case.to_possible_value())).collect();
        let engines: Vec<String> = self.engines.iter().map(|engine| name(&|| engine.to_possible_value())).collect();
        let is_default = self.engines == [Engine::Sqlite, Engine::Mariadb, Engine::Postgres];
        let options = [
            self.quick.then(|| "--quick".to_owned()),
            (!cases.is_empty()).then(|| format!("--only {}", cases.join(","))),
            (!is_default).then(|| format!("--engines {}", engines.join(","))),
            self.seconds.map(|seconds| format!("--seconds {seconds}")),
            self.rounds.map(|rounds| format!("--rounds {rounds}")),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        let command = "cargo xtask bench subscribe".to_owned();
        if options.is_empty() { command } else { format!("{command} -- {}", options.join(" ")) }
    }
}
