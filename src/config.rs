//! Settings: flags and environment variables, read once.

mod environment;
mod flags;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use environment::Environment;
use flags::Flags;

pub use flags::LogFormat;

/// The database when nothing else is configured: a file in the working directory.
const DATABASE_URL_DEFAULT: &str = "sqlite://events.db";

/// Bytes of an event's attributes at the most: four of them, each of 255 characters of up to 4 bytes.
const ATTRIBUTES_BYTES_MAX: usize = 4 * 255 * 4;

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; the first address is the one port, a second one comes from `--grpc-port`.
    pub listen: Vec<SocketAddr>,
    /// The database.
    pub database: DatabaseUrl,
    /// How the processes of one database wake each other, if not by looking into it.
    pub nats: Option<NatsServers>,
    /// The token every caller must show, if any.
    pub auth_token: Option<AuthToken>,
    /// Certificate chain and key, both as PEM, when TLS is on.
    pub tls: Option<TlsFiles>,
    /// Origins whose pages may call; empty for none, `*` for all.
    pub cors_allowed_origins: Vec<String>,
    /// Bytes of data in one event.
    pub event_bytes_max: usize,
    /// Events in one request.
    pub batch_events_max: usize,
    /// Bytes of the events in one request.
    pub batch_bytes_max: usize,
    /// Events that wait to be stored.
    pub queue_events_max: usize,
    /// Bytes of events that wait to be stored.
    pub queue_bytes_max: usize,
    /// Whether a database is taken that may lose what it acknowledged.
    pub allows_lazy_durability: bool,
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
    /// How long open requests may take to finish after SIGTERM.
    pub drain_timeout: Duration,
    /// How long to wait for the database at start.
    pub startup_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written, as a `tracing` filter.
    pub log_filter: String,
}

/// A database URL. Never shown: it can carry a password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// The token of the configuration. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthToken(String);

/// NATS servers of one cluster. The URLs are never shown: they can carry credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsServers {
    /// `nats://…` or `tls://…`, at least one.
    pub urls: Vec<String>,
    /// The subject of the wake-ups.
    pub subject: String,
}

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// What the command line asks for, or why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--help` or `--version`: the text to print.
    #[error("{0}")]
    Help(String),
    /// A wrong setting: one line that names it.
    #[error("{0}")]
    Invalid(String),
}

impl DatabaseUrl {
    /// The URL with its secrets.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.0.split(':').next().unwrap_or_default();
        write!(formatter, "{scheme}:…")
    }
}

impl AuthToken {
    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for NatsServers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NatsServers").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AuthToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AuthToken(…)")
    }
}

