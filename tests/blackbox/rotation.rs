//! Certificates that change under load.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use reqwest::Client;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::harness::{CEILING, Server, event_body};
use crate::proto::EventsFromSubjectRequest;
use crate::proto::events_db_client::EventsDbClient;
use crate::sse::Reader;
use crate::transport::write_certificate;

/// How often the files are changed.
const ROTATIONS: usize = 8;

/// Clients that append, each on a new connection every time.
const CLIENTS: usize = 4;

/// Takes any certificate and so can tell which one it is shown.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate that a new connection is shown.
async fn shown(server: &Server) -> Vec<u8> {
    let verifier = Arc::new(AnyCertificate);
    let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap().to_vec()
}

/// Appends on new connections until it is told to stop; none may fail.
async fn append(server: &Server, stopping: &AtomicBool, appended: &AtomicUsize) {
    while !stopping.load(Ordering::SeqCst) {
        let client = Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        let sent = client.post(server.at("/events")).json(&event_body("s", b"x")).timeout(CEILING).send();
        assert_eq!(sent.await.expect("a connection that works").status(), 200);
        appended.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_no_request_or_stream_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let first = write_certificate(folder.path(), "localhost");
    let envs = [("TLS_CERT_FILE", certificate.to_str().unwrap()), ("TLS_KEY_FILE", key.to_str().unwrap())];
    let server = Server::start(&[], &envs).await;

    // Both are opened under the first certificate, and stay.
    let trusting = Client::builder().tls_certs_only([reqwest::Certificate::from_pem(first.as_bytes()).unwrap()]);
    let stream = trusting.build().unwrap().get(server.at("/events/stream?subject=s")).send().await.unwrap();
    let mut reader = Reader::new(stream);
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&first));
    let channel = Endpoint::from_shared(server.url()).unwrap().tls_config(tls).unwrap().connect().await.unwrap();
    let request = EventsFromSubjectRequest { subject: "s".to_owned(), ..Default::default() };
    let mut grpc = EventsDbClient::new(channel).stream_events_from_subject(request).await.unwrap().into_inner();

    let (stopping, appended) = (AtomicBool::new(false), AtomicUsize::new(0));
    let rotating = async {
        let mut seen = HashSet::from([der(&first)]);
        assert!(seen.contains(&shown(&server).await));
        for rotation in 0..ROTATIONS {
            let new = der(&write_certificate(folder.path(), &format!("rotation-{rotation}.example.org")));
            let started = Instant::now();
            loop {
                let shown = shown(&server).await;
                if shown == new {
                    break;
                }
                assert!(seen.contains(&shown), "a certificate that never was in the files");
                assert!(started.elapsed() < CEILING, "the new certificate is never shown");
            }
            assert!(seen.insert(new));
            // Some appends under each of them.
            let before = appended.load(Ordering::SeqCst);
            while appended.load(Ordering::SeqCst) < before + CLIENTS {
                assert!(started.elapsed() < CEILING, "nothing is appended");
                tokio::task::yield_now().await;
            }
        }
        stopping.store(true, Ordering::SeqCst);
    };
    let appending = futures_util::future::join_all((0..CLIENTS).map(|_| append(&server, &stopping, &appended)));
    tokio::join!(rotating, appending);

    let count = appended.load(Ordering::SeqCst);
    let wanted: Vec<_> = (1..=i64::try_from(count).unwrap()).collect();
    assert_eq!(reader.ids(count).await, wanted, "on the connection of the first certificate");
    let mut ids = Vec::new();
    while ids.len() < count {
        let reply = timeout(CEILING, grpc.message()).await.expect("the stream is silent").unwrap().unwrap();
        ids.extend(reply.events.iter().map(|event| event.id));
    }
    assert_eq!(ids, wanted);
}
