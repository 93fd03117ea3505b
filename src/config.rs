//! Settings: flags, environment variables and a file, read once.

mod commands;
mod effective;
mod environment;
mod file;
mod flags;
mod settings;
#[cfg(test)]
mod tests;
mod traces;
mod values;
mod variables;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches};

use commands::{AppendFlags, ClientFlags, ExportFlags, FilterFlags, ImportFlags, Subcommand, TailFlags};
use environment::Environment;
use file::File;
use flags::{CommandLine, ServeFlags, StoreFlags};
use variables::Layer;

pub use flags::LogFormat;
pub use settings::{
    AppendEvent, AppendInput, AppendSettings, ClientSettings, Command, Config, ExportSettings, FilterSettings,
    HealthcheckSettings, ImportInput, ImportSettings, Invocation, LogSettings, StoreSettings, TailSettings,
};
pub use values::{AuthToken, DatabaseUrl, NatsServers, TlsFiles};

/// The database when nothing else is configured: a file in the working directory.
const DATABASE_URL_DEFAULT: &str = "sqlite://events.db";

/// Bytes of an event's attributes at the most: four of them, each of 255 characters of up to 4 bytes.
const ATTRIBUTES_BYTES_MAX: usize = 4 * 255 * 4;

/// What standard input or output is called where a file is.
const STANDARD: &str = "-";

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

