//! Debian's `PostgreSQL`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{CONNECTIONS_MAX, PASSWORD, Prepared, free_port, server_file, server_folder};
use crate::{command, packages};

const USER: &str = "postgres";

/// Makes a fresh data folder for `PostgreSQL` below `data`.
pub(super) fn prepare(data: &Path) -> Result<Prepared> {
    let programs = packages::postgres_programs().context("PostgreSQL's programs are missing")?;
    let folder = server_folder(data, "postgres", USER)?;
    let tables = folder.join("data");
    let password = data.join("postgres.password");
    fs::write(&password, PASSWORD).with_context(|| format!("cannot write {}", password.display()))?;
    command::output(
        command::as_user(USER, programs.join("initdb"))
            .arg("--pgdata")
            .arg(&tables)
            .arg("--pwfile")
            .arg(&password)
            .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .current_dir(&folder),
    )?;
    // With TLS, as `MySQL` has by default: what a client writes in several records takes another way there.
    let certificate =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).context("cannot make a certificate")?;
    server_file(&tables.join("server.crt"), &certificate.cert.pem(), USER)?;
    server_file(&tables.join("server.key"), &certificate.signing_key.serialize_pem(), USER)?;
    let port = free_port()?;
    let mut command = command::as_user(USER, programs.join("postgres"));
    command
        .arg("-D")
        .arg(&tables)
        .arg("-k")
        .arg(&folder)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-N", &CONNECTIONS_MAX.to_string(), "-c", "ssl=on"])
        .current_dir(&folder);
    let url = format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/postgres");
    let mut ping = Command::new(programs.join("psql"));
    ping.args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align"])
        .args(["--command", "SELECT version()", "--dbname", &url])
        .env("PGCONNECT_TIMEOUT", "5");
    Ok(Prepared {
        name: "PostgreSQL",
        variable: "EVENTS_DB_TEST_POSTGRES_URL",
        url,
        command,
        ping,
        log: data.join("postgres.log"),
        stop: "QUIT",
    })
}