impl Config {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// As [`Config::from_parts`] says.
    pub fn load() -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .map(|(name, value)| match value.into_string() {
                Ok(value) => Ok((name, value)),
                Err(_) if Environment::knows(&name) => Err(ConfigError::Invalid(format!("{name} is not valid UTF-8"))),
                Err(_) => Ok((name, String::new())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_parts(std::env::args_os(), variables)
    }

    /// Reads the settings from `arguments`, whose first is the program's name, and environment `variables`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the flag or variable that is wrong.
    pub fn from_parts(
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let flags = Flags::try_parse_from(flags::normalized(arguments)).map_err(|error| flags::one_line(&error))?;
        let environment = Environment::read(variables)?;
        let mut listen = vec![SocketAddr::new(flags.bind, flags.port)];
        if let Some(port) = flags.grpc_port {
            if port == flags.port && port != 0 {
                return Err(ConfigError::Invalid(format!("--grpc-port must differ from --port, both are {port}")));
            }
            listen.push(SocketAddr::new(flags.bind, port));
        }
        check_queue(&flags)?;
        Ok(Self {
            listen,
            database: environment.database_url()?.unwrap_or_else(|| DatabaseUrl(DATABASE_URL_DEFAULT.to_owned())),
            nats: environment.nats()?,
            auth_token: environment.auth_token()?,
            tls: environment.tls_files()?,
            cors_allowed_origins: environment.cors_allowed_origins()?,
            event_bytes_max: flags.max_event_bytes,
            batch_events_max: flags.max_batch_events,
            batch_bytes_max: flags.max_batch_bytes,
            queue_events_max: flags.max_queued_events,
            queue_bytes_max: flags.max_queued_bytes,
            allows_lazy_durability: flags.allow_lazy_durability,
            streams_max: flags.max_total_clients,
            connections_max: flags.max_connections,
            stream_batch_events: flags.stream_batch_size,
            client_buffer_events: flags.client_buffer_size,
            tail_bytes_max: flags.tail_bytes,
            slow_client_timeout: Duration::from_secs(flags.slow_client_timeout),
            heartbeat: Duration::from_secs(flags.heartbeat_interval),
            drain_timeout: Duration::from_secs(flags.drain_timeout),
            startup_timeout: Duration::from_secs(flags.startup_timeout),
            log_format: flags.log_format,
            log_filter: environment.log_filter()?,
        })
    }
}

/// What may be sent in one request must fit into an empty queue.
fn check_queue(flags: &Flags) -> Result<(), ConfigError> {
    let at_least = |name: &str, value: usize, of: &str, needed: usize| {
        if value >= needed {
            return Ok(());
        }
        Err(ConfigError::Invalid(format!("{name} is {value}, {of} needs at least {needed}")))
    };
    at_least("--max-queued-events", flags.max_queued_events, "--max-batch-events", flags.max_batch_events)?;
    at_least("--max-queued-bytes", flags.max_queued_bytes, "--max-batch-bytes", flags.max_batch_bytes)?;
    let event_bytes = flags.max_event_bytes + ATTRIBUTES_BYTES_MAX;
    at_least("--max-queued-bytes", flags.max_queued_bytes, "--max-event-bytes", event_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
        let arguments = std::iter::once("events-db").chain(arguments.iter().copied()).map(OsString::from);
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_parts(arguments, variables).map_err(|error| error.to_string())
    }

    #[test]
    fn what_one_request_may_hold_must_fit_into_the_queue() {
        for (args, problem) in [
            (
                &["--max-queued-events", "999"][..],
                Some("--max-queued-events is 999, --max-batch-events needs at least 1000"),
            ),
            (&["--max-queued-events", "1000"], None),
            (
                &["--max-queued-bytes", "4194303"],
                Some("--max-queued-bytes is 4194303, --max-batch-bytes needs at least 4194304"),
            ),
            (&["--max-queued-bytes", "4194304"], None),
            (
                &["--max-queued-bytes", "4079", "--max-batch-bytes", "1", "--max-event-bytes", "1"],
                Some("--max-queued-bytes is 4079, --max-event-bytes needs at least 4081"),
            ),
            (&["--max-queued-bytes", "4081", "--max-batch-bytes", "1", "--max-event-bytes", "1"], None),
        ] {
            let arguments = ["events-db"].iter().chain(args).map(OsString::from);
            let error = Config::from_parts(arguments, []).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), problem, "{args:?}");
        }
    }

    #[test]
    fn nothing_set_is_the_embedded_database_on_8080() {
        let config = config(&[], &[]).unwrap();
        assert_eq!(config.listen, [SocketAddr::from(([0, 0, 0, 0], 8080))]);
        assert_eq!(config.database.expose(), "sqlite://events.db");
        assert_eq!((config.client_buffer_events, config.streams_max, config.stream_batch_events), (100, 10_000, 10));
        assert_eq!(config.event_bytes_max, 1024 * 1024);
        assert!(config.auth_token.is_none() && config.tls.is_none());
    }

    #[test]
    fn the_go_services_settings_work_unchanged() {
        let flags = ["-rest-port=80", "--grpc-port", "50051", "-client-buffer-size", "7", "--max-total-clients=8"];
        let config = config(&flags, &[("MYSQL_PASSWORD", "p@ss/word")]).unwrap();
        assert_eq!(config.listen.iter().map(SocketAddr::port).collect::<Vec<_>>(), [80, 50051]);
        assert_eq!((config.client_buffer_events, config.streams_max), (7, 8));
        assert_eq!(config.database.expose(), "mysql://root:p%40ss%2Fword@localhost:3306/root");
    }

    #[test]
    fn a_database_url_wins_over_the_mysql_variables() {
        let variables = [("DATABASE_URL", "postgres://db/events"), ("MYSQL_HOST", "db")];
        assert_eq!(config(&[], &variables).unwrap().database.expose(), "postgres://db/events");
    }

    #[test]
    fn each_wrong_flag_is_named() {
        for (arguments, name) in [
            (["--port", "65536"], "--port"),
            (["--port", "x"], "--port"),
            (["--grpc-port", "-1"], "--grpc-port"),
            (["--client-buffer-size", "0"], "--client-buffer-size"),
            (["--client-buffer-size", "100001"], "--client-buffer-size"),
            (["--max-total-clients", "0"], "--max-total-clients"),
            (["--max-total-clients", "1000001"], "--max-total-clients"),
            (["--max-connections", "0"], "--max-connections"),
            (["--max-connections", "1000001"], "--max-connections"),
            (["--tail-bytes", "-1"], "--tail-bytes"),
            (["--tail-bytes", "68719476737"], "--tail-bytes"),
            (["--slow-client-timeout", "0"], "--slow-client-timeout"),
            (["--slow-client-timeout", "3601"], "--slow-client-timeout"),
            (["--stream-batch-size", "0"], "--stream-batch-size"),
            (["--stream-batch-size", "1001"], "--stream-batch-size"),
            (["--max-event-bytes", "0"], "--max-event-bytes"),
            (["--max-event-bytes", "16777217"], "--max-event-bytes"),
            (["--heartbeat-interval", "0"], "--heartbeat-interval"),
            (["--heartbeat-interval", "301"], "--heartbeat-interval"),
            (["--drain-timeout", "3601"], "--drain-timeout"),
            (["--startup-timeout", "3601"], "--startup-timeout"),
            (["--log-format", "xml"], "--log-format"),
            (["--bind", "example.org"], "--bind"),
            (["--colour", "red"], "--colour"),
        ] {
            let error = config(&arguments, &[]).unwrap_err();
            assert!(error.contains(name) && !error.contains('\n'), "{error}");
        }
        let both = config(&["--port", "80", "--grpc-port", "80"], &[]).unwrap_err();
        assert!(both.contains("--grpc-port"), "{both}");
    }

