//! Debian's Redis, which the benchmark compares with: every write is in the synced file before its answer.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Prepared, free_port, server_folder};
use crate::command;

const USER: &str = "redis";

/// Makes an empty folder for Redis below `data`.
pub(super) fn prepare(data: &Path) -> Result<Prepared> {
    let folder = server_folder(data, "redis", USER)?;
    let port = free_port()?;
    let mut command = command::as_user(USER, command::require("redis-server")?);
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"])
        .arg(&folder)
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        // No copies of the whole data beside the log while it is measured.
        .args(["--save", "", "--auto-aof-rewrite-percentage", "0"])
        .current_dir(&folder);
    let mut ping = Command::new(command::require("redis-cli")?);
    // Fails where the answer is an error.
    ping.args(["-e", "-h", "127.0.0.1", "-p", &port.to_string(), "EVAL", "return redis.REDIS_VERSION", "0"]);
    Ok(Prepared {
        name: "Redis",
        variable: "EVENTS_DB_BENCH_REDIS_URL",
        url: format!("redis://127.0.0.1:{port}"),
        command,
        ping,
        log: data.join("redis.log"),
        stop: "KILL",
    })
}
