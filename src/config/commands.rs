//! The commands beside serving, as they are written on the command line.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use crate::config::flags::{ServeFlags, StoreFlags, within};

/// What to do; serve when nothing is said.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Serve events, which is what happens without a command too
    Serve(Box<ServeFlags>),
    /// Bring the database's schema up to date, and end
    Migrate(StoreFlags),
    /// Write events as CloudEvents in JSON, one on each line
    Export(ExportFlags),
    /// Store what was exported, or the events of another database, at their old positions
    Import(ImportFlags),
    /// Check that the log in the database is whole: order, times, keys, indexes, head
    Verify(StoreFlags),
    /// Follow the events of a running server
    Tail(TailFlags),
    /// Append events to a running server
    Append(AppendFlags),
    /// Ask a running server whether it is ready
    Healthcheck(HealthcheckFlags),
    /// Print the settings that hold, and where each comes from, without secrets
    Config(Box<ServeFlags>),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// That of this command
        command: Option<String>,
    },
}

/// Which events.
#[derive(Debug, Args)]
pub(super) struct FilterFlags {
    /// Events of this subject; may be given several times
    #[arg(long, value_name = "SUBJECT")]
    pub(super) subject: Vec<String>,
    /// Take --subject for the beginning of subjects
    #[arg(long)]
    pub(super) recursive: bool,
    /// Events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) event_type: Vec<String>,
    /// Events of this source; may be given several times
    #[arg(long, value_name = "SOURCE")]
    pub(super) source: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct ExportFlags {
    /// Where to write; standard output when absent or `-`
    #[arg(value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Go on behind the last whole line of FILE, which an interrupted export has left
    #[arg(long, requires = "output")]
    pub(super) resume: bool,
    /// Compress with gzip; FILE need not be told when its name ends in .gz
    #[arg(long)]
    pub(super) gzip: bool,
    /// Events above this position
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(0..))]
    pub(super) after: Option<i64>,
    #[command(flatten)]
    pub(super) filter: FilterFlags,
    #[command(flatten)]
    pub(super) store: StoreFlags,
}

#[derive(Debug, Args)]
pub(super) struct ImportFlags {
    /// What `export` wrote, compressed or not; standard input when `-`
    #[arg(value_name = "FILE", conflicts_with = "from")]
    pub(super) input: Option<PathBuf>,
    /// A database instead: one of ours, or a Go service's; it is only read. The variable `IMPORT_FROM` does
    /// the same and shows nobody the password
    #[arg(long, value_name = "URL")]
    pub(super) from: Option<String>,
    /// Append the events behind those that are there, each source and id once, instead of keeping their positions
    #[arg(long)]
    pub(super) new_positions: bool,
    #[command(flatten)]
    pub(super) store: StoreFlags,
}

/// How to reach a running server.
#[derive(Debug, Args)]
pub(super) struct ClientFlags {
    /// The server's address [default: the port of the settings on this machine]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Take any certificate of the server
    #[arg(long)]
    pub(super) insecure: bool,
    /// Take certificates of this authority only, PEM
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(super) ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct TailFlags {
    /// Where to begin: `head` for what comes, `start` for everything, a position to begin behind it, or a time
    #[arg(long, value_name = "WHERE", default_value = "head")]
    pub(super) from: String,
    /// End after so many events
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    #[command(flatten)]
    pub(super) filter: FilterFlags,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Args)]
pub(super) struct AppendFlags {
    /// CloudEvents in JSON, one on each line, to be appended; standard input when `-`
    #[arg(value_name = "FILE", required_unless_present = "event_type",
        conflicts_with_all = ["event_type", "source", "subject", "id", "data", "data_content_type"])]
    pub(super) input: Option<PathBuf>,
    /// The type of one event
    #[arg(long = "type", value_name = "TYPE", requires = "source")]
    pub(super) event_type: Option<String>,
    /// Its source
    #[arg(long, value_name = "SOURCE", requires = "event_type")]
    pub(super) source: Option<String>,
    /// Its subject
    #[arg(long, value_name = "SUBJECT", requires = "event_type")]
    pub(super) subject: Option<String>,
    /// Its id, one that nobody else has when absent
    #[arg(long, value_name = "ID", requires = "event_type")]
    pub(super) id: Option<String>,
    /// Its data; standard input when `-`
    #[arg(long, value_name = "TEXT", requires = "event_type")]
    pub(super) data: Option<String>,
    /// What its data is [default: application/json if the data is JSON, else text/plain]
    #[arg(long, value_name = "MEDIA_TYPE", requires = "data")]
    pub(super) data_content_type: Option<String>,
    /// Lines that are sent as one batch, stored together or not at all
    #[arg(long, value_name = "EVENTS", default_value_t = 100, value_parser = within(1, 10_000))]
    pub(super) batch: usize,
    #[command(flatten)]
    pub(super) client: ClientFlags,
}

#[derive(Debug, Args)]
pub(super) struct HealthcheckFlags {
    /// The server's address [default: the port of the settings on this machine]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// How long the answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(super) timeout: u64,
}
