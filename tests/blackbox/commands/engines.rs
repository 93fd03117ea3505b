//! A million events from engine to engine, compared event by event.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::commands::archives::{made, sqlite};
use crate::commands::{Ended, command, end, run};
use crate::databases;

const EVENTS: u64 = 1_000_000;

/// An export that is read line by line while it goes on.
struct Export {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Export {
    fn start(directory: &Path, url: &str) -> Self {
        let mut child = command(directory, ["export"], &[("DATABASE_URL", url)]).spawn().unwrap();
        let lines = BufReader::with_capacity(1024 * 1024, child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> Option<String> {
        self.lines.next_line().await.unwrap()
    }
}

fn imported(ended: Ended) {
    assert!(ended.error.contains("imported 1,000,000 events"), "{ended:?}");
    ended.exits(0);
}

/// Exports from one database and imports into the other what comes through the pipe.
async fn piped(directory: &Path, from: &str, to: &str) {
    let mut export = command(directory, ["export"], &[("DATABASE_URL", from)]).spawn().unwrap();
    let pipe: Stdio = export.stdout.take().unwrap().try_into().unwrap();
    let import = command(directory, ["import", "-"], &[("DATABASE_URL", to)]).stdin(pipe).spawn().unwrap();
    imported(end(import).await);
    end(export).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_events_are_the_same_on_every_engine() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let embedded = sqlite("log");
    let postgres = databases::fresh("EVENTS_DB_TEST_POSTGRES_URL", "million").await;
    let mariadb = databases::fresh("EVENTS_DB_TEST_MARIADB_URL", "million").await;
    fs::write(directory.join("made"), made(EVENTS)).unwrap();
    imported(run(directory, &["import", "made"], &[("DATABASE_URL", &embedded)]).await);
    fs::remove_file(directory.join("made")).unwrap();

    tokio::join!(piped(directory, &embedded, postgres.as_str()), async {
        imported(run(directory, &["import", "--from", &embedded], &[("DATABASE_URL", mariadb.as_str())]).await);
    });

    let urls = [embedded.as_str(), postgres.as_str(), mariadb.as_str()];
    let [mut first, mut second, mut third] = urls.map(|url| Export::start(directory, url));
    let mut count = 0;
    loop {
        let (line, of_postgres, of_mariadb) = tokio::join!(first.line(), second.line(), third.line());
        assert_eq!(of_postgres, line, "PostgreSQL, line {}", count + 1);
        assert_eq!(of_mariadb, line, "MariaDB, line {}", count + 1);
        if line.is_none() {
            break;
        }
        count += 1;
    }
    assert_eq!(count, EVENTS);
    for export in [first, second, third] {
        end(export.child).await.exits(0);
    }
}
