//! A database server of one test alone, which may be killed.

use std::fs::{OpenOptions, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::commit_proxy::Engine;
use crate::harness::{CEILING, tool};
use crate::seeded::Random;

const PASSWORD: &str = "events";

/// Ports that the system gives nobody by itself: ours must be free again after each kill.
const PORTS: std::ops::Range<u64> = 20_000..30_000;

/// A running server. It dies with the thread that started it.
pub struct PrivateDatabase {
    engine: Engine,
    folder: TempDir,
    port: u16,
    process: Child,
}

impl PrivateDatabase {
    /// Makes and starts a server; it may not answer yet.
    pub fn start(engine: Engine, random: &mut Random) -> Self {
        // The server may run as a user of its own, which must get to its folder.
        let permissions = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("events-db-test-").permissions(permissions).tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg(user(engine)).arg(folder.path()));
        }
        match engine {
            Engine::MySql => install_mariadb(folder.path()),
            Engine::Postgres => install_postgres(folder.path()),
        }
        let port = free_port(random);
        let process = spawn(engine, folder.path(), port);
        Self { engine, folder, port, process }
    }

    pub fn url(&self) -> String {
        match self.engine {
            Engine::MySql => format!("mysql://root:{PASSWORD}@127.0.0.1:{}/events", self.port),
            Engine::Postgres => format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/postgres", self.port),
        }
    }

    /// Kills the server with all its processes, and starts it again over the same files.
    pub fn kill_and_restart(&mut self) {
        assert!(self.process.try_wait().unwrap().is_none(), "the database ended by itself:\n{}", self.log());
        let main = self.process.id();
        // Stopped, it makes no new process while the others are looked for.
        signal("STOP", &main.to_string());
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap();
        signal("KILL", &format!("{main} {children}"));
        self.process.wait().unwrap();
        // PostgreSQL does not start while a process of its last run still holds shared memory.
        let killed = Instant::now();
        while children.split_whitespace().any(is_running) {
            assert!(killed.elapsed() < CEILING, "a process of the database does not end: {children}");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.process = spawn(self.engine, self.folder.path(), self.port);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.folder.path())).unwrap_or_default()
    }
}

impl Drop for PrivateDatabase {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the database's log:\n{}", self.log());
        }
        // PostgreSQL would leave shared memory behind if it was killed.
        let (name, started) = (if self.engine == Engine::Postgres { "QUIT" } else { "KILL" }, Instant::now());
        signal(name, &self.process.id().to_string());
        while matches!(self.process.try_wait(), Ok(None)) && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _already_gone = self.process.kill();
    }
}

fn spawn(engine: Engine, folder: &Path, port: u16) -> Child {
    let mut command = match engine {
        Engine::MySql => mariadb(folder, port),
        Engine::Postgres => postgres(folder, port),
    };
    let log = OpenOptions::new().create(true).append(true).open(log_file(folder)).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn install_mariadb(folder: &Path) {
    let mut install = program(Engine::MySql, tool("EVENTS_DB_TEST_MARIADB_INSTALL_DB"));
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    run(install.arg(format!("--datadir={}", folder.join("data").display())).env("HOME", folder).current_dir(folder));
    // Run at every start, before the first client.
    let users = format!(
        "CREATE DATABASE IF NOT EXISTS events;\n\
         ALTER USER 'root'@'localhost' IDENTIFIED BY '{PASSWORD}';\n\
         CREATE OR REPLACE USER 'root'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1';\n"
    );
    std::fs::write(folder.join("users.sql"), users).unwrap();
}

fn mariadb(folder: &Path, port: u16) -> Command {
    let mut command = program(Engine::MySql, tool("EVENTS_DB_TEST_MARIADBD"));
    command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
    for (option, file) in
        [("datadir", "data"), ("tmpdir", ""), ("socket", "socket"), ("pid-file", "pid"), ("init-file", "users.sql")]
    {
        command.arg(format!("--{option}={}", folder.join(file).display()));
    }
    // Small files and memory make a short start, nothing else.
    command.args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=16M", "--performance-schema=off"]);
    command.arg(format!("--port={port}")).current_dir(folder);
    command
}

fn install_postgres(folder: &Path) {
    let password = folder.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mut install = program(Engine::Postgres, postgres_program("initdb"));
    install.args(["--username=postgres", "--auth=password", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
    run(install.arg("--pgdata").arg(folder.join("data")).arg("--pwfile").arg(&password).current_dir(folder));
}

fn postgres(folder: &Path, port: u16) -> Command {
    let mut command = program(Engine::Postgres, postgres_program("postgres"));
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).current_dir(folder);
    command
}

fn postgres_program(name: &str) -> PathBuf {
    Path::new(&tool("EVENTS_DB_TEST_POSTGRES_PROGRAMS")).join(name)
}

/// A command that runs as the engine's user if we are root, and ends with the thread that starts it.
fn program(engine: Engine, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(tool("EVENTS_DB_TEST_SETPRIV"));
    if is_root() {
        command.args(["--reuid", user(engine), "--regid", user(engine), "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// The user that Debian's package of the engine has made.
fn user(engine: Engine) -> &'static str {
    match engine {
        Engine::MySql => "mysql",
        Engine::Postgres => "postgres",
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn signal(name: &str, processes: &str) {
    // The program `kill` is not on every machine. A process that is gone is as good as one that is killed.
    Command::new("sh").args(["-c", &format!("kill -s {name} {processes}")]).stderr(Stdio::null()).status().unwrap();
}

/// Whether a process of PostgreSQL has this number, and is more than a remainder for its parent to look at.
fn is_running(process: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.contains("(postgres)") && !state.contains(") Z ")
}

/// A port that is free now, and that the system gives to nobody by itself.
pub fn free_port(random: &mut Random) -> u16 {
    loop {
        let port = u16::try_from(PORTS.start + random.below(PORTS.end - PORTS.start)).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}
