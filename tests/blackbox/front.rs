//! The proxies of `deploy/proxies` in front of servers that were started here.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use reqwest::Client;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::harness::{CEILING, tool};
use crate::load::PAUSE;
use crate::private_database::free_port;
use crate::seeded::Random;
use crate::transport::write_certificate;

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Clear text.
    HaProxy,
    /// TLS, since this version of nginx has one version of HTTP for a port in clear text.
    Nginx,
}

/// A running proxy; killed when dropped.
pub struct Front {
    process: Child,
    folder: TempDir,
    pub url: String,
    certificate: Option<String>,
}

impl Front {
    /// Starts the proxy by its published file, with nothing else in it than ports and places of files, and waits until a
    /// replica answers through it.
    pub async fn start(kind: Kind, replicas: &[u16], random: &mut Random) -> Self {
        // Processes of nginx that are not root's must get there too.
        let permissions = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir().unwrap();
        let port = free_port(random);
        let (program, file, scheme) = match kind {
            Kind::HaProxy => ("EVENTS_DB_TEST_HAPROXY", "haproxy.cfg", "http"),
            Kind::Nginx => ("EVENTS_DB_TEST_NGINX", "nginx.conf", "https"),
        };
        let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/proxies").join(file);
        let text = with_replicas(&fs::read_to_string(published).unwrap(), replicas);
        let here = folder.path().to_str().unwrap();
        let certificate = (kind == Kind::Nginx).then(|| write_certificate(folder.path(), "localhost"));
        let text = match kind {
            Kind::HaProxy => replaced(&text, &[("127.0.0.1:8000", &format!("127.0.0.1:{port}"))]),
            Kind::Nginx => replaced(
                &text,
                &[
                    ("127.0.0.1:8443", &format!("127.0.0.1:{port}")),
                    ("/etc/events-db/tls.crt", &format!("{here}/cert.pem")),
                    ("/etc/events-db/tls.key", &format!("{here}/key.pem")),
                    ("/run/events-db-nginx.pid", &format!("{here}/pid")),
                    // What the system's nginx writes to belongs to root.
                    ("access_log off;", &temporary_folders(here)),
                ],
            ),
        };
        fs::write(folder.path().join(file), text).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        // It ends with the thread that starts it.
        let mut command = Command::new(tool("EVENTS_DB_TEST_SETPRIV"));
        command.args(["--pdeathsig", "KILL", "--"]).arg(tool(program)).current_dir(&folder).stdin(Stdio::null());
        match kind {
            Kind::HaProxy => command.args(["-db", "-f", file]),
            Kind::Nginx => command.args(["-g", "daemon off;", "-p", here, "-c"]).arg(folder.path().join(file)),
        };
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut front = Self { process, folder, url: format!("{scheme}://127.0.0.1:{port}"), certificate };
        front.wait_until_it_answers().await;
        front
    }

    async fn wait_until_it_answers(&mut self) {
        let (client, started) = (self.client(false), Instant::now());
        loop {
            let answer = client.get(format!("{}/readyz", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            let exited = self.process.try_wait().unwrap();
            assert!(exited.is_none() && started.elapsed() < CEILING, "{exited:?}: {}", self.log());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A client of one version of HTTP.
    pub fn client(&self, is_http2: bool) -> Client {
        let mut client = Client::builder();
        if let Some(certificate) = &self.certificate {
            client = client.tls_certs_only([reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap()]);
        }
        client = match (is_http2, &self.certificate) {
            (false, _) => client.http1_only(),
            (true, Some(_)) => client,
            (true, None) => client.http2_prior_knowledge(),
        };
        client.build().unwrap()
    }

    /// A channel for gRPC.
    pub async fn channel(&self) -> Channel {
        let mut endpoint = Endpoint::from_shared(self.url.clone()).unwrap();
        if let Some(certificate) = &self.certificate {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate));
            endpoint = endpoint.tls_config(tls).unwrap();
        }
        endpoint.connect().await.unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // nginx takes its workers along.
        let _gone = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _status = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the proxy's log:\n{}", self.log());
        }
    }
}

/// The text with a line for each of `replicas` in place of those for the published two, wherever they are.
fn with_replicas(text: &str, replicas: &[u16]) -> String {
    let places = |port: &str| {
        text.lines().filter(|line| line.trim_start().starts_with("server ") && line.contains(port)).count()
    };
    assert!(places(":8080") > 0 && places(":8080") == places(":8081"), "two replicas are published");
    let lines = text.lines().filter(|line| !line.contains("127.0.0.1:8081")).map(|line| {
        let of = |port: &u16| line.replace("8080", &port.to_string()).replace(" one ", &format!(" r{port} "));
        let replicas = replicas.iter().map(of).collect::<Vec<_>>();
        if line.contains("127.0.0.1:8080") { replicas.join("\n") } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn replaced(text: &str, by: &[(&str, &str)]) -> String {
    by.iter().fold(text.to_owned(), |text, (published, ours)| {
        assert_eq!(text.matches(published).count(), 1, "{published} is not there once");
        text.replace(published, ours)
    })
}

fn temporary_folders(here: &str) -> String {
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|name| format!("{name}_temp_path {here}/{name};"));
    format!("access_log off;\n{}", folders.join("\n"))
}
