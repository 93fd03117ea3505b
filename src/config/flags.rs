//! The command line: the flags of the server, and what every command takes.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{Args, Parser, ValueEnum};

use crate::config::ConfigError;
use crate::config::commands::Subcommand;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// An event store and event stream for CloudEvents on a single port.
#[derive(Debug, Parser)]
#[command(name = "events-db", version, after_help = AFTER_HELP, allow_negative_numbers = true)]
pub(super) struct CommandLine {
    #[command(flatten)]
    pub(super) common: CommonFlags,
    #[command(flatten)]
    pub(super) serve: ServeFlags,
    #[command(subcommand)]
    pub(super) command: Option<Subcommand>,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct CommonFlags {
    /// A TOML file with settings by the names of flags and variables; both of these win over it
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub(super) log_format: LogFormat,
}

/// What every command takes that opens the database.
#[derive(Debug, Args)]
pub(super) struct StoreFlags {
    /// Bytes of data in one event
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024, value_parser = within(1, 16 * 1024 * 1024))]
    pub(super) max_event_bytes: usize,
    /// Take a database whose settings let it lose acknowledged events in a crash
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", hide_possible_values = true)]
    pub(super) allow_lazy_durability: bool,
    /// Time to wait for the database at start
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=3_600))]
    pub(super) startup_timeout: u64,
}

/// What the server takes.
#[derive(Debug, Args)]
pub(super) struct ServeFlags {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub(super) bind: IpAddr,
    /// The one port: REST, Server-Sent Events, gRPC, gRPC-web and metrics; 0 takes a free one
    #[arg(long, visible_alias = "rest-port", default_value_t = 8080)]
    pub(super) port: u16,
    /// A second port with the very same service, for clients that dial one of their own for gRPC
    #[arg(long, value_name = "PORT")]
    pub(super) grpc_port: Option<u16>,
    /// Events held for one client at the live end of a stream
    #[arg(long, value_name = "EVENTS", default_value_t = 100, value_parser = within(1, 100_000))]
    pub(super) client_buffer_size: usize,
    /// Bytes of the newest events that are held in memory for the readers; 0 for none
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024 * 1024, value_parser = within(0, 64 << 30))]
    pub(super) tail_bytes: usize,
    /// Time after which a client that takes nothing of its stream is cut
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(super) slow_client_timeout: u64,
    /// Open streams at once
    #[arg(long, value_name = "STREAMS", default_value_t = 10_000, value_parser = within(1, 1_000_000))]
    pub(super) max_total_clients: usize,
    /// Open connections at once
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 20_000, value_parser = within(1, 1_000_000))]
    pub(super) max_connections: usize,
    /// Events in the first batch of a stream; batches double while they come back full
    #[arg(long, value_name = "EVENTS", default_value_t = 10, value_parser = within(1, 1_000))]
    pub(super) stream_batch_size: usize,
    /// Events in one request, stored together or not at all
    #[arg(long, value_name = "EVENTS", default_value_t = 1_000, value_parser = within(1, 10_000))]
    pub(super) max_batch_events: usize,
    /// Bytes of the events in one such request: data and attributes
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024, value_parser = within(1, 64 * 1024 * 1024))]
    pub(super) max_batch_bytes: usize,
    /// Events that wait to be stored before more are refused
    #[arg(long, value_name = "EVENTS", default_value_t = 20_000, value_parser = within(1, 1_000_000))]
    pub(super) max_queued_events: usize,
    /// Bytes of events that wait to be stored before more are refused
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024 * 1024, value_parser = within(1, 4 << 30))]
    pub(super) max_queued_bytes: usize,
    /// Silence after which an event stream sends a comment, and EventStore.Subscribe a heartbeat
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(super) heartbeat_interval: u64,
    /// Time after SIGTERM in which the server says that it is not ready, and serves as before
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=3_600))]
    pub(super) shutdown_delay: u64,
    /// Time for open requests to finish after that
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3_600))]
    pub(super) drain_timeout: u64,
    #[command(flatten)]
    pub(super) store: StoreFlags,
}

const AFTER_HELP: &str = "\
Environment (DATABASE_URL, MYSQL_PASSWORD, NATS_URL and AUTH_TOKEN may be in a file that <NAME>_FILE names):
  DATABASE_URL          sqlite://FILE, mysql://… or postgres://… [default: sqlite://events.db]
  MYSQL_HOST, MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD, MYSQL_DATABASE_NAME
                        MySQL or MariaDB when DATABASE_URL is not set [defaults: localhost, 3306, root, root, root]
  NATS_URL              nats://… or tls://…, separated by commas: wakes the other processes of the database
  NATS_SUBJECT          the subject of these wake-ups [default: eventsdb.head]
  AUTH_TOKEN            the token that callers must send
  TLS_CERT_FILE, TLS_KEY_FILE
                        PEM files; both turn TLS on
  CORS_ALLOWED_ORIGINS  origins whose pages may call, separated by commas, or *
  RUST_LOG              which log lines are written [default: info]";

pub(super) fn within(least: u64, most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..=most)
}

/// Go's flags may have one dash where ours have two; there are no short flags to confuse them with but `-h` and `-V`.
pub(super) fn normalized(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let with_two_dashes = |argument: OsString| match argument.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(name) if name.len() > 1 && name.starts_with(|first: char| first.is_ascii_alphabetic()) => {
            OsString::from(format!("--{name}"))
        }
        Some(_) | None => argument,
    };
    arguments.into_iter().map(with_two_dashes).collect()
}

/// The first line of what clap says: it names the flag and the trouble.
pub(super) fn one_line(error: &clap::Error) -> ConfigError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ConfigError::Help(text),
        _ => {
            let line = text.lines().next().unwrap_or_default();
            ConfigError::Invalid(line.strip_prefix("error: ").unwrap_or(line).to_owned())
        }
    }
}
