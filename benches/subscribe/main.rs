//! Measures subscriptions: this server, core NATS, Redis Streams and raw database reads, one after the other on the same
//! machine with the same payload.
//!
//! `cargo xtask bench subscribe` starts everything around it and runs it; the result is in `docs/benchmarks`.

mod arguments;
#[path = "../shared/bars.rs"]
mod bars;
mod bench;
mod clock;
mod connection;
#[path = "../shared/database.rs"]
mod database;
mod delivery;
#[path = "../shared/engine.rs"]
mod engine;
mod fan_out;
mod fill;
mod fleet;
mod goals;
mod grpc;
mod http;
mod idle;
mod long_log;
#[path = "../shared/machine.rs"]
mod machine;
mod many_subjects;
mod nats;
#[path = "../shared/payload.rs"]
mod payload;
mod peer;
mod plots;
#[path = "../shared/progress.rs"]
mod progress;
mod protocol;
mod publish;
mod raw;
mod redis;
mod replay;
mod report;
#[path = "../shared/resp.rs"]
mod resp;
mod results;
#[path = "../shared/server.rs"]
mod server;
mod sizes;
mod sse;
mod subjects;
#[path = "../shared/table.rs"]
mod table;

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Case};
use crate::bench::Bench;
use crate::report::Report;

/// The one of the server: the client must not be slower than what it measures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const TABLE: &str = "subscribe.md";
const DELIVERIES_PLOT: &str = "subscribe-deliveries.svg";
const LATENCY_PLOT: &str = "subscribe-latency.svg";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    measure(&arguments).unwrap_or_else(|error| {
        eprintln!("subscribe: {error}");
        ExitCode::FAILURE
    })
}

/// Measures, writes and prints; fails if anything that was asked for was not measured.
fn measure(arguments: &Arguments) -> Outcome<ExitCode> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    // Every reader is a file, here and in the server, which has the limits of this process.
    rlimit::increase_nofile_limit(rlimit::INFINITY)?;
    let mut bench = Bench::new(arguments)?;
    for case in arguments.cases() {
        let outcome = match case {
            Case::Fanout => fan_out::crowds(&mut bench),
            Case::Redis => {
                fan_out::redis(&mut bench);
                Ok(())
            }
            Case::Lossless => fan_out::lossless(&mut bench),
            Case::Subjects => many_subjects::run(&mut bench),
            Case::Idle => {
                idle::run(&mut bench);
                Ok(())
            }
            Case::Replay => {
                replay::run(&mut bench);
                Ok(())
            }
            Case::Log => long_log::run(&mut bench),
        };
        if let Err(error) = outcome {
            bench.fail(&format!("{case:?}").to_lowercase(), &*error);
        }
    }
    let results = bench.finish();
    let report = Report::new(arguments, &results)?;
    let text = report.to_markdown();
    fs::create_dir_all(&arguments.out)?;
    fs::write(arguments.out.join(TABLE), &text)?;
    if report.has_plots() {
        plots::draw(&results, arguments.sizes(), &arguments.out)?;
    }
    println!("{text}");
    let is_whole = results.failures.is_empty();
    if !is_whole {
        eprintln!("subscribe: not everything was measured");
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
