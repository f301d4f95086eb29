//! Definitions written by others, posted with the plain curl of 2015.
//!
//! Verbatim they must be taken, shown in the canonical form, and taken back in that form without
//! a change. Where an image or a program cannot be had, one that sleeps stands in, and it runs.

use bramble_tests::{BusyboxImage, Node, can_run_containers, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Not apps: groups and an array of apps.
const OTHER_KINDS: [&str; 3] = ["old-group-0.8", "sys-sleep-group", "raml-apps-create"];
/// Documentation that shows fields which exclude each other.
const REFUSED: &str = "raml-app-full";
/// What the cluster adds to an app, or changes by itself.
const ADDED: [&str; 9] = [
    "version",
    "versionInfo",
    "deployments",
    "tasks",
    "tasksStaged",
    "tasksRunning",
    "tasksHealthy",
    "tasksUnhealthy",
    "lastTaskFailure",
];

fn samples() -> BTreeMap<String, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = directory.join("../master/src/normalize/fixtures/samples");
    let entries = std::fs::read_dir(directory).expect("the samples lie in the tree");
    let paths = entries.map(|entry| entry.expect("the samples can be read").path());
    let json = paths.filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    json.map(|path| {
        let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("a sample can be read"))
    })
    .collect()
}

fn apps() -> BTreeMap<String, String> {
    let mut samples = samples();
    samples.retain(|name, _| !OTHER_KINDS.contains(&name.as_str()));
    assert!(samples.len() >= 20, "only {} apps among the samples", samples.len());
    samples
}

/// An app without what the cluster adds.
fn definition(node: &Node, id: &str) -> Value {
    let mut app = node.get(&format!("/v2/apps{id}"))["app"].clone();
    let fields = app.as_object_mut().expect("an app");
    fields.retain(|key, _| !ADDED.contains(&key.as_str()));
    app
}

