//! All that is measured with one engine: the servers, and how each system is put under load.

use std::path::Path;

use crate::database::fresh_database;
use crate::engine::Engine;
use crate::grpc::GrpcClient;
use crate::grpc_stream::StreamClient;
use crate::http::HttpClient;
use crate::load::{Client, Load, Span, drive};
use crate::measurement::Run;
use crate::nats::NatsClient;
use crate::raw::{Form, RawDatabase};
use crate::redis::RedisClient;
use crate::server::Server;
use crate::system::System;
use crate::umadb::UmaDbClient;
use crate::{
    BATCH_CONNECTIONS, BATCH_EVENTS, CONNECTIONS, Outcome, RAW_ROWS, machine, nats, null_server, redis, server, umadb,
};

/// The databases of one engine: the server's own and the raw one.
const DATABASES: [&str; 2] = ["bench_append", "bench_append_raw"];

/// The servers of one engine, idle unless a run is under way.
pub(crate) struct Block {
    server: Server,
    raw: RawDatabase,
    forms: Forms,
    /// Only beside SQLite.
    null: Option<Server>,
}

/// How rows get into a raw statement fastest, by the number of rows.
struct Forms {
    row: Form,
    rows: Form,
    batch: Form,
}

impl Block {
    /// Starts what `engine` needs, with fresh databases; SQLite's are files in `folder`.
    pub(crate) async fn open(engine: Engine, folder: &Path) -> Outcome<Self> {
        let [ours, raw] = match engine.variable() {
            None => DATABASES.map(|name| format!("sqlite://{}", folder.join(name).display())),
            Some(variable) => {
                let url = machine::variable(variable)?;
                [fresh_database(&url, DATABASES[0]).await?, fresh_database(&url, DATABASES[1]).await?]
            }
        };
        let raw = RawDatabase::create(engine, raw).await?;
        let forms = Forms {
            row: raw.fastest_form(1).await?,
            rows: raw.fastest_form(RAW_ROWS).await?,
            batch: raw.fastest_form(BATCH_EVENTS).await?,
        };
        let null = engine.systems().contains(&System::Null).then(null_server::start).transpose()?;
        Ok(Self { server: Server::start(server::BUILT, &ours)?, raw, forms, null })
    }

    /// Puts `system` under load once.
    pub(crate) async fn run(&self, system: System, span: Span) -> Outcome<Run> {
        let server = match system {
            System::Null | System::NullOne => self.null.as_ref(),
            _ if system.is_ours() => Some(&self.server),
            _ => None,
        };
        let time = || server.map(|server| machine::processor_time(server.id())).transpose();
        tokio::time::sleep(span.pause).await;
        let (before, busy_before) = (time()?, machine::busy_time()?);
        let load = self.load(system, span).await?;
        let machine_time = machine::busy_time()?.saturating_sub(busy_before);
        let server_time = time()?.zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Run::new(load, events_per_call(system), span.run, server_time, machine_time))
    }

    async fn load(&self, system: System, span: Span) -> Outcome<Load> {
        let port = self.server.port;
        match system {
            System::Http => drive(all(CONNECTIONS, |number| HttpClient::single(port, number)).await?, span).await,
            System::HttpOne => drive(vec![HttpClient::single(port, 0).await?], span).await,
            System::HttpBatch => {
                let client = |number| HttpClient::batch(port, number, BATCH_EVENTS);
                drive(all(BATCH_CONNECTIONS, client).await?, span).await
            }
            System::Grpc => drive(GrpcClient::connect(port, CONNECTIONS).await?, span).await,
            System::GrpcStream => drive(StreamClient::connect(port, CONNECTIONS).await?, span).await,
            System::HttpId => drive(all(CONNECTIONS, |number| HttpClient::with_id(port, number)).await?, span).await,
            System::Structured => {
                drive(all(CONNECTIONS, |number| HttpClient::structured(port, number)).await?, span).await
            }
            System::Null | System::NullOne => {
                let port = self.null.as_ref().ok_or("there is no such server")?.port;
                let connections = if system == System::Null { CONNECTIONS } else { 1 };
                drive(all(connections, |number| HttpClient::single(port, number)).await?, span).await
            }
            System::Redis => {
                let url = machine::variable(redis::VARIABLE)?;
                redis::prepare(&url).await?;
                drive(all(CONNECTIONS, |number| RedisClient::connect(&url, number)).await?, span).await
            }
            System::Nats => {
                let url = machine::variable(nats::VARIABLE)?;
                nats::prepare(&url).await?;
                drive(all(CONNECTIONS, |number| NatsClient::connect(&url, number)).await?, span).await
            }
            System::UmaDb => {
                let url = machine::variable(umadb::VARIABLE)?;
                drive(all(CONNECTIONS, |number| UmaDbClient::connect(&url, number)).await?, span).await
            }
            System::RawRow => drive(vec![self.raw.client(self.forms.row, 1).await?], span).await,
            System::RawRows => drive(vec![self.raw.client(self.forms.rows, RAW_ROWS).await?], span).await,
            System::RawBatch => drive(vec![self.raw.client(self.forms.batch, BATCH_EVENTS).await?], span).await,
            System::RawConnections => {
                drive(all(CONNECTIONS, |_| self.raw.client(self.forms.row, 1)).await?, span).await
            }
        }
    }

    /// Memory of the server that is resident now, in KiB.
    pub(crate) fn resident_kib(&self) -> Outcome<u64> {
        self.server.resident_kib()
    }

    /// The version of the engine.
    pub(crate) fn version(&self) -> &str {
        &self.raw.version
    }

    /// How the raw statements are written.
    pub(crate) fn forms(&self) -> String {
        let Forms { row, rows, batch } = &self.forms;
        format!("1 row: {}, {BATCH_EVENTS} rows: {}, {RAW_ROWS} rows: {}", row.name(), batch.name(), rows.name())
    }
}

const fn events_per_call(system: System) -> usize {
    match system {
        System::HttpBatch | System::RawBatch => BATCH_EVENTS,
        System::RawRows => RAW_ROWS,
        System::Http
        | System::HttpOne
        | System::HttpId
        | System::Structured
        | System::Grpc
        | System::GrpcStream
        | System::Null
        | System::NullOne
        | System::Redis
        | System::Nats
        | System::UmaDb
        | System::RawRow
        | System::RawConnections => 1,
    }
}

/// Connects `count` clients, one after the other: a burst would measure the listen queue.
async fn all<C: Client>(count: usize, connect: impl AsyncFn(usize) -> Outcome<C>) -> Outcome<Vec<C>> {
    let mut clients = Vec::with_capacity(count);
    for number in 0..count {
        clients.push(connect(number).await?);
    }
    Ok(clients)
}
