//! TLS on the wire.

use std::fs;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::adapters::listener::tls::CertificateFiles;

/// A certificate on disk, and the store that trusts all that were ever written there.
struct Pair {
    folder: tempfile::TempDir,
    roots: RootCertStore,
    certificate: CertificateDer<'static>,
}

impl Pair {
    fn new() -> Self {
        let certificate = CertificateDer::from(Vec::new());
        let mut pair = Self { folder: tempfile::tempdir().unwrap(), roots: RootCertStore::empty(), certificate };
        pair.replace();
        pair
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles { certificate: self.folder.path().join("tls.crt"), key: self.folder.path().join("tls.key") }
    }

    fn load(&self) -> Arc<ServerCertificate> {
        ServerCertificate::load(self.files()).unwrap()
    }

    fn replace(&mut self) {
        let new = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = self.files();
        fs::write(files.certificate, new.cert.pem()).unwrap();
        fs::write(files.key, new.signing_key.serialize_pem()).unwrap();
        self.certificate = new.cert.der().clone();
        self.roots.add(self.certificate.clone()).unwrap();
    }

    async fn connect(
        &self,
        server: &Server,
        alpn: &[&[u8]],
        version: &'static SupportedProtocolVersion,
    ) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = server.connect().await;
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn alpn_picks_the_http_version() {
    let pair = Pair::new();
    let server = Server::start_with(patient(), Some(pair.load()), NEVER);
    for version in [&TLS12, &TLS13] {
        let stream = pair.connect(&server, &[b"http/1.1", b"h2"], version).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        assert_eq!(Client::http2(stream).await.text("/version").await, "HTTP/2.0");

        for alpn in [[b"http/1.1".as_slice()].as_slice(), &[]] {
            let stream = pair.connect(&server, alpn, version).await;
            assert_eq!(Client::http1(stream).await.text("/version").await, "HTTP/1.1");
        }
    }
}

#[tokio::test]
async fn silent_clients_are_closed_before_and_after_the_handshake() {
    let pair = Pair::new();
    let limits = ConnectionLimits { tls_handshake_timeout: SHORT, ..patient() };
    let server = Server::start_with(limits, Some(pair.load()), NEVER);
    assert_eq!(read_until_closed(&mut server.connect().await).await, b"");

    let limits = ConnectionLimits { first_request_timeout: SHORT, ..patient() };
    let server = Server::start_with(limits, Some(pair.load()), NEVER);
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        read_until_closed(&mut pair.connect(&server, &[alpn], &TLS13).await).await;
    }
}

#[tokio::test]
async fn clear_text_client_does_not_disturb_a_tls_listener() {
    let pair = Pair::new();
    let server = Server::start_with(patient(), Some(pair.load()), NEVER);
    let mut stream = server.connect().await;
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let answer = read_until_closed(&mut stream).await;
    assert!(!answer.starts_with(b"HTTP"));
    let stream = pair.connect(&server, &[], &TLS13).await;
    assert_eq!(Client::http1(stream).await.text("/version").await, "HTTP/1.1");
}

#[tokio::test]
async fn changed_files_are_shown_to_new_connections_only() {
    let mut pair = Pair::new();
    let certificate = pair.load();
    let stop = CancellationToken::new();
    let watching = tokio::spawn(Arc::clone(&certificate).watch_files(Duration::from_millis(10), stop.clone()));
    let server = Server::start_with(patient(), Some(certificate), NEVER);
    let before = pair.connect(&server, &[], &TLS13).await;
    assert_eq!(shown(&before), pair.certificate);

    let old = pair.certificate.clone();
    pair.replace();
    within(async {
        loop {
            let seen = shown(&pair.connect(&server, &[], &TLS13).await);
            if seen == pair.certificate {
                break;
            }
            assert_eq!(seen, old);
        }
    })
    .await;
    assert_eq!(Client::http1(before).await.text("/version").await, "HTTP/1.1");
    stop.cancel();
    within(watching).await.unwrap();
}
