//! Measures reading and waiting: pages of a long log, idle streams, replay against a raw scan.
//!
//! `cargo bench --bench service` runs it on SQLite; with the variables that `cargo xtask servers` prints on the other
//! engines too. Appends have a benchmark of their own, `cargo xtask bench`.

#[path = "shared/database.rs"]
mod database;
#[path = "shared/server.rs"]
mod server;

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use events_db::adapters::repository::sea_orm::{SeaOrmRepository, StoreConfig};
use events_db::domain::append::AppendRequest;
use events_db::domain::attribute::{EventSource, EventType, Subject};
use events_db::domain::event::NewEvent;
use events_db::domain::filter::{Filter, SubjectFilter};
use events_db::domain::position::Position;
use events_db::ports::event_repository::{EventRepository, Order, ReadQuery};
use futures_util::StreamExt;
use sea_orm::Database;

use crate::database::fresh_database;
use crate::server::Server;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of data in an event.
const PAYLOAD_BYTES: usize = 256;
/// Runs of each kind; the median counts.
const ROUNDS: usize = 3;
/// Events in the replay.
const REPLAY_EVENTS: usize = 1_000_000;
/// Events in the log whose pages are compared.
const FLAT_EVENTS: usize = 200_000;
/// Idle streams when memory is measured.
const IDLE_STREAMS: usize = 5_000;

#[tokio::main]
async fn main() -> Outcome<()> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir()?;
    flatness("SQLite", &format!("sqlite://{}", directory.path().join("flat.db").display())).await?;
    for (engine, variable) in [
        ("MariaDB", "EVENTS_DB_TEST_MARIADB_URL"),
        ("MySQL", "EVENTS_DB_TEST_MYSQL_URL"),
        ("PostgreSQL", "EVENTS_DB_TEST_POSTGRES_URL"),
    ] {
        match std::env::var(variable) {
            Ok(url) => flatness(engine, &fresh_database(&url, "bench_flatness").await?).await?,
            Err(_) => println!("{engine}: not measured, {variable} is not set"),
        }
    }
    idle_memory(&format!("sqlite://{}", directory.path().join("idle.db").display()))?;
    replay(&directory.path().join("replay.db").display().to_string()).await
}

/// Pages at the start and at the end of one long subject, which share the log with another one.
async fn flatness(engine: &str, url: &str) -> Outcome<()> {
    let repository = SeaOrmRepository::connect(&StoreConfig {
        url: url.to_owned(),
        event_bytes_max: 1 << 20,
        allows_lazy_durability: false,
    })
    .await?;
    for _ in 0..FLAT_EVENTS / 1_000 {
        append(&repository, (0..1_000).map(|number| event(if number % 2 == 0 { "s" } else { "t" })).collect()).await?;
    }
    let last = i64::try_from(FLAT_EVENTS)?;
    let pages = async |first: i64| {
        let filter =
            Filter { subjects: SubjectFilter::exact(vec![Subject::from_stored("s".to_owned())]), types: vec![] };
        let through = Position::new(last).expect("a count is positive");
        let after = Position::new(first).ok();
        let mut query =
            ReadQuery { filter, after, through, order: Order::Ascending, limit: 1_000, bytes_max: usize::MAX };
        let started = Instant::now();
        let mut count = 0;
        for _ in 0..10 {
            let page = repository.read(query.clone()).await?;
            count += page.events.len();
            query.after = Some(page.reached);
        }
        Outcome::Ok(per_second(count, started))
    };
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        early.push(pages(0).await?);
        late.push(pages(last - 20_000).await?);
    }
    let (early, late) = (median(early), median(late));
    println!(
        "replay, {engine}: first 10,000 events of a subject {early:.0}/s, last 10,000 {late:.0}/s, ratio {:.2}",
        late / early
    );
    Ok(())
}

async fn append(repository: &SeaOrmRepository, events: Vec<NewEvent>) -> Outcome<()> {
    let request = AppendRequest { events, preconditions: Vec::new() };
    for outcome in repository.append(Arc::new([request])).await?.outcomes {
        outcome?;
    }
    Ok(())
}