/// Delete an app and wait until nothing of it is going on.
fn delete(node: &Node, id: &str) {
    node.api("DELETE", &format!("/v2/apps{id}?force=true"), None).expect(200);
    eventually("the end of all deployments", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

/// Every key of the forms before 1.5, and every null, in an answer.
fn legacy(at: &str, value: &Value, found: &mut Vec<String>) {
    let old = ["uris", "storeUrls", "ipAddress"];
    match value {
        Value::Null => found.push(format!("{at} is null")),
        Value::Object(fields) => {
            for (key, value) in fields {
                let inner = format!("{at}/{key}");
                let in_docker = at == "/container/docker";
                let moved = in_docker && ["network", "portMappings"].contains(&key.as_str());
                if moved || at.is_empty() && (old.contains(&key.as_str()) || key == "ports") {
                    found.push(inner.clone());
                }
                legacy(&inner, value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| legacy(at, item, found)),
        _ => {}
    }
}

/// What was asked for must stand in the canonical form under its present name.
fn keeps(name: &str, asked: &Value, app: &Value) {
    for key in ["cmd", "cpus", "mem", "instances", "labels", "constraints", "upgradeStrategy"] {
        let unset = asked[key].is_null() || asked[key].as_array().is_some_and(Vec::is_empty);
        if unset {
            continue;
        }
        let same = match (asked[key].as_f64(), app[key].as_f64()) {
            (Some(asked), Some(shown)) => asked == shown,
            _ => asked[key] == app[key],
        };
        assert!(same, "{name}: {key} is {} and was {}", app[key], asked[key]);
    }
    let docker = &asked["container"]["docker"];
    assert_eq!(app["container"]["docker"]["image"], docker["image"], "{name}");
    let asked_mappings = docker["portMappings"].as_array();
    let asked_mappings = asked_mappings.or(asked["container"]["portMappings"].as_array());
    for (index, mapping) in asked_mappings.into_iter().flatten().enumerate() {
        let shown = &app["container"]["portMappings"][index];
        assert_eq!(shown["containerPort"], mapping["containerPort"], "{name}");
        assert!(shown["servicePort"].as_u64().is_some_and(|port| port > 0), "{name}: {shown}");
    }
    let mode = match docker["network"].as_str().or(asked["networks"][0]["mode"].as_str()) {
        Some("BRIDGE" | "container/bridge") => "container/bridge",
        _ => "host",
    };
    assert_eq!(app["networks"][0]["mode"], mode, "{name}");
    let files = asked["uris"].as_array().or(asked["fetch"].as_array()).map_or(0, Vec::len);
    assert_eq!(app["fetch"].as_array().map_or(0, Vec::len), files, "{name}");
    for (index, check) in asked["healthChecks"].as_array().into_iter().flatten().enumerate() {
        assert_eq!(app["healthChecks"][index]["protocol"], check["protocol"], "{name}");
    }
}

#[test]
fn every_app_is_taken_shown_canonically_and_taken_back() {
    if !can_run_containers("samples") {
        return;
    }
    let node = Node::start();
    for (name, text) in apps() {
        let answer = node.api("POST", "/v2/apps", Some(&text));
        if name == REFUSED {
            let refused = answer.expect(422).json();
            assert_eq!(refused["message"], "Object is not valid", "{refused}");
            assert!(refused["details"].as_array().is_some_and(|all| !all.is_empty()), "{refused}");
            continue;
        }
        assert_eq!(answer.status, 201, "{name}: {answer:?}");
        let asked: Value = serde_json::from_str(&text).expect("a sample is JSON");
        let id = answer.json()["id"].as_str().expect("an id").to_string();
        let app = definition(&node, &id);
        let mut old = Vec::new();
        legacy("", &app, &mut old);
        assert!(old.is_empty(), "{name}: {old:?} in {app}");
        keeps(&name, &asked, &app);
        let path = format!("/v2/apps{id}?force=true&partialUpdate=false");
        node.api("PUT", &path, Some(&app.to_string())).expect(200);
        assert_eq!(definition(&node, &id), app, "{name}");
        delete(&node, &id);
    }
}

#[test]
fn the_same_app_in_two_forms_means_the_same() {
    if !can_run_containers("samples, two forms") {
        return;
    }
    let node = Node::start();
    let samples = samples();
    let networks = ["mlb-nginx-old", "mlb-nginx-15"].map(|name| {
        node.api("POST", "/v2/apps", Some(&samples[name])).expect(201);
        let app = definition(&node, "/nginx");
        delete(&node, "/nginx");
        (app["networks"].clone(), app["container"].clone(), app["labels"].clone())
    });
    assert_eq!(networks[0], networks[1]);
}

#[test]
fn an_array_of_apps_is_one_deployment() {
    if !can_run_containers("samples, array") {
        return;
    }
    let node = Node::start();
    let answer = node.api("PUT", "/v2/apps", Some(&samples()["raml-apps-create"])).expect(200);
    let deployment = answer.json()["deploymentId"].clone();
    assert_eq!(answer.header("marathon-deployment-id"), deployment.as_str());
    for id in ["/test/sleep60", "/test/sleep120"] {
        assert_eq!(node.get(&format!("/v2/apps{id}"))["app"]["instances"], 2, "{id}");
    }
}

/// Ids of all apps of a group and of the groups below it.
fn members(group: &Value, found: &mut Vec<String>) {
    for app in group["apps"].as_array().into_iter().flatten() {
        found.push(app["id"].as_str().expect("an id").to_string());
    }
    for inner in group["groups"].as_array().into_iter().flatten() {
        members(inner, found);
    }
}

#[test]
fn groups_are_taken_with_all_their_members() {
    if !can_run_containers("samples, groups") {
        return;
    }
    let node = Node::start();
    let department = [
        "/department-a/product-a/service-a",
        "/department-a/product-a/service-b",
        "/department-a/service-common",
    ];
    let sleep = ["/sleep-group/sleep/goodnight-1", "/sleep-group/sleep/goodnight-2"];
    let rows = [
        ("old-group-0.8", "/department-a", department.as_slice()),
        ("sys-sleep-group", "/sleep-group", sleep.as_slice()),
    ];
    for (name, id, expected) in rows {
        let text = &samples()[name];
        let answer = node.api("POST", "/v2/groups", Some(text)).expect(201);
        let location = format!("http://localhost:8080/v2/groups{id}");
        assert_eq!(answer.header("location"), Some(location.as_str()), "{name}");
        let mut found = Vec::new();
        members(&node.get(&format!("/v2/groups{id}")), &mut found);
        found.sort();
        assert_eq!(found, expected, "{name}");
        node.api("POST", "/v2/groups", Some(text)).expect(409);
    }
}

/// Small enough for any machine, and of programs that are at hand.
fn stand_in(text: &str) -> Value {
    let mut app: Value = serde_json::from_str(text).expect("a sample is JSON");
    let fields = app.as_object_mut().expect("an app");
    for unreachable in ["uris", "fetch", "acceptedResourceRoles", "healthChecks"] {
        fields.remove(unreachable);
    }
    fields.remove("readinessChecks");
    fields.insert("cpus".into(), json!(0.05));
    fields.insert("mem".into(), json!(16));
    fields.insert("taskKillGracePeriodSeconds".into(), json!(1));
    if fields.contains_key("cmd") {
        fields.insert("cmd".into(), json!("exec sleep 1000"));
    }
    if let Some(container) = fields.get_mut("container") {
        // A path of the host is there only with the owner's word.
        container["volumes"] = json!([]);
        if let Some(docker) = container.get_mut("docker") {
            docker["image"] = json!("bramble-test/sleeper:1");
            docker["forcePullImage"] = json!(false);
        }
    }
    app
}

#[test]
fn every_app_runs_with_programs_that_are_at_hand() {
    if !can_run_containers("samples, running") {
        return;
    }
    let node = Node::start();
    let image = BusyboxImage::new("bramble-test/sleeper:1", &["sleep", "1000"]);
    let archive = image.save(node.root());
    let output = node.bramble(&["load", &archive.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (name, text) in apps().into_iter().filter(|(name, _)| name != REFUSED) {
        let app = stand_in(&text);
        let answer = node.api("POST", "/v2/apps", Some(&app.to_string()));
        assert_eq!(answer.status, 201, "{name}: {answer:?}");
        let id = answer.json()["id"].as_str().expect("an id").to_string();
        let instances = app["instances"].as_u64().unwrap_or(1) as usize;
        node.running(id.trim_start_matches('/'), instances);
        delete(&node, &id);
    }
    node.wait_clean();
}
