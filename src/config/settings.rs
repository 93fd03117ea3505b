//! The settings of each command, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::Shell;

use crate::config::{AuthToken, DatabaseUrl, LogFormat, NatsServers, TlsFiles};

/// What this process was started for.
#[derive(Debug)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// What to tell about it.
    pub logs: LogSettings,
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Serve events.
    Serve(Box<Config>),
    /// Bring the schema up to date.
    Migrate(StoreSettings),
    /// Write events to a file.
    Export(ExportSettings),
    /// Store events of a file or of another database.
    Import(ImportSettings),
    /// Check the log.
    Verify(StoreSettings),
    /// Follow a server's events.
    Tail(TailSettings),
    /// Append events to a server.
    Append(AppendSettings),
    /// Ask a server whether it is ready.
    Healthcheck(HealthcheckSettings),
    /// Print this text: the effective settings.
    Print(String),
    /// Print completions for a shell.
    Completions(Shell),
    /// Print a manual page.
    Man(Box<clap::Command>),
}

/// How to log.
#[derive(Debug)]
pub struct LogSettings {
    /// How log lines look.
    pub format: LogFormat,
    /// Which log lines are written, as a `tracing` filter.
    pub filter: String,
}

/// All settings of the server, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; the first address is the one port, a second one comes from `--grpc-port`.
    pub listen: Vec<SocketAddr>,
    /// The database.
    pub store: StoreSettings,
    /// How the processes of one database wake each other, if not by looking into it.
    pub nats: Option<NatsServers>,
    /// The token every caller must show, if any.
    pub auth_token: Option<AuthToken>,
    /// Certificate chain and key, both as PEM, when TLS is on.
    pub tls: Option<TlsFiles>,
    /// Origins whose pages may call; empty for none, `*` for all.
    pub cors_allowed_origins: Vec<String>,
    /// Events in one request.
    pub batch_events_max: usize,
    /// Bytes of the events in one request.
    pub batch_bytes_max: usize,
    /// Events that wait to be stored.
    pub queue_events_max: usize,
    /// Bytes of events that wait to be stored.
    pub queue_bytes_max: usize,
    /// Open streams at once.
    pub streams_max: usize,
    /// Open connections at once.
    pub connections_max: usize,
    /// Events in the first page of a stream.
    pub stream_batch_events: usize,
    /// Events held for one client at the live end of a stream.
    pub client_buffer_events: usize,
    /// Bytes of the newest events that are held in memory.
    pub tail_bytes_max: usize,
    /// How long a client may take nothing of its stream.
    pub slow_client_timeout: Duration,
    /// How long an idle event stream stays silent.
    pub heartbeat: Duration,
    /// How long the server goes on serving after SIGTERM, not ready.
    pub shutdown_delay: Duration,
    /// How long open requests may take to finish after that.
    pub drain_timeout: Duration,
    /// Whether spans are exported, as the variables of OpenTelemetry say.
    pub exports_traces: bool,
}

/// The database, and on what terms it is taken.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Where it is.
    pub database: DatabaseUrl,
    /// Bytes of data in one event.
    pub event_bytes_max: usize,
    /// Whether a database is taken that may lose what it acknowledged.
    pub allows_lazy_durability: bool,
    /// How long to wait for it at start.
    pub startup_timeout: Duration,
}

/// Which events, as it was written.
#[derive(Debug, Clone, Default)]
pub struct FilterSettings {
    /// Subjects, or the beginnings of subjects; any when empty.
    pub subjects: Vec<String>,
    /// Whether they are beginnings.
    pub is_recursive: bool,
    /// Types; any when empty.
    pub event_types: Vec<String>,
    /// Sources; any when empty.
    pub event_sources: Vec<String>,
}

/// What to write where.
#[derive(Debug)]
pub struct ExportSettings {
    /// The database.
    pub store: StoreSettings,
    /// The file; standard output when `None`.
    pub output: Option<PathBuf>,
    /// Whether to go on behind what the file has.
    pub resumes: bool,
    /// Whether to compress.
    pub compresses: bool,
    /// Events above this position; 0 for all.
    pub after: i64,
    /// Which events.
    pub filter: FilterSettings,
}

/// What to store.
#[derive(Debug)]
pub struct ImportSettings {
    /// The database to store it in.
    pub store: StoreSettings,
    /// Where it comes from.
    pub input: ImportInput,
    /// Whether events keep their positions.
    pub keeps_positions: bool,
}

/// Where imported events come from.
#[derive(Debug)]
pub enum ImportInput {
    /// Lines of standard input.
    StandardInput,
    /// Lines of a file.
    File(PathBuf),
    /// Another database.
    Database(DatabaseUrl),
}

/// How to reach a server.
#[derive(Debug)]
pub struct ClientSettings {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub url: String,
    /// The token to show.
    pub auth_token: Option<AuthToken>,
    /// Whether any certificate is good enough.
    pub is_insecure: bool,
    /// The only authority to trust, PEM.
    pub authority: Option<PathBuf>,
}

/// What to follow.
#[derive(Debug)]
pub struct TailSettings {
    /// The server.
    pub client: ClientSettings,
    /// Which events.
    pub filter: FilterSettings,
    /// `head`, `start`, a position or a time.
    pub from: String,
    /// How many events; all that come when `None`.
    pub limit: Option<u64>,
}

/// What to append.
#[derive(Debug)]
pub struct AppendSettings {
    /// The server.
    pub client: ClientSettings,
    /// The events.
    pub events: AppendInput,
}

/// Where appended events come from.
#[derive(Debug)]
pub enum AppendInput {
    /// One event.
    One(AppendEvent),
    /// Events in JSON, one on each line, of a file or of standard input.
    Lines {
        /// The file; standard input when `None`.
        file: Option<PathBuf>,
        /// Lines in one request at the most.
        batch_events_max: usize,
    },
}

/// An event as it was written on the command line.
#[derive(Debug)]
pub struct AppendEvent {
    /// Its type.
    pub event_type: String,
    /// Its source.
    pub event_source: String,
    /// Its subject, if any.
    pub subject: Option<String>,
    /// Its id; one is made up when `None`.
    pub id: Option<String>,
    /// Its data, if any; `-` for what standard input has.
    pub data: Option<String>,
    /// What its data is, if that was said.
    pub data_content_type: Option<String>,
}

/// Whom to ask.
#[derive(Debug)]
pub struct HealthcheckSettings {
    /// The server.
    pub url: String,
    /// How long the answer may take.
    pub timeout: Duration,
}
