//! Kustomize and Helm: both render, to the same, and what they render is what Kubernetes and the operators take.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::{check_schema, documents, path, python_tool, run, tool};

/// The overlays; the values of each for the chart are in `examples`, but for the first, which is the default.
const OVERLAYS: [&str; 5] = ["embedded", "mysql", "mysql-nginx", "mysql-envoy-gateway", "mysql-tls"];

/// Groups of resources that are none of Kubernetes' own.
const CUSTOM: [&str; 3] = ["cert-manager.io", "gateway.networking.k8s.io", "monitoring.coreos.com"];

fn kustomize(overlay: &str) -> String {
    let folder = path("deploy/kubernetes/overlays").join(overlay);
    run(Command::new(tool("EVENTS_DB_TEST_KUBECTL")).arg("kustomize").arg(folder), "")
}

/// What an overlay of somebody's own renders to, which stands beside ours.
fn kustomize_of(kustomization: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for part in ["base", "components", "overlays"] {
        let copy = format!("cp -r {} {}", path("deploy/kubernetes").join(part).display(), folder.path().display());
        run(Command::new("sh").args(["-c", &copy]), "");
    }
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("kustomization.yaml"), kustomization).unwrap();
    run(Command::new(tool("EVENTS_DB_TEST_KUBECTL")).arg("kustomize").arg(own), "")
}

fn helm(arguments: &[&str]) -> Command {
    let mut helm = Command::new(tool("EVENTS_DB_TEST_HELM"));
    helm.args(arguments).current_dir(path("deploy/helm/events-db"));
    helm
}

/// What the chart renders for an overlay.
fn chart(overlay: &str, further: &[&str]) -> Command {
    let mut helm = helm(&["template", "events-db", "."]);
    if overlay != OVERLAYS[0] {
        helm.args(["--values", &format!("examples/{overlay}.yaml")]);
    }
    helm.args(further);
    helm
}

/// The documents by kind and name, without the labels that only Helm sets.
fn by_name(yaml: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for mut document in documents(yaml) {
        let labels = document["metadata"]["labels"].as_object_mut().expect("everything has labels");
        labels.retain(|name, _| name != "helm.sh/chart" && name != "app.kubernetes.io/managed-by");
        order_by_name(&mut document);
        let name = format!("{} {}", document["kind"], document["metadata"]["name"]);
        assert!(found.insert(name.clone(), document).is_none(), "{name} is there twice");
    }
    found
}

/// Kustomize puts what it merges first, so the order of lists whose members have names says nothing.
fn order_by_name(value: &mut Value) {
    match value {
        Value::Array(members) => {
            members.iter_mut().for_each(order_by_name);
            if members.iter().all(|member| member["name"].is_string()) {
                members.sort_by_key(|member| member["name"].to_string());
            }
        }
        Value::Object(members) => members.values_mut().for_each(order_by_name),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_chart_renders_what_the_overlays_have() {
    for overlay in OVERLAYS {
        let (overlaid, charted) = (by_name(&kustomize(overlay)), by_name(&run(&mut chart(overlay, &[]), "")));
        let names = |found: &BTreeMap<String, Value>| found.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&overlaid), names(&charted), "{overlay}");
        for (name, document) in overlaid {
            assert_eq!(document, charted[&name], "{overlay}: {name}, kustomize left, chart right");
        }
    }
}

#[test]
fn kubernetes_and_the_operators_take_what_is_rendered() {
    for overlay in OVERLAYS {
        let (custom, core): (Vec<_>, Vec<_>) = documents(&kustomize(overlay)).into_iter().partition(|document| {
            CUSTOM.contains(&document["apiVersion"].as_str().unwrap().split('/').next().unwrap())
        });
        let folder = tempfile::tempdir().unwrap();
        for (number, document) in core.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{number}.yaml")), document.to_string()).unwrap();
        }
        let mut validate = python_tool("kubernetes-validate");
        validate.args(["--strict", "--kubernetes-version", "1.37"]);
        let said = run(validate.args((0..core.len()).map(|number| format!("{number}.yaml"))).current_dir(&folder), "");
        assert!(!said.contains("find schema"), "{overlay}: {said}");
        let mut validate = Command::new(tool("EVENTS_DB_TEST_NODE"));
        validate.arg(path("tests/tools/custom_resources.mjs")).arg(tool("EVENTS_DB_TEST_NODE_MODULES"));
        assert_eq!(run(&mut validate, &Value::from(custom).to_string()), "", "{overlay}");
    }
}

