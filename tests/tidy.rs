//! The house rules that a compiler does not check.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines in a source file at the most.
const FILE_LINES_MAX: usize = 500;

/// Libraries that only adapters and the composition root may name.
const OUTSIDE: [&str; 11] = [
    "sea_orm",
    "sea_orm_migration",
    "rusqlite",
    "tonic",
    "prost",
    "axum",
    "http",
    "hyper",
    "tower",
    "rustls",
    "opentelemetry",
];

fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{directory} has no sources");
    found
}

fn is_below(path: &Path, room: &str) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with(format!("src/{room}")))
}

fn names(text: &str, library: &str) -> bool {
    text.match_indices(&format!("{library}::")).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_' || character == ':')
    })
}

#[test]
fn domain_and_ports_know_no_library_of_the_outside() {
    for (path, text) in sources("src/domain").into_iter().chain(sources("src/ports")) {
        for library in OUTSIDE {
            assert!(!names(&text, library), "{} names {library}", path.display());
        }
        assert!(!text.contains("crate::adapters"), "{} names an adapter", path.display());
    }
}

#[test]
fn values_and_ports_know_no_use_case() {
    for (path, text) in sources("src/ports") {
        assert!(!text.contains("crate::domain::service"), "{} names a use case", path.display());
    }
}

#[test]
fn adapters_know_no_other_adapter() {
    // What every interface shares: the error table, the forms of CloudEvents, and how a response is given up.
    const SHARED: [&str; 3] = ["api_error", "cloudevents", "response_cut"];
    for (path, text) in sources("src/adapters") {
        let own = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/adapters")).unwrap();
        let room = own.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        // The test of one adapter may put it together with another.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for part in code.split("crate::adapters::").skip(1) {
            let named: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(named == room || SHARED.contains(&named.as_str()), "{} names {named}", path.display());
        }
    }
}

#[test]
fn only_the_composition_root_wires() {
    for (path, text) in sources("src") {
        let is_adapter = path.components().any(|part| part.as_os_str() == "adapters");
        let is_root = path.ends_with("src/app.rs") || path.ends_with("src/adapters.rs") || is_below(&path, "app");
        assert!(is_adapter || is_root || !text.contains("adapters::"), "{} names an adapter", path.display());
    }
}

#[test]
fn files_stay_short() {
    for (path, text) in ["src", "tests", "benches", "xtask/src"].into_iter().flat_map(sources) {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_lock_file_keeps_its_promises() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let versions = |name: &str| -> Vec<Vec<u64>> {
        let heading = format!("name = \"{name}\"\nversion = \"");
        let found = lock.split(&heading).skip(1).map(|rest| rest.split('"').next().unwrap());
        found.map(|version| version.split('.').map(|part| part.parse().unwrap_or(0)).collect()).collect()
    };
    assert_eq!(versions("libsqlite3-sys").len(), 1, "two SQLite libraries on one file corrupt it");
    assert_eq!(versions("rustls").len(), 1, "one TLS library");
    for banned in ["native-tls", "openssl-sys", "aws-lc-sys"] {
        assert!(versions(banned).is_empty(), "{banned} is a second TLS backend");
    }
    for (name, least) in [("h2", [0, 4, 20]), ("tonic", [0, 14, 9]), ("rustls-webpki", [0, 103, 13])] {
        for version in versions(name) {
            assert!(version >= least.to_vec(), "{name} {version:?} has known faults, {least:?} does not");
        }
    }
}
