//! Measures appends: this server, the raw databases, Redis Streams, NATS `JetStream` and `UmaDB`, one after the other on
//! the same machine with the same payload.
//!
//! `cargo xtask bench` starts everything around it and runs it; the result is in `docs/benchmarks`.

mod arguments;
#[path = "../shared/bars.rs"]
mod bars;
mod block;
#[path = "../shared/database.rs"]
mod database;
#[path = "../shared/engine.rs"]
mod engine;
mod goals;
mod grpc;
mod grpc_stream;
mod http;
mod load;
#[path = "../shared/machine.rs"]
mod machine;
mod measurement;
mod nats;
mod null_server;
#[path = "../shared/payload.rs"]
mod payload;
mod plots;
#[path = "../shared/progress.rs"]
mod progress;
#[path = "../../tests/blackbox/proto.rs"]
mod proto;
mod raw;
mod redis;
mod report;
#[path = "../shared/resp.rs"]
mod resp;
#[path = "../shared/server.rs"]
mod server;
mod system;
#[path = "../shared/table.rs"]
mod table;
mod umadb;
mod wire;

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use clap::Parser;
use time::OffsetDateTime;

use crate::arguments::Arguments;
use crate::block::Block;
use crate::engine::Engine;
use crate::measurement::{Measured, Measurement};
use crate::progress::Progress;
use crate::report::{EngineResult, Report};
use crate::system::System;

/// The one of the server, so that its stand-in without a store does not differ in that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Subjects that the events are spread over.
const SUBJECTS: usize = 256;

/// Connections that append at once.
const CONNECTIONS: usize = 256;

/// Connections that share as many gRPC calls.
const GRPC_CONNECTIONS: usize = 16;

/// Calls that many appends are in flight on, each over a connection of its own.
const STREAMS: usize = 4;

/// Events in one request of the batches.
const BATCH_EVENTS: usize = 100;

/// Connections that append batches at once.
const BATCH_CONNECTIONS: usize = 16;

/// Rows that the raw database takes per statement and commit: about what waits for each commit of a server with
/// [`CONNECTIONS`] clients, half of which are being answered.
const RAW_ROWS: usize = 128;

const TABLE: &str = "append.md";
const THROUGHPUT_PLOT: &str = "append-throughput.svg";
const LATENCY_PLOT: &str = "append-latency.svg";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.null_server {
        Some(port) => null_server::run(port).map(|()| ExitCode::SUCCESS),
        None => measure(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("append: {error}");
        ExitCode::FAILURE
    })
}

/// Measures, writes and prints; fails if anything that was asked for was not measured.
fn measure(arguments: &Arguments) -> Outcome<ExitCode> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let machine = machine::describe(folder.path())?;
    let mut measuring = Measuring::new(arguments, folder);
    let mut results = Vec::new();
    for engine in &arguments.engines {
        results.push(runtime.block_on(measuring.engine(*engine)));
    }
    measuring.progress.finish();
    let report = Report {
        results: &results,
        machine: &machine,
        versions: &measuring.versions,
        date: OffsetDateTime::now_utc().date().to_string(),
        span: arguments.span(),
        rounds: arguments.rounds(),
        command: arguments.command(),
        has_plots: !arguments.no_plots,
        cores: machine::cores()?,
    };
    let text = report.to_markdown();
    fs::create_dir_all(&arguments.out)?;
    fs::write(arguments.out.join(TABLE), &text)?;
    if !arguments.no_plots {
        plots::draw(&results, &arguments.out)?;
    }
    println!("{text}");
    let mut systems = results.iter().flat_map(|result| &result.systems);
    let is_whole = systems.all(|(_, measured)| measured.is_ok());
    if !is_whole {
        eprintln!("append: not everything was measured");
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A benchmark under way.
struct Measuring<'a> {
    arguments: &'a Arguments,
    folder: tempfile::TempDir,
    progress: Progress,
    versions: Vec<(String, String)>,
}

impl<'a> Measuring<'a> {
    fn new(arguments: &'a Arguments, folder: tempfile::TempDir) -> Self {
        let steps: usize =
            arguments.engines.iter().map(|engine| arguments.systems(*engine).len() * arguments.rounds()).sum();
        let versions = vec![("events-db".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
        Self { arguments, folder, progress: Progress::new(steps as u64), versions }
    }

    async fn engine(&mut self, engine: Engine) -> EngineResult {
        let systems = self.arguments.systems(engine);
        let block = match Block::open(engine, self.folder.path()).await {
            Ok(block) => block,
            Err(error) => {
                let reason = error.to_string();
                self.progress.note(&format!("{}: {reason}", engine.name()));
                let systems = systems.iter().map(|system| (*system, Err(reason.clone()))).collect();
                return EngineResult { engine, systems, resident_kib: None, forms: None };
            }
        };
        self.versions.push((engine.name().to_owned(), block.version().to_owned()));
        let mut measured: Vec<(System, Option<Measured>)> = Vec::new();
        measured.extend(systems.iter().map(|system| (*system, None)));
        for round in 1..=self.arguments.rounds() {
            for (system, measured) in &mut measured {
                let step =
                    format!("{}, {}, round {round} of {}", engine.name(), system.name(), self.arguments.rounds());
                self.progress.begin(step);
                if !matches!(measured, Some(Err(_))) {
                    let run = block.run(*system, self.arguments.span()).await.map_err(|error| error.to_string());
                    if let Err(reason) = &run {
                        self.progress.note(&format!("{}, {}: {reason}", engine.name(), system.name()));
                    }
                    *measured = Some(Measurement::add(measured.take(), run));
                }
                self.progress.end();
            }
        }
        self.other_versions(&systems).await;
        let unmeasured = || Err("there was no round".to_owned());
        let systems = measured.into_iter().map(|(system, measured)| (system, measured.unwrap_or_else(unmeasured)));
        EngineResult {
            engine,
            systems: systems.collect(),
            resident_kib: block.resident_kib().ok(),
            forms: Some(block.forms()),
        }
    }

    /// Asks what stands beside the engine; who does not answer has failed before.
    async fn other_versions(&mut self, systems: &[System]) {
        if systems.contains(&System::Redis)
            && let Ok(url) = machine::variable(redis::VARIABLE)
            && let Ok(version) = redis::prepare(&url).await
        {
            self.versions.push(("Redis".to_owned(), version));
        }
        if systems.contains(&System::Nats)
            && let Ok(url) = machine::variable(nats::VARIABLE)
            && let Ok(version) = nats::prepare(&url).await
        {
            self.versions.push(("NATS".to_owned(), version));
        }
        if systems.contains(&System::UmaDb)
            && let Ok(version) = machine::variable(umadb::VERSION_VARIABLE)
        {
            self.versions.push(("UmaDB".to_owned(), version));
        }
    }
}

fn subject(number: usize) -> String {
    format!("s-{}", number % SUBJECTS)
}

/// The `host:port` of a URL.
fn address(url: &str) -> Outcome<String> {
    let url = url::Url::parse(url)?;
    let (host, port) = url.host_str().zip(url.port()).ok_or("a URL needs a host and a port")?;
    Ok(format!("{host}:{port}"))
}
