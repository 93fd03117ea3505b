//! A TCP proxy that can cut or hang what passes through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Everything passes.
    Up,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Nothing passes and nothing is closed.
    Hung,
}

/// A proxy in front of one address.
pub struct Proxy {
    /// Where to connect instead.
    pub port: u16,
    network: watch::Sender<Network>,
    connections: Arc<AtomicU8>,
}

impl Proxy {
    /// Starts to forward to `target`.
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = watch::Sender::new(Network::Up);
        let connections = Arc::new(AtomicU8::new(0));
        let (counted, state) = (Arc::clone(&connections), network.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                if *state.borrow() == Network::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(forward(from_client, to_server, state.subscribe()));
                tokio::spawn(forward(from_server, to_client, state.subscribe()));
            }
        });
        Self { port, network, connections }
    }

    /// Changes what the network does, for open connections too.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Whether anything ever connected.
    pub fn is_used(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut network: watch::Receiver<Network>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let state = *network.borrow_and_update();
        match state {
            Network::Cut => return,
            Network::Hung => {
                if network.changed().await.is_err() {
                    return;
                }
            }
            Network::Up => tokio::select! {
                _ = network.changed() => {}
                count = from.read(&mut buffer) => match count {
                    Ok(count) if count > 0 => if to.write_all(&buffer[..count]).await.is_err() { return },
                    _ => return,
                },
            },
        }
    }
}
