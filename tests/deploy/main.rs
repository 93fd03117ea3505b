//! What is under `deploy/` holds what it says: checked by the tools that read it, as far as nothing has to run.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod image;
mod manifests;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A file or folder of this repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The text of a file of this repository.
fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The value of an environment variable that `cargo xtask test` sets; fails when it is missing.
fn tool(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `cargo xtask test`"))
}

/// A program that a Python package brings.
fn python_tool(name: &str) -> Command {
    Command::new(Path::new(&tool("EVENTS_DB_TEST_PYTHON")).with_file_name(name))
}

/// Runs `command` with `input` and returns what it writes; fails with that when the command fails.
fn run(command: &mut Command, input: &str) -> String {
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program to run");
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = process.wait_with_output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    writing.join().unwrap().unwrap();
    out
}

/// The documents of a YAML file.
fn documents(yaml: &str) -> Vec<Value> {
    let mut convert = Command::new(tool("EVENTS_DB_TEST_PYTHON"));
    serde_json::from_str(&run(convert.arg(path("tests/tools/yaml_to_json.py")), yaml)).unwrap()
}

/// Fails unless `value` is as the JSON Schema in `schema` says.
fn check_schema(schema: &Path, value: &Value) {
    let mut check = Command::new(tool("EVENTS_DB_TEST_PYTHON"));
    run(check.arg(path("tests/tools/check_schema.py")).arg(schema), &value.to_string());
}

#[test]
fn yaml_is_as_the_style_says() {
    let mut lint = python_tool("yamllint");
    run(lint.args(["--strict", "--config-file", "deploy/.yamllint.yaml", "deploy"]).current_dir(path(".")), "");
}
