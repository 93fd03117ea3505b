//! The commands beside serving: the built binary, run and judged by what it prints and how it ends.

mod archives;
mod clients;
mod engines;
mod settings;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// How long a command may take, also one that moves a million events on a machine that others use.
const CEILING: Duration = Duration::from_mins(10);

/// What a command left behind.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    error: String,
}

impl Ended {
    /// What was printed, if the exit code is `code`.
    fn exits(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.out
    }

    /// The one line of the error, if the exit code is `code`.
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.error.lines().count(), 1, "{self:?}");
        assert!(self.error.starts_with("events-db: "), "{self:?}");
        self.error
    }
}

/// The binary in `directory`, with a clean environment; killed when dropped.
fn command<S: AsRef<OsStr>>(directory: &Path, args: impl IntoIterator<Item = S>, envs: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_events-db"));
    command.current_dir(directory).env_clear().envs(envs.iter().copied()).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs it to its end.
async fn run(directory: &Path, args: &[&str], envs: &[(&str, &str)]) -> Ended {
    end(command(directory, args, envs).spawn().unwrap()).await
}

/// Runs it to its end with `input`.
async fn run_with_input(directory: &Path, args: &[&str], envs: &[(&str, &str)], input: &str) -> Ended {
    let mut child = command(directory, args, envs).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that refuses a line does not read the rest.
    tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    end(child).await
}

async fn end(child: Child) -> Ended {
    let output = tokio::time::timeout(CEILING, child.wait_with_output()).await;
    let Output { status, stdout, stderr } = output.expect("the command does not end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), out: text(stdout), error: text(stderr) }
}

/// Sends a signal by name.
fn signal(child: &Child, name: &str) {
    let process = child.id().expect("the command has not ended").to_string();
    let status = std::process::Command::new("sh").args(["-c", &format!("kill -s {name} {process}")]).status().unwrap();
    assert!(status.success());
}
