//! Debian packages the tests and benchmarks need: looked for by the programs they bring, installed when one is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, tools};

/// Debian's hook that says which services a package may start; exit code 101 means none.
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// Debian's keys, which prove that a downloaded package is Debian's.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The certificate authorities this machine trusts, with those its owner added.
pub(crate) const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Installs the packages that are missing, those of which something we use is not there.
///
/// # Errors
/// When apt-get fails; the error carries its output.
pub(crate) fn ensure() -> Result<()> {
    let found = |name| command::find(name).is_some();
    let packages = [
        ("ca-certificates", Path::new(AUTHORITIES).exists()),
        ("chromium", found("chromium")),
        ("curl", found("curl")),
        ("debian-archive-keyring", Path::new(KEYRING).exists()),
        ("haproxy", found("haproxy")),
        ("mariadb-server", ["mariadbd", "mariadb-install-db", "mariadb"].into_iter().all(found)),
        ("nats-server", found("nats-server")),
        ("nginx-light", found("nginx")),
        ("nodejs", found("node")),
        ("npm", found("npm")),
        ("postgresql", postgres_programs().is_some()),
        ("prometheus", found("prometheus") && found("promtool")),
        ("protobuf-compiler", found("protoc")),
        ("python3-venv", tools::python().is_some()),
        ("redis-server", found("redis-server") && found("redis-cli")),
        ("util-linux", found("setpriv")),
    ];
    let missing: Vec<&str> = packages.iter().filter(|(_, present)| !present).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if command::find("apt-get").is_none() {
        bail!("missing {}, and there is no apt-get to install it with", missing.join(" "));
    }
    eprintln!("xtask: installing Debian packages: {}", missing.join(" "));
    let failed = || format!("cannot install the Debian packages {}", missing.join(" "));
    command::output(apt_get().arg("update")).with_context(failed)?;
    let _quiet = QuietServices::begin()?;
    command::output(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing))
        .with_context(failed)?;
    Ok(())
}

/// The folder with the programs of the newest `PostgreSQL` that Debian has installed.
pub(crate) fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse::<u32>().ok()?, version.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").exists() && programs.join("postgres").exists())
        .max()
        .map(|(_, programs)| programs)
}

fn apt_get() -> Command {
    let mut command = command::as_root("env");
    // Another package manager may be at work, as on a machine that has just booted: wait for it.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// Keeps packages from starting their services, which would be of no use and in the way.
struct QuietServices {
    ours: bool,
}

impl QuietServices {
    fn begin() -> Result<Self> {
        // A policy that is there already is the machine's owner's; a service it lets start does no harm here.
        let ours = !Path::new(SERVICE_POLICY).exists();
        if ours {
            let script = format!(r"printf '#!/bin/sh\nexit 101\n' > {SERVICE_POLICY} && chmod 755 {SERVICE_POLICY}");
            command::output(command::as_root("sh").args(["-c", &script]))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for QuietServices {
    fn drop(&mut self) {
        if self.ours && !command::succeeds(command::as_root("rm").args(["-f", SERVICE_POLICY])) {
            eprintln!("xtask: cannot remove {SERVICE_POLICY}; remove it by hand");
        }
    }
}
