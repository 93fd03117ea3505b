//! Readers that wait.

use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, address};
use crate::fleet::Fleet;
use crate::many_subjects::readers;
use crate::results::{Figure, Load, Quantity, System, number};
use crate::subjects::Subjects;
use crate::{Outcome, machine};

/// Steps of a round.
pub(crate) const STEPS: u64 = 2;

/// What subscribing leaves to be done is done by then.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

pub(crate) fn run(bench: &mut Bench<'_>) {
    for round in bench.rounds() {
        for (load, subjects) in [(Load::IdleApart, bench.sizes.idle_readers), (Load::IdleTogether, 1)] {
            let name = load.name(&bench.sizes);
            bench.step(&name, round, |bench| idle(bench, load, subjects));
        }
    }
}

/// Each time a fresh server: memory that was used once is not always given back.
fn idle(bench: &mut Bench<'_>, load: Load, subjects: u64) -> Outcome<Vec<Figure>> {
    let count = bench.sizes.idle_readers;
    let url = bench.sqlite();
    let server = bench.start(&url)?;
    let before = server.resident_kib()?;
    let fleet = Fleet::subscribe(address(&server), readers(&Subjects::new(subjects), count))?;
    thread::sleep(SETTLED_AFTER);
    let (started, time) = (Instant::now(), machine::processor_time(server.id())?);
    thread::sleep(Duration::from_secs(bench.sizes.idle_seconds));
    let busy = machine::processor_time(server.id())?.saturating_sub(time);
    let grown = server.resident_kib()?.saturating_sub(before);
    let figure = |quantity, value| Figure { load, system: System::Sse, quantity, value };
    let figures = vec![
        figure(Quantity::Memory, number(grown) / number(count)),
        figure(Quantity::Processor, busy.as_secs_f64() / started.elapsed().as_secs_f64() * 100.0),
    ];
    fleet.finish()?;
    Ok(figures)
}
