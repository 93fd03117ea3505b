//! A real `MySQL`, from the packages that [`crate::mysql_build`] unpacked.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{CONNECTIONS_MAX, PASSWORD, Prepared, free_port, mysql_ping, server_folder};
use crate::command::{self, path_option};
use crate::mysql_build::MysqlBuild;

/// The build is in our own cache, which other users may be unable to enter.
const USER: &str = "root";

/// Makes a fresh data folder for `MySQL` below `data`.
pub(super) fn prepare(data: &Path, mysql: &MysqlBuild) -> Result<Prepared> {
    let folder = server_folder(data, "mysql", USER)?;
    let tables = folder.join("data");
    let mut initialize = command::as_user(USER, mysql.loader());
    mysql
        .start(&mut initialize)
        .arg(path_option("--datadir", &tables))
        .args(["--initialize-insecure", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0"])
        .current_dir(&folder);
    let mut command = command::as_user(USER, mysql.loader());
    mysql.start(&mut command);
    if command::is_root() {
        initialize.arg("--user=root");
        command.arg("--user=root");
    }
    command::output(&mut initialize)?;
    // Run at the start, before the first client: the initialization made a local user without a password.
    let users = folder.join("users.sql");
    let statements = format!(
        "CREATE USER 'root'@'%' IDENTIFIED WITH caching_sha2_password BY '{PASSWORD}';\n\
         GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;\n\
         ALTER USER 'root'@'localhost' IDENTIFIED WITH caching_sha2_password BY '{PASSWORD}';\n"
    );
    fs::write(&users, statements).with_context(|| format!("cannot write {}", users.display()))?;
    let port = free_port()?;
    command
        .arg(path_option("--datadir", &tables))
        .arg(path_option("--tmpdir", &folder))
        .arg(path_option("--socket", &folder.join("socket")))
        .arg(path_option("--pid-file", &folder.join("pid")))
        .arg(path_option("--init-file", &users))
        .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--mysqlx=0"])
        .arg(format!("--port={port}"))
        .arg(format!("--max-connections={CONNECTIONS_MAX}"))
        .current_dir(&folder);
    Ok(Prepared {
        name: "MySQL",
        variable: "EVENTS_DB_TEST_MYSQL_URL",
        url: format!("mysql://root:{PASSWORD}@127.0.0.1:{port}/"),
        command,
        ping: mysql_ping(port)?,
        log: data.join("mysql.log"),
        stop: "KILL",
    })
}
