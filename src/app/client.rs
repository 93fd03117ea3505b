//! Following and appending from the command line, over the network as everybody else.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::adapters::client::{Appended, Client, ClientError, ClientOptions, Followed};
use crate::adapters::cloudevents::write_json_text;
use crate::app::command::{CommandError, print, print_while_read};
use crate::config::{
    AppendEvent, AppendInput, AppendSettings, AuthToken, ClientSettings, FilterSettings, TailSettings,
};
use crate::error_chain::error_chain;

/// First and longest wait before a server that is away is tried again.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often an append is tried.
const APPEND_ATTEMPTS: u32 = 8;

/// Bytes of one request at the most, well below what a server takes by default; a larger event goes alone.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Lines that are read before they are sent.
const LINES_AHEAD: usize = 16;

/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Prints events, one on each line, and goes on where it was when the server comes back.
pub(super) async fn tail(settings: TailSettings, interrupt: CancellationToken) -> Result<(), CommandError> {
    let client = connect(settings.client)?;
    let query = query(&settings.filter, &settings.from);
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let following = follow(&client, &query, settings.limit);
    tokio::select! {
        ended = following => ended,
        // Whoever follows leaves by a signal; that is no failure.
        () = interrupt.cancelled() => Ok(()),
    }
}

async fn follow(client: &Client, query: &[(&str, &str)], limit: Option<u64>) -> Result<(), CommandError> {
    let mut last = None;
    let mut printed = 0;
    let mut wait = RETRY_WAIT.0;
    loop {
        let problem = match client.follow(query, last).await {
            Ok(mut stream) => loop {
                match stream.next().await {
                    Ok(Some(Followed::Place(place))) => last = Some(place),
                    Ok(Some(Followed::Event { position, mut json })) => {
                        json.push('\n');
                        if !print_while_read(json.as_bytes())? {
                            return Ok(());
                        }
                        last = Some(position);
                        printed += 1;
                        if limit == Some(printed) {
                            return Ok(());
                        }
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
                wait = RETRY_WAIT.0;
            },
            Err(error) => Some(error),
        };
        match problem {
            Some(error) if !error.may_pass_later() => return Err(refused(error)),
            Some(error) => tracing::warn!(error = error_chain(&error), "the stream is cut, trying again"),
            None => tracing::warn!("the server has ended the stream, trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_WAIT.1);
    }
}

fn query(filter: &FilterSettings, from: &str) -> Vec<(&'static str, String)> {
    let mut query = vec![("format", "cloudevents".to_owned())];
    query.push(match from {
        "head" => ("from", "head".to_owned()),
        "start" => ("from_id", "0".to_owned()),
        place if place.bytes().all(|byte| byte.is_ascii_digit()) => ("from_id", place.to_owned()),
        time => ("from_time", time.to_owned()),
    });
    if filter.is_recursive || filter.subjects.is_empty() {
        query.push(("recursive", "true".to_owned()));
    }
    if filter.subjects.is_empty() {
        query.push(("subject", String::new()));
    }
    let lists = [("subject", &filter.subjects), ("type", &filter.event_types), ("source", &filter.event_sources)];
    for (name, values) in lists {
        query.extend(values.iter().map(|value| (name, value.clone())));
    }
    query
}

/// Appends events and prints the position of each.
pub(super) async fn append(settings: AppendSettings, interrupt: CancellationToken) -> Result<(), CommandError> {
    let client = connect(settings.client)?;
    match settings.events {
        AppendInput::One(event) => {
            let json = event_json(event)?;
            send(&client, &[json], 1).await
        }
        AppendInput::Lines { file, batch_events_max } => {
            append_lines(&client, file.as_deref(), batch_events_max, interrupt).await
        }
    }
}

async fn append_lines(
    client: &Client,
    file: Option<&Path>,
    batch_events_max: usize,
    interrupt: CancellationToken,
) -> Result<(), CommandError> {
    let input: Box<dyn Read + Send> = match file {
        Some(path) => {
            let opened = std::fs::File::open(path);
            Box::new(opened.map_err(|error| CommandError::Usage(format!("{}: {error}", path.display())))?)
        }
        None => Box::new(io::stdin()),
    };
    let mut lines = lines(input).map_err(CommandError::because("the lines cannot be read"))?;
    let (mut batch, mut bytes, mut number) = (Vec::new(), 0, 0_usize);
    loop {
        let line = tokio::select! {
            biased;
            () = interrupt.cancelled() => {
                let first = number + 1 - batch.len();
                return Err(CommandError::Interrupted(format!("interrupted before line {first}")));
            }
            line = lines.recv() => line.transpose(),
        };
        let line = line.map_err(|error| CommandError::Data(format!("line {}: {error}", number + 1)))?;
        let length = line.as_ref().map_or(0, String::len);
        let is_full = batch.len() == batch_events_max || bytes + length > BATCH_BYTES_MAX;
        if !batch.is_empty() && (line.is_none() || is_full) {
            send(client, &batch, number + 1 - batch.len()).await?;
            (batch, bytes) = (Vec::new(), 0);
        }
        let Some(line) = line else { return Ok(()) };
        number += 1;
        // A blank line keeps its number.
        if !line.trim().is_empty() {
            bytes += length;
            batch.push(line);
        }
    }
}

/// Reads in a thread of its own: a terminal that says nothing must not keep a signal from ending the program.
fn lines(input: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<io::Result<String>>> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    thread::Builder::new().name("lines".to_owned()).spawn(move || {
        for line in BufReader::new(input).lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// Sends `events`, the first of which is on line `first`, until there is an answer.
async fn send(client: &Client, events: &[String], first: usize) -> Result<(), CommandError> {
    let body = format!("[{}]", events.join(","));
    let mut wait = RETRY_WAIT.0;
    for attempt in 1.. {
        match client.append(body.clone().into_bytes()).await {
            Ok(Appended { ids, .. }) => {
                let lines: Vec<String> = ids.iter().map(ToString::to_string).collect();
                return print(format!("{}\n", lines.join("\n")).as_bytes());
            }
            Err(error) if error.may_pass_later() && attempt < APPEND_ATTEMPTS => {
                tracing::warn!(error = error_chain(&error), "not appended, trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_WAIT.1);
            }
            Err(ClientError::Refused { status, text }) => {
                return Err(CommandError::Data(format!("the batch from line {first} on: {status}: {text}")));
            }
            Err(error) => return Err(refused(error)),
        }
    }
    unreachable!("the last attempt returns")
}

/// The event as structured JSON.
fn event_json(event: AppendEvent) -> Result<String, CommandError> {
    let data = match event.data.as_deref() {
        Some(STANDARD_INPUT) => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.map_err(|error| CommandError::Data(format!("standard input: {error}")))?;
            Some(text)
        }
        _ => event.data,
    };
    let id = event.id.map_or_else(made_up_id, Ok)?;
    let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let media_type = match (&event.data_content_type, &data) {
        (Some(media_type), _) => Some(media_type.clone()),
        (None, Some(text)) if is_json(text) => Some("application/json".to_owned()),
        (None, Some(_)) => Some("text/plain".to_owned()),
        (None, None) => None,
    };
    let mut json = br#"{"specversion":"1.0""#.to_vec();
    let mut member = |name: &str, text: &str| {
        json.extend_from_slice(format!(",\"{name}\":").as_bytes());
        write_json_text(&mut json, text);
    };
    member("id", &id);
    member("source", &event.event_source);
    member("type", &event.event_type);
    if let Some(subject) = &event.subject {
        member("subject", subject);
    }
    if let Some(media_type) = &media_type {
        member("datacontenttype", media_type);
    }
    match &data {
        Some(text) if media_type.as_deref().is_some_and(says_json) => {
            if !is_json(text) {
                return Err(CommandError::Usage("--data is not the JSON that --data-content-type says".to_owned()));
            }
            json.extend_from_slice(b",\"data\":");
            json.extend_from_slice(text.as_bytes());
        }
        Some(text) => member("data", text),
        None => {}
    }
    json.push(b'}');
    Ok(String::from_utf8(json).expect("texts are in UTF-8"))
}

fn says_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// An id that nobody else has.
fn made_up_id() -> Result<String, CommandError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(CommandError::because("the system has no random numbers"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn connect(settings: ClientSettings) -> Result<Client, CommandError> {
    let options = ClientOptions {
        token: settings.auth_token.as_ref().map(AuthToken::expose).map(ToOwned::to_owned),
        takes_any_certificate: settings.is_insecure,
        authority: settings.authority,
        ..ClientOptions::of(settings.url)
    };
    Client::new(options).map_err(|error| CommandError::Usage(error_chain(&error)))
}

fn refused(error: ClientError) -> CommandError {
    CommandError::because("the server cannot be used")(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: Option<&str>, data_content_type: Option<&str>) -> AppendEvent {
        AppendEvent {
            event_type: "t".to_owned(),
            event_source: "/s".to_owned(),
            subject: None,
            id: Some("1".to_owned()),
            data: data.map(ToOwned::to_owned),
            data_content_type: data_content_type.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn data_goes_out_as_what_it_is() {
        const HEAD: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t""#;
        for (data, media_type, rest) in [
            (None, None, "}"),
            (Some("{\"a\": 1}"), None, ",\"datacontenttype\":\"application/json\",\"data\":{\"a\": 1}}"),
            (Some("say \"hi\""), None, ",\"datacontenttype\":\"text/plain\",\"data\":\"say \\\"hi\\\"\"}"),
            (Some("1"), Some("text/csv"), ",\"datacontenttype\":\"text/csv\",\"data\":\"1\"}"),
            (
                Some("1"),
                Some("application/a+JSON; x=y"),
                ",\"datacontenttype\":\"application/a+JSON; x=y\",\"data\":1}",
            ),
        ] {
            assert_eq!(event_json(event(data, media_type)).unwrap(), format!("{HEAD}{rest}"));
        }
        assert!(event_json(event(Some("{"), Some("application/json"))).is_err());
    }

    #[test]
    fn place_to_begin_is_read_as_it_is_written() {
        let filter = FilterSettings::default();
        for (from, name, value) in [
            ("head", "from", "head"),
            ("start", "from_id", "0"),
            ("17", "from_id", "17"),
            ("2026-11-23T12:00:00Z", "from_time", "2026-11-23T12:00:00Z"),
        ] {
            assert_eq!(query(&filter, from)[1], (name, value.to_owned()));
        }
        let filter = FilterSettings { subjects: vec!["a".to_owned()], ..filter };
        assert!(!query(&filter, "head").iter().any(|(name, _)| *name == "recursive"));
    }
}
