//! The database goes away and comes back, behind a proxy that cuts or hangs.

use std::time::{Duration, Instant};

use reqwest::Client;

use crate::databases;
use crate::harness::{Server, event_body};
use crate::proxy::{Network, Proxy};
use crate::sse::Reader;

async fn survives_an_outage(variable: &str) {
    let mut url = databases::fresh(variable, "outage").await;
    let proxy = Proxy::start(databases::address(&url)).await;
    url.set_port(Some(proxy.port)).unwrap();
    let server = Server::start(&[], &[("DATABASE_URL", url.as_str())]).await;
    assert!(proxy.is_used());
    let client = Client::new();
    let mut reader = Reader::open(&server, "subject=s").await;
    let append = async || client.post(server.at("/events")).json(&event_body("s", b"x")).send().await.unwrap().status();
    let mut stored = 0;
    for outage in [Network::Cut, Network::Hung] {
        stored += 1;
        assert_eq!(append().await, 200);
        assert_eq!(reader.ids(1).await.len(), 1);
        proxy.set(outage);
        for path in ["/events/get?id=1", "/events/historic?subject=s", "/subjects", "/health"] {
            let asked = Instant::now();
            let answer = client.get(server.at(path)).send().await.unwrap();
            assert_eq!(answer.status(), 503, "{path} while {outage:?}");
            assert!(asked.elapsed() < Duration::from_secs(10), "{path} while {outage:?} took {:?}", asked.elapsed());
        }
        assert_eq!(append().await, 503, "{outage:?}");
        server
            .eventually("not ready", async || match client.get(server.at("/readyz")).send().await {
                Ok(answer) if answer.status() == 503 => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        assert_eq!(client.get(server.at("/livez")).send().await.unwrap().status(), 200);
        proxy.set(Network::Up);
        server
            .eventually("appends work again", async || match append().await.as_u16() {
                200 => Ok(()),
                status => Err(status.to_string()),
            })
            .await;
        stored += 1;
        // The stream stayed open. An append that was answered 503 may have been stored: the answer says unavailable.
        let seen = reader.ids(1).await;
        assert!(seen[0] >= stored, "{seen:?}");
        stored = seen[0];
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_may_go_away() {
    survives_an_outage("EVENTS_DB_TEST_MARIADB_URL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_may_go_away() {
    survives_an_outage("EVENTS_DB_TEST_POSTGRES_URL").await;
}
