//! What can be asked for on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::engine::Engine;
use crate::load::Span;
use crate::system::System;

/// Rounds of runs unless told otherwise; the median counts, so an odd number.
const ROUNDS: usize = 3;

/// Measures appends to this server against the raw databases, Redis Streams, NATS `JetStream` and `UmaDB`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench --")]
pub(crate) struct Arguments {
    /// Runs of a second: shows that everything works; the numbers are noisy
    #[arg(long)]
    pub(crate) quick: bool,
    /// The engines to measure; what stands beside `SQLite` goes with it
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sqlite,mariadb,mysql,postgres")]
    pub(crate) engines: Vec<Engine>,
    /// The systems to measure, of those that go with the engines; all of them unless told otherwise
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<System>,
    /// Seconds that one run takes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Runs of each kind; the median counts
    #[arg(long, value_parser = rounds)]
    rounds: Option<usize>,
    /// Write the table only
    #[arg(long)]
    pub(crate) no_plots: bool,
    /// The folder for the table and the plots
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks"))]
    pub(crate) out: PathBuf,
    /// Be the server that stores nothing, on this port
    #[arg(long, hide = true, value_name = "PORT")]
    pub(crate) null_server: Option<u16>,
    /// What cargo says to every benchmark.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(ROUNDS)
    }

    /// What is measured with `engine`, in the order of the runs of a round.
    pub(crate) fn systems(&self, engine: Engine) -> Vec<System> {
        let is_wanted = |system: &System| self.systems.is_empty() || self.systems.contains(system);
        engine.systems().iter().copied().filter(is_wanted).collect()
    }

    /// The command to repeat this.
    pub(crate) fn command(&self) -> String {
        let mut words = vec!["cargo xtask bench".to_owned()];
        let engines: Vec<String> = self.engines.iter().map(|engine| engine.name().to_lowercase()).collect();
        let default = Engine::value_variants();
        let options = [
            self.quick.then(|| "--quick".to_owned()),
            (self.engines != default).then(|| format!("--engines {}", engines.join(","))),
            (!self.systems.is_empty()).then(|| format!("--systems {}", names(&self.systems))),
            self.seconds.map(|seconds| format!("--seconds {seconds}")),
            self.rounds.map(|rounds| format!("--rounds {rounds}")),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        if !options.is_empty() {
            words.push("--".to_owned());
            words.extend(options);
        }
        words.join(" ")
    }

    pub(crate) fn span(&self) -> Span {
        let (pause, warm_up, run) = if self.quick { (100, 400, 1_000) } else { (1_000, 1_000, 5_000) };
        let run = self.seconds.map_or(Duration::from_millis(run), Duration::from_secs);
        Span { pause: Duration::from_millis(pause), warm_up: Duration::from_millis(warm_up), run }
    }
}

fn names(systems: &[System]) -> String {
    let names = systems.iter().filter_map(ValueEnum::to_possible_value).map(|value| value.get_name().to_owned());
    names.collect::<Vec<_>>().join(",")
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) | Err(_) => Err("must be a number from 1".to_owned()),
    }
}
