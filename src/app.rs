//! The composition root: the only room that knows every adapter. This file wires the server, those below it the other
//! commands.

mod client;
pub mod command;
mod export;
mod healthcheck;
mod import;
mod progress;
mod store;
mod verify;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tower::util::{MapRequestLayer, option_layer};

use crate::adapters::authenticator::{open::Open, static_token::StaticToken};
use crate::adapters::grpc::{self, GrpcState};
use crate::adapters::listener::limits::ConnectionLimits;
use crate::adapters::listener::open::OpenConnections;
use crate::adapters::listener::tls::{CertificateError, CertificateFiles, ServerCertificate};
use crate::adapters::listener::{self, HttpService, Listener};
use crate::adapters::metrics::operation::OperationLayer;
use crate::adapters::metrics::state::{Limits, State};
use crate::adapters::metrics::{Metrics, MetricsError, Watched};
use crate::adapters::multiplex::{CorsOrigins, InvalidOrigin, Multiplex};
use crate::adapters::notifier::broadcast::BroadcastNotifier;
use crate::adapters::notifier::nats::{NatsError, NatsNotifier};
use crate::adapters::repository::sea_orm::{ConnectError, RetryCounts};
use crate::adapters::rest::{self, RestState};
use crate::adapters::traces::{Traces, TracesError};
use crate::adapters::unread_body::read_on;
use crate::config::Config;
use crate::domain::log::Protocol;
use crate::domain::position::Position;
use crate::domain::service::{EventService, GroupReport, ServiceLimits};
use crate::error_chain::error_chain;
use crate::ports::authenticator::Authenticator;
use crate::ports::event_repository::ReadError;
use crate::ports::notifier::Notifier;

/// How often failing appends are logged at the most.
const APPEND_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How much longer than the service the kernel waits for a reader that takes nothing: the service has something to say.
const SLOW_CLIENT_GRACE: Duration = Duration::from_secs(10);

