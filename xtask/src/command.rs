//! Running other programs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// Where Debian keeps programs that a user's `PATH` may leave out.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/usr/bin", "/bin"];

/// Runs `command` to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails; the error shows the command line and everything the command said.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let finished = command.output().with_context(|| format!("cannot run `{}`", line(command)))?;
    interrupt::check()?;
    let stdout = String::from_utf8_lossy(&finished.stdout).into_owned();
    if !finished.status.success() {
        let stderr = String::from_utf8_lossy(&finished.stderr);
        bail!("`{}` failed with {}:\n{stdout}{stderr}", line(command), finished.status);
    }
    Ok(stdout)
}

/// Whether `command` can be started and succeeds; it must be one that asks and changes nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command line as one would type it, for messages.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A command that runs as root: directly if we are, else through sudo.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// A command that runs as `user` if we are root, else as ourselves.
///
/// The kernel kills it when the thread that started it ends, so that even a killed xtask leaves nothing behind.
pub(crate) fn as_user(user: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", user, "--regid", user, "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The first executable called `name` on `PATH` or in the system's folders.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

/// Like [`find`], for a program that has to be there by now.
///
/// # Errors
/// When it is not.
pub(crate) fn require(name: &str) -> Result<PathBuf> {
    find(name).with_context(|| format!("the program `{name}` is missing"))
}

/// `name=path` as one argument.
pub(crate) fn path_option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push("=");
    option.push(path);
    option
}

/// Sends a signal with the shell's own `kill`: the program of that name is not on every machine.
pub(crate) fn signal(name: &str, target: &str) -> bool {
    succeeds(Command::new("sh").args(["-c", &format!("kill -s {name} -- {target}")]))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}
