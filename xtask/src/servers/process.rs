//! One running server: started, watched, ended.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::servers::Prepared;
use crate::{Variable, command, interrupt};

/// A healthy start takes a second or two; a loaded machine may need much more.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// What a server may take to end before it is killed; its data is thrown away in any case.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Enough of a log to hold the reason of a failed start.
const LOG_LINES_SHOWN: usize = 40;

/// A running server; dropping it ends it.
pub(super) struct Server {
    prepared: Prepared,
    child: Child,
}

impl Server {
    /// Starts a server. It dies with this thread, whatever kills it.
    pub(super) fn spawn(mut prepared: Prepared) -> Result<Self> {
        let log = File::create(&prepared.log).with_context(|| format!("cannot create {}", prepared.log.display()))?;
        let command = &mut prepared.command;
        // A group of its own: Ctrl-C in a terminal must not end it under the tests that use it.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot run `{}`", command::line(command)))?;
        Ok(Self { prepared, child })
    }

    /// Waits until a client can log in, and says which version answered.
    ///
    /// # Errors
    /// When the server ends or takes longer than [`READY_WITHIN`]; the error shows its log.
    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let version = loop {
            interrupt::check()?;
            self.check()?;
            let ping = &mut self.prepared.ping;
            let answer = ping.output().with_context(|| format!("cannot run `{}`", command::line(ping)))?;
            if answer.status.success() {
                break String::from_utf8_lossy(&answer.stdout).trim().to_owned();
            }
            if Instant::now() > deadline {
                let last = String::from_utf8_lossy(&answer.stderr);
                bail!("{} does not answer: {last}{}", self.prepared.name, self.log_tail());
            }
            thread::sleep(Duration::from_millis(50));
        };
        eprintln!("xtask: {} is ready: {version}", self.prepared.name);
        Ok(())
    }

    /// Fails if the server has ended, showing its log.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}{}", self.prepared.name, self.log_tail());
        }
        Ok(())
    }

    /// The variable that tells where this server is.
    pub(super) fn variable(&self) -> Variable {
        (self.prepared.variable, self.prepared.url.clone().into())
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.prepared.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        format!("; the end of its log:\n{}", shown.join("\n"))
    }

    fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended() {
            return;
        }
        command::signal(self.prepared.stop, &self.child.id().to_string());
        let deadline = Instant::now() + STOP_WITHIN;
        while !self.ended() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        if !self.ended() && self.child.kill().is_ok() {
            let _ = self.child.wait();
        }
    }
}
