//! The sockets: accepts connections, tells their protocol, serves them, and takes leave of them.
//!
//! Our own loop instead of `axum::serve`, since that one lets a silent client hold a connection for ever, waits for
//! endless streams at shutdown, and has no limits for HTTP/2.

mod accept;
mod connection;
mod cut;
pub mod limits;
pub mod open;
mod protocol;
#[cfg(test)]
mod tests;
pub mod tls;
mod validity;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use self::connection::Connections;
use self::limits::ConnectionLimits;
use self::open::OpenConnections;
use self::tls::ServerCertificate;

/// Connections that the kernel holds for us until we accept them: enough for all clients of one gone replica to come
/// at once. The system's `somaxconn` may be lower.
const BACKLOG_CONNECTIONS: u32 = 4096;

/// A bound socket. Clients may connect; they are served once it is given to [`serve`].
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds `address`; port 0 lets the system choose.
    ///
    /// # Errors
    /// Those of the system, such as an address in use.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the old connections to leave the kernel's tables.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG_CONNECTIONS).map(Self)
    }

    /// The address with the port in fact bound.
    ///
    /// # Errors
    /// Those of the system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// How serving ends.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Listeners are closed; connections finish the requests in flight and take no others.
    pub stop_accepting: CancellationToken,
    /// How long after `stop_accepting` the connections may still take; those left are cut.
    pub drain_timeout: Duration,
    /// Every connection is cut now, whatever it does.
    pub hard_stop: CancellationToken,
}

/// What answers requests: infallible, cheap to clone, shared by all connections.
pub trait HttpService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> HttpService for S
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
}

/// Serves until `shutdown`, and returns when every connection is gone.
///
/// With a certificate all listeners speak TLS, without one clear text. No fault of a connection or of accepting one
/// ends it. `open` is told of every connection.
pub async fn serve<S: HttpService>(
    listeners: Vec<Listener>,
    service: S,
    certificate: Option<Arc<ServerCertificate>>,
    limits: ConnectionLimits,
    open: OpenConnections,
    shutdown: Shutdown,
) {
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let connections = Connections::new(service, certificate.as_ref(), limits, open.clone(), &shutdown, tasks.clone());
    let connections = Arc::new(connections);
    for Listener(socket) in listeners {
        tasks.spawn(accept::accept_until_stopped(socket, Arc::clone(&places), Arc::clone(&connections)));
    }
    tasks.close();
    let Shutdown { stop_accepting, drain_timeout, hard_stop } = shutdown;
    tokio::select! {
        () = hard_stop.cancelled() => stop_accepting.cancel(),
        () = stop_accepting.cancelled() => {}
    }
    let drained = hard_stop.run_until_cancelled(tokio::time::timeout(drain_timeout, tasks.wait())).await;
    if !matches!(drained, Some(Ok(()))) {
        tracing::warn!(left = open.count(), "cut the connections that did not end in time");
        hard_stop.cancel();
        tasks.wait().await;
    }
}
