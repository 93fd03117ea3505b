//! One connection: socket options, TLS, protocol, hyper, deadlines, leave.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::FutureExt;
use futures_util::future::Inspect;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::{Oneshot, ServiceExt};

use super::cut::{self, unless_cut};
use super::limits::ConnectionLimits;
use super::open::OpenConnections;
use super::protocol::{HttpVersion, Opened, Replay, detect};
use super::tls::ServerCertificate;
use super::{HttpService, Shutdown};
use crate::error_chain::error_chain;

/// A silent peer is asked for a sign of life after this time; middleboxes forget connections after minutes.
const TCP_KEEPALIVE_AFTER: Duration = Duration::from_mins(1);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Everything that the connections of all listeners share.
pub(super) struct Connections<S> {
    service: S,
    acceptor: Option<TlsAcceptor>,
    http1: http1::Builder,
    http2: http2::Builder<TrackedExecutor>,
    limits: ConnectionLimits,
    open: OpenConnections,
    stop_accepting: CancellationToken,
    hard_stop: CancellationToken,
}

impl<S: HttpService> Connections<S> {
    pub(super) fn new(
        service: S,
        certificate: Option<&Arc<ServerCertificate>>,
        limits: ConnectionLimits,
        open: OpenConnections,
        shutdown: &Shutdown,
        tasks: TaskTracker,
    ) -> Self {
        let executor = TrackedExecutor { tasks, hard_stop: shutdown.hard_stop.clone() };
        Self {
            service,
            acceptor: certificate.map(|certificate| TlsAcceptor::from(Arc::new(certificate.server_config()))),
            http1: http1_builder(&limits),
            http2: http2_builder(&limits, executor),
            limits,
            open,
            stop_accepting: shutdown.stop_accepting.clone(),
            hard_stop: shutdown.hard_stop.clone(),
        }
    }

    pub(super) fn stop_accepting(&self) -> &CancellationToken {
        &self.stop_accepting
    }

    pub(super) fn hard_stop(&self) -> &CancellationToken {
        &self.hard_stop
    }

    /// Serves `stream` in a task of `open`, which gives `place` back.
    pub(super) fn spawn(self: &Arc<Self>, stream: TcpStream, place: OwnedSemaphorePermit, open: &mut JoinSet<()>) {
        let connections = Arc::clone(self);
        let counted = self.open.begin();
        // A token of its own: each poll locks it, and connections must not wait for each other there.
        let stop_accepting = self.stop_accepting.child_token();
        open.spawn(async move {
            if let Err(error) = connections.run(stream, &stop_accepting).await {
                tracing::debug!(error = error_chain(&error), "a connection ended early");
            }
            drop((counted, place));
        });
    }

    /// The two phases are boxed one by one: the task of an idle connection keeps no room for a handshake.
    async fn run(&self, stream: TcpStream, stop: &CancellationToken) -> Result<(), ConnectionError> {
        // At shutdown nothing is lost by breaking off the first phase: nothing was asked yet.
        let opened = stop.run_until_cancelled(Box::pin(self.open(stream, stop))).await;
        let Some(serving) = opened else { return Ok(()) };
        serving?.await
    }

    /// Learns which HTTP the client speaks and returns what serves it.
    async fn open<'a>(
        &'a self,
        stream: TcpStream,
        stop: &'a CancellationToken,
    ) -> Result<Serving<'a>, ConnectionError> {
        let first_request_by = Instant::now() + self.limits.first_request_timeout;
        configure(&stream, &self.limits).map_err(ConnectionError::Socket)?;
        match &self.acceptor {
            None => {
                let detected = tokio::time::timeout(self.limits.protocol_timeout, detect(stream)).await;
                let (version, stream) =
                    detected.map_err(|_| ConnectionError::Silent)?.map_err(ConnectionError::Socket)?;
                Ok(self.serve(version, stream, stop, first_request_by))
            }
            Some(acceptor) => {
                let shaken = tokio::time::timeout(self.limits.tls_handshake_timeout, acceptor.accept(stream)).await;
                let stream = shaken.map_err(|_| ConnectionError::SlowHandshake)?.map_err(ConnectionError::Handshake)?;
                let version = HttpVersion::from_alpn(stream.get_ref().1.alpn_protocol());
                Ok(self.serve(version, Replay::empty(stream), stop, first_request_by))
            }
        }
    }

    /// Not an `async fn`, whose future would keep room for the stream after it has moved on.
    fn serve<'a, T>(
        &'a self,
        version: HttpVersion,
        stream: Replay<T>,
        stop: &'a CancellationToken,
        first_request_by: Instant,
    ) -> Serving<'a>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let opened = Opened::default();
        let service = RequestService { service: self.service.clone(), opened: opened.clone() };
        match version {
            HttpVersion::Http1 => {
                let connection = Box::pin(self.http1.serve_connection(TokioIo::new(stream), service));
                let driven = drive(connection, http1::Connection::graceful_shutdown, stop, opened, first_request_by);
                // Given up, the connection is closed with the one response that it carries.
                Box::pin(unless_cut(driven).map(|ended| ended.unwrap_or(Err(ConnectionError::Slow))))
            }
            HttpVersion::Http2 => {
                let stream = stream.noting_http2_opening(opened.clone());
                let connection = Box::pin(self.http2.serve_connection(TokioIo::new(stream), service));
                Box::pin(drive(connection, http2::Connection::graceful_shutdown, stop, opened, first_request_by))
            }
        }
    }
}

