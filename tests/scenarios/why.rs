//! "Why is it not running?", "where would it land?", and the way back.

use bramble_tests::{Node, can_run_containers, eventually};
use serde_json::Value;
use std::process::Output;

fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const STUCK: &str = r#"{"id":"stuck","cmd":"sleep 10000","cpus":1000,"mem":16}"#;

#[test]
fn why_names_what_is_missing_and_the_smallest_change() {
    if !can_run_containers("why") {
        return;
    }
    let node = Node::start();
    node.api("POST", "/v2/apps", Some(STUCK)).expect(201);
    let said = eventually("a reason", || {
        let said = good(node.bramble(&["why", "stuck"]));
        said.contains("cpus: needs 1000").then_some(said)
    });
    assert!(said.contains(&node.name) && said.contains("set cpus to"), "{said}");
    assert!(said.contains("0 of 1 instances run"), "{said}");
    let json: Value =
        serde_json::from_str(&good(node.bramble(&["why", "stuck", "--json"]))).expect("JSON");
    assert_eq!(json["outlook"]["agents"][0]["reasons"][0]["reason"], "InsufficientCpus");
    // The change it names is enough.
    let change = r#"{"cpus":0.1}"#;
    node.api("PUT", "/v2/apps/stuck?force=true", Some(change)).expect(200);
    node.running("stuck", 1);
    eventually("nothing wrong", || {
        good(node.bramble(&["why", "stuck"])).contains("nothing is wrong").then_some(())
    });
    let unknown = node.bramble(&["why", "absent"]);
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("does not exist"), "{unknown:?}");
}

#[test]
fn a_dry_run_says_where_and_changes_nothing() {
    if !can_run_containers("dry run") {
        return;
    }
    let node = Node::start();
    let small = r#"{"id":"small","cmd":"sleep 10000","cpus":0.1,"mem":16,"instances":2}"#;
    eventually("an agent that offers", || {
        let answer = node.api("POST", "/v2/apps?dryRun=true", Some(small)).expect(200).json();
        let placed = &answer["placements"][0];
        (placed["host"] == node.name.as_str() && placed["instances"] == 2).then_some(())
    });
    let answer = node.api("POST", "/v2/apps?dryRun=true", Some(STUCK)).expect(200).json();
    assert_eq!(
        (&answer["unplaced"], &answer["agents"][0]["host"]),
        (&1.into(), &node.name.clone().into())
    );
    let reason = &answer["agents"][0]["reasons"][0];
    assert_eq!(reason["reason"], "InsufficientCpus");
    assert!(reason["change"].as_str().is_some_and(|c| c.starts_with("set cpus to")), "{reason}");
    node.api("POST", "/v2/apps?dryRun=true", Some(r#"{"id":"UPPER","cmd":"x"}"#)).expect(422);
    assert_eq!(node.get("/v2/apps")["apps"], serde_json::json!([]));
    assert_eq!(node.get("/v2/deployments"), serde_json::json!([]));

    node.api("POST", "/v2/apps", Some(small)).expect(201);
    node.running("small", 2);
    node.api("POST", "/v2/apps?dryRun=true", Some(small)).expect(409);
    let more = r#"{"instances":3}"#;
    let answer = node.api("PUT", "/v2/apps/small?dryRun=true", Some(more)).expect(200).json();
    assert_eq!((&answer["wanted"], &answer["placements"][0]["instances"]), (&1.into(), &1.into()));
    assert_eq!(node.get("/v2/apps/small")["app"]["instances"], 2);
    assert_eq!(node.get("/v2/apps/small/versions")["versions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn rollback_goes_to_the_version_before_or_the_one_named() {
    if !can_run_containers("rollback") {
        return;
    }
    let node = Node::start();
    let app = |command: &str| {
        format!(r#"{{"id":"web","cmd":"{command}; sleep 10000","cpus":0.1,"mem":16}}"#)
    };
    let command =
        || node.get("/v2/apps/web")["app"]["cmd"].as_str().unwrap_or_default().to_string();
    node.bramble_with_input(&["deploy", "-", "--wait"], app("echo one").as_bytes());
    let none = node.bramble(&["rollback", "web"]);
    assert!(!none.status.success());
    assert!(String::from_utf8_lossy(&none.stderr).contains("no earlier version"), "{none:?}");
    let first = node.get("/v2/apps/web")["app"]["version"].as_str().expect("a version").to_string();
    for text in ["echo two", "echo three"] {
        node.bramble_with_input(&["deploy", "-", "--wait"], app(text).as_bytes());
    }
    assert_eq!(good(node.bramble(&["rollback", "web", "--wait"])), "done\n");
    assert!(command().starts_with("echo two"));
    assert_eq!(good(node.bramble(&["rollback", "web", &first, "--wait"])), "done\n");
    assert!(command().starts_with("echo one"));
}
