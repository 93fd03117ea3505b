//! The listener over real sockets, with a small service behind it.

mod leaving;
mod limits;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::limits::ConnectionLimits;
use super::open::OpenConnections;
use super::tls::ServerCertificate;
use super::{Listener, Shutdown, serve};

/// Far longer than anything here takes: reached only by a failing test.
const CEILING: Duration = Duration::from_secs(20);
/// For limits that a test does not expect to act.
const NEVER: Duration = Duration::from_hours(1);
/// For the limit under test.
const SHORT: Duration = Duration::from_millis(100);

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(CEILING, future).await.expect("it happens before the ceiling")
}

/// Limits that never act within a test.
fn patient() -> ConnectionLimits {
    ConnectionLimits {
        tls_handshake_timeout: NEVER,
        protocol_timeout: NEVER,
        first_request_timeout: NEVER,
        http1_head_timeout: NEVER,
        ..ConnectionLimits::default()
    }
}

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    open: OpenConnections,
    serving: JoinHandle<()>,
    /// Lets one request to `/gate` go on.
    gate: Arc<Notify>,
    /// One item when a request has come to `/gate`, and one when the body of `/endless` is dropped.
    signals: mpsc::Receiver<&'static str>,
}

impl Server {
    fn start(limits: ConnectionLimits) -> Self {
        Self::start_with(limits, None, NEVER)
    }

    fn start_with(
        limits: ConnectionLimits,
        certificate: Option<Arc<ServerCertificate>>,
        drain_timeout: Duration,
    ) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown =
            Shutdown { stop_accepting: CancellationToken::new(), drain_timeout, hard_stop: CancellationToken::new() };
        let gate = Arc::new(Notify::new());
        let (signal, signals) = mpsc::channel(16);
        let service = router(Arc::clone(&gate), signal);
        let open = OpenConnections::default();
        let serving = tokio::spawn(serve(vec![listener], service, certificate, limits, open.clone(), shutdown.clone()));
        Self { address, shutdown, open, serving, gate, signals }
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address)).await.unwrap()
    }

    async fn signalled(&mut self, expected: &str) {
        assert_eq!(within(self.signals.recv()).await, Some(expected));
    }

    async fn ended(self) {
        within(self.serving).await.unwrap();
    }
}

/// Says when the body it belongs to is dropped.
struct SayGone(mpsc::Sender<&'static str>);

impl Drop for SayGone {
    fn drop(&mut self) {
        let _ = self.0.try_send("body dropped");
    }
}

fn router(gate: Arc<Notify>, signal: mpsc::Sender<&'static str>) -> Router {
    let at_gate = signal.clone();
    let wait_at_gate = async move || {
        at_gate.send("at the gate").await.unwrap();
        gate.notified().await;
        "passed"
    };
    let endless = async move || {
        let gone = SayGone(signal);
        let first = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"first"))]);
        let then_nothing = futures_util::stream::poll_fn(move |_| {
            let _held = &gone;
            std::task::Poll::Pending
        });
        Body::from_stream(first.chain(then_nothing))
    };
    Router::new()
        .route("/version", get(async |version: Version| format!("{version:?}")))
        .route("/gate", get(wait_at_gate))
        .route("/endless", get(endless))
}

/// A client of either version.
enum Client {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Client {
    async fn http1<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: T) -> Self {
        let (client, connection) = within(http1::handshake(TokioIo::new(stream))).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(client)
    }

    async fn http2<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: T) -> Self {
        let builder = http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).to_owned();
        let (client, connection) = within(builder.handshake(TokioIo::new(stream))).await.unwrap();
        tokio::spawn(connection);
        Self::Http2(client)
    }

    async fn get(&mut self, path: &str) -> hyper::Result<Response<Incoming>> {
        let request = Request::get(format!("http://localhost{path}")).body(Body::empty()).unwrap();
        match self {
            Self::Http1(client) => {
                within(client.ready()).await?;
                within(client.send_request(request)).await
            }
            Self::Http2(client) => {
                within(client.ready()).await?;
                within(client.send_request(request)).await
            }
        }
    }

    async fn text(&mut self, path: &str) -> String {
        let response = self.get(path).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = within(response.into_body().collect()).await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }
}

/// Reads until the server closes, whichever way, and returns what came before.
async fn read_until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    bytes
}

#[tokio::test]
async fn http1_connection_serves_one_request_after_the_other() {
    let server = Server::start(patient());
    let mut client = Client::http1(server.connect().await).await;
    for _ in 0..3 {
        assert_eq!(client.text("/version").await, "HTTP/1.1");
    }
}

#[tokio::test]
async fn http1_request_may_come_byte_by_byte() {
    let server = Server::start(patient());
    let mut stream = server.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in b"GET /version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).await.unwrap();
    }
    let answer = String::from_utf8(read_until_closed(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("HTTP/1.1"), "{answer}");
}

#[tokio::test]
async fn http2_is_spoken_in_clear_text_with_prior_knowledge() {
    let server = Server::start(patient());
    let mut client = Client::http2(server.connect().await).await;
    for _ in 0..3 {
        assert_eq!(client.text("/version").await, "HTTP/2.0");
    }
}

#[tokio::test]
async fn several_listeners_share_one_service() {
    let listeners: Vec<_> = (0..2).map(|_| Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let shutdown = Shutdown {
        stop_accepting: CancellationToken::new(),
        drain_timeout: NEVER,
        hard_stop: CancellationToken::new(),
    };
    let service = router(Arc::new(Notify::new()), mpsc::channel(1).0);
    let serving =
        tokio::spawn(serve(listeners, service, None, patient(), OpenConnections::default(), shutdown.clone()));
    for address in addresses {
        let stream = within(TcpStream::connect(address)).await.unwrap();
        assert_eq!(Client::http1(stream).await.text("/version").await, "HTTP/1.1");
    }
    shutdown.stop_accepting.cancel();
    within(serving).await.unwrap();
}
