//! Debian's NATS with `JetStream`, which the benchmark compares with.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Prepared, free_port, server_folder};
use crate::command;

const USER: &str = "nats";

/// Makes an empty folder for NATS below `data`.
pub(super) fn prepare(data: &Path) -> Result<Prepared> {
    let folder = server_folder(data, "nats", USER)?;
    let (port, monitor) = (free_port()?, free_port()?);
    let mut command = command::as_user(USER, command::require("nats-server")?);
    command
        .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--http_port", &monitor.to_string()])
        .args(["--jetstream", "--store_dir"])
        .arg(&folder)
        .current_dir(&folder);
    let mut ping = Command::new(command::require("curl")?);
    ping.args(["--fail", "--silent", "--show-error", "--max-time", "5"])
        .arg(format!("http://127.0.0.1:{monitor}/healthz"));
    Ok(Prepared {
        name: "NATS",
        variable: "EVENTS_DB_BENCH_NATS_URL",
        url: format!("nats://127.0.0.1:{port}"),
        command,
        ping,
        log: data.join("nats.log"),
        stop: "KILL",
    })
}