#[test]
fn the_checkers_see_what_is_wrong() {
    let wrong = json!([
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "a"},
            "spec": {"rules": [{"timeouts": {"request": "soon"}}]}},
        {"apiVersion": "cert-manager.io/v1", "kind": "Unheard", "metadata": {"name": "b"}},
    ]);
    let mut validate = Command::new(tool("EVENTS_DB_TEST_NODE"));
    validate.arg(path("tests/tools/custom_resources.mjs")).arg(tool("EVENTS_DB_TEST_NODE_MODULES"));
    let said = run(&mut validate, &wrong.to_string());
    assert!(said.contains("HTTPRoute a: ") && said.contains("Unheard b: "), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": 1}});
    std::fs::write(folder.path().join("service.yaml"), service.to_string()).unwrap();
    let mut validate = python_tool("kubernetes-validate");
    validate.args(["--strict", "--kubernetes-version", "1.37", "service.yaml"]).current_dir(&folder);
    assert!(!validate.output().unwrap().status.success());
}

#[test]
fn every_pod_is_locked_down_and_has_time_to_leave() {
    for overlay in OVERLAYS {
        let documents = documents(&kustomize(overlay));
        let pods: Vec<_> = documents.iter().map(|document| &document["spec"]["template"]["spec"]).collect();
        let pods: Vec<_> = pods.into_iter().filter(|pod| pod.is_object()).collect();
        assert!(!pods.is_empty());
        for pod in pods {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{overlay}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{overlay}");
            let container = &pod["containers"][0];
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{overlay}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{overlay}");
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{overlay}");
            if container["name"] == "events-db" {
                let seconds = |flag: &str| {
                    let arguments = container["args"].as_array().unwrap().iter().filter_map(Value::as_str);
                    let mut found = arguments.filter_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='));
                    found.next().unwrap().parse::<u64>().unwrap()
                };
                let leaves_within = seconds("--shutdown-delay") + seconds("--drain-timeout");
                assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > leaves_within, "{overlay}");
            }
        }
    }
}

#[test]
fn the_chart_refuses_values_that_cannot_work() {
    run(&mut helm(&["lint", "--strict", "."]), "");
    for (wrong, named) in [
        ("database.mode=oracle", "mode"),
        ("database.prot=1", "prot"),
        ("ingres.enabled=true", "ingres"),
        ("drainTimeout=30", "terminationGracePeriodSeconds"),
        ("autoscaling.targetCPU=80%", "targetCPU"),
        ("tls.enabled=true,ingress.enabled=true", "ingress"),
        ("tls.enabled=true,gateway.enabled=true", "gateway"),
    ] {
        let output = chart("mysql", &["--set", wrong]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(named), "{wrong}: {said}");
    }
}

#[test]
fn prometheus_asks_over_tls_where_the_port_speaks_it() {
    let monitored = kustomize_of(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../overlays/mysql]\n\
         components: [../components/monitoring, ../components/tls]\n",
    );
    let charted = run(&mut chart("mysql", &["--set", "tls.enabled=true,monitoring.enabled=true"]), "");
    for rendered in [monitored, charted] {
        let monitor = documents(&rendered).into_iter().find(|document| document["kind"] == "ServiceMonitor").unwrap();
        let endpoint = &monitor["spec"]["endpoints"][0];
        assert_eq!(
            (&endpoint["scheme"], &endpoint["tlsConfig"]["serverName"]),
            (&json!("https"), &json!("events.example.org"))
        );
    }
    let plain = run(&mut chart("mysql", &["--set", "monitoring.enabled=true"]), "");
    assert!(!plain.contains("scheme: https"));
}

#[test]
fn pods_may_connect_to_what_the_chart_is_told() {
    let rule = r#"networkPolicy.extraEgress=[{"ports":[{"port":4318,"protocol":"TCP"}]}]"#;
    let rendered = run(&mut chart("mysql", &["--set-json", rule]), "");
    let of_us = |document: &Value| document["kind"] == "NetworkPolicy" && document["metadata"]["name"] == "events-db";
    let policy = documents(&rendered).into_iter().find(of_us).unwrap();
    assert!(
        policy["spec"]["egress"].as_array().unwrap().contains(&json!({"ports": [{"port": 4318, "protocol": "TCP"}]}))
    );
}

#[test]
fn the_rules_for_the_operator_are_those_of_prometheus() {
    let rules = documents(&crate::text("deploy/prometheus/rules.yml")).pop().unwrap();
    let resource =
        documents(&crate::text("deploy/kubernetes/components/monitoring/prometheusrule.yaml")).pop().unwrap();
    assert_eq!(resource["spec"], rules, "what is in rules.yml goes below `spec` in prometheusrule.yaml");
}

#[test]
fn every_value_of_the_chart_is_in_its_schema() {
    let values = documents(&crate::text("deploy/helm/events-db/values.yaml")).pop().unwrap();
    let schema = path("deploy/helm/events-db/values.schema.json");
    check_schema(&schema, &values);
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let described: Vec<_> = names(&schema["properties"]).into_iter().filter(|name| name != "global").collect();
    assert_eq!(described, names(&values));
}