    #[test]
    fn the_edges_of_each_flag_are_accepted() {
        for arguments in [
            ["--port", "0"],
            ["--port", "65535"],
            ["--client-buffer-size", "1"],
            ["--client-buffer-size", "100000"],
            ["--max-total-clients", "1"],
            ["--max-total-clients", "1000000"],
            ["--max-connections", "1"],
            ["--max-connections", "1000000"],
            ["--tail-bytes", "0"],
            ["--tail-bytes", "68719476736"],
            ["--slow-client-timeout", "1"],
            ["--slow-client-timeout", "3600"],
            ["--stream-batch-size", "1"],
            ["--stream-batch-size", "1000"],
            ["--max-event-bytes", "1"],
            ["--max-event-bytes", "16777216"],
            ["--heartbeat-interval", "1"],
            ["--heartbeat-interval", "300"],
            ["--drain-timeout", "0"],
            ["--drain-timeout", "3600"],
            ["--startup-timeout", "0"],
            ["--startup-timeout", "3600"],
            ["--bind", "::1"],
        ] {
            assert!(config(&arguments, &[]).is_ok(), "{arguments:?}");
        }
    }

    #[test]
    fn each_wrong_variable_is_named_and_no_secret_is_shown() {
        for (name, value) in [
            ("MYSQL_PORT", "s3cret"),
            ("MYSQL_PORT", "0"),
            ("MYSQL_PORT", "65536"),
            ("MYSQL_HOST", "s3cret host"),
            ("DATABASE_URL", "s3cret"),
            ("DATABASE_URL", "oracle://u:s3cret@db/events"),
            ("AUTH_TOKEN", "s3cret\n"),
            ("AUTH_TOKEN", " s3cret"),
            ("TLS_CERT_FILE", "cert.pem"),
            ("TLS_KEY_FILE", "key.pem"),
            ("CORS_ALLOWED_ORIGINS", "example.org"),
            ("NATS_URL", "http://u:s3cret@nats"),
            ("NATS_URL", "u:s3cret@nats"),
            ("NATS_URL", "nats://u:s3cret@nats,nats://"),
            ("NATS_SUBJECT", "s3cret..x"),
            ("NATS_SUBJECT", "s3cret.*"),
            ("NATS_SUBJECT", "s3cret x"),
            ("RUST_LOG", "loud=very"),
        ] {
            let error = config(&[], &[(name, value)]).unwrap_err();
            assert!(error.contains(name) && !error.contains('\n'), "{error}");
            assert!(!error.contains("s3cret") || name == "MYSQL_PORT" || name == "MYSQL_HOST", "{error}");
        }
        let secrets =
            [("DATABASE_URL", "mysql://u:s3cret@db/e"), ("AUTH_TOKEN", "s3cret"), ("NATS_URL", "nats://s3cret@nats")];
        let config = config(&[], &secrets).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn nats_servers_are_a_list_with_a_subject() {
        let nats = |variables: &[(&str, &str)]| config(&[], variables).unwrap().nats;
        assert_eq!(nats(&[]), None);
        assert_eq!(nats(&[("NATS_SUBJECT", "a.b")]), None);
        let urls = vec!["nats://a:4222".to_owned(), "tls://b".to_owned()];
        let list = ("NATS_URL", "nats://a:4222, tls://b");
        let subject = "eventsdb.head".to_owned();
        assert_eq!(nats(&[list]), Some(NatsServers { urls: urls.clone(), subject }));
        let subject = "a.b".to_owned();
        assert_eq!(nats(&[list, ("NATS_SUBJECT", "a.b")]), Some(NatsServers { urls, subject }));
    }

    #[test]
    fn a_token_that_is_empty_is_none() {
        assert!(config(&[], &[("AUTH_TOKEN", "")]).unwrap().auth_token.is_none());
    }
}
