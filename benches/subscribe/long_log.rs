//! A little of a long log: what a prefix matches, and the list of subjects.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::bench::Bench;
use crate::engine::Engine;
use crate::fill::fill;
use crate::raw::Raw;
use crate::replay::{read, within};
use crate::results::{Figure, Load, Quantity, System};
use crate::server::Server;
use crate::sse::SseReader;

/// Steps of a round.
pub(crate) const STEPS: u64 = 4;

/// Subjects of the log.
pub(crate) const SUBJECTS: u64 = 1_000;

/// What the subjects start with that are looked for.
const PREFIX: &str = "few-";

/// What filling the long log may take.
const FILLED_WITHIN: Duration = Duration::from_mins(30);

/// What the lists of one run may take.
const WITHIN: Duration = Duration::from_mins(2);

/// How often the list is asked for in one run: it is short.
const LISTS: usize = 5;

pub(crate) fn run(bench: &mut Bench<'_>) -> Outcome<()> {
    let sizes = bench.sizes;
    let one_in = sizes.log_events / sizes.prefix_events;
    bench.note(&format!("log: appending {} events", sizes.log_events));
    let (long, short) = (bench.sqlite(), bench.sqlite());
    let subject = |number: u64| {
        let number = number % SUBJECTS;
        if number.is_multiple_of(one_in) { format!("{PREFIX}{number}") } else { format!("many-{number}") }
    };
    within(bench, FILLED_WITHIN, fill(&long, sizes.log_events, subject))?;
    within(bench, FILLED_WITHIN, fill(&short, sizes.prefix_events, |number| subject(number * one_in)))?;
    let (server, alone) = (bench.start(&long)?, bench.start(&short)?);
    let name = |load: Load, system: System| format!("{}, {}", load.name(&sizes), system.name());
    for round in bench.rounds() {
        for (system, server) in [(System::Sse, &server), (System::Alone, &alone)] {
            bench.step(&name(Load::Prefix, system), round, |_| {
                let value = read(server, SseReader::prefix(PREFIX), sizes.prefix_events)?;
                Ok(vec![Figure { load: Load::Prefix, system, quantity: Quantity::Events, value }])
            });
        }
        bench.step(&name(Load::SubjectList, System::Http), round, |bench| list(bench, &server));
        bench.step(&name(Load::SubjectList, System::LookUps), round, |bench| look_ups(bench, &long));
    }
    Ok(())
}

fn list(bench: &Bench<'_>, server: &Server) -> Outcome<Vec<Figure>> {
    let url = format!("http://127.0.0.1:{}/subjects", server.port);
    within(bench, WITHIN, async {
        let client = reqwest::Client::new();
        let mut times = Vec::new();
        for _ in 0..LISTS {
            let started = Instant::now();
            let answer = client.get(&url).send().await?.error_for_status()?.bytes().await?;
            times.push(milliseconds(started));
            check(&serde_json::from_slice::<Vec<String>>(&answer)?)?;
        }
        Ok(figures(System::Http, times))
    })
}

fn look_ups(bench: &Bench<'_>, url: &str) -> Outcome<Vec<Figure>> {
    within(bench, WITHIN, async {
        let mut raw = Raw::connect(Engine::Sqlite, url).await?;
        let mut times = Vec::new();
        for _ in 0..LISTS {
            let started = Instant::now();
            let subjects = raw.subjects().await?;
            times.push(milliseconds(started));
            check(&subjects)?;
        }
        Ok(figures(System::LookUps, times))
    })
}

fn check(subjects: &[String]) -> Outcome<()> {
    if subjects.len() as u64 == SUBJECTS { Ok(()) } else { Err(format!("{} subjects", subjects.len()).into()) }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn figures(system: System, mut times: Vec<f64>) -> Vec<Figure> {
    times.sort_by(f64::total_cmp);
    vec![Figure { load: Load::SubjectList, system, quantity: Quantity::Time, value: times[LISTS / 2] }]
}
