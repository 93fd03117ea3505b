//! Debian's `MariaDB`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{CONNECTIONS_MAX, PASSWORD, Prepared, free_port, mysql_ping, server_folder};
use crate::command::{self, path_option};

const USER: &str = "mysql";

/// Makes a fresh data folder for `MariaDB` below `data`.
pub(super) fn prepare(data: &Path) -> Result<Prepared> {
    let folder = server_folder(data, "mariadb", USER)?;
    let tables = folder.join("data");
    command::output(
        command::as_user(USER, command::require("mariadb-install-db")?)
            .arg("--no-defaults")
            .arg(path_option("--datadir", &tables))
            // Not the machine's: a MariaDB that starts there removes the temporary tables of others.
            .arg(path_option("--tmpdir", &folder))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
            .env("HOME", &folder)
            .current_dir(&folder),
    )?;
    // Run at every start, before the first client: the installation made local users without a password.
    let users = folder.join("users.sql");
    let statements = format!(
        "CREATE USER 'root'@'%' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;\n\
         ALTER USER IF EXISTS 'root'@'localhost' IDENTIFIED BY '{PASSWORD}';\n\
         ALTER USER IF EXISTS 'root'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
    );
    fs::write(&users, statements).with_context(|| format!("cannot write {}", users.display()))?;
    let port = free_port()?;
    let mut command = command::as_user(USER, command::require("mariadbd")?);
    command
        .arg("--no-defaults")
        .arg(path_option("--datadir", &tables))
        .arg(path_option("--tmpdir", &folder))
        .arg(path_option("--socket", &folder.join("socket")))
        .arg(path_option("--pid-file", &folder.join("pid")))
        .arg(path_option("--init-file", &users))
        .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
        .arg(format!("--port={port}"))
        .arg(format!("--max-connections={CONNECTIONS_MAX}"))
        .current_dir(&folder);
    Ok(Prepared {
        name: "MariaDB",
        variable: "EVENTS_DB_TEST_MARIADB_URL",
        url: format!("mysql://root:{PASSWORD}@127.0.0.1:{port}/"),
        command,
        ping: mysql_ping(port)?,
        log: data.join("mariadb.log"),
        stop: "KILL",
    })
}
