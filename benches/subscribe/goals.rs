//! What the measurements are compared with, and what must come out.

use crate::engine::Engine;
use crate::results::{Load, Quantity, System};

/// A number, or its ratio to that of another system, and what it must and should be.
pub(crate) struct Goal {
    pub(crate) load: Load,
    pub(crate) quantity: Quantity,
    pub(crate) system: System,
    /// Nothing where the number itself counts.
    pub(crate) against: Option<System>,
    /// Nothing where it is only told.
    pub(crate) bounds: Option<Bounds>,
}

/// What must and what should be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) must: Option<f64>,
    pub(crate) aim: Option<f64>,
    /// Whether less is better.
    pub(crate) is_at_most: bool,
}

impl Bounds {
    /// What `value` has reached.
    pub(crate) fn verdict(self, value: f64) -> &'static str {
        let has_reached = |bound: f64| if self.is_at_most { value <= bound } else { value >= bound };
        match (self.aim.map(has_reached), self.must.map(has_reached)) {
            (Some(true), _) => "aim reached",
            (_, Some(true)) => "must reached",
            (Some(false), None) => "aim missed",
            _ => "missed",
        }
    }
}

/// All goals, in the order of the report.
pub(crate) fn goals(engines: &[Engine]) -> Vec<Goal> {
    use Load::{
        Busy, Bystanders, Calm, Ends, Flood, IdleApart, IdleTogether, Large, Lossless, Prefix, Replay, SubjectList,
        Subjects,
    };
    use Quantity::{Appends, Delivered, Deliveries, Events, Memory, P99Latency, Processor, Time};
    use System::{Alone, First, Grpc, Http, Last, LookUps, Nats, NoReaders, Raw, Redis, Sse};
    let mut goals = vec![
        goal(Busy, Deliveries, Sse, Some(Nats), least(0.5, 0.9)),
        goal(Busy, Deliveries, Sse, Some(Redis), least(4.0, 8.0)),
        goal(Flood, Deliveries, Sse, Some(Nats), None),
        goal(Flood, Deliveries, Sse, Some(Redis), None),
        goal(Busy, P99Latency, Sse, Some(Nats), None),
        goal(Busy, P99Latency, Sse, Some(Redis), None),
        goal(Calm, P99Latency, Sse, Some(Nats), most(1.0)),
        goal(Large, P99Latency, Sse, Some(Nats), most(1.0)),
        goal(Busy, Delivered, Sse, None, least(1.0, 1.0)),
        goal(Lossless, Delivered, Sse, None, least(1.0, 1.0)),
        goal(Subjects, Appends, Sse, Some(NoReaders), least(0.9, 0.9)),
        goal(Subjects, P99Latency, Sse, None, most(50.0)),
        goal(Subjects, Delivered, Sse, None, least(1.0, 1.0)),
        goal(Bystanders, Appends, Sse, Some(NoReaders), None),
        goal(IdleApart, Memory, Sse, None, at_most(20.0, 12.0)),
        goal(IdleTogether, Memory, Sse, None, at_most(20.0, 12.0)),
        goal(IdleApart, Processor, Sse, None, most(2.0)),
        goal(IdleTogether, Processor, Sse, None, most(2.0)),
    ];
    for engine in engines {
        let load = Replay(*engine);
        goals.extend(match engine {
            Engine::Sqlite => vec![
                goal(load, Events, Grpc, None, Some(Bounds { must: Some(300_000.0), aim: None, is_at_most: false })),
                goal(load, Events, Grpc, Some(Raw), Some(Bounds { must: None, aim: Some(0.5), is_at_most: false })),
                goal(load, Events, Sse, None, least(150_000.0, 250_000.0)),
            ],
            Engine::Mariadb | Engine::Mysql | Engine::Postgres => {
                vec![goal(load, Events, Grpc, Some(Raw), least(0.7, 0.7)), goal(load, Events, Sse, Some(Raw), None)]
            }
        });
    }
    goals.extend(engines.iter().map(|engine| goal(Ends(*engine), Events, Last, Some(First), least(0.8, 0.95))));
    goals.extend([goal(Prefix, Events, Sse, Some(Alone), None), goal(SubjectList, Time, Http, Some(LookUps), None)]);
    goals
}

fn goal(load: Load, quantity: Quantity, system: System, against: Option<System>, bounds: Option<Bounds>) -> Goal {
    Goal { load, quantity, system, against, bounds }
}

#[allow(clippy::unnecessary_wraps)] // As all that stand in its place.
fn least(must: f64, aim: f64) -> Option<Bounds> {
    Some(Bounds { must: Some(must), aim: Some(aim), is_at_most: false })
}

fn most(must: f64) -> Option<Bounds> {
    at_most(must, must)
}

#[allow(clippy::unnecessary_wraps)]
fn at_most(must: f64, aim: f64) -> Option<Bounds> {
    Some(Bounds { must: Some(must), aim: Some(aim), is_at_most: true })
}