/// How often the certificate's files are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(1);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[from] CertificateError),
    /// An origin of the configuration is none.
    #[error("CORS_ALLOWED_ORIGINS cannot be used")]
    Origin(#[from] InvalidOrigin),
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Store(#[from] ConnectError),
    /// The instruments cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Spans cannot be exported.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// NATS cannot be used, whether it is there or not.
    #[error("NATS cannot be used")]
    Nats(#[from] NatsError),
    /// The database went away right after it was opened.
    #[error("the database does not answer")]
    Read(#[from] ReadError),
}

/// The wired server, its sockets bound.
pub struct App {
    config: Config,
    listeners: Vec<Listener>,
    certificate: Option<Arc<ServerCertificate>>,
    origins: CorsOrigins,
    service: EventService,
    metrics: Arc<Metrics>,
    traces: Option<Traces>,
    authenticator: Arc<dyn Authenticator>,
    health: Health,
    connections: OpenConnections,
    /// Ends every subscription.
    streams_end: CancellationToken,
}

impl App {
    /// Binds the sockets, opens the store and wires the parts.
    ///
    /// # Errors
    /// As [`StartError`] says; the database is waited for until the startup timeout.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        let certificate = config.tls.as_ref().map(|files| {
            let files = CertificateFiles { certificate: files.certificate.clone(), key: files.key.clone() };
            ServerCertificate::load(files)
        });
        let certificate = certificate.transpose()?;
        let origins: CorsOrigins = config.cors_allowed_origins.join(",").parse()?;
        let mut listeners = Vec::new();
        for address in &config.listen {
            let bound = Listener::bind(*address);
            listeners.push(bound.map_err(|cause| StartError::Listen { address: *address, cause })?);
        }
        let repository = store::open(&config.store).await?;
        let retries = repository.retries();
        let metrics = Arc::new(Metrics::new()?);
        let mut repository = metrics.timed(Arc::new(repository));
        let traces = if config.exports_traces { Some(Traces::start()?) } else { None };
        if let Some(traces) = &traces {
            repository = traces.traced(repository);
        }
        let streams_end = CancellationToken::new();
        let limits = ServiceLimits {
            event_bytes_max: config.store.event_bytes_max,
            batch_events_max: config.batch_events_max,
            batch_bytes_max: config.batch_bytes_max,
            queue_events_max: config.queue_events_max,
            queue_bytes_max: config.queue_bytes_max,
            subscriptions_max: config.streams_max,
            first_page_events: config.stream_batch_events,
            client_buffer_events: config.client_buffer_events,
            tail_bytes_max: config.tail_bytes_max,
            slow_reader_patience: config.slow_client_timeout,
        };
        let mut is_nats_connected: Option<Box<dyn Fn() -> bool + Send + Sync>> = None;
        let notifier: Arc<dyn Notifier> = match &config.nats {
            Some(nats) => {
                let nats = NatsNotifier::connect(&nats.urls, nats.subject.clone()).await?;
                is_nats_connected = Some(Box::new(nats.connected()));
                Arc::new(nats)
            }
            None => Arc::new(BroadcastNotifier::new()),
        };
        let service = EventService::new(repository, notifier, limits, streams_end.clone());
        if let Some(traces) = &traces {
            service.observe_appends(traces.observer());
        }
        service.start().await?;
        let (health, connections) = (Health::default(), OpenConnections::default());
        let state = State { is_nats_connected, ..state(&config, &health, &connections, certificate.as_ref()) };
        metrics.watch(watched(&service, retries, state));
        start_writing(&service, Arc::clone(&metrics));
        let authenticator: Arc<dyn Authenticator> = match &config.auth_token {
            Some(token) => Arc::new(StaticToken::new(token.expose())),
            None => Arc::new(Open),
        };
        Ok(Self {
            config,
            listeners,
            certificate,
            origins,
            service,
            metrics,
            traces,
            authenticator,
            health,
            connections,
            streams_end,
        })
    }

    /// The addresses that are listened on, the one port first.
    ///
    /// # Errors
    /// Those of the system.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(Listener::local_addr).collect()
    }

    /// Serves until `shutdown` is done, then leaves: not ready at once; after the shutdown delay, in which everything is
    /// served as before, drains: streams ended, requests in flight answered, all within the drain timeout.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let router = self.router(&self.health.ready);
        let stop = CancellationToken::new();
        let service = self.service.clone();
        let health = self.health.clone();
        let follower = tokio::spawn(async move { service.follow(|answer| health.note_probe(answer)).await });
        let service = self.service.clone();
        tokio::spawn(async move { service.end_slow_readers(note_slow_reader).await });
        if let Some(certificate) = &self.certificate {
            tokio::spawn(Arc::clone(certificate).watch_files(CERTIFICATE_LOOK, stop.clone()));
        }
        let limits = ConnectionLimits { connections_max: self.config.connections_max, ..ConnectionLimits::default() };
        // The kernel counts a reader that has stopped as one that is gone.
        let tcp_user_timeout = limits.tcp_user_timeout.max(self.config.slow_client_timeout + SLOW_CLIENT_GRACE);
        let limits = ConnectionLimits { tcp_user_timeout, ..limits };
        let drain_timeout = self.config.drain_timeout;
        let until =
            listener::Shutdown { stop_accepting: stop.clone(), drain_timeout, hard_stop: CancellationToken::new() };
        let served =
            tokio::spawn(listener::serve(self.listeners, router, self.certificate, limits, self.connections, until));
        shutdown.await;
        tracing::info!("shutting down");
        self.health.leave();
        // Whoever sends clients here hears of it late, and until then they must be served: new ones, too.
        tokio::time::sleep(self.config.shutdown_delay).await;
        follower.abort();
        let _aborted = follower.await;
        // Who watches health is told and dismissed.
        drop(self.health);
        self.streams_end.cancel();
        stop.cancel();
        let deadline = tokio::time::Instant::now() + drain_timeout;
        let _served = served.await;
        // What is cut here has no client left to hear of it: a deletion in many steps, or a database that hangs.
        if tokio::time::timeout_at(deadline, self.service.finish_writes()).await.is_err() {
            tracing::warn!("the drain timeout has passed, writes in flight are cut");
        }
        if let Some(traces) = &self.traces {
            traces.finish(deadline.saturating_duration_since(tokio::time::Instant::now())).await;
        }
        tracing::info!("stopped");
    }

    fn router(&self, ready: &watch::Sender<bool>) -> impl HttpService + use<> {
        let metrics = Arc::clone(&self.metrics);
        let rest = rest::router(RestState {
            service: self.service.clone(),
            authenticator: Arc::clone(&self.authenticator),
            ready: ready.subscribe(),
            metrics: Arc::new(move || metrics.render()),
            heartbeat: self.config.heartbeat,
        });
        let grpc = grpc::router(GrpcState {
            service: self.service.clone(),
            authenticator: Arc::clone(&self.authenticator),
            ready: ready.subscribe(),
            stream_batch_events: self.config.stream_batch_events,
            heartbeat: self.config.heartbeat,
        });
        let multiplex = Multiplex { grpc, rest }.with_cors(&self.origins);
        let counted = OperationLayer::new(Arc::clone(&self.metrics)).layer(multiplex);
        let traces = self.traces.as_ref().map(|traces| traces.layer(self.certificate.is_some()));
        MapRequestLayer::new(read_on).layer(option_layer(traces).layer(counted))
    }
}

