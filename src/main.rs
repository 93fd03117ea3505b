//! The `events-db` server binary: config, logs, build, run, exit code.

use std::error::Error;
use std::process::ExitCode;

use events_db::app::App;
use events_db::config::{Config, ConfigError, LogFormat};
use events_db::error_chain::error_chain;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Requests come and go in small pieces, which costs a seventh less processor time with this allocator than with the
/// system's, measured over appends. It needs no more than a C compiler, and without huge pages no more memory when idle.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for a wrong setting. Source: sysexits.h, `EX_USAGE`.
const EXIT_USAGE: u8 = 64;

/// Exit code when something that is needed is not there. Source: sysexits.h, `EX_UNAVAILABLE`.
const EXIT_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let config = match Config::load() {
        Ok(config) => config,
        Err(ConfigError::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(ConfigError::Invalid(line)) => {
            eprintln!("events-db: {line}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    start_logs(&config);
    // Thousands of streams need as many descriptors; Go programs raise the soft limit too.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve(config)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error_chain(error.as_ref()), "the server cannot start");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
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

fn start_logs(config: &Config) {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log_filter))
        .with_writer(std::io::stderr)
        .with_target(false);
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
