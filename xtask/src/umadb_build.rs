//! `UmaDB`, which the benchmark compares with: built from crates.io, with a lock file and TLS of its own.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::{cargo, command};

/// What is compared with.
pub(crate) const VERSION: &str = "0.7.8";

/// Finds the server in `cache`, or builds it, which takes some minutes.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn ensure(cache: &Cache) -> Result<PathBuf> {
    let root = cache.folder(&format!("umadb-{VERSION}"), |folder| {
        eprintln!("xtask: building UmaDB {VERSION} into the cache");
        let build = folder.join("build");
        let mut install = cargo::cargo("install")?;
        install.args(["umadb", "--version", VERSION, "--locked", "--root"]).arg(folder);
        install.arg("--target-dir").arg(&build).env("PROTOC", command::require("protoc")?);
        command::output(&mut install).context("cannot build UmaDB")?;
        Ok(fs::remove_dir_all(build)?)
    })?;
    Ok(root.join("bin/umadb"))
}