/// What the probes say.
#[derive(Clone)]
struct Health {
    /// Whether clients are to be sent here: what the store's last answer says, and never once shutdown has begun.
    ready: watch::Sender<bool>,
    is_database_up: Arc<AtomicBool>,
    /// Shutdown has begun.
    is_leaving: Arc<AtomicBool>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            ready: watch::Sender::new(true),
            is_database_up: Arc::new(AtomicBool::new(true)),
            is_leaving: Arc::new(AtomicBool::new(false)),
        }
    }
}

impl Health {
    /// Takes note of an answer of the store; only changes are logged.
    fn note_probe(&self, answer: Result<(), &ReadError>) {
        let changed = self.is_database_up.swap(answer.is_ok(), Ordering::Relaxed) != answer.is_ok();
        self.ready.send_if_modified(|ready| {
            let was_ready = *ready;
            *ready = answer.is_ok() && !self.is_leaving.load(Ordering::SeqCst);
            was_ready != *ready
        });
        match answer {
            Ok(()) if changed => tracing::info!("the database is back"),
            Err(error) if changed => {
                tracing::warn!(error = error_chain(error), "the database is away, not ready");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Not ready from now on: the latch comes first, so that no later answer of the store makes it ready again.
    fn leave(&self) {
        self.is_leaving.store(true, Ordering::SeqCst);
        self.ready.send_replace(false);
    }
}

/// Logs why appends fail, seldom enough for an outage under load.
#[derive(Default)]
struct AppendTrouble {
    failures: usize,
    logged: Option<Instant>,
}

impl AppendTrouble {
    fn note(&mut self, group: &GroupReport) {
        self.failures += group.failures.total();
        let Some(error) = &group.error else { return };
        if self.logged.is_none_or(|logged| logged.elapsed() >= APPEND_LOG_INTERVAL) {
            tracing::warn!(error = error_chain(error), failures = self.failures, "appends fail");
            *self = Self { failures: 0, logged: Some(Instant::now()) };
        }
    }
}

/// What the metrics ask for at every scrape.
fn watched(service: &EventService, retries: Arc<RetryCounts>, state: State) -> Watched {
    let (streams, queue, log) = (service.clone(), service.clone(), service.clone());
    Watched {
        open_streams: Box::new(move || streams.open_subscriptions() as u64),
        log: Box::new(move || log.log_report()),
        queue: Box::new(move || queue.queue_depth()),
        retries: Box::new(move || {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            [
                ("conflict", count(&retries.conflicts)),
                ("duplicate_key", count(&retries.duplicate_keys)),
                ("lost_connection", count(&retries.lost_connections)),
            ]
        }),
        state,
    }
}

/// Where the process stands, for the metrics.
fn state(
    config: &Config,
    health: &Health,
    connections: &OpenConnections,
    certificate: Option<&Arc<ServerCertificate>>,
) -> State {
    // Only a receiver: whoever holds a sender keeps those who watch health waiting.
    let (ready, is_database_up) = (health.ready.subscribe(), Arc::clone(&health.is_database_up));
    let connections = connections.clone();
    let certificate = certificate.cloned();
    State {
        is_ready: Box::new(move || *ready.borrow()),
        is_database_up: Box::new(move || is_database_up.load(Ordering::Relaxed)),
        is_nats_connected: None,
        connections: Box::new(move || connections.count()),
        certificate_expires_at: certificate.map(|certificate| -> Box<dyn Fn() -> Option<i64> + Send + Sync> {
            Box::new(move || certificate.expires_at())
        }),
        limits: Limits {
            connections: config.connections_max,
            streams: config.streams_max,
            queue_events: config.queue_events_max,
            queue_bytes: config.queue_bytes_max,
        },
    }
}

/// Starts the task that writes the appends.
fn start_writing(service: &EventService, metrics: Arc<Metrics>) {
    let service = service.clone();
    let mut trouble = AppendTrouble::default();
    tokio::spawn(async move {
        let on_group = |group: &GroupReport| {
            metrics.record_group(group);
            trouble.note(group);
        };
        service.write_queued(on_group).await;
    });
}

fn note_slow_reader(protocol: Protocol, last: Option<Position>) {
    let position = last.map_or(0, Position::get);
    tracing::info!(?protocol, position, "ended a stream whose reader took nothing for too long");
}