impl Invocation {
    /// Reads what this process was started for.
    ///
    /// # Errors
    /// As [`Invocation::from_parts`] says.
    pub fn load() -> Result<Self, ConfigError> {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .map(|(name, value)| match value.into_string() {
                Ok(value) => Ok((name, value)),
                Err(_) if variables::is_known(&name) => Err(ConfigError::Invalid(format!("{name} is not valid UTF-8"))),
                Err(_) => Ok((name, String::new())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_parts(std::env::args_os(), variables)
    }

    /// Reads the settings from `arguments`, whose first is the program's name, and environment `variables`, both of
    /// which win over the file that `--config` names.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the flag, the variable or the line that is wrong.
    pub fn from_parts(
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let arguments = flags::normalized(arguments);
        let without_file = matches(CommandLine::command(), &arguments)?;
        let path: Option<&PathBuf> = without_file.get_one("config");
        let file = path.map_or_else(|| Ok(File::default()), |path| read_file(path))?;
        let matches = matches(with_defaults(CommandLine::command(), &file), &arguments)?;
        let line = CommandLine::from_arg_matches(&matches).map_err(|error| flags::one_line(&error))?;
        if line.command.is_some() {
            refuse_flags_before_command(&matches)?;
        }
        let variables: Vec<_> = variables.into_iter().collect();
        let exports_traces = traces::wanted(&variables)?;
        let above = Layer::new(variables)?;
        let below = variables_of_file(path, &file)?;
        let origins = effective::Origins::new(&file, &above);
        let variables = above.over(below);
        let shown = effective::text(&matches, &variables, &origins);
        let environment = Environment::read(variables)?;
        let mut command = command(line.command, &line.serve, &environment, shown)?;
        if let Command::Serve(config) = &mut command {
            config.exports_traces = exports_traces;
        }
        let default = if matches!(command, Command::Serve(_)) { "info" } else { "warn" };
        let logs = LogSettings { format: line.common.log_format, filter: environment.log_filter(default)? };
        Ok(Self { command, logs })
    }
}

/// The command line as a whole, for completions and the manual page.
#[must_use]
pub fn command_line() -> clap::Command {
    CommandLine::command()
}

fn matches(command: clap::Command, arguments: &[OsString]) -> Result<ArgMatches, ConfigError> {
    command.try_get_matches_from(arguments).map_err(|error| flags::one_line(&error))
}

/// Reads the file and checks its flags, so that what is wrong with them is told of the file.
fn read_file(path: &Path) -> Result<File, ConfigError> {
    let names = serve_arguments().filter_map(|argument| argument.get_long().map(ToOwned::to_owned));
    let names: Vec<String> = names.chain(["log-format".to_owned(), "rest-port".to_owned()]).collect();
    let file = File::read(path, &names)?;
    match matches(with_defaults(CommandLine::command(), &file), &["events-db".into()]) {
        Err(ConfigError::Invalid(line)) => Err(ConfigError::Invalid(format!("{}: {line}", path.display()))),
        _ => Ok(file),
    }
}

/// The variables of the file, checked for the same reason.
fn variables_of_file(path: Option<&PathBuf>, file: &File) -> Result<Layer, ConfigError> {
    let checked = Layer::new(file.variables()).and_then(|layer| {
        Environment::read(layer.clone())?.check()?;
        Ok(layer)
    });
    checked.map_err(|error| match (error, path) {
        (ConfigError::Invalid(line), Some(path)) => ConfigError::Invalid(format!("{}: {line}", path.display())),
        (error, _) => error,
    })
}

/// What the server takes, without what every command takes.
fn serve_arguments() -> impl Iterator<Item = clap::Arg> {
    let serve = ServeFlags::augment_args(clap::Command::new("serve"));
    serve.get_arguments().cloned().collect::<Vec<_>>().into_iter()
}

/// `command` with what the file says where the command line says nothing.
fn with_defaults(command: clap::Command, file: &File) -> clap::Command {
    let of_file = |argument: &clap::Arg| {
        let aliases = argument.get_visible_aliases().unwrap_or_default();
        let mut names = argument.get_long().into_iter().chain(aliases);
        names.find_map(|name| file.flag(name).map(ToOwned::to_owned))
    };
    let command = command.mut_args(|argument| match of_file(&argument) {
        Some(value) => argument.default_value(value),
        None => argument,
    });
    command.mut_subcommands(|command| with_defaults(command, file))
}

/// `events-db --port 80 export` would forget the port.
fn refuse_flags_before_command(matches: &ArgMatches) -> Result<(), ConfigError> {
    let mut given = serve_arguments()
        .filter(|argument| matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine));
    given.next().map_or(Ok(()), |argument| {
        let name = argument.get_long().unwrap_or_default();
        Err(ConfigError::Invalid(format!("--{name} must come after the command that it is for")))
    })
}

fn command(
    command: Option<Subcommand>,
    serve: &ServeFlags,
    environment: &Environment,
    shown: String,
) -> Result<Command, ConfigError> {
    Ok(match command {
        None => Command::Serve(Box::new(config(serve, environment)?)),
        Some(Subcommand::Serve(flags)) => Command::Serve(Box::new(config(&flags, environment)?)),
        Some(Subcommand::Config(flags)) => {
            config(&flags, environment)?;
            Command::Print(shown)
        }
        Some(Subcommand::Migrate(flags)) => Command::Migrate(store(&flags, environment)?),
        Some(Subcommand::Verify(flags)) => Command::Verify(store(&flags, environment)?),
        Some(Subcommand::Export(flags)) => Command::Export(export(flags, environment)?),
        Some(Subcommand::Import(flags)) => Command::Import(import(flags, environment)?),
        Some(Subcommand::Tail(TailFlags { from, limit, filter, client: to })) => Command::Tail(TailSettings {
            client: client(to, serve.port, environment)?,
            filter: filter.into(),
            from,
            limit,
        }),
        Some(Subcommand::Append(flags)) => Command::Append(append(flags, serve.port, environment)?),
        Some(Subcommand::Healthcheck(flags)) => Command::Healthcheck(HealthcheckSettings {
            url: url(flags.url, serve.port, environment)?,
            timeout: Duration::from_secs(flags.timeout),
        }),
        Some(Subcommand::Completions { shell }) => Command::Completions(shell),
        Some(Subcommand::Man { command }) => Command::Man(Box::new(manual(command)?)),
    })
}

/// What the manual page of the program or of one of its commands is about.
fn manual(command: Option<String>) -> Result<clap::Command, ConfigError> {
    let mut program = CommandLine::command();
    program.build();
    let Some(name) = command else { return Ok(program) };
    let found = program.find_subcommand(&name).cloned();
    let found = found.ok_or_else(|| ConfigError::Invalid(format!("{name} is not a command")))?;
    let name = format!("events-db-{name}");
    Ok(found.name(name.clone()).display_name(name))
}

fn config(flags: &ServeFlags, environment: &Environment) -> Result<Config, ConfigError> {
    let mut listen = vec![SocketAddr::new(flags.bind, flags.port)];
    if let Some(port) = flags.grpc_port {
        if port == flags.port && port != 0 {
            return Err(ConfigError::Invalid(format!("--grpc-port must differ from --port, both are {port}")));
        }
        listen.push(SocketAddr::new(flags.bind, port));
    }
    check_queue(flags)?;
    Ok(Config {
        listen,
        store: store(&flags.store, environment)?,
        nats: environment.nats()?,
        auth_token: environment.auth_token()?,
        tls: environment.tls_files()?,
        cors_allowed_origins: environment.cors_allowed_origins()?,
        batch_events_max: flags.max_batch_events,
        batch_bytes_max: flags.max_batch_bytes,
        queue_events_max: flags.max_queued_events,
        queue_bytes_max: flags.max_queued_bytes,
        streams_max: flags.max_total_clients,
        connections_max: flags.max_connections,
        stream_batch_events: flags.stream_batch_size,
        client_buffer_events: flags.client_buffer_size,
        tail_bytes_max: flags.tail_bytes,
        slow_client_timeout: Duration::from_secs(flags.slow_client_timeout),
        heartbeat: Duration::from_secs(flags.heartbeat_interval),
        shutdown_delay: Duration::from_secs(flags.shutdown_delay),
        drain_timeout: Duration::from_secs(flags.drain_timeout),
        exports_traces: false,
    })
}

fn store(flags: &StoreFlags, environment: &Environment) -> Result<StoreSettings, ConfigError> {
    Ok(StoreSettings {
        database: environment.database_url()?.unwrap_or_else(|| DatabaseUrl(DATABASE_URL_DEFAULT.to_owned())),
        event_bytes_max: flags.max_event_bytes,
        allows_lazy_durability: flags.allow_lazy_durability,
        startup_timeout: Duration::from_secs(flags.startup_timeout),
    })
}

fn export(flags: ExportFlags, environment: &Environment) -> Result<ExportSettings, ConfigError> {
    let output = named(flags.output);
    if flags.resume && output.is_none() {
        return Err(ConfigError::Invalid("--resume needs a file to go on with".to_owned()));
    }
    let is_gzip = output.as_ref().and_then(|path| path.extension()).is_some_and(|extension| extension == "gz");
    Ok(ExportSettings {
        store: store(&flags.store, environment)?,
        output,
        resumes: flags.resume,
        compresses: flags.gzip || is_gzip,
        after: flags.after.unwrap_or(0),
        filter: flags.filter.into(),
    })
}

fn import(flags: ImportFlags, environment: &Environment) -> Result<ImportSettings, ConfigError> {
    let from = flags.from.as_deref().map(|url| environment::check_database_url("--from", url)).transpose()?;
    let input = match (flags.input, from) {
        (Some(path), _) => named(Some(path)).map_or(ImportInput::StandardInput, ImportInput::File),
        (None, Some(url)) => ImportInput::Database(url),
        (None, None) => match environment.import_from()? {
            Some(url) => ImportInput::Database(url),
            None => return Err(ConfigError::Invalid("import needs a FILE, --from or IMPORT_FROM".to_owned())),
        },
    };
    Ok(ImportSettings { store: store(&flags.store, environment)?, input, keeps_positions: !flags.new_positions })
}

fn append(flags: AppendFlags, port: u16, environment: &Environment) -> Result<AppendSettings, ConfigError> {
    let client = client(flags.client, port, environment)?;
    let events = match (flags.event_type, flags.source) {
        (Some(event_type), Some(event_source)) => AppendInput::One(AppendEvent {
            event_type,
            event_source,
            subject: flags.subject,
            id: flags.id,
            data: flags.data,
            data_content_type: flags.data_content_type,
        }),
        _ => AppendInput::Lines { file: named(flags.input), batch_events_max: flags.batch },
    };
    Ok(AppendSettings { client, events })
}

fn client(flags: ClientFlags, port: u16, environment: &Environment) -> Result<ClientSettings, ConfigError> {
    Ok(ClientSettings {
        url: url(flags.url, port, environment)?,
        auth_token: environment.auth_token()?,
        is_insecure: flags.insecure,
        authority: flags.ca,
    })
}

/// The server's address: on this machine, where the settings have it, when none is given.
fn url(given: Option<String>, port: u16, environment: &Environment) -> Result<String, ConfigError> {
    let Some(url) = given else {
        let scheme = if environment.tls_files()?.is_some() { "https" } else { "http" };
        return Ok(format!("{scheme}://127.0.0.1:{port}"));
    };
    match url::Url::parse(&url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(url.trim_end_matches('/').to_owned()),
        Ok(_) | Err(_) => Err(ConfigError::Invalid("--url must start with http:// or https://".to_owned())),
    }
}

/// The file at `path`, unless it stands for standard input or output.
fn named(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| path.as_os_str() != STANDARD)
}

impl From<FilterFlags> for FilterSettings {
    fn from(flags: FilterFlags) -> Self {
        Self {
            subjects: flags.subject,
            is_recursive: flags.recursive,
            event_types: flags.event_type,
            event_sources: flags.source,
        }
    }
}

/// What may be sent in one request must fit into an empty queue.
fn check_queue(flags: &ServeFlags) -> Result<(), ConfigError> {
    let at_least = |name: &str, value: usize, of: &str, needed: usize| {
        if value >= needed {
            return Ok(());
        }
        Err(ConfigError::Invalid(format!("{name} is {value}, {of} needs at least {needed}")))
    };
    at_least("--max-queued-events", flags.max_queued_events, "--max-batch-events", flags.max_batch_events)?;
    at_least("--max-queued-bytes", flags.max_queued_bytes, "--max-batch-bytes", flags.max_batch_bytes)?;
    let event_bytes = flags.store.max_event_bytes + ATTRIBUTES_BYTES_MAX;
    at_least("--max-queued-bytes", flags.max_queued_bytes, "--max-event-bytes", event_bytes)
}
