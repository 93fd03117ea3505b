//! Foreign programs as clients: curl, promtool, schemathesis.

use std::process::{Command, Output};

use crate::harness::{Server, tool};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_creates_and_reads_over_both_versions() {
    let server = Server::start(&[], &[]).await;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let body = r#"{"source":"curl","type":"t","subject":"s","data":"eA=="}"#;
        let created = Command::new(tool("EVENTS_DB_TEST_CURL"))
            .args(["-sS", version, "-d", body, &server.at("/events")])
            .output();
        assert!(text(&created.unwrap()).starts_with(r#"{"id":"#));
    }
    let history =
        Command::new(tool("EVENTS_DB_TEST_CURL")).args(["-sS", &server.at("/events/historic?subject=s")]).output();
    assert!(text(&history.unwrap()).ends_with(r#""has_more":false}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_accepts_the_metrics() {
    let server = Server::start(&[], &[]).await;
    server.append("s", b"x").await;
    let metrics = reqwest::get(server.at("/metrics")).await.unwrap().text().await.unwrap();
    let file = server.directory().join("metrics");
    std::fs::write(&file, &metrics).unwrap();
    let checked = Command::new(tool("EVENTS_DB_TEST_PROMTOOL"))
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}\n{metrics}", text(&checked));
    for name in [
        r#"app_event_operations_total{operation="create_event",status="success"} 1"#,
        r#"app_event_operation_duration_seconds_count{operation="create_event"} 1"#,
        "app_active_event_streams 0",
    ] {
        assert!(metrics.contains(name), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_answer_outside_the_document() {
    let server = Server::start(&[], &[("AUTH_TOKEN", "token")]).await;
    let checked = Command::new(tool("EVENTS_DB_TEST_PYTHON"))
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/schemathesis.toml"))
        .args(["run", &server.at("/openapi.yaml"), "--url", &server.url()])
        .args(["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "7"])
        .args(["--header", "Authorization: Bearer token", "--request-timeout", "10", "--no-color"])
        .args(["--exclude-path", "/events/stream"])
        .current_dir(server.directory())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", text(&checked));
}
