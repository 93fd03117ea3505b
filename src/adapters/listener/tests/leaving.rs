//! Shutdown, and clients that go away.

use super::*;

async fn clients(server: &Server) -> [Client; 2] {
    [Client::http1(server.connect().await).await, Client::http2(server.connect().await).await]
}

/// A new connection is refused, or closed without an answer if the kernel took it before.
async fn refuses_new_connections(server: &Server) {
    while let Ok(mut stream) = within(TcpStream::connect(server.address)).await {
        let _ = stream.write_all(b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(read_until_closed(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn stop_finishes_the_request_in_flight_and_refuses_new_connections() {
    for index in 0..2 {
        let mut server = Server::start(patient());
        let mut client = clients(&server).await.into_iter().nth(index).unwrap();
        let in_flight = tokio::spawn(async move { client.text("/gate").await });
        server.signalled("at the gate").await;

        server.shutdown.stop_accepting.cancel();
        refuses_new_connections(&server).await;
        assert!(!server.serving.is_finished());
        server.gate.notify_one();
        assert_eq!(within(in_flight).await.unwrap(), "passed");
        server.ended().await;
    }
}

#[tokio::test]
async fn stop_closes_idle_and_silent_connections_at_once() {
    let server = Server::start(patient());
    let mut clients = clients(&server).await;
    for client in &mut clients {
        client.text("/version").await;
    }
    let _silent = server.connect().await;
    server.shutdown.stop_accepting.cancel();
    server.ended().await;
}

#[tokio::test]
async fn drain_timeout_cuts_endless_streams_and_half_read_heads() {
    for index in 0..2 {
        let mut server = Server::start_with(patient(), None, SHORT);
        let mut client = clients(&server).await.into_iter().nth(index).unwrap();
        let mut body = client.get("/endless").await.unwrap().into_body();
        assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first");
        let mut half_head = server.connect().await;
        half_head.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();

        server.shutdown.stop_accepting.cancel();
        server.signalled("body dropped").await;
        assert!(within(body.frame()).await.is_none_or(|frame| frame.is_err()));
        read_until_closed(&mut half_head).await;
        server.ended().await;
    }
}

#[tokio::test]
async fn hard_stop_cuts_without_waiting_and_even_a_handler_at_work() {
    for index in 0..2 {
        let mut server = Server::start(patient());
        let mut client = clients(&server).await.into_iter().nth(index).unwrap();
        let in_flight = tokio::spawn(async move { client.get("/gate").await.map(drop) });
        server.signalled("at the gate").await;
        server.shutdown.hard_stop.cancel();
        assert!(within(in_flight).await.unwrap().is_err());
        server.ended().await;
    }
}

#[tokio::test]
async fn reader_that_leaves_ends_its_stream() {
    for index in 0..2 {
        let mut server = Server::start(patient());
        let mut client = clients(&server).await.into_iter().nth(index).unwrap();
        let response = client.get("/endless").await.unwrap();
        drop((client, response));
        server.signalled("body dropped").await;
    }
}
