//! The private servers of tests and benchmarks: fresh, on free ports, with the durability they have by default.

mod mariadb;
mod mysql;
mod nats;
mod postgres;
mod process;
mod redis;
mod umadb;

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::mysql_build::MysqlBuild;
use crate::servers::process::Server;
use crate::{Variable, command, interrupt};

/// What the administrator of each server logs in with; they listen on the loopback interface only.
const PASSWORD: &str = "events";

/// Room for every test at once, each with a pool of its own.
const CONNECTIONS_MAX: u32 = 500;

/// Running servers; dropping this ends them and removes their data.
pub(crate) struct Servers {
    servers: Vec<Server>,
    // Dropped after the servers, which write to it.
    _data: TempDir,
}

/// A server whose data folder is ready.
struct Prepared {
    name: &'static str,
    variable: &'static str,
    url: String,
    /// Starts the server in the foreground.
    command: Command,
    /// Logs in and prints the version.
    ping: Command,
    log: PathBuf,
    /// The signal that ends the server fast, without leaving shared memory behind.
    stop: &'static str,
}

impl Servers {
    /// Starts the databases, and with the program of `UmaDB` all that benchmarks compare with; they answer queries when
    /// this returns.
    ///
    /// # Errors
    /// When a server does not come up; the error shows its log.
    pub(crate) fn start(mysql: &MysqlBuild, umadb: Option<&Path>) -> Result<Self> {
        let data = tempfile::Builder::new()
            .prefix("events-db-tests-")
            // The servers run as users of their own, which must be able to get to their folders.
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot create a temporary folder")?;
        let mut prepared = thread::scope(|scope| {
            let preparing = [
                scope.spawn(|| mariadb::prepare(data.path())),
                scope.spawn(|| mysql::prepare(data.path(), mysql)),
                scope.spawn(|| postgres::prepare(data.path())),
            ];
            preparing.map(join).into_iter().collect::<Result<Vec<_>>>()
        })?;
        if let Some(umadb) = umadb {
            let data = data.path();
            prepared.extend([redis::prepare(data)?, nats::prepare(data)?, umadb::prepare(data, umadb)?]);
        }
        interrupt::check()?;
        // Not in those threads: a server dies with the thread that started it.
        let mut servers = prepared.into_iter().map(Server::spawn).collect::<Result<Vec<_>>>()?;
        for server in &mut servers {
            server.wait_until_ready()?;
        }
        Ok(Self { servers, _data: data })
    }

    /// The variables that tell where the servers are.
    pub(crate) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.servers.iter().map(Server::variable)
    }

    /// Fails if a server has ended, showing its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Server::check)
    }
}

fn join(preparing: ScopedJoinHandle<'_, Result<Prepared>>) -> Result<Prepared> {
    preparing.join().map_err(|_| anyhow!("preparing a server panicked"))?
}

/// Makes the folder `name` below `data` for a server that runs as `user`.
fn server_folder(data: &Path, name: &str, user: &str) -> Result<PathBuf> {
    let folder = data.join(name);
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    give(&folder, user)?;
    Ok(folder)
}

/// Writes a file that only `user` can read, as whom a server runs.
fn server_file(path: &Path, text: &str, user: &str) -> Result<()> {
    let write = || {
        fs::write(path, text)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    give(path, user)
}

/// Gives `path` to `user`, if this process may.
fn give(path: &Path, user: &str) -> Result<()> {
    if command::is_root() {
        chown(path, Some(id_of(user, "-u")?), Some(id_of(user, "-g")?))
            .with_context(|| format!("cannot give {} to {user}", path.display()))?;
    }
    Ok(())
}

fn id_of(user: &str, kind: &str) -> Result<u32> {
    let id = command::output(Command::new("id").args([kind, user]))?;
    id.trim().parse().with_context(|| format!("`id {kind} {user}` printed {id:?}"))
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// A command that logs in to a server of `MySQL`'s family and prints its version.
fn mysql_ping(port: u16) -> Result<Command> {
    let mut command = Command::new(command::require("mariadb")?);
    command
        .args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--user=root", "--connect-timeout=5"])
        .arg(format!("--port={port}"))
        .args(["--skip-column-names", "--batch", "--execute=SELECT VERSION()"])
        .env("MYSQL_PWD", PASSWORD);
    Ok(command)
}
