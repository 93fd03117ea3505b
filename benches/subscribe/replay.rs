//! A long subject, read from its beginning.

use std::time::Duration;

use crate::bench::{Bench, address, wait_parted};
use crate::clock;
use crate::database::fresh_database;
use crate::engine::Engine;
use crate::fill::fill;
use crate::fleet::Fleet;
use crate::raw::Raw;
use crate::results::{Figure, Load, Quantity, System, number, per_second};
use crate::server::Server;
use crate::sse::SseReader;
use crate::{Outcome, grpc, machine};

/// Steps of a round with one engine.
pub(crate) const STEPS: u64 = 4;

/// The database of the replay on a database server.
const DATABASE: &str = "bench_subscribe";

const SUBJECT: &str = "long";

/// What filling or one reading may take.
const WITHIN: Duration = Duration::from_mins(5);

/// How often the ends are read in one run: they are short.
const END_READS: usize = 15;

pub(crate) fn run(bench: &mut Bench<'_>) {
    for engine in bench.arguments.engines.clone() {
        if let Err(error) = on(bench, engine) {
            bench.fail(&format!("replay, {}", engine.name()), &*error);
        }
    }
}

fn on(bench: &mut Bench<'_>, engine: Engine) -> Outcome<()> {
    let count = bench.sizes.replay_events;
    bench.note(&format!("replay, {}: appending {count} events", engine.name()));
    let url = match engine.variable() {
        None => bench.sqlite(),
        Some(variable) => {
            within(bench, WITHIN, async { fresh_database(&machine::variable(variable)?, DATABASE).await })?
        }
    };
    within(bench, WITHIN, fill(&url, count, |_| SUBJECT.to_owned()))?;
    let version = within(bench, WITHIN, async { Raw::connect(engine, &url).await?.version().await })?;
    bench.results.version(engine.name(), version);
    let server = bench.start(&url)?;
    let (load, sizes) = (Load::Replay(engine), bench.sizes);
    let name = |system: System| format!("{}, {}", load.name(&sizes), system.name());
    for round in bench.rounds() {
        bench.step(&name(System::Raw), round, |bench| {
            let value = within(bench, WITHIN, async { Raw::connect(engine, &url).await?.read(SUBJECT).await })?;
            Ok(vec![Figure { load, system: System::Raw, quantity: Quantity::Events, value }])
        });
        bench.step(&name(System::Grpc), round, |bench| {
            timed(&server, load, System::Grpc, count, || within(bench, WITHIN, grpc::read(server.port, SUBJECT, count)))
        });
        bench.step(&name(System::Sse), round, |_| {
            timed(&server, load, System::Sse, count, || read(&server, SseReader::subject(SUBJECT), count))
        });
        bench.step(&Load::Ends(engine).name(&sizes), round, |bench| ends(bench, &server, Load::Ends(engine)));
    }
    Ok(())
}

/// Lets `read` take `count` events, and tells the processor time that each costs the server and this process.
fn timed(
    server: &Server,
    load: Load,
    system: System,
    count: u64,
    read: impl FnOnce() -> Outcome<f64>,
) -> Outcome<Vec<Figure>> {
    let times = || [server.id(), std::process::id()].map(machine::processor_time);
    let [server_before, client_before] = times();
    let value = read()?;
    let [server_after, client_after] = times();
    let each = |after: Duration, before| after.saturating_sub(before).as_secs_f64() * 1e6 / number(count);
    let figure = |quantity, value| Figure { load, system, quantity, value };
    Ok(vec![
        figure(Quantity::Events, value),
        figure(Quantity::ServerTime, each(server_after?, server_before?)),
        figure(Quantity::ClientTime, each(client_after?, client_before?)),
    ])
}

/// The start and the end in turn.
fn ends(bench: &Bench<'_>, server: &Server, load: Load) -> Outcome<Vec<Figure>> {
    let (all, part) = (bench.sizes.replay_events, bench.sizes.end_events);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for _ in 0..END_READS {
        first.push(read(server, SseReader::subject(SUBJECT), part)?);
        last.push(read(server, SseReader::after(SUBJECT, all - part), part)?);
    }
    let figure = |system, mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        Figure { load, system, quantity: Quantity::Events, value: values[END_READS / 2] }
    };
    Ok(vec![figure(System::First, first), figure(System::Last, last)])
}

/// Lets one reader take `count` events; events per second.
pub(crate) fn read(server: &Server, reader: SseReader, count: u64) -> Outcome<f64> {
    let started = clock::now();
    let fleet = Fleet::start(address(server), vec![reader]);
    let is_complete = fleet.wait_delivered(count, WITHIN);
    let tally = fleet.finish()?;
    if !is_complete {
        return Err(format!("{} of {count} events came within {} s", tally.delivered, WITHIN.as_secs()).into());
    }
    wait_parted(server, 1)?;
    Ok(per_second(tally.delivered, tally.last.saturating_sub(started)))
}

/// Runs `task` to its end, which must come before `limit`.
pub(crate) fn within<T>(bench: &Bench<'_>, limit: Duration, task: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let late = |_| format!("it takes longer than {} s", limit.as_secs());
    bench.runtime.block_on(async { tokio::time::timeout(limit, task).await.map_err(late)? })
}
