//! Deadlines and counts.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn connection_without_a_request_is_closed() {
    let by_protocol = ConnectionLimits { protocol_timeout: SHORT, ..patient() };
    let by_first_request = ConnectionLimits { first_request_timeout: SHORT, ..patient() };
    let table: [(&str, &[u8], ConnectionLimits); 5] = [
        ("silent", b"", by_protocol.clone()),
        ("half a preface", b"PRI * HTTP/2.0\r\n", by_protocol),
        ("half a head", b"GET / HTTP/1.1\r\nhost: loc", by_first_request.clone()),
        ("preface only", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", by_first_request.clone()),
        ("preface and half a frame head", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", by_first_request),
    ];
    for (name, bytes, limits) in table {
        let server = Server::start(limits);
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
        let answer = read_until_closed(&mut stream).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{name}");
    }
}

#[tokio::test]
async fn deadline_of_the_first_request_spares_later_idling_over_http1() {
    let idle = SHORT * 4;
    let server =
        Server::start(ConnectionLimits { first_request_timeout: SHORT, http1_head_timeout: idle, ..patient() });
    let mut stream = server.connect().await;
    let asked = Instant::now();
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let answer = read_until_closed(&mut stream).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    assert!(asked.elapsed() >= idle, "closed by the wrong limit after {:?}", asked.elapsed());
}

#[tokio::test]
async fn deadline_of_the_first_request_spares_http2_clients_that_connect_ahead() {
    let server = Server::start(ConnectionLimits { first_request_timeout: SHORT, ..patient() });
    let mut client = Client::http2(server.connect().await).await;
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(client.text("/version").await, "HTTP/2.0");
}

#[tokio::test]
async fn http2_client_that_ignores_pings_is_closed() {
    let server = Server::start(ConnectionLimits { http2_ping_interval: SHORT, http2_ping_timeout: SHORT, ..patient() });
    let mut stream = server.connect().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let frames = read_until_closed(&mut stream).await;
    assert!(!frames.is_empty());
}

#[tokio::test]
async fn head_larger_than_the_buffer_is_refused_with_431() {
    let limits = patient();
    // Not a byte more: what is left unread at the close makes the kernel throw the answer away.
    let mut head = b"GET /".to_vec();
    head.resize(limits.http1_buffer_bytes_max, b'x');
    let server = Server::start(limits);
    let mut stream = server.connect().await;
    stream.write_all(&head).await.unwrap();
    let answer = read_until_closed(&mut stream).await;
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn connection_above_the_limit_waits_until_one_leaves_and_is_not_counted() {
    let server = Server::start(ConnectionLimits { connections_max: 1, ..patient() });
    let mut first = Client::http1(server.connect().await).await;
    assert_eq!(first.text("/version").await, "HTTP/1.1");

    let mut second = Client::http1(server.connect().await).await;
    let mut answer = Box::pin(second.text("/version"));
    assert!(tokio::time::timeout(SHORT, &mut answer).await.is_err(), "served above the limit");
    assert_eq!(server.open.count(), 1);
    assert_eq!(first.text("/version").await, "HTTP/1.1");
    drop(first);
    assert_eq!(answer.await, "HTTP/1.1");
    assert_eq!(server.open.count(), 1);
    drop(second);
    within(async {
        while server.open.count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
