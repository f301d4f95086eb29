//! What users say of agents while everything runs: attributes, roles, and tasks that follow them.

use bramble_tests::{Node, can_run_containers, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn good(node: &Node, arguments: &[&str]) -> String {
    let output = node.bramble(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn host(node: &Node, app: &str) -> Value {
    node.running(app, 1).remove(0)["host"].clone()
}

fn until_on(node: &Node, app: &str, name: &str) {
    eventually(&format!("{app} on {name}\n{}", node.log()), || {
        let tasks = node.tasks(app);
        let there = tasks.iter().all(|t| t["host"] == name && t["state"] == "TASK_RUNNING");
        (tasks.len() == 1 && there).then_some(())
    });
}

const RACKED: &str = r#"{"id":"racked","cmd":"sleep 100000","cpus":0.1,"mem":16,
    "constraints":[["rack","IS","r1"]]}"#;
const EDGE: &str = r#"{"id":"edge","cmd":"sleep 100000","cpus":0.1,"mem":16,
    "acceptedResourceRoles":["edge"]}"#;

#[test]
fn attributes_set_while_running_place_and_move_tasks() {
    if !can_run_containers("attributes") {
        return;
    }
    let mut node = Node::builder().arg("--attributes").arg("rack:r0;disk:ssd").start();
    let name = node.name.clone();
    let second = node.joined_by(&node, "second", "127.0.0.1:7443", &["--quic", "127.0.0.1:0"]);
    node.api("POST", "/v2/apps", Some(RACKED)).expect(201);
    eventually("a reason", || {
        let said = good(&node, &["why", "racked"]);
        said.contains("constraint [rack IS r1] does not hold").then_some(())
    });
    let said = good(&node, &["agents", "set", &second.name, "rack=r1"]);
    assert!(said.contains("rack=r1"), "{said}");
    assert_eq!(host(&node, "racked"), "second");
    let first = node.tasks("racked")[0]["id"].clone();

    good(&node, &["agents", "set", &name, "rack=r1", "room=attic"]);
    assert_eq!(node.tasks("racked")[0]["id"], first, "nothing stands wrong");
    good(&node, &["agents", "unset", "second", "rack"]);
    until_on(&node, "racked", &name);

    // What was said outlives a restart, and stands above what the node is started with.
    node.stop(Signal::SIGKILL);
    node.up();
    let agent = node.get(&format!("/v1/bramble/agents/{name}"));
    let attributes = &agent["attributes"];
    for (name, value) in [("disk", "ssd"), ("rack", "r1"), ("room", "attic")] {
        assert_eq!(attributes[name], value, "{attributes}");
    }
    until_on(&node, "racked", &name);
    let unknown = node.bramble(&["agents", "set", "nobody", "a=b"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("Agent 'nobody' does not exist"));
    let path = format!("/v1/bramble/agents/{name}");
    let bad = node.api("PATCH", &path, Some(r#"{"attributes":{"a b":"c"}}"#)).expect(422).json();
    assert!(bad["message"].as_str().is_some_and(|m| m.contains("'a b'")), "{bad}");
    node.api("PATCH", &path, Some(r#"{"roles":"x"}"#)).expect(422);
    node.api("DELETE", "/v2/apps/racked", None).expect(200);
    eventually("no task", || node.tasks("racked").is_empty().then_some(()));
}

#[test]
fn roles_set_while_running_are_matched() {
    if !can_run_containers("roles") {
        return;
    }
    let node = Node::start();
    let name = node.name.clone();
    node.api("POST", "/v2/apps", Some(EDGE)).expect(201);
    let item = eventually("a reason", || {
        let queue = node.get("/v2/queue?embed=lastUnusedOffers");
        let item = queue["queue"][0].clone();
        item["lastUnusedOffers"][0].is_object().then_some(item)
    });
    let unused = &item["lastUnusedOffers"][0];
    assert_eq!(unused["reason"][0], "UnfulfilledRole");
    assert_eq!(unused["offer"]["resources"][0]["role"], "*");
    let summary = &item["processedOffersSummary"]["rejectSummaryLastOffers"][0];
    assert_eq!((&summary["reason"], &summary["declined"]), (&json!("UnfulfilledRole"), &json!(1)));
    let why = good(&node, &["why", "edge"]);
    assert!(why.contains("takes edge, the agent lends to *"), "{why}");
    assert!(why.contains(r#"add "*" to acceptedResourceRoles"#), "{why}");

    let table = good(&node, &["agents", "set", &name, "--role", "edge"]);
    assert!(table.contains("edge"), "{table}");
    assert_eq!(host(&node, "edge"), name.as_str());
    // Others find the agent closed, and say so.
    let other = r#"{"id":"other","cmd":"sleep 100000","cpus":0.1,"mem":16}"#;
    node.api("POST", "/v2/apps", Some(other)).expect(201);
    eventually("the other's reason", || {
        let queue = node.get("/v2/queue?embed=lastUnusedOffers");
        let unused = queue["queue"][0]["lastUnusedOffers"][0].clone();
        (unused["reason"][0] == "UnfulfilledRole"
            && unused["offer"]["resources"][0]["role"] == "edge")
            .then_some(())
    });
    good(&node, &["agents", "unset", &name, "--roles"]);
    assert_eq!(host(&node, "other"), name.as_str());
    // It has nowhere else to go: better where it may not be than nowhere.
    assert_eq!(host(&node, "edge"), name.as_str());
    let why = good(&node, &["why", "edge"]);
    assert!(why.contains("moves when it finds another place"), "{why}");
}
