//! Readers of a subject each, and what they cost appends.

use std::time::Duration;

use crate::Outcome;
use crate::bench::{Bench, address, wait_parted};
use crate::delivery::{Plan, deliver};
use crate::fan_out::APPENDERS;
use crate::fleet::Fleet;
use crate::http::HttpAppender;
use crate::publish::{Pace, publish};
use crate::results::{Figure, Load, Quantity, System};
use crate::server::Server;
use crate::sse::SseReader;
use crate::subjects::Subjects;

/// Steps of a round.
pub(crate) const STEPS: u64 = 4;

pub(crate) fn run(bench: &mut Bench<'_>) -> Outcome<()> {
    let url = bench.sqlite();
    let server = bench.start(&url)?;
    let sizes = bench.sizes;
    let name = |load: Load, system: System| format!("{}, {}", load.name(&sizes), system.name());
    for round in bench.rounds() {
        bench.step(&name(Load::Subjects, System::NoReaders), round, |bench| alone(bench, &server, Load::Subjects));
        bench.step(&name(Load::Subjects, System::Sse), round, |bench| delivered(bench, &server));
        bench.step(&name(Load::Bystanders, System::NoReaders), round, |bench| alone(bench, &server, Load::Bystanders));
        bench.step(&name(Load::Bystanders, System::Sse), round, |bench| beside(bench, &server));
    }
    Ok(())
}

fn pace(bench: &Bench<'_>, load: Load) -> Pace {
    let (per_second, seconds) = (bench.sizes.subjects.per_second, bench.sizes.seconds);
    match load {
        Load::Subjects => Pace::Open { per_second, events: per_second * seconds },
        _ => Pace::Closed(Duration::from_secs(seconds)),
    }
}

fn append(bench: &Bench<'_>, server: &Server, load: Load, system: System) -> Outcome<Vec<Figure>> {
    let subjects = Subjects::new(bench.sizes.subjects.readers);
    let published = publish(address(server), appenders(&subjects), pace(bench, load))?;
    Ok(vec![Figure { load, system, quantity: Quantity::Appends, value: published.per_second() }])
}

fn alone(bench: &Bench<'_>, server: &Server, load: Load) -> Outcome<Vec<Figure>> {
    append(bench, server, load, System::NoReaders)
}

/// Appends to the subjects that are read.
fn delivered(bench: &Bench<'_>, server: &Server) -> Outcome<Vec<Figure>> {
    let crowd = bench.sizes.subjects;
    let subjects = Subjects::new(crowd.readers);
    let plan = Plan::apart(&bench.sizes, crowd, Some(server.id()));
    let delivery = deliver(address(server), readers(&subjects, crowd.readers), appenders(&subjects), &plan)?;
    wait_parted(server, crowd.readers)?;
    Ok(delivery.figures(Load::Subjects, System::Sse))
}

/// Appends to subjects that nobody reads.
fn beside(bench: &Bench<'_>, server: &Server) -> Outcome<Vec<Figure>> {
    let count = bench.sizes.subjects.readers;
    let fleet = Fleet::subscribe(address(server), readers(&Subjects::new(count), count))?;
    let figures = append(bench, server, Load::Bystanders, System::Sse)?;
    fleet.finish()?;
    wait_parted(server, count)?;
    Ok(figures)
}

fn appenders(subjects: &Subjects) -> Vec<HttpAppender> {
    (0..APPENDERS).map(|_| HttpAppender::new(subjects.clone())).collect()
}

/// A reader for each subject.
pub(crate) fn readers(subjects: &Subjects, count: u64) -> Vec<SseReader> {
    (0..count).map(|number| SseReader::subject(&subjects.at(number))).collect()
}
