//! The systems that are measured on each database.

use clap::ValueEnum;

use crate::engine::Engine;
use crate::{BATCH_CONNECTIONS, BATCH_EVENTS, CONNECTIONS, GRPC_CONNECTIONS, RAW_ROWS, STREAMS};

impl Engine {
    /// Everything that is measured with this engine, in the order of the runs of a round.
    pub(crate) const fn systems(self) -> &'static [System] {
        match self {
            Self::Sqlite => &[
                System::Http,
                System::Null,
                System::Redis,
                System::Nats,
                System::UmaDb,
                System::RawRow,
                System::HttpOne,
                System::NullOne,
                System::RawBatch,
                System::HttpBatch,
                System::Grpc,
                System::GrpcStream,
                System::HttpId,
                System::Structured,
            ],
            Self::Mariadb | Self::Mysql | Self::Postgres => &[
                System::Http,
                System::RawRows,
                System::RawConnections,
                System::RawRow,
                System::HttpOne,
                System::RawBatch,
                System::HttpBatch,
            ],
        }
    }
}

/// Something that takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// This server over HTTP/1.1, an event per request.
    Http,
    /// The same over one connection.
    HttpOne,
    /// This server over HTTP/1.1, many events per request.
    HttpBatch,
    /// This server over gRPC, an event per call.
    Grpc,
    /// This server over gRPC, many events in flight on few calls.
    GrpcStream,
    /// This server over HTTP/1.1, an event with an id per request.
    HttpId,
    /// The same as a structured `CloudEvent`.
    Structured,
    /// This server's HTTP stack with a handler that stores nothing.
    Null,
    /// The same over one connection.
    NullOne,
    /// Redis Streams, every answer after the file is synced.
    Redis,
    /// NATS `JetStream`, file storage.
    Nats,
    /// `UmaDB` over gRPC, an event per call.
    UmaDb,
    /// The database, one connection, a row per commit.
    RawRow,
    /// The database, one connection, as many rows per commit as a busy server has waiting.
    RawRows,
    /// The database, one connection, as many rows per commit as a batch has events.
    RawBatch,
    /// The database, many connections, a row per commit.
    RawConnections,
}

impl System {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Http => format!("events-db, HTTP, {CONNECTIONS} connections"),
            Self::HttpOne => "events-db, HTTP, one connection".to_owned(),
            Self::HttpBatch => {
                format!("events-db, HTTP, batches of {BATCH_EVENTS}, {BATCH_CONNECTIONS} connections")
            }
            Self::Grpc => format!("events-db, gRPC, {CONNECTIONS} calls, {GRPC_CONNECTIONS} connections"),
            Self::GrpcStream => format!("events-db, AppendStream, {CONNECTIONS} in flight, {STREAMS} connections"),
            Self::HttpId => format!("events-db, HTTP, with id, {CONNECTIONS} connections"),
            Self::Structured => format!("events-db, HTTP, structured mode, {CONNECTIONS} connections"),
            Self::Null => format!("same HTTP stack, stores nothing, {CONNECTIONS} connections"),
            Self::NullOne => "same HTTP stack, stores nothing, one connection".to_owned(),
            Self::Redis => format!("Redis Streams, appendfsync always, {CONNECTIONS} connections"),
            Self::Nats => format!("NATS JetStream, file storage, {CONNECTIONS} connections"),
            Self::UmaDb => format!("UmaDB, gRPC, {CONNECTIONS} connections"),
            Self::RawRow => "raw, one connection, a row per commit".to_owned(),
            Self::RawRows => format!("raw, one connection, {RAW_ROWS} rows per commit"),
            Self::RawBatch => format!("raw, one connection, {BATCH_EVENTS} rows per commit"),
            Self::RawConnections => format!("raw, {CONNECTIONS} connections, a row per commit"),
        }
    }

    /// Whether it is this server that is measured.
    pub(crate) const fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Http
                | Self::HttpOne
                | Self::HttpBatch
                | Self::HttpId
                | Self::Structured
                | Self::Grpc
                | Self::GrpcStream
        )
    }
}
