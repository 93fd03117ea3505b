//! A real `MySQL` for Debian 12, which has only `MariaDB`: the packages of Debian sid, unpacked into a folder.
//!
//! A private apt downloads `mysql-server-core` with all it depends on, down to the C library, and the server is started
//! through that library's own loader. Nothing is installed on the machine and nothing of it needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::command::{self, path_option};
use crate::packages::KEYRING;

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// The unpacked `MySQL` server.
pub(crate) struct MysqlBuild {
    root: PathBuf,
    loader: PathBuf,
    libraries: PathBuf,
}

impl MysqlBuild {
    /// Finds `MySQL` in `cache`, or downloads it.
    ///
    /// # Errors
    /// When a download fails or the packages do not hold what we expect.
    pub(crate) fn ensure(cache: &Cache) -> Result<Self> {
        let root = cache.folder("mysql-sid", |folder| {
            eprintln!("xtask: installing MySQL from Debian sid into the cache");
            unpack(folder).context("cannot install MySQL from Debian sid")
        })?;
        let loader = find_below(&root.join("usr"), "lib", "ld-linux").context("MySQL's packages hold no loader")?;
        let libraries = loader.parent().context("the loader is in a folder")?.to_owned();
        Ok(Self { root, loader, libraries })
    }

    /// Adds the words that start `mysqld` to `command`.
    pub(crate) fn start<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let share = self.root.join("usr/share/mysql");
        command
            .arg("--library-path")
            .arg(&self.libraries)
            .arg(self.root.join("usr/sbin/mysqld"))
            .arg("--no-defaults")
            // The folder for file exports that Debian compiled in is not there.
            .arg("--secure-file-priv=NULL")
            .arg(path_option("--basedir", &self.root.join("usr")))
            .arg(path_option("--lc-messages-dir", &share))
            .arg(path_option("--character-sets-dir", &share.join("charsets")))
            .arg(path_option("--plugin-dir", &self.root.join("usr/lib/mysql/plugin")))
    }

    /// The program that loads `mysqld`.
    pub(crate) fn loader(&self) -> &Path {
        &self.loader
    }
}

/// Downloads and unpacks the packages below `root`.
fn unpack(root: &Path) -> Result<()> {
    let apt = root.join("apt");
    let archives = apt.join("cache/archives");
    fs::create_dir_all(apt.join("state/lists/partial"))?;
    fs::create_dir_all(archives.join("partial"))?;
    // With an empty list of installed packages, apt fetches the C library too.
    fs::write(apt.join("status"), "")?;
    let source = format!("deb [signed-by={KEYRING}] {} sid main\n", mirror()?);
    fs::write(apt.join("sources.list"), source)?;
    command::output(private_apt(&apt).arg("update"))?;
    command::output(private_apt(&apt).args(["install", "--yes", "--download-only", "mysql-server-core"]))?;
    for archive in fs::read_dir(&archives)? {
        let archive = archive?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            command::output(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(root))?;
        }
    }
    fs::remove_dir_all(&apt)?;
    Ok(())
}

/// An apt-get that keeps everything below `folder`, with the machine's own proxy settings.
fn private_apt(folder: &Path) -> Command {
    let mut command = Command::new("apt-get");
    let folders = [
        ("Dir::Etc::sourcelist", folder.join("sources.list")),
        ("Dir::Etc::sourceparts", "/dev/null".into()),
        ("Dir::Etc::preferences", "/dev/null".into()),
        ("Dir::Etc::preferencesparts", "/dev/null".into()),
        ("Dir::State", folder.join("state")),
        ("Dir::State::status", folder.join("status")),
        ("Dir::Cache", folder.join("cache")),
        ("Dir::Log", folder.to_owned()),
    ];
    command.arg("-q");
    for (option, path) in folders {
        command.arg("-o").arg(path_option(option, &path));
    }
    let settings = [
        // apt's download user cannot enter root's home folder.
        "APT::Sandbox::User=root",
        "APT::Install-Recommends=false",
        "Acquire::Languages=none",
        // A mirror that lags behind is good enough here; the signatures are checked all the same.
        "Acquire::Check-Valid-Until=false",
    ];
    for setting in settings {
        command.args(["-o", setting]);
    }
    command
}

/// The mirror this machine gets Debian from.
fn mirror() -> Result<String> {
    let targets = command::output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
    let mirror = targets.lines().find(|uri| uri.trim_end_matches('/').ends_with("/debian"));
    Ok(mirror.unwrap_or(DEFAULT_MIRROR).trim_end_matches('/').to_owned())
}

/// The file `folder/<name>*/**/<start>*`, one folder down: Debian's library folders carry the machine's architecture.
fn find_below(folder: &Path, name: &str, start: &str) -> Option<PathBuf> {
    let architectures = fs::read_dir(folder.join(name)).ok()?.filter_map(Result::ok);
    architectures
        .filter_map(|architecture| fs::read_dir(architecture.path()).ok())
        .flat_map(|files| files.filter_map(Result::ok))
        .find(|file| file.file_name().to_string_lossy().starts_with(start))
        .map(|file| file.path())
}
