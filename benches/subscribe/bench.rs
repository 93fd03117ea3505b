//! A benchmark under way.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::arguments::{Arguments, Case};
use crate::progress::Progress;
use crate::results::{Figure, Results};
use crate::server::Server;
use crate::sizes::Sizes;
use crate::{Outcome, fan_out, idle, long_log, machine, many_subjects, replay};

/// How long a server may take to part from its readers.
const PARTED_WITHIN: Duration = Duration::from_secs(20);

/// What every case needs.
pub(crate) struct Bench<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) sizes: Sizes,
    pub(crate) runtime: Runtime,
    pub(crate) results: Results,
    folder: TempDir,
    progress: Progress,
    databases: u32,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(arguments: &'a Arguments) -> Outcome<Self> {
        let folder = match &arguments.data {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        };
        let steps = arguments.cases().into_iter().map(|case| match case {
            Case::Fanout => fan_out::CROWD_STEPS,
            Case::Redis => fan_out::REDIS_STEPS,
            Case::Lossless => 1,
            Case::Subjects => many_subjects::STEPS,
            Case::Idle => idle::STEPS,
            Case::Replay => replay::STEPS * arguments.engines.len() as u64,
            Case::Log => long_log::STEPS,
        });
        let progress = Progress::new(steps.sum::<u64>() * u64::from(arguments.rounds()));
        let mut results = Results { machine: machine::describe(folder.path())?, ..Results::default() };
        results.version("events-db", env!("CARGO_PKG_VERSION").to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sizes = arguments.sizes();
        Ok(Self { arguments, sizes, runtime, results, folder, progress, databases: 0 })
    }

    /// All cases are done.
    pub(crate) fn finish(self) -> Results {
        self.progress.finish();
        self.results
    }

    /// The numbers of the rounds, from 1.
    pub(crate) fn rounds(&self) -> impl Iterator<Item = u32> + use<> {
        1..=self.arguments.rounds()
    }

    /// The URL of a fresh database in a file.
    pub(crate) fn sqlite(&mut self) -> String {
        self.databases += 1;
        format!("sqlite://{}/{}.db", self.folder.path().display(), self.databases)
    }

    /// Starts the server that is measured on the database at `url`.
    pub(crate) fn start(&self, url: &str) -> Outcome<Server> {
        Server::start(&self.arguments.server, url)
    }

    /// One step of a round, which is counted and noted whether it succeeds or not.
    pub(crate) fn step(&mut self, name: &str, round: u32, run: impl FnOnce(&mut Self) -> Outcome<Vec<Figure>>) {
        self.progress.begin(format!("{name}, round {round} of {}", self.arguments.rounds()));
        thread::sleep(Duration::from_millis(self.sizes.pause_milliseconds));
        match run(self) {
            Ok(figures) => figures.into_iter().for_each(|figure| self.results.add(figure)),
            Err(error) => self.fail(name, &*error),
        }
        self.progress.end();
    }

    /// Notes what could not be measured.
    pub(crate) fn fail(&mut self, name: &str, error: &(dyn Error + Send + Sync)) {
        let failure = format!("{name}: {error}");
        self.progress.note(&failure);
        if !self.results.failures.contains(&failure) {
            self.results.failures.push(failure);
        }
    }

    /// Tells what is prepared.
    pub(crate) fn note(&self, line: &str) {
        self.progress.note(line);
    }
}

/// Waits until the server has closed what its readers have closed, so that the next run does not pay for it.
pub(crate) fn wait_parted(server: &Server, readers: u64) -> Outcome<()> {
    let deadline = Instant::now() + PARTED_WITHIN;
    let files = || Outcome::Ok(fs::read_dir(format!("/proc/{}/fd", server.id()))?.count() as u64);
    while files()? > readers.min(100) + 100 {
        if Instant::now() > deadline {
            return Err("the server does not part from readers who have left".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Where `server` listens.
pub(crate) fn address(server: &Server) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, server.port).into()
}