fn event(subject: &str) -> NewEvent {
    NewEvent {
        id: None,
        event_source: EventSource::from_stored("bench".to_owned()),
        event_type: EventType::from_stored("made".to_owned()),
        subject: Subject::from_stored(subject.to_owned()),
        time: None,
        data: Bytes::from(vec![b'x'; PAYLOAD_BYTES]),
    }
}

fn idle_memory(url: &str) -> Outcome<()> {
    let server = Server::start(url)?;
    let before = server.resident_kib()?;
    let mut streams = Vec::new();
    for _ in 0..IDLE_STREAMS {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
        stream.write_all(b"GET /events/stream?subject=s HTTP/1.1\r\nhost: bench\r\n\r\n")?;
        let mut seen = Vec::new();
        while !seen.windows(9).any(|window| window == b"caught-up") {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer)?;
            seen.extend_from_slice(&buffer[..count]);
        }
        streams.push(stream);
    }
    let grown = server.resident_kib()?.saturating_sub(before);
    #[allow(clippy::cast_precision_loss)]
    let each = grown as f64 / IDLE_STREAMS as f64;
    println!("idle SSE streams: {IDLE_STREAMS} take {grown} KiB resident, {each:.1} KiB each");
    Ok(())
}

async fn replay(file: &str) -> Outcome<()> {
    let url = format!("sqlite://{file}");
    let repository = SeaOrmRepository::connect(&StoreConfig {
        url: url.clone(),
        event_bytes_max: 1 << 20,
        allows_lazy_durability: false,
    })
    .await?;
    for _ in 0..REPLAY_EVENTS / 1_000 {
        append(&repository, vec![event("s"); 1_000]).await?;
    }
    let raw = raw_scan(&url).await?;
    let server = Server::start(&url)?;
    let all = sse_replay(server.port, 0).await?;
    let late = sse_replay(server.port, REPLAY_EVENTS - 100_000).await?;
    println!("replay of {REPLAY_EVENTS} events, raw SQLite scan: {raw:.0}/s");
    println!("  over SSE: {all:.0}/s, ratio {:.2}; the last 100,000 alone: {late:.0}/s", all / raw);
    let grpc = grpc_replay(server.port).await?;
    println!("  over gRPC: {grpc:.0}/s, ratio {:.2}", grpc / raw);
    Ok(())
}

/// Every row of the subject through one statement of the driver.
async fn raw_scan(url: &str) -> Outcome<f64> {
    use sea_orm::{DbBackend, Statement, StreamTrait};
    let raw = Database::connect(url).await?;
    let statement = Statement::from_string(
        DbBackend::Sqlite,
        "SELECT id, source, type, subject, time, data FROM events WHERE subject = 's' ORDER BY id",
    );
    let started = Instant::now();
    let mut rows = raw.stream_raw(statement).await?;
    let mut count = 0;
    while let Some(row) = rows.next().await {
        let _data: Vec<u8> = row?.try_get_by_index(5)?;
        count += 1;
    }
    Ok(per_second(count, started))
}

async fn sse_replay(port: u16, from_id: usize) -> Outcome<f64> {
    let started = Instant::now();
    let url = format!("http://127.0.0.1:{port}/events/stream?subject=s&from_id={from_id}");
    let mut response = reqwest::get(url).await?;
    let (mut count, mut previous) = (0, 0);
    while let Some(chunk) = response.chunk().await? {
        // A message ends with an empty line.
        for byte in chunk {
            count += usize::from(byte == b'\n' && previous == b'\n');
            previous = byte;
        }
        // `retry` comes first.
        if count > REPLAY_EVENTS - from_id {
            break;
        }
    }
    Ok(per_second(REPLAY_EVENTS - from_id, started))
}

mod proto {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/client/grpc.rs"));
}

async fn grpc_replay(port: u16) -> Outcome<f64> {
    let mut client = proto::events_db_client::EventsDbClient::connect(format!("http://127.0.0.1:{port}")).await?;
    let started = Instant::now();
    let request = proto::EventsFromSubjectRequest { subject: "s".to_owned(), ..Default::default() };
    let mut replies = client.stream_events_from_subject(request).await?.into_inner();
    let mut count = 0;
    while count < REPLAY_EVENTS {
        count += replies.message().await?.ok_or("the stream ended")?.events.len();
    }
    Ok(per_second(count, started))
}

#[allow(clippy::cast_precision_loss)]
fn per_second(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
