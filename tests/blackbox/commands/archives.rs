//! `export`, `import`, `verify` and `migrate`: interrupted, begun again, and beside a server.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::MultiGzDecoder;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::commands::{Ended, command, end, run, signal};
use crate::harness::{CEILING, Server};
use crate::sse::Reader;

/// Events of an archive whose export is to be interrupted: several parts.
const EVENTS: u64 = 60_000;

/// Events that an import stores together.
const GROUP: u64 = 32_768;

/// What a gzip file begins with. Source: RFC 1952, section 2.3.1.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Every tenth event of those that are made is not there: a hole.
const HOLES: u64 = 10;

/// Which events of an archive.
type Matches<'a> = &'a dyn Fn(&Value) -> bool;

/// `events` lines of an archive: with an id and without, data of every form, holes between them.
pub fn made(events: u64) -> String {
    let mut text = String::new();
    let mut position = 0;
    for n in 0..events {
        position += if n % HOLES == HOLES - 1 { 2 } else { 1 };
        let seconds = n / 1_000;
        let (hours, minutes, seconds, millis) = (seconds / 3600, seconds / 60 % 60, seconds % 60, n % 1_000);
        let time = format!("2026-01-02T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z");
        // An id that is the position says that the producer gave none.
        let id = if n % 3 == 0 { position.to_string() } else { format!("event-{n}") };
        let mut event = json!({
            "specversion": "1.0", "id": id, "source": "/shop", "type": format!("type-{}", n % 7),
            "position": position.to_string(), "recordedtime": time, "time": time,
        });
        if n % 11 != 0 {
            event["subject"] = format!("user-{}", n % 1_000).into();
        }
        let data = match n % 6 {
            0 => ("application/json", "data", json!({"total": n, "name": "ä \"quoted\" \u{1F600}"})),
            1 => ("text/plain", "data", format!("text {n}\r\nover lines").into()),
            2 => (
                "application/octet-stream",
                "data_base64",
                BASE64.encode([&[0, 0xff][..], &n.to_le_bytes()].concat()).into(),
            ),
            3 => ("application/json", "data_base64", BASE64.encode(format!("{{\n  \"a\": {n}\n}}\n")).into()),
            4 => ("application/xml", "data", format!("<a>{n}</a>").into()),
            _ => ("", "", Value::Null),
        };
        if !data.1.is_empty() {
            event["datacontenttype"] = data.0.into();
            event[data.1] = data.2;
        }
        writeln!(text, "{event}").unwrap();
    }
    text
}

/// `sqlite://` of a file in the directory that a command runs in.
pub fn sqlite(name: &str) -> String {
    format!("sqlite://{name}.db")
}

/// Makes the database `log.db` and what an uninterrupted export of it is.
async fn log_and_archive(directory: &Path, events: u64) -> String {
    fs::write(directory.join("made"), made(events)).unwrap();
    let url = sqlite("log");
    let imported = run(directory, &["import", "made"], &[("DATABASE_URL", &url)]).await;
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let archive = run(directory, &["export"], &[("DATABASE_URL", &url)]).await.exits(0);
    assert_eq!(archive.lines().count() as u64, events);
    fs::write(directory.join("archive"), &archive).unwrap();
    archive
}

async fn exported(directory: &Path, url: &str) -> String {
    run(directory, &["export"], &[("DATABASE_URL", url)]).await.exits(0)
}

/// Fails at the first line that differs, without printing the rest.
pub fn assert_same_lines(found: &str, expected: &str) {
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", number + 1);
    }
    assert!(found == expected, "{} and {} lines", found.lines().count(), expected.lines().count());
}

async fn opened(directory: &Path, name: &str) -> DatabaseConnection {
    let url = format!("sqlite://{}", directory.join(format!("{name}.db")).display());
    sea_orm::Database::connect(url).await.unwrap()
}

/// Makes `copy.db` what `log.db` is, with what SQLite keeps beside it.
fn copy(directory: &Path) {
    for file in ["db", "db-wal", "db-shm"] {
        let [from, to] = ["log", "copy"].map(|name| directory.join(format!("{name}.{file}")));
        if from.exists() {
            fs::copy(from, to).unwrap();
        } else if to.exists() {
            fs::remove_file(to).unwrap();
        }
    }
}

