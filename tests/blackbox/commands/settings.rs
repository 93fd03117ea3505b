//! The health check, the configuration file, and what is printed for shells and readers.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::commands::{command, end, run, signal};
use crate::databases;
use crate::harness::Server;
use crate::proxy::{Network, Proxy};
use crate::transport::write_certificate;

async fn healthcheck(url: &str) -> super::Ended {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), &["healthcheck", "--url", url, "--timeout", "1"], &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn server_on_this_machine_is_not_looked_for_through_a_proxy() {
    let server = Server::start(&[], &[]).await;
    let url = server.url();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}");
    let envs = [("http_proxy", nobody.as_str()), ("HTTP_PROXY", nobody.as_str()), ("ALL_PROXY", nobody.as_str())];
    run(server.directory(), &["healthcheck", "--url", &url, "--timeout", "5"], &envs).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_what_waits_for_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mysql://u:p@{}/events", silent.local_addr().unwrap());
    let mut migrate = command(directory.path(), ["migrate"], &[("DATABASE_URL", &url)]).spawn().unwrap();
    let _open = silent.accept().await.unwrap();
    signal(&migrate, "INT");
    // The first one is heard before the next ones are listened for.
    while tokio::time::timeout(Duration::from_millis(100), migrate.wait()).await.is_err() {
        signal(&migrate, "TERM");
    }
    end(migrate).await.exits(130);
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_is_0_for_a_ready_server_and_1_for_one_that_is_gone() {
    let server = Server::start(&[], &[("AUTH_TOKEN", "s3cret")]).await;
    assert_eq!(healthcheck(&server.url()).await.exits(0), "");
    // Without an address it asks the port of the settings.
    let port = server.port().to_string();
    fs::write(server.directory().join("events-db.toml"), format!("port = {port}\n")).unwrap();
    let asked = run(server.directory(), &["--config", "events-db.toml", "healthcheck"], &[]).await;
    assert_eq!(asked.exits(0), "");
    let url = server.url();
    drop(server);
    let error = healthcheck(&url).await.fails(1);
    assert!(error.contains("the server does not answer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_takes_the_certificate_that_a_server_has_made_itself() {
    let directory = tempfile::tempdir().unwrap();
    write_certificate(directory.path(), "events.example.org");
    let [certificate, key] = ["cert.pem", "key.pem"].map(|file| directory.path().join(file));
    let tls = [("TLS_CERT_FILE", certificate.to_str().unwrap()), ("TLS_KEY_FILE", key.to_str().unwrap())];
    let server = Server::start(&[], &tls).await;
    assert_eq!(healthcheck(&server.url()).await.exits(0), "");
    let plain = server.url().replace("https:", "http:");
    healthcheck(&plain).await.fails(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_is_1_for_a_server_without_its_database() {
    let mut url = databases::fresh("EVENTS_DB_TEST_MARIADB_URL", "healthcheck").await;
    let proxy = Proxy::start(databases::address(&url)).await;
    url.set_port(Some(proxy.port)).unwrap();
    let server = Server::start(&[], &[("DATABASE_URL", url.as_str())]).await;
    proxy.set(Network::Cut);
    server
        .eventually("the health check fails", async || {
            let ended = healthcheck(&server.url()).await;
            if ended.code == Some(1) && ended.error.contains("503") { Ok(()) } else { Err(format!("{ended:?}")) }
        })
        .await;
    proxy.set(Network::Up);
    server
        .eventually("the health check passes", async || match healthcheck(&server.url()).await {
            ended if ended.code == Some(0) => Ok(()),
            ended => Err(format!("{ended:?}")),
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_is_1_for_a_server_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = healthcheck(&format!("http://{}", silent.local_addr().unwrap())).await.fails(1);
    assert_eq!(error, "events-db: no answer within 1 s\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_is_64_for_what_is_no_address() {
    for url in ["127.0.0.1:8080", "ftp://127.0.0.1", ""] {
        let error = healthcheck(url).await.fails(64);
        assert!(error.contains("--url"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_takes_its_settings_from_the_file_and_its_token_from_another() {
    let directory = tempfile::tempdir().unwrap();
    let [file, token] = ["events-db.toml", "token"].map(|name| directory.path().join(name));
    fs::write(&token, "s3cret\n").unwrap();
    let settings = format!("max-event-bytes = 10\ndatabase-url = 'sqlite://other.db'\nauth-token-file = {token:?}\n");
    fs::write(&file, settings).unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()], &[]).await;
    assert!(server.directory().join("other.db").exists());
    let post = async |token: &str, data: &[u8]| {
        let body = crate::harness::event_body("s", data);
        let request = reqwest::Client::new().post(server.at("/events")).bearer_auth(token);
        request.json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("other", b"x").await, 401);
    assert_eq!(post("s3cret", b"x").await, 200);
    assert_eq!(post("s3cret", &[b'x'; 10_000]).await, 413);
}

/// What `events-db config` says of `name`.
async fn holds(directory: &Path, name: &str, args: &[&str], envs: &[(&str, &str)]) -> String {
    let out = run(directory, &[&["config"], args].concat(), envs).await.exits(0);
    let line = out.lines().find(|line| line.starts_with(&format!("{name} = ")));
    line.unwrap_or_else(|| panic!("{name} is not in {out}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_win_over_variables_and_these_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let settings = "port = 81\nnats-subject = 'of.file'\ndatabase-url = 'sqlite://file.db'\n";
    fs::write(directory.join("c.toml"), settings).unwrap();
    let with_file = ["--config", "c.toml"];
    let with_both = ["--config", "c.toml", "--port", "82"];
    let variables = [("NATS_SUBJECT", "of.environment"), ("DATABASE_URL", "sqlite://environment.db")];
    for (name, args, envs, expected) in [
        ("port", &[][..], &[][..], "port = 8080  # default"),
        ("port", &with_file, &[], "port = 81  # file"),
        ("port", &with_both, &[], "port = 82  # flag"),
        ("nats-subject", &with_file, &[], "nats-subject = \"of.file\"  # file"),
        ("nats-subject", &with_file, &variables, "nats-subject = \"of.environment\"  # environment"),
        ("database-url", &[], &[], "database-url = \"sqlite://events.db\"  # default"),
        ("database-url", &with_file, &[], "database-url = \"sqlite://file.db\"  # file"),
        ("database-url", &with_both, &variables, "database-url = \"sqlite://environment.db\"  # environment"),
    ] {
        assert_eq!(holds(directory, name, args, envs).await, expected);
    }
    // A variable of the Go service names the whole database.
    let out = run(directory, &["config", "--config", "c.toml"], &[("MYSQL_HOST", "db")]).await.exits(0);
    assert!(out.contains("mysql-host = \"db\"  # environment") && !out.contains("file.db"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn effective_settings_hide_what_is_secret() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("token"), "s3cret").unwrap();
    let envs = [
        ("AUTH_TOKEN_FILE", "token"),
        ("DATABASE_URL", "postgres://user:s3cret@db/events?sslpassword=s3cret"),
        ("NATS_URL", "nats://s3cret@a,nats://u:s3cret@b"),
    ];
    let out = run(directory.path(), &["config"], &envs).await.exits(0);
    assert!(!out.contains("s3cret"), "{out}");
    for shown in ["auth-token = \"…\"", "postgres://user:…@db/events", "nats://…@a,nats://u:…@b"] {
        assert!(out.contains(shown), "{out}");
    }
    let out = run(directory.path(), &["config"], &[("MYSQL_PASSWORD", "s3cret")]).await.exits(0);
    assert!(!out.contains("s3cret") && out.contains("mysql-password = \"…\""), "{out}");
    // What is printed is a configuration file.
    fs::write(directory.path().join("printed.toml"), run(directory.path(), &["config"], &[]).await.exits(0)).unwrap();
    run(directory.path(), &["config", "--config", "printed.toml"], &[]).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_file_is_64_and_one_line_that_names_it_and_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for (text, named) in [
        ("colour = 'red'", "colour"),
        ("port = 70000", "port"),
        ("database-url = 'redis://db'", "DATABASE_URL"),
        ("[port]", "port"),
        ("port = 1\nport = 2", "line 2"),
        ("auth-token = s3cret", "line 1"),
    ] {
        fs::write(directory.join("c.toml"), text).unwrap();
        for command in [&["config", "--config", "c.toml"][..], &["--config", "c.toml"]] {
            let error = run(directory, command, &[]).await.fails(64);
            assert!(error.contains("c.toml") && error.contains(named) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
    let error = run(directory, &["--config", "absent.toml"], &[]).await.fails(64);
    assert!(error.contains("absent.toml"), "{error}");
    fs::write(directory.join("token"), "b").unwrap();
    let error = run(directory, &["serve"], &[("AUTH_TOKEN", "a"), ("AUTH_TOKEN_FILE", "token")]).await.fails(64);
    assert_eq!(error, "events-db: AUTH_TOKEN and AUTH_TOKEN_FILE exclude each other\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual_pages_are_printed() {
    const COMMANDS: [&str; 11] = [
        "serve",
        "migrate",
        "export",
        "import",
        "verify",
        "tail",
        "append",
        "healthcheck",
        "config",
        "completions",
        "man",
    ];
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for (shell, begins) in [("bash", "_events__db()"), ("zsh", "#compdef events-db"), ("fish", "# Print")] {
        let out = run(directory, &["completions", shell], &[]).await.exits(0);
        assert!(out.starts_with(begins), "{shell}: {}", &out[..100]);
        for command in COMMANDS {
            assert!(out.contains(command), "{shell} does not complete {command}");
        }
    }
    let program = run(directory, &["man"], &[]).await.exits(0);
    assert!(program.contains(".TH events-db 1"), "{program}");
    for name in COMMANDS {
        assert!(program.contains(&format!("events\\-db\\-{name}(1)")), "the page does not lead to {name}: {program}");
        let page = run(directory, &["man", name], &[]).await.exits(0);
        assert!(page.contains(&format!(".TH events-db-{name} 1")) && page.contains(".SH SYNOPSIS"), "{page}");
    }
    let error = run(directory, &["man", "nothing"], &[]).await.fails(64);
    assert!(error.contains("nothing is not a command"), "{error}");
    // Bash itself takes its completions.
    let mut bash = tokio::process::Command::new("bash");
    let script = format!("source <({} completions bash) && complete -p events-db", env!("CARGO_BIN_EXE_events-db"));
    let shown = end(bash.args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap()).await.exits(0);
    assert!(shown.contains("_events__db"), "{shown}");
}
