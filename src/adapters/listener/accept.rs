//! The accept loop of one socket.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::HttpService;
use super::connection::Connections;
use crate::error_chain::error_chain;

/// After an error of ours, such as no file descriptor left: trying again at once would only burn the processor.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(250);

/// Accepts while there is a place free, until the connections are to stop; then closes the socket.
pub(super) async fn accept_until_stopped<S: HttpService>(
    socket: TcpListener,
    places: Arc<Semaphore>,
    connections: Arc<Connections<S>>,
) {
    let stop = connections.stop_accepting().clone();
    let accepting = async {
        loop {
            // The place comes first: a connection that cannot be served waits in the kernel and costs us nothing.
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            match socket.accept().await {
                Ok((stream, _)) => connections.spawn(stream, place),
                Err(error) => pause_after(&error).await,
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
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
