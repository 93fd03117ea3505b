//! `UmaDB`, from what [`crate::umadb_build`] built, as it comes: every append is in the synced file before its answer.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Prepared, free_port, server_folder};
use crate::command;
use crate::umadb_build::VERSION;

/// The build is in our own cache, which other users may be unable to enter.
const USER: &str = "root";

/// A gRPC message without fields: not compressed, no bytes.
const EMPTY_MESSAGE: [u8; 5] = [0; 5];

/// Makes an empty folder for `UmaDB` below `data`.
pub(super) fn prepare(data: &Path, program: &Path) -> Result<Prepared> {
    let folder = server_folder(data, "umadb", USER)?;
    let port = free_port()?;
    let mut command = command::as_user(USER, program);
    command
        .args(["--listen", &format!("127.0.0.1:{port}"), "--db-path"])
        .arg(folder.join("events.db"))
        .current_dir(&folder);
    let question = folder.join("question");
    fs::write(&question, EMPTY_MESSAGE).with_context(|| format!("cannot write {}", question.display()))?;
    let mut ping = Command::new(command::require("curl")?);
    ping.args(["--fail", "--silent", "--show-error", "--max-time", "5", "--http2-prior-knowledge"])
        .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
        .args(["--output", "/dev/null", "--write-out", VERSION, "--data-binary"])
        .arg(format!("@{}", question.display()))
        .arg(format!("http://127.0.0.1:{port}/umadb.v1.DCB/Head"));
    Ok(Prepared {
        name: "UmaDB",
        variable: "EVENTS_DB_BENCH_UMADB_URL",
        url: format!("http://127.0.0.1:{port}"),
        command,
        ping,
        log: data.join("umadb.log"),
        stop: "KILL",
    })
}
