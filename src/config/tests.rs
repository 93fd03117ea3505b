//! Flags, variables and files as settings.

use super::*;

fn config(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, String> {
    let arguments = std::iter::once("events-db").chain(arguments.iter().copied()).map(OsString::from);
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    settings(arguments, variables)
}

fn settings(
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, String> {
    match Invocation::from_parts(arguments, variables).map_err(|error| error.to_string())?.command {
        Command::Serve(config) => Ok(*config),
        other => panic!("{other:?} does not serve"),
    }
}

#[test]
fn what_one_request_may_hold_must_fit_into_the_queue() {
    for (args, problem) in [
        (
            &["--max-queued-events", "999"][..],
            Some("--max-queued-events is 999, --max-batch-events needs at least 1000"),
        ),
        (&["--max-queued-events", "1000"], None),
        (
            &["--max-queued-bytes", "4194303"],
            Some("--max-queued-bytes is 4194303, --max-batch-bytes needs at least 4194304"),
        ),
        (&["--max-queued-bytes", "4194304"], None),
        (
            &["--max-queued-bytes", "4079", "--max-batch-bytes", "1", "--max-event-bytes", "1"],
            Some("--max-queued-bytes is 4079, --max-event-bytes needs at least 4081"),
        ),
        (&["--max-queued-bytes", "4081", "--max-batch-bytes", "1", "--max-event-bytes", "1"], None),
    ] {
        let arguments = ["events-db"].iter().chain(args).map(OsString::from);
        let error = settings(arguments, []).err();
        assert_eq!(error.as_deref(), problem, "{args:?}");
    }
}

#[test]
fn nothing_set_is_the_embedded_database_on_8080() {
    let config = config(&[], &[]).unwrap();
    assert_eq!(config.listen, [SocketAddr::from(([0, 0, 0, 0], 8080))]);
    assert_eq!(config.store.database.expose(), "sqlite://events.db");
    assert_eq!((config.client_buffer_events, config.streams_max, config.stream_batch_events), (100, 10_000, 10));
    assert_eq!(config.store.event_bytes_max, 1024 * 1024);
    assert!(config.auth_token.is_none() && config.tls.is_none());
}

#[test]
fn the_go_services_settings_work_unchanged() {
    let flags = ["-rest-port=80", "--grpc-port", "50051", "-client-buffer-size", "7", "--max-total-clients=8"];
    let config = config(&flags, &[("MYSQL_PASSWORD", "p@ss/word")]).unwrap();
    assert_eq!(config.listen.iter().map(SocketAddr::port).collect::<Vec<_>>(), [80, 50051]);
    assert_eq!((config.client_buffer_events, config.streams_max), (7, 8));
    assert_eq!(config.store.database.expose(), "mysql://root:p%40ss%2Fword@localhost:3306/root");
}

#[test]
fn a_database_url_wins_over_the_mysql_variables() {
    let variables = [("DATABASE_URL", "postgres://db/events"), ("MYSQL_HOST", "db")];
    assert_eq!(config(&[], &variables).unwrap().store.database.expose(), "postgres://db/events");
}

#[test]
fn each_wrong_flag_is_named() {
    for (arguments, name) in [
        (["--port", "65536"], "--port"),
        (["--port", "x"], "--port"),
        (["--grpc-port", "-1"], "--grpc-port"),
        (["--client-buffer-size", "0"], "--client-buffer-size"),
        (["--client-buffer-size", "100001"], "--client-buffer-size"),
        (["--max-total-clients", "0"], "--max-total-clients"),
        (["--max-total-clients", "1000001"], "--max-total-clients"),
        (["--max-connections", "0"], "--max-connections"),
        (["--max-connections", "1000001"], "--max-connections"),
        (["--tail-bytes", "-1"], "--tail-bytes"),
        (["--tail-bytes", "68719476737"], "--tail-bytes"),
        (["--slow-client-timeout", "0"], "--slow-client-timeout"),
        (["--slow-client-timeout", "3601"], "--slow-client-timeout"),
        (["--stream-batch-size", "0"], "--stream-batch-size"),
        (["--stream-batch-size", "1001"], "--stream-batch-size"),
        (["--max-event-bytes", "0"], "--max-event-bytes"),
        (["--max-event-bytes", "16777217"], "--max-event-bytes"),
        (["--heartbeat-interval", "0"], "--heartbeat-interval"),
        (["--heartbeat-interval", "301"], "--heartbeat-interval"),
        (["--shutdown-delay", "3601"], "--shutdown-delay"),
        (["--drain-timeout", "3601"], "--drain-timeout"),
        (["--startup-timeout", "3601"], "--startup-timeout"),
        (["--log-format", "xml"], "--log-format"),
        (["--bind", "example.org"], "--bind"),
        (["--colour", "red"], "--colour"),
    ] {
        let error = config(&arguments, &[]).unwrap_err();
        assert!(error.contains(name) && !error.contains('\n'), "{error}");
    }
    let both = config(&["--port", "80", "--grpc-port", "80"], &[]).unwrap_err();
    assert!(both.contains("--grpc-port"), "{both}");
}

#[test]
fn the_edges_of_each_flag_are_accepted() {
    for arguments in [
        ["--port", "0"],
        ["--port", "65535"],
        ["--client-buffer-size", "1"],
        ["--client-buffer-size", "100000"],
        ["--max-total-clients", "1"],
        ["--max-total-clients", "1000000"],
        ["--max-connections", "1"],
        ["--max-connections", "1000000"],
        ["--tail-bytes", "0"],
        ["--tail-bytes", "68719476736"],
        ["--slow-client-timeout", "1"],
        ["--slow-client-timeout", "3600"],
        ["--stream-batch-size", "1"],
        ["--stream-batch-size", "1000"],
        ["--max-event-bytes", "1"],
        ["--max-event-bytes", "16777216"],
        ["--heartbeat-interval", "1"],
        ["--heartbeat-interval", "300"],
        ["--shutdown-delay", "0"],
        ["--shutdown-delay", "3600"],
        ["--drain-timeout", "0"],
        ["--drain-timeout", "3600"],
        ["--startup-timeout", "0"],
        ["--startup-timeout", "3600"],
        ["--bind", "::1"],
    ] {
        assert!(config(&arguments, &[]).is_ok(), "{arguments:?}");
    }
}

#[test]
fn each_wrong_variable_is_named_and_no_secret_is_shown() {
    for (name, value) in [
        ("MYSQL_PORT", "s3cret"),
        ("MYSQL_PORT", "0"),
        ("MYSQL_PORT", "65536"),
        ("MYSQL_HOST", "s3cret host"),
        ("DATABASE_URL", "s3cret"),
        ("DATABASE_URL", "oracle://u:s3cret@db/events"),
        ("AUTH_TOKEN", "s3cret\n"),
        ("AUTH_TOKEN", " s3cret"),
        ("TLS_CERT_FILE", "cert.pem"),
        ("TLS_KEY_FILE", "key.pem"),
        ("CORS_ALLOWED_ORIGINS", "example.org"),
        ("NATS_URL", "http://u:s3cret@nats"),
        ("NATS_URL", "u:s3cret@nats"),
        ("NATS_URL", "nats://u:s3cret@nats,nats://"),
        ("NATS_SUBJECT", "s3cret..x"),
        ("NATS_SUBJECT", "s3cret.*"),
        ("NATS_SUBJECT", "s3cret x"),
        ("RUST_LOG", "loud=very"),
    ] {
        let error = config(&[], &[(name, value)]).unwrap_err();
        assert!(error.contains(name) && !error.contains('\n'), "{error}");
        assert!(!error.contains("s3cret") || name == "MYSQL_PORT" || name == "MYSQL_HOST", "{error}");
    }
    let secrets =
        [("DATABASE_URL", "mysql://u:s3cret@db/e"), ("AUTH_TOKEN", "s3cret"), ("NATS_URL", "nats://s3cret@nats")];
    let config = config(&[], &secrets).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn nats_servers_are_a_list_with_a_subject() {
    let nats = |variables: &[(&str, &str)]| config(&[], variables).unwrap().nats;
    assert_eq!(nats(&[]), None);
    assert_eq!(nats(&[("NATS_SUBJECT", "a.b")]), None);
    let urls = vec!["nats://a:4222".to_owned(), "tls://b".to_owned()];
    let list = ("NATS_URL", "nats://a:4222, tls://b");
    let subject = "eventsdb.head".to_owned();
    assert_eq!(nats(&[list]), Some(NatsServers { urls: urls.clone(), subject }));
    let subject = "a.b".to_owned();
    assert_eq!(nats(&[list, ("NATS_SUBJECT", "a.b")]), Some(NatsServers { urls, subject }));
}

#[test]
fn a_token_that_is_empty_is_none() {
    assert!(config(&[], &[("AUTH_TOKEN", "")]).unwrap().auth_token.is_none());
}

fn invocation(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Command, String> {
    let arguments = std::iter::once("events-db").chain(arguments.iter().copied()).map(OsString::from);
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Invocation::from_parts(arguments, variables).map(|it| it.command).map_err(|error| error.to_string())
}

/// A configuration file, and how to name it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events-db.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

#[test]
fn flags_win_over_variables_and_these_over_the_file() {
    let (_directory, path) = file(
        "rest-port = 81\nclient_buffer_size = 7\nallow-lazy-durability = true\nauth-token = 'of-file'\n\
         database-url = 'postgres://of-file/events'\ncors-allowed-origins = ['https://a.example', 'https://b.example']\n",
    );
    let arguments = ["--config", &path, "--client-buffer-size", "8"];
    let of_file = config(&arguments, &[]).unwrap();
    assert_eq!(of_file.listen[0].port(), 81);
    assert_eq!((of_file.client_buffer_events, of_file.store.allows_lazy_durability), (8, true));
    assert_eq!(of_file.auth_token.unwrap().expose(), "of-file");
    assert_eq!(of_file.store.database.expose(), "postgres://of-file/events");
    assert_eq!(of_file.cors_allowed_origins, ["https://a.example", "https://b.example"]);
    let arguments = ["serve", "--allow-lazy-durability=false", "--port", "82", "--config", &path];
    let above = config(&arguments, &[("AUTH_TOKEN", "of-environment"), ("MYSQL_HOST", "db")]).unwrap();
    assert_eq!((above.listen[0].port(), above.client_buffer_events), (82, 7));
    assert!(!above.store.allows_lazy_durability);
    assert_eq!(above.auth_token.unwrap().expose(), "of-environment");
    assert_eq!(above.store.database.expose(), "mysql://root:root@db:3306/root");
}

#[test]
fn wrong_file_is_named_with_what_is_wrong() {
    for (text, problem) in [
        ("port = 65536", "--port"),
        ("log-format = 'xml'", "--log-format"),
        ("colour = 'red'", "colour is not a setting"),
        ("port = ", "line 1"),
        ("config = 'other.toml'", "config is not a setting"),
        ("url = 'http://a'", "url is not a setting"),
        ("database-url = 'redis://db'", "DATABASE_URL must start with"),
        ("mysql-port = 'many'", "MYSQL_PORT"),
        ("auth-token = ' '", "AUTH_TOKEN must not"),
        ("auth-token = 'a'\nauth-token-file = 'b'", "AUTH_TOKEN and AUTH_TOKEN_FILE exclude each other"),
    ] {
        let (_directory, path) = file(text);
        let error = config(&["--config", &path], &[]).unwrap_err();
        assert!(error.contains(&path) && error.contains(problem) && !error.contains('\n'), "{error}");
    }
    let error = config(&["--config", "absent.toml"], &[]).unwrap_err();
    assert!(error.starts_with("--config absent.toml cannot be read: "), "{error}");
}

#[test]
fn settings_are_shown_with_their_origins_and_without_secrets() {
    let (_directory, path) = file("stream-batch-size = 20\ndatabase-url = 'mysql://root:s3cret@db/events'\n");
    let arguments = ["config", "--config", &path, "--port", "82"];
    let Command::Print(text) =
        invocation(&arguments, &[("AUTH_TOKEN", "s3cret"), ("NATS_URL", "nats://nats")]).unwrap()
    else {
        panic!("no text")
    };
    for line in [
        "port = 82  # flag",
        "stream-batch-size = 20  # file",
        "client-buffer-size = 100  # default",
        "allow-lazy-durability = false  # default",
        "log-format = \"text\"  # default",
        "nats-url = \"nats://nats\"  # environment",
        "auth-token = \"…\"  # environment",
        "database-url = \"mysql://root:…@db/events\"  # file",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
    let (_directory, path) = file(&text);
    assert!(config(&["--config", &path], &[]).is_ok(), "what is shown can be read");
}

#[test]
fn flags_of_the_server_do_not_stand_before_another_command() {
    let error = invocation(&["--port", "80", "export"], &[]).unwrap_err();
    assert_eq!(error, "--port must come after the command that it is for");
    assert!(matches!(invocation(&["--log-format", "json", "export"], &[]), Ok(Command::Export(_))));
}

#[test]
fn clients_find_the_server_of_the_settings() {
    let url = |arguments: &[&str], variables: &[(&str, &str)]| match invocation(arguments, variables) {
        Ok(Command::Healthcheck(settings)) => Ok(settings.url),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    assert_eq!(url(&["healthcheck"], &[]).unwrap(), "http://127.0.0.1:8080");
    let tls = [("TLS_CERT_FILE", "a.pem"), ("TLS_KEY_FILE", "a.key")];
    let (_directory, path) = file("port = 81");
    assert_eq!(url(&["healthcheck", "--config", &path], &tls).unwrap(), "https://127.0.0.1:81");
    assert_eq!(url(&["healthcheck", "--url", "http://db:1/"], &tls).unwrap(), "http://db:1");
    assert_eq!(url(&["healthcheck", "--url", "db:1"], &[]).unwrap_err(), "--url must start with http:// or https://");
}

#[test]
fn import_takes_one_source() {
    let import = |arguments: &[&str], variables: &[(&str, &str)]| match invocation(
        &[&["import"], arguments].concat(),
        variables,
    )? {
        Command::Import(settings) => Ok::<_, String>(settings),
        other => panic!("{other:?}"),
    };
    assert!(matches!(import(&["-"], &[]).unwrap().input, ImportInput::StandardInput));
    assert!(matches!(import(&["a.gz"], &[("IMPORT_FROM", "mysql://go/events")]).unwrap().input, ImportInput::File(_)));
    let from = import(&["--from", "mysql://go/events"], &[]).unwrap();
    assert!(matches!(from.input, ImportInput::Database(url) if url.expose() == "mysql://go/events"));
    assert!(matches!(import(&[], &[("IMPORT_FROM", "mysql://go/e")]).unwrap().input, ImportInput::Database(_)));
    assert_eq!(import(&[], &[]).unwrap_err(), "import needs a FILE, --from or IMPORT_FROM");
    assert!(import(&["--from", "go"], &[]).unwrap_err().starts_with("--from must start with "));
    assert!(import(&["a", "--from", "mysql://go/e"], &[]).is_err());
}

#[test]
fn export_goes_on_only_where_it_can() {
    for (arguments, problem) in [
        (&["export", "a.gz", "--resume"][..], None),
        (&["export", "-", "--resume"], Some("--resume needs a file to go on with")),
        (&["export", "--resume"], Some("the following required arguments were not provided:")),
    ] {
        assert_eq!(invocation(arguments, &[]).err().as_deref(), problem);
    }
    let Ok(Command::Export(settings)) = invocation(&["export", "a.gz"], &[]) else { panic!("no export") };
    assert!(settings.compresses && !settings.resumes && settings.output.is_some());
}
