//! The accept loop of one socket.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::HttpService;
use super::connection::Connections;
use crate::error_chain::error_chain;

/// After an error of ours, such as no file descriptor left: trying again at once would only burn the processor.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(250);

/// Accepts while there is a place free, until the connections are to stop; then closes the socket, and returns when every
/// connection has ended or was cut.
pub(super) async fn accept_until_stopped<S: HttpService>(
    socket: TcpListener,
    places: Arc<Semaphore>,
    connections: Arc<Connections<S>>,
) {
    let stop = connections.stop_accepting().clone();
    let mut open = JoinSet::new();
    stop.run_until_cancelled(accept(socket, places, &connections, &mut open)).await;
    connections.hard_stop().run_until_cancelled(async { while open.join_next().await.is_some() {} }).await;
    // From outside, since hyper's own shutdown waits for ever on some connections (hyper#4170).
    open.shutdown().await;
}

async fn accept<S: HttpService>(
    socket: TcpListener,
    places: Arc<Semaphore>,
    connections: &Arc<Connections<S>>,
    open: &mut JoinSet<()>,
) {
    loop {
        // The place comes first: a connection that cannot be served waits in the kernel and costs us nothing.
        let accepting = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (socket.accept().await, place)
        };
        tokio::pin!(accepting);
        let (accepted, place) = loop {
            tokio::select! {
                accepted = &mut accepting => break accepted,
                // One that has ended gives its memory back.
                Some(_) = open.join_next() => {}
            }
        };
        match accepted {
            Ok((stream, _)) => connections.spawn(stream, place, open),
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn pause_after(error: &io::Error) {
    let client_left = matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    );
    if client_left {
        return;
    }
    tracing::warn!(error = error_chain(error), "cannot accept a connection, trying again");
    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
}
