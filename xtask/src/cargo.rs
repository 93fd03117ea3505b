//! The steps of `test`, `bench` and `check`, each a run of cargo.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::environment::{Environment, Purpose};
use crate::{Benchmark, command, interrupt};

/// What an interrupted run may take to end before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How a step ended: `Ok`, or the exit code of the step that failed.
pub(crate) type Outcome = std::result::Result<(), u8>;

/// Runs the tests with everything they need around them.
///
/// # Errors
/// When the surroundings cannot be made or a server died while the tests ran.
pub(crate) fn test(arguments: &[OsString]) -> Result<Outcome> {
    let mut environment = Environment::start(Purpose::Tests)?;
    let selects = |argument: &OsString| ["-p", "--package", "--workspace"].iter().any(|option| argument == option);
    let all = if arguments.iter().any(selects) { None } else { Some("--workspace") };
    if let Err(code) = run(cargo("test")?.args(all).arg("--no-run").args(arguments))? {
        return Ok(Err(code));
    }
    // A flush waits for all that was written before it, which after a build is gigabytes; no test is about that.
    command::output(&mut Command::new("sync"))?;
    let outcome = run(cargo("test")?.args(all).args(arguments).envs(environment.variables()))?;
    environment.check().context("a server of the tests has ended")?;
    Ok(outcome)
}

/// Measures against the raw databases and other logs, with every server started for it.
///
/// # Errors
/// As [`test()`].
pub(crate) fn bench(benchmark: Benchmark, arguments: &[OsString]) -> Result<Outcome> {
    let name = match benchmark {
        Benchmark::Append => "append",
        Benchmark::Subscribe => "subscribe",
    };
    // First, so that compiling leaves nothing to write back while something is measured.
    if let Err(code) = run(cargo("bench")?.args(["--bench", name, "--no-run"]))? {
        return Ok(Err(code));
    }
    let mut environment = Environment::start(Purpose::Benchmarks)?;
    let mut cargo = cargo("bench")?;
    cargo.args(["--bench", name, "--"]).args(arguments).envs(environment.variables());
    let outcome = run(&mut cargo)?;
    environment.check().context("a server of the benchmark has ended")?;
    Ok(outcome)
}

/// Draws the dashboard of a Prometheus that watches a loaded server.
///
/// # Errors
/// As [`test()`].
pub(crate) fn dashboard() -> Result<Outcome> {
    let drawing = ["--test", "blackbox", "watch::picture", "--", "--ignored", "--nocapture"];
    test(&drawing.map(OsString::from))
}

/// Runs all that a change must pass, up to the first failure.
///
/// # Errors
/// As [`test()`], or when cargo cannot be run.
pub(crate) fn check() -> Result<Outcome> {
    component("fmt", "rustfmt")?;
    component("clippy", "clippy")?;
    let steps: [fn() -> Result<Outcome>; 4] = [
        || run(cargo("fmt")?.args(["--all", "--check"])),
        || run(cargo("clippy")?.args(["--workspace", "--all-targets", "--", "-D", "warnings"])),
        || test(&[]),
        || run(cargo("doc")?.args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings")),
    ];
    for step in steps {
        if let Err(code) = step()? {
            return Ok(Err(code));
        }
    }
    Ok(Ok(()))
}

/// The root of the workspace.
pub(crate) fn workspace() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let package = PathBuf::from(package);
    Ok(package.parent().context("xtask is a folder of the workspace")?.to_owned())
}

/// Cargo in the workspace, as if it were not this package that started it.
pub(crate) fn cargo(subcommand: &str) -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(workspace()?);
    // What `cargo run` says about this package: ring's build script looks at it, and would be run again whenever cargo
    // is started by another hand, and with it everything that uses TLS.
    for (name, _) in env::vars_os() {
        let about_us = ["CARGO_MANIFEST_", "CARGO_PKG_"];
        if about_us.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Adds a part of the toolchain that a minimal installation leaves out.
fn component(subcommand: &str, component: &str) -> Result<()> {
    if command::succeeds(cargo(subcommand)?.arg("--version")) {
        return Ok(());
    }
    eprintln!("xtask: installing the toolchain component {component}");
    let missing = || format!("`cargo {subcommand}` does not work, and {component} cannot be added");
    command::output(Command::new("rustup").args(["component", "add", component])).with_context(missing)?;
    Ok(())
}

/// Runs a step to its end, passing on a signal that asks us to end.
fn run(command: &mut Command) -> Result<Outcome> {
    let line = command::line(command);
    eprintln!("xtask: running {line}");
    // A group of its own, so that one signal reaches cargo, the tests and what they started.
    let child = command.process_group(0).stdin(Stdio::null()).spawn();
    let mut group = Group(child.with_context(|| format!("cannot run `{line}`"))?);
    loop {
        if let Some(status) = group.0.try_wait()? {
            if status.success() {
                return Ok(Ok(()));
            }
            eprintln!("xtask: `{line}` failed with {status}");
            return Ok(Err(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)));
        }
        if interrupt::requested() {
            drop(group);
            bail!("interrupted");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A running process group; dropping it ends the group if its leader still runs.
struct Group(Child);

impl Group {
    fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let target = format!("-{}", self.0.id());
        if self.ended() {
            return;
        }
        command::signal("TERM", &target);
        let deadline = Instant::now() + STOP_WITHIN;
        while !self.ended() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        // Also when the leader has ended: a test that ignores the signal is still in the group.
        command::signal("KILL", &target);
        let _ = self.0.wait();
    }
}
