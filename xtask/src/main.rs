//! Development commands: `cargo xtask <command>`.
//!
//! `test`, `bench` and `check` need nothing but a Rust toolchain, a C compiler and Debian's package sources: what they
//! use besides (databases, a browser, client libraries) is installed on the first run and kept for the next.

mod cache;
mod cargo;
mod command;
mod environment;
mod interrupt;
mod mysql_build;
mod packages;
mod servers;
mod tools;
mod umadb_build;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};

use crate::cargo::Outcome;

/// An environment variable that tells the tests where to find something.
type Variable = (&'static str, OsString);

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development commands of Events DB")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run all tests with everything they need around them
    Test {
        /// Arguments for `cargo test`, after `--`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Measure against the raw databases and other logs; writes docs/benchmarks
    Bench {
        /// What to measure
        #[arg(value_enum, default_value_t = Benchmark::Append)]
        benchmark: Benchmark,
        /// Arguments for the benchmark, after `--`, such as `--quick`; `-- --help` lists them
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Draw the panels of the dashboard from real data; writes docs/images/dashboard.svg
    Dashboard,
    /// Check formatting, lints, tests and documentation: what a change must pass
    Check,
    /// Run the database servers of the tests until Ctrl-C, and print the variables that name them
    Servers,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Benchmark {
    /// Appends
    Append,
    /// Subscriptions and replays
    Subscribe,
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    match interrupt::listen().and_then(|()| run(&task)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(code)) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(interrupt::exit_code().unwrap_or(1))
        }
    }
}

fn run(task: &Task) -> Result<Outcome> {
    match task {
        Task::Test { arguments } => cargo::test(arguments),
        Task::Bench { benchmark, arguments } => cargo::bench(*benchmark, arguments),
        Task::Dashboard => cargo::dashboard(),
        Task::Check => cargo::check(),
        Task::Servers => environment::serve().map(Ok),
    }
}