/// Runs `connection` to its end, closes it if the client shows nothing in time, and has it end once asked to stop.
async fn drive<C>(
    mut connection: Pin<Box<C>>,
    end_gracefully: fn(Pin<&mut C>),
    stop: &CancellationToken,
    opened: Opened,
    first_request_by: Instant,
) -> Result<(), ConnectionError>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut stopping = false;
    let mut deadline_passed = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(ConnectionError::Http),
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                end_gracefully(connection.as_mut());
            }
            () = tokio::time::sleep_until(first_request_by), if !deadline_passed => {
                deadline_passed = true;
                if !opened.get() {
                    return Err(ConnectionError::Silent);
                }
            }
        }
    }
}

/// A connection whose protocol is known, until its end.
type Serving<'a> = Pin<Box<dyn Future<Output = Result<(), ConnectionError>> + Send + 'a>>;

/// Why a connection ended before its client was done. Logged for debugging only: the cause is nearly always the client.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the socket failed")]
    Socket(#[source] io::Error),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the TLS handshake took too long")]
    SlowHandshake,
    #[error("no request came in time")]
    Silent,
    #[error("the reader took nothing for too long")]
    Slow,
    #[error("the HTTP connection failed")]
    Http(#[source] hyper::Error),
}

fn configure(stream: &TcpStream, limits: &ConnectionLimits) -> io::Result<()> {
    // Answers are written whole; waiting to fill a packet would only delay the last one.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE_AFTER).with_interval(TCP_KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits.tcp_user_timeout))?;
    Ok(())
}

/// Half-closed connections stay off: the end of the client's half is how we learn at once that a reader has left.
fn http1_builder(limits: &ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.http1_head_timeout)
        .max_buf_size(limits.http1_buffer_bytes_max);
    builder
}

fn http2_builder(limits: &ConnectionLimits, executor: TrackedExecutor) -> http2::Builder<TrackedExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.http2_ping_interval)
        .keep_alive_timeout(limits.http2_ping_timeout)
        .initial_stream_window_size(limits.http2_stream_window_bytes)
        .initial_connection_window_size(limits.http2_connection_window_bytes)
        .max_send_buf_size(limits.http2_send_buffer_bytes_max)
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(limits.http2_header_list_bytes_max)
        .max_pending_accept_reset_streams(limits.http2_pending_resets_max)
        .max_local_error_reset_streams(limits.http2_error_resets_max);
    builder
}

/// Runs the streams of HTTP/2 connections so that they are waited for and cut like the connections themselves.
#[derive(Debug, Clone)]
struct TrackedExecutor {
    tasks: TaskTracker,
    hard_stop: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for TrackedExecutor {
    fn execute(&self, stream: F) {
        let hard_stop = self.hard_stop.clone();
        // Given up, the stream is reset; the others of its connection go on.
        let stream = unless_cut(stream);
        self.tasks.spawn(async move { hard_stop.run_until_cancelled(stream).await.flatten().map(drop) });
    }
}

/// The service as hyper calls it; notes that a request head has come.
struct RequestService<S> {
    service: S,
    opened: Opened,
}

impl<S: HttpService> hyper::service::Service<Request<Incoming>> for RequestService<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Inspect<Oneshot<S, Request<Body>>, fn(&Result<Response<Body>, Infallible>)>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.opened.set();
        self.service.clone().oneshot(request.map(Body::new)).inspect(|answer| match answer {
            Ok(response) => cut::note(response),
            Err(never) => match *never {},
        })
    }
}
