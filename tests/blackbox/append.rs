//! Appending as producers see it: ids, preconditions, batches, a full queue, and what the metrics say of it.

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::databases;
use crate::harness::{Server, command, event_body};
use crate::sse::Reader;

fn named(id: &str, subject: &str, data: &[u8]) -> Value {
    let mut body = event_body(subject, data);
    body["id"] = id.into();
    body
}

fn post(server: &Server, body: &Value) -> RequestBuilder {
    Client::new().post(server.at("/events")).json(body)
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn kind(problem: &Value) -> &str {
    problem["type"].as_str().unwrap().strip_prefix("urn:eventsdb:problem:").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn same_id_is_stored_once_and_another_event_with_it_refused() {
    let server = Server::start(&[], &[]).await;
    assert_eq!(answer(post(&server, &named("x", "s", b"1"))).await, (200, json!({"id": 1})));
    assert_eq!(answer(post(&server, &named("x", "s", b"1"))).await, (200, json!({"id": 1, "duplicate": true})));
    let (status, problem) = answer(post(&server, &named("x", "s", b"2"))).await;
    assert_eq!((status, kind(&problem), &problem["position"]), (409, "id-conflict", &json!(1)));
    assert_eq!(server.append("s", b"1").await, 2);
    let server = server.restart(&[], &[]).await;
    assert_eq!(answer(post(&server, &named("x", "s", b"1"))).await, (200, json!({"id": 1, "duplicate": true})));
}

#[tokio::test(flavor = "multi_thread")]
async fn preconditions_are_checked_with_the_append() {
    let server = Server::start(&[], &[]).await;
    let conditional =
        |name: &'static str, value: &'static str| post(&server, &event_body("s", b"x")).header(name, value);
    assert_eq!(answer(conditional("if-none-match", "*")).await, (200, json!({"id": 1})));
    let (status, problem) = answer(conditional("if-none-match", "*")).await;
    assert_eq!((status, kind(&problem)), (412, "precondition-failed"));
    assert_eq!((&problem["subject"], &problem["last_position"]), (&json!("s"), &json!(1)));
    assert_eq!(answer(conditional("if-match", "\"1\"")).await, (200, json!({"id": 2})));
    assert_eq!(answer(conditional("if-match", "\"1\"")).await.1["last_position"], json!(2));
    let (status, problem) = answer(conditional("if-match", "2")).await;
    assert!(status == 400 && problem["detail"].as_str().unwrap().contains("If-Match"), "{problem}");
    let nobody = post(&server, &event_body("other", b"x")).header("if-match", "\"2\"");
    assert_eq!(answer(nobody).await.1["last_position"], Value::Null);
    // One winner of many at once.
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let request = post(&server, &event_body("raced", b"x")).header("if-none-match", "*");
        racers.spawn(async { request.send().await.unwrap().status().as_u16() });
    }
    let mut statuses = racers.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200], vec![412; 19]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_is_stored_whole_or_not_at_all() {
    let server = Server::start(&["--max-batch-events", "3", "--max-batch-bytes", "100"], &[]).await;
    let batch = json!([named("a", "s", b"1"), event_body("t", b"2"), named("a", "s", b"1")]);
    assert_eq!(answer(post(&server, &batch)).await, (200, json!({"ids": [1, 2, 1], "duplicates": [1]})));
    assert_eq!(answer(post(&server, &json!([event_body("s", b"3")]))).await, (200, json!({"ids": [3]})));
    assert_eq!(answer(post(&server, &json!([]))).await, (200, json!({"ids": []})));
    let bad = json!([event_body("s", b"4"), named("a", "s", b"other"), event_body("s", b"5")]);
    let (status, problem) = answer(post(&server, &bad)).await;
    assert_eq!((status, kind(&problem)), (409, "id-conflict"));
    assert!(problem["detail"].as_str().unwrap().contains("index 1"), "{problem}");
    let (status, problem) = answer(post(&server, &json!([event_body("s", b"4"), event_body("", b"5")]))).await;
    assert!(status == 400 && problem["detail"].as_str().unwrap().starts_with("[1].subject"), "{problem}");
    let (status, problem) = answer(post(&server, &json!(vec![event_body("s", b"4"); 4]))).await;
    assert!(status == 413 && problem["detail"].as_str().unwrap().contains("at most 3"), "{problem}");
    // Source and type have 5 and 4 bytes, the subject 1: with 40 of data each, two events have exactly 100.
    assert_eq!(answer(post(&server, &json!(vec![event_body("s", &[0; 41]); 2]))).await.0, 413);
    assert_eq!(answer(post(&server, &json!(vec![event_body("s", &[0; 40]); 2]))).await, (200, json!({"ids": [4, 5]})));
    let conditional = post(&server, &json!([event_body("s", b""), event_body("s", b"")])).header("if-match", "\"5\"");
    assert_eq!(answer(conditional).await, (200, json!({"ids": [6, 7]})));
    assert_eq!(Reader::open(&server, "subject=s").await.ids(6).await, [1, 3, 4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let args = ["--max-batch-events", "1", "--max-queued-events", "2"];
    let url = databases::fresh("EVENTS_DB_TEST_MARIADB_URL", "queue").await;
    let server = Server::start(&args, &[("DATABASE_URL", url.as_str())]).await;
    assert_eq!(server.append("s", b"x").await, 1);
    // Whoever holds the head row holds up the commit that is under way, and the queue behind it fills up.
    let other = sea_orm::Database::connect(url.as_str()).await.unwrap();
    let held = sea_orm::TransactionTrait::begin(&other).await.unwrap();
    let lock = "SELECT position FROM event_head WHERE id = 1 FOR UPDATE";
    sea_orm::ConnectionTrait::execute_unprepared(&held, lock).await.unwrap();
    let mut racers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let request = post(&server, &named(&number.to_string(), "s", b"x"));
        racers.spawn(async move {
            let answer = request.send().await.unwrap();
            let retry = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
            (answer.status().as_u16(), retry, answer.json::<Value>().await.unwrap())
        });
    }
    let mut refused = 0;
    let mut acknowledged = Vec::new();
    // The refused ones are answered while the others still wait.
    while refused < 5 {
        let (status, retry, body) = racers.join_next().await.unwrap().unwrap();
        assert_eq!((status, retry.as_deref(), kind(&body)), (429, Some("1"), "queue-full"));
        refused += 1;
    }
    held.rollback().await.unwrap();
    while let Some(answer) = racers.join_next().await {
        let (status, _, body) = answer.unwrap();
        assert_eq!(status, 200, "{body}");
        acknowledged.push(body["id"].as_i64().unwrap());
    }
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, [2, 3, 4]);
    let metrics = Client::new().get(server.at("/metrics")).send().await.unwrap().text().await.unwrap();
    for line in [
        r#"eventsdb_append_refusals_total{reason="queue_full"} 5"#,
        "eventsdb_append_queue_events 0",
        "eventsdb_commit_events_sum 4",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_request_does_not_wait_for_others() {
    let server = Server::start(&[], &[]).await;
    for position in 1..=20 {
        assert_eq!(server.append("s", b"x").await, position);
    }
    let metrics = Client::new().get(server.at("/metrics")).send().await.unwrap().text().await.unwrap();
    // Twenty commits of one event each.
    for line in [r#"eventsdb_commit_events_bucket{le="1"} 20"#, "eventsdb_append_wait_seconds_count 20"] {
        assert!(metrics.lines().any(|have| have == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_does_not_take_its_event_along() {
    let url = databases::fresh("EVENTS_DB_TEST_POSTGRES_URL", "leaving").await;
    let server = Server::start(&[], &[("DATABASE_URL", url.as_str())]).await;
    let other = sea_orm::Database::connect(url.as_str()).await.unwrap();
    let held = sea_orm::TransactionTrait::begin(&other).await.unwrap();
    let lock = "SELECT position FROM event_head WHERE id = 1 FOR UPDATE";
    sea_orm::ConnectionTrait::execute_unprepared(&held, lock).await.unwrap();
    let request = post(&server, &event_body("s", b"left"));
    let leaving = tokio::spawn(async { request.send().await });
    // It is on its way to the database once somebody waits for the head row.
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    server
        .eventually("the append waits for the lock", async || {
            let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, waiting);
            let row = sea_orm::ConnectionTrait::query_one_raw(&other, statement).await.unwrap().unwrap();
            let count: i64 = row.try_get_by_index(0).unwrap();
            if count > 0 { Ok(()) } else { Err("nobody waits".to_owned()) }
        })
        .await;
    leaving.abort();
    let _aborted = leaving.await;
    held.rollback().await.unwrap();
    assert_eq!(Reader::open(&server, "subject=s").await.ids(1).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lazy_durability_is_refused_unless_allowed() {
    let url = databases::fresh("EVENTS_DB_TEST_POSTGRES_URL", "lazy").await;
    let admin = sea_orm::Database::connect(url.as_str()).await.unwrap();
    let lazy = format!("ALTER DATABASE {} SET synchronous_commit = off", &url.path()[1..]);
    sea_orm::ConnectionTrait::execute_unprepared(&admin, &lazy).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let output = command(directory.path(), &[], &[("DATABASE_URL", url.as_str())]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("synchronous_commit is off") && text.contains("--allow-lazy-durability"), "{text}");
    let server = Server::start(&["--allow-lazy-durability"], &[("DATABASE_URL", url.as_str())]).await;
    assert!(server.log_text().contains("synchronous_commit is off"), "{}", server.log_text());
    assert_eq!(server.append("s", b"x").await, 1);
}
