//! What the measurements are compared with, and what must come out.

use crate::engine::Engine;
use crate::system::System;

/// Two systems and the ratio that their medians must and should have.
pub(crate) struct Goal {
    /// Its number in the report.
    pub(crate) number: u8,
    pub(crate) system: System,
    pub(crate) against: System,
    /// Nothing where the ratio is only told.
    pub(crate) bounds: Option<Bounds>,
}

/// What a ratio must be at least, and what it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) must: f64,
    pub(crate) aim: f64,
}

/// The 99th percentile of the latency should be below this, in milliseconds.
pub(crate) const P99_AIM_MILLISECONDS: f64 = 25.0;

/// The goals of one engine.
pub(crate) fn goals(engine: Engine) -> Vec<Goal> {
    use System::{
        Grpc, GrpcStream, Http, HttpBatch, HttpId, HttpOne, Nats, Null, RawBatch, RawConnections, RawRow, RawRows,
        Redis, Structured, UmaDb,
    };
    let goal =
        |number, system, against, must, aim| Goal { number, system, against, bounds: Some(Bounds { must, aim }) };
    let mut goals = match engine {
        Engine::Sqlite => vec![
            goal(1, Http, Null, 0.40, 0.55),
            goal(2, Http, Redis, 0.75, 1.0),
            goal(3, Http, Nats, 0.8, 1.2),
            goal(4, Http, RawRow, 10.0, 20.0),
        ],
        Engine::Mariadb | Engine::Mysql | Engine::Postgres => {
            vec![goal(5, Http, RawRows, 0.8, 1.0), goal(6, Http, RawConnections, 2.5, 4.0)]
        }
    };
    goals.extend([goal(7, HttpOne, RawRow, 0.7, 0.9), goal(8, HttpBatch, RawBatch, 0.8, 1.0)]);
    if engine == Engine::Sqlite {
        goals.push(Goal { number: 9, system: Grpc, against: Http, bounds: None });
        goals.extend([
            goal(10, GrpcStream, Http, 2.0, 2.0),
            goal(11, Structured, HttpId, 0.85, 1.0),
            goal(12, GrpcStream, UmaDb, 1.0, 1.0),
        ]);
    }
    goals
}