async fn change(directory: &Path, name: &str, sql: &str) {
    let db = opened(directory, name).await;
    db.execute_unprepared(sql).await.unwrap();
    db.close().await.unwrap();
}

/// Feeds the first `lines` of `archive` to an import into `copy.db` and waits until it has stored up to `position`. It
/// cannot come to its end: it waits for more.
async fn import_held_up(directory: &Path, archive: &str, lines: usize, position: u64) -> Child {
    let url = sqlite("copy");
    let mut child =
        command(directory, ["import", "-"], &[("DATABASE_URL", &url)]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let fed: String = archive.split_inclusive('\n').take(lines).collect();
    tokio::spawn(async move {
        // Held open until the import has gone.
        if stdin.write_all(fed.as_bytes()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    });
    let started = Instant::now();
    loop {
        let head = head(directory).await;
        if head >= position {
            return child;
        }
        assert!(started.elapsed() < CEILING, "the import is at {head}, not at {position}");
        assert!(child.try_wait().unwrap().is_none(), "{:?}", end(child).await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// The head of `copy.db`, 0 when it has none yet.
async fn head(directory: &Path) -> u64 {
    if !directory.join("copy.db").exists() {
        return 0;
    }
    let db = opened(directory, "copy").await;
    let sql = "SELECT position FROM event_head".to_owned();
    let row = db.query_one_raw(sea_orm::Statement::from_string(db.get_database_backend(), sql)).await;
    let head = row.ok().flatten().map_or(0, |row| row.try_get_by_index::<i64>(0).unwrap());
    db.close().await.unwrap();
    head.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn import_that_is_killed_is_begun_again_and_stores_every_event_once() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let archive = log_and_archive(directory, 105_000).await;
    for (lines, position) in [(40_000, 1), (70_000, GROUP * 6 / 5), (100_000, GROUP * 12 / 5)] {
        let mut child = import_held_up(directory, &archive, lines, position).await;
        child.kill().await.unwrap();
    }
    let url = sqlite("copy");
    let ended = run(directory, &["import", "archive"], &[("DATABASE_URL", &url)]).await;
    assert!(ended.code == Some(0) && ended.error.contains("there already"), "{ended:?}");
    assert_same_lines(&exported(directory, &url).await, &archive);
    let again = run(directory, &["import", "archive"], &[("DATABASE_URL", &url)]).await;
    assert!(again.code == Some(0) && again.error.contains("imported 0 events"), "{again:?}");
    assert!(again.error.contains("105,000 there already"), "{again:?}");
    let verified = run(directory, &["verify"], &[("DATABASE_URL", &url)]).await.exits(0);
    assert!(
        verified.starts_with("the log is whole: 105,000 events, 10,500 deleted, head at position 115500"),
        "{verified}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signal_ends_an_import_with_130_and_a_word_on_how_to_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let archive = log_and_archive(directory, 2 * GROUP).await;
    for (name, lines, position) in [("INT", 40_000, 1), ("TERM", 40_000, 1)] {
        let child = import_held_up(directory, &archive, lines, position).await;
        signal(&child, name);
        let ended = end(child).await;
        assert_eq!(ended.code, Some(130), "{name}: {ended:?}");
        assert_eq!(ended.error.lines().last(), Some("events-db: interrupted; the same command goes on"), "{ended:?}");
    }
    let url = sqlite("copy");
    run(directory, &["import", "archive"], &[("DATABASE_URL", &url)]).await.exits(0);
    assert_same_lines(&exported(directory, &url).await, &archive);
}

/// Exports `log.db` to `file` and is killed by the system when the file has grown to `kib`.
async fn export_killed(directory: &Path, file: &str, kib: u64, resumes: bool) -> Ended {
    let resume = if resumes { "--resume" } else { "" };
    let script =
        format!("ulimit -c 0; ulimit -f {kib}; exec {} export {file} {resume}", env!("CARGO_BIN_EXE_events-db"));
    let mut shell = tokio::process::Command::new("bash");
    shell.args(["-c", &script]).current_dir(directory).env_clear().env("DATABASE_URL", sqlite("log"));
    end(shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn export_that_is_killed_goes_on_to_what_an_uninterrupted_one_is() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let archive = log_and_archive(directory, EVENTS).await;
    let url = sqlite("log");
    // The limits fall into lines, and into compressed parts.
    run(directory, &["export", "whole.gz"], &[("DATABASE_URL", &url)]).await.exits(0);
    let compressed = fs::metadata(directory.join("whole.gz")).unwrap().len() / 1024;
    let plain = archive.len() as u64 / 1024;
    for (file, kib) in [("killed", plain), ("killed.gz", compressed)] {
        for (kib, resumes) in [(kib / 3, false), (kib * 2 / 3, true), (kib * 9 / 10, true)] {
            let killed = export_killed(directory, file, kib, resumes).await;
            // No exit code: a signal.
            assert_eq!(killed.code, None, "{file}: {killed:?}");
            assert_eq!(fs::metadata(directory.join(file)).unwrap().len(), kib * 1024, "{file}");
        }
        run(directory, &["export", file, "--resume"], &[("DATABASE_URL", &url)]).await.exits(0);
        let found = fs::read(directory.join(file)).unwrap();
        let mut text = String::new();
        if found.starts_with(&GZIP) {
            MultiGzDecoder::new(&found[..]).read_to_string(&mut text).unwrap();
        } else {
            text = String::from_utf8(found).unwrap();
        }
        assert_same_lines(&text, &archive);
        // Nothing is left to do.
        run(directory, &["export", file, "--resume"], &[("DATABASE_URL", &url)]).await.exits(0);
    }
    // Both can be read back.
    let copy = sqlite("copy");
    let ended = run(directory, &["import", "killed.gz"], &[("DATABASE_URL", &copy)]).await;
    assert!(ended.code == Some(0) && ended.error.contains("imported 60,000 events"), "{ended:?}");
    assert_same_lines(&exported(directory, &copy).await, &archive);
}

#[tokio::test(flavor = "multi_thread")]
async fn export_leaves_a_file_alone_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    log_and_archive(directory, 10).await;
    let url = sqlite("log");
    for (text, args) in [
        ("somebody's own", &["export", "there"][..]),
        ("somebody's own", &["export", "there", "--resume"]),
        ("{\"a\": 1}\n", &["export", "there", "--resume"]),
        ("{\"a\": 1}\n", &["export", "there", "--resume", "--gzip"]),
    ] {
        fs::write(directory.join("there"), text).unwrap();
        let error = run(directory, args, &[("DATABASE_URL", &url)]).await.fails(64);
        assert!(error.contains("there cannot be written"), "{error}");
        assert_eq!(fs::read_to_string(directory.join("there")).unwrap(), text, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn export_takes_what_matches_and_what_is_above_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let archive = log_and_archive(directory, 3_000).await;
    let url = sqlite("log");
    let place = |event: &Value| event["position"].as_str().unwrap().parse::<u64>().unwrap();
    let subject = |event: &Value| event["subject"].as_str().unwrap_or_default().to_owned();
    for (args, matches) in [
        (&["--after", "3000"][..], &(|event: &Value| place(event) > 3_000) as Matches<'_>),
        (&["--subject", "user-7"], &|event| subject(event) == "user-7"),
        (&["--subject", "user-7", "--recursive"], &|event| subject(event).starts_with("user-7")),
        (&["--type", "type-3", "--after", "9"], &|event| event["type"] == "type-3" && place(event) > 9),
        (&["--source", "/other"], &|_| false),
    ] {
        let found = run(directory, &[&["export"], args].concat(), &[("DATABASE_URL", &url)]).await.exits(0);
        let expected = archive.split_inclusive('\n').filter(|line| matches(&serde_json::from_str(line).unwrap()));
        assert_same_lines(&found, &expected.collect::<String>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn export_whose_reader_leaves_ends_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let archive = log_and_archive(directory, 20_000).await;
    for gzip in ["", "--gzip"] {
        let binary = env!("CARGO_BIN_EXE_events-db");
        let script = format!("{binary} export {gzip} | head -c 1000; exit ${{PIPESTATUS[0]}}");
        let mut shell = tokio::process::Command::new("bash");
        shell.args(["-c", &script]).current_dir(directory).env("DATABASE_URL", sqlite("log"));
        let output = shell.output().await.unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""), "{gzip}");
        assert_eq!(output.stdout.len(), 1_000);
        assert!(!gzip.is_empty() || archive.as_bytes().starts_with(&output.stdout));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_server_see_what_is_imported_in_order_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let archive = log_and_archive(directory.path(), 20_000).await;
    let positions: Vec<i64> = archive
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].as_str().unwrap().parse().unwrap())
        .collect();
    let server = Server::start(&[], &[]).await;
    let mut follows = Reader::open(&server, "subject=&recursive=true").await;
    let mut follows_type = Reader::open(&server, "subject=&recursive=true&type=type-3").await;
    fs::copy(directory.path().join("archive"), server.directory().join("archive")).unwrap();
    let importing = run(server.directory(), &["import", "archive"], &[]);
    let (imported, seen) = tokio::join!(importing, follows.ids(positions.len()));
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(seen == positions, "the reader saw other events, or in another order");
    let of_type = positions.iter().enumerate().filter(|(n, _)| n % 7 == 3).map(|(_, position)| *position);
    let of_type: Vec<i64> = of_type.collect();
    assert!(follows_type.ids(of_type.len()).await == of_type, "the reader of a type saw other events");
    // Nothing came twice: the next event is the next that is appended.
    let next = server.append("s", b"x").await;
    assert_eq!(next, positions.last().unwrap() + 1);
    assert_eq!(follows.ids(1).await, [next]);
    // The log goes on; the archive is still its beginning.
    let again = run(server.directory(), &["import", "archive"], &[]).await;
    assert!(again.code == Some(0) && again.error.contains("20,000 there already"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn import_refuses_another_log_and_a_damaged_archive() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let archive = log_and_archive(directory, 30).await;
    let url = sqlite("log");
    let other = archive.replacen("text 13", "text 31", 1);
    let torn = &archive[..archive.len() - 20];
    for (text, problem) in [(other.as_str(), "line 14: the log has another event at position 15"), (torn, "line 30: ")]
    {
        fs::write(directory.join("other"), text).unwrap();
        let error = run(directory, &["import", "other"], &[("DATABASE_URL", &url)]).await.fails(65);
        assert!(error.contains(problem), "{error}");
    }
    assert_same_lines(&exported(directory, &url).await, &archive);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_is_0_for_a_whole_log_and_65_for_one_that_was_tampered_with() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    log_and_archive(directory, 10_000).await;
    let verify = async || run(directory, &["verify"], &[("DATABASE_URL", "sqlite://copy.db")]).await;
    for (sql, finding) in [
        ("", "the log is whole: 10,000 events, 1,000 deleted, head at position 11000\n"),
        (
            "UPDATE events SET event_key = x'00112233445566778899aabbccddeeff' WHERE id = 3",
            "the key of the event at position 3 is not",
        ),
        ("UPDATE event_head SET position = 5000", "the head is at position 5000, the newest event at 11000"),
        ("DELETE FROM event_subjects WHERE position = 7", "1 events up to position"),
    ] {
        copy(directory);
        change(directory, "copy", if sql.is_empty() { "SELECT 1" } else { sql }).await;
        let ended = verify().await;
        assert!(ended.out.contains(finding), "{sql}: {ended:?}");
        assert_eq!(ended.code, Some(if sql.is_empty() { 0 } else { 65 }), "{sql}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_makes_a_new_file_and_brings_an_old_one_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let url = sqlite("new");
    let envs = [("DATABASE_URL", url.as_str())];
    // Commands that only read make no file.
    for command in ["export", "verify"] {
        let absent = run(directory, &[command, "--startup-timeout", "1"], &envs).await;
        assert!(absent.code == Some(69) && !directory.join("new.db").exists(), "{absent:?}");
    }
    for _ in 0..2 {
        assert_eq!(run(directory, &["migrate"], &envs).await.exits(0), "the schema is up to date\n");
    }
    let verified = run(directory, &["verify"], &envs).await.exits(0);
    assert!(verified.starts_with("the log is whole: 0 events"), "{verified}");

    let archive = log_and_archive(directory, 100).await;
    let url = sqlite("log");
    let envs = [("DATABASE_URL", url.as_str())];
    // As a program left it that knew of no such table.
    let older = "DROP TABLE event_deletions; DELETE FROM seaql_migrations WHERE version = 'deletion_count'";
    change(directory, "log", older).await;
    for command in ["export", "verify"] {
        let error = run(directory, &[command], &envs).await.fails(69);
        assert!(error.contains("run `events-db migrate` first"), "{error}");
    }
    run(directory, &["migrate"], &envs).await.exits(0);
    assert_same_lines(&exported(directory, &url).await, &archive);
    run(directory, &["verify"], &envs).await.exits(0);
}
