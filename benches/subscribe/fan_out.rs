//! One subject and many readers.

use crate::bench::{Bench, address, wait_parted};
use crate::delivery::{Plan, deliver};
use crate::http::HttpAppender;
use crate::nats::{NatsPublisher, NatsReader};
use crate::redis::{RedisAppender, RedisReader};
use crate::results::{Figure, Load, System};
use crate::server::Server;
use crate::sizes::Crowd;
use crate::sse::SseReader;
use crate::subjects::Subjects;
use crate::{Outcome, nats, peer, redis};

/// Steps of a round in [`crowds`].
pub(crate) const CROWD_STEPS: u64 = 8;

/// Steps of a round in [`redis()`].
pub(crate) const REDIS_STEPS: u64 = 2;

/// Connections that append at once where nothing may be lost.
pub(crate) const PUBLISHERS: usize = 4;

/// Connections that appends are spread over, so that none waits for the one before.
pub(crate) const APPENDERS: usize = 64;

/// This server against core NATS.
pub(crate) fn crowds(bench: &mut Bench<'_>) -> Outcome<()> {
    let url = bench.sqlite();
    let server = bench.start(&url)?;
    let sizes = bench.sizes;
    for round in bench.rounds() {
        for (load, crowd) in
            [(Load::Flood, sizes.flood), (Load::Busy, sizes.busy), (Load::Calm, sizes.calm), (Load::Large, sizes.large)]
        {
            let name = |system: System| format!("{}, {}", load.name(&sizes), system.name());
            bench.step(&name(System::Sse), round, |bench| sse(bench, &server, load, crowd, APPENDERS));
            bench.step(&name(System::Nats), round, |bench| {
                let address = peer::address(nats::VARIABLE)?;
                bench.results.version("NATS", nats::version(address)?);
                let subject = Subjects::new(1).at(0);
                let readers = (0..crowd.readers).map(|_| NatsReader { subject: subject.clone() }).collect();
                let plan = Plan::new(&bench.sizes, crowd, None);
                let delivery = deliver(address, readers, vec![NatsPublisher::new(&subject)], &plan)?;
                Ok(delivery.figures(load, System::Nats))
            });
        }
    }
    Ok(())
}

/// The busiest loads with Redis Streams.
pub(crate) fn redis(bench: &mut Bench<'_>) {
    let sizes = bench.sizes;
    for round in bench.rounds() {
        for (load, crowd) in [(Load::Flood, sizes.flood), (Load::Busy, sizes.busy)] {
            bench.step(&format!("{}, {}", load.name(&sizes), System::Redis.name()), round, |bench| {
                let address = peer::address(redis::VARIABLE)?;
                bench.results.version("Redis", redis::version(address)?);
                let key = Subjects::new(1).at(0);
                let readers = (0..crowd.readers).map(|_| RedisReader::new(&key)).collect();
                let appenders = (0..APPENDERS).map(|_| RedisAppender::new(&key)).collect();
                let delivery = deliver(address, readers, appenders, &Plan::new(&sizes, crowd, None))?;
                Ok(delivery.figures(load, System::Redis))
            });
        }
    }
}

/// Several publishers at once: every reader gets everything.
pub(crate) fn lossless(bench: &mut Bench<'_>) -> Outcome<()> {
    let url = bench.sqlite();
    let server = bench.start(&url)?;
    let (load, crowd) = (Load::Lossless, bench.sizes.lossless);
    let name = load.name(&bench.sizes);
    for round in bench.rounds() {
        bench.step(&name, round, |bench| sse(bench, &server, load, crowd, PUBLISHERS));
    }
    Ok(())
}

fn sse(bench: &Bench<'_>, server: &Server, load: Load, crowd: Crowd, appenders: usize) -> Outcome<Vec<Figure>> {
    let subjects = Subjects::new(1);
    let readers = (0..crowd.readers).map(|_| SseReader::subject(&subjects.at(0))).collect();
    let appenders = (0..appenders).map(|_| HttpAppender::new(subjects.clone())).collect();
    let plan = Plan::new(&bench.sizes, crowd, Some(server.id()));
    let delivery = deliver(address(server), readers, appenders, &plan)?;
    wait_parted(server, crowd.readers)?;
    Ok(delivery.figures(load, System::Sse))
}
