//! Everything tests and benchmarks need around them: programs, client libraries and running servers.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::cache::Cache;
use crate::mysql_build::MysqlBuild;
use crate::servers::Servers;
use crate::{Variable, interrupt, packages, tools, umadb_build};

/// What is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Tests: database servers, and clients that prove that others can talk to us.
    Tests,
    /// Benchmarks: database servers, and the logs we are compared with.
    Benchmarks,
}

/// What the tests or the benchmarks need; dropping it ends the servers.
pub(crate) struct Environment {
    servers: Servers,
    tools: Vec<Variable>,
}

impl Environment {
    /// Installs what is missing and starts the servers.
    ///
    /// # Errors
    /// When something cannot be installed or started; nothing is skipped.
    pub(crate) fn start(purpose: Purpose) -> Result<Self> {
        let cache = Cache::open()?;
        packages::ensure()?;
        let mysql = MysqlBuild::ensure(&cache)?;
        let (tools, umadb) = match purpose {
            Purpose::Tests => (tools::ensure(&cache)?, None),
            Purpose::Benchmarks => {
                let version = ("EVENTS_DB_BENCH_UMADB_VERSION", umadb_build::VERSION.into());
                (vec![version], Some(umadb_build::ensure(&cache)?))
            }
        };
        drop(cache);
        Ok(Self { servers: Servers::start(&mysql, umadb.as_deref())?, tools })
    }

    /// The variables that tell where to find everything.
    pub(crate) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.servers.variables().chain(self.tools.iter().cloned())
    }

    /// Fails if a server has ended, showing its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.servers.check()
    }
}

/// Prints the variables and keeps the servers running until a signal comes.
pub(crate) fn serve() -> Result<()> {
    let mut environment = Environment::start(Purpose::Tests)?;
    for (name, value) in environment.variables() {
        println!("export {name}='{}'", value.to_string_lossy());
    }
    eprintln!("xtask: the servers run until Ctrl-C");
    while !interrupt::requested() {
        environment.check()?;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
