//! The `events-db` binary: config, logs, build, run, exit code.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use events_db::app::{App, command};
use events_db::config::{Command, Config, ConfigError, Invocation, LogFormat, LogSettings};
use events_db::error_chain::error_chain;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Requests come and go in small pieces, which costs a seventh less processor time with this allocator than with the
/// system's, measured over appends. It needs no more than a C compiler, and without huge pages no more memory when idle.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for a wrong setting. Source: sysexits.h, `EX_USAGE`.
const EXIT_USAGE: u8 = 64;

/// Exit code of a command that was interrupted twice: 128 and the number of the signal, as a shell would say.
const EXIT_INTERRUPTED: i32 = 130;

/// Exit code when something that is needed is not there. Source: sysexits.h, `EX_UNAVAILABLE`.
const EXIT_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let Invocation { command, logs } = match Invocation::load() {
        Ok(invocation) => invocation,
        Err(ConfigError::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(ConfigError::Invalid(line)) => {
            eprintln!("events-db: {line}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    start_logs(&logs);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return unavailable(&error, "threads cannot be started"),
    };
    let exit_code = match command {
        Command::Serve(config) => runtime
            .block_on(serve(*config))
            .map_or_else(|error| unavailable(error.as_ref(), "the server cannot start"), |()| ExitCode::SUCCESS),
        command => runtime.block_on(carry_out(command)),
    };
    // Whatever is still under way on its threads, such as looking up a name, cannot be ended and need not be waited for.
    runtime.shutdown_background();
    exit_code
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    // Thousands of streams need as many descriptors; Go programs raise the soft limit too.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let shutdown = signalled()?;
    tokio::pin!(shutdown);
    let app = tokio::select! {
        app = App::build(config) => app?,
        () = &mut shutdown => return Ok(()),
    };
    let addresses: Vec<_> = app.addresses()?.iter().map(ToString::to_string).collect();
    tracing::info!(addresses = addresses.join(" "), version = env!("CARGO_PKG_VERSION"), "listening");
    app.run(shutdown).await;
    Ok(())
}

/// Carries out a command that ends by itself; a signal ends it where it does no harm.
async fn carry_out(command: Command) -> ExitCode {
    let interrupt = CancellationToken::new();
    match signalled() {
        Ok(signalled) => {
            let interrupt = interrupt.clone();
            tokio::spawn(async move {
                signalled.await;
                interrupt.cancel();
                // Asked again, it ends where it is: it may wait for somebody who does not come.
                if let Ok(again) = self::signalled() {
                    again.await;
                    std::process::exit(EXIT_INTERRUPTED);
                }
            });
        }
        Err(error) => return unavailable(&error, "signals cannot be heard"),
    }
    match command::run(command, interrupt).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("events-db: {}", error_chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Done when the process is asked to end.
fn signalled() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn unavailable(error: &(dyn Error + 'static), what: &str) -> ExitCode {
    tracing::error!(error = error_chain(error), "{what}");
    ExitCode::from(EXIT_UNAVAILABLE)
}

fn start_logs(settings: &LogSettings) {
    // The client of NATS says in its debug lines which servers it tries, with their passwords.
    let without_passwords = "async_nats=info".parse().expect("a literal directive is valid");
    let logs = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&settings.filter).add_directive(without_passwords))
        .with_writer(io::stderr)
        .with_target(false);
    match settings.format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
