//! Machines are emptied for maintenance, opened again, and filled again gently.

use bramble_tests::{Node, can_run_containers, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::Stdio;

fn good(node: &Node, arguments: &[&str]) -> String {
    let output = node.bramble(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn on(tasks: &[Value], host: &str) -> usize {
    tasks.iter().filter(|t| t["host"] == host).count()
}

fn running(tasks: &[Value]) -> usize {
    tasks.iter().filter(|t| t["state"] == "TASK_RUNNING").count()
}

fn no_deployments(node: &Node) {
    eventually("the end of the deployments", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

const POD: &str = r#"{"id":"/pair","scaling":{"kind":"fixed","instances":2},
    "containers":[{"name":"c","resources":{"cpus":0.1,"mem":16},
        "exec":{"command":{"shell":"sleep 100000"}}}]}"#;

#[test]
fn a_drained_machine_empties_while_capacity_is_kept() {
    if !can_run_containers("drain") {
        return;
    }
    let mut node = Node::start();
    let name = node.name.clone();
    let quic = ["--quic", "127.0.0.1:0"];
    let second = node.joined_by(&node, "second", "127.0.0.1:7443", &quic);
    let web = r#"{"id":"web","cmd":"sleep 100000","cpus":0.1,"mem":16,"instances":4,
        "upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":0.25}}"#;
    node.api("POST", "/v2/apps", Some(web)).expect(201);
    node.api("POST", "/v2/pods", Some(POD)).expect(201);
    let only = r#"{"id":"only","cmd":"sleep 100000","cpus":0.1,"mem":16,
        "labels":{"MARATHON_SINGLE_INSTANCE_APP":"true"},
        "upgradeStrategy":{"minimumHealthCapacity":0,"maximumOverCapacity":0}}"#;
    node.api("POST", "/v2/apps", Some(only)).expect(201);
    let tasks = node.running("web", 4);
    assert_eq!((on(&tasks, &name), on(&tasks, "second")), (2, 2));
    let from = node.running("only", 1)[0]["host"].as_str().expect("a host").to_string();
    no_deployments(&node);
    let to = if from == name { "second" } else { name.as_str() };

    let mut waiting = node.verb(&["drain", &from, "--wait"]);
    let mut waiting = waiting.stdout(Stdio::piped()).spawn().expect("drain starts");
    let (mut least, mut most) = (usize::MAX, 0);
    let ended = eventually(&format!("the end of drain\n{}", node.log()), || {
        let (tasks, only) = (node.tasks("web"), node.tasks("only"));
        (least, most) = (least.min(running(&tasks)), most.max(tasks.len()));
        assert!(only.len() <= 1, "never two: {only:?}");
        waiting.try_wait().expect("it is ours")
    });
    assert!(ended.success(), "{ended}");
    let told = waiting.wait_with_output().expect("its output").stdout;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.ends_with(&format!("{from}: 0 tasks left\n")), "{told}");
    assert!(least >= 4 && most <= 5, "between {least} and {most} tasks");
    assert_eq!(on(&node.running("web", 4), to), 4);
    assert_eq!(on(&node.running("only", 1), to), 1);
    let row = |word: &str| {
        let table = good(&node, &["agents"]);
        table.lines().any(|line| line.starts_with(&from) && line.contains(word))
    };
    assert!(row("DRAINED"));

    // It is drained also after everything was killed, and says why it takes nothing.
    node.stop(Signal::SIGKILL);
    node.up();
    node.until_connected("second", true);
    let bound = format!(
        r#"{{"id":"bound","cmd":"sleep 100000","cpus":0.1,"mem":16,
            "constraints":[["hostname","IS","{from}"]]}}"#
    );
    node.api("POST", "/v2/apps", Some(&bound)).expect(201);
    eventually("the reason in the queue", || {
        let queue = node.get("/v2/queue?embed=lastUnusedOffers");
        let offers = queue["queue"][0]["lastUnusedOffers"].as_array()?.clone();
        let own = offers.iter().find(|o| o["offer"]["hostname"] == from.as_str())?;
        (own["reason"][0] == "AgentMaintenance").then_some(())
    });
    let why = good(&node, &["why", "bound"]);
    assert!(why.contains(&format!("it takes no tasks (bramble undrain {from})")), "{why}");

    let said = good(&node, &["undrain", &from]);
    assert_eq!(said, format!("{from} is open: tasks may come to it\n"));
    assert_eq!(node.running("bound", 1)[0]["host"], from.as_str());
    assert!(
        good(&node, &["agents"]).lines().any(|l| l.starts_with(&from) && l.contains("connected"))
    );
    drop(second);
}

#[test]
fn what_cannot_move_is_named_and_stays() {
    if !can_run_containers("drain") {
        return;
    }
    let node = Node::start();
    let name = node.name.clone();
    let db = json!({
        "id": "db", "cmd": "sleep 100000", "cpus": 0.1, "mem": 16,
        "container": { "type": "MESOS", "volumes": [{
            "containerPath": "data", "mode": "RW", "persistent": { "size": 1 },
        }]},
    });
    node.api("POST", "/v2/apps", Some(&db.to_string())).expect(201);
    let web = r#"{"id":"web","cmd":"sleep 100000","cpus":0.1,"mem":16}"#;
    node.api("POST", "/v2/apps", Some(web)).expect(201);
    let before = (node.running("db", 1), node.running("web", 1));
    no_deployments(&node);
    let output = node.bramble(&["drain", &name, "--wait", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let (told, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(told.starts_with(&format!("{name}: 2 tasks left\n")), "{told}");
    for words in ["its data is there", "there is no other agent"] {
        assert!(told.contains(words) && error.contains(words), "{told}{error}");
    }
    let ids = |tasks: &[Value]| tasks.iter().map(|t| t["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&node.running("db", 1)), ids(&before.0));
    assert_eq!(ids(&node.running("web", 1)), ids(&before.1));
    let view: Value =
        serde_json::from_str(&good(&node, &["--json", "undrain", &name])).expect("JSON");
    assert_eq!((&view["state"], &view["host"]), (&json!("open"), &json!(name)));
    let unknown = node.bramble(&["drain", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("Agent 'nobody' does not exist"));
}

#[test]
fn an_app_spreads_again_once_its_machine_is_back() {
    if !can_run_containers("rebalance") {
        return;
    }
    let node = Node::builder().arg("--agent-timeout").arg("1s").start();
    let quic = ["--quic", "127.0.0.1:0"];
    let second = node.joined_by(&node, "second", "127.0.0.1:7443", &quic);
    let web = r#"{"id":"web","cmd":"sleep 100000","cpus":0.1,"mem":16,"instances":4,
        "unreachableStrategy":{"inactiveAfterSeconds":0,"expungeAfterSeconds":0}}"#;
    node.api("POST", "/v2/apps", Some(web)).expect(201);
    assert_eq!(on(&node.running("web", 4), "second"), 2);
    no_deployments(&node);
    drop(second);
    eventually(&format!("all on one\n{}", node.log()), || {
        let tasks = node.tasks("web");
        (running(&tasks) == 4 && on(&tasks, &node.name) == 4 && tasks.len() == 4).then_some(())
    });
    let _second = node.joined_by(&node, "second", "127.0.0.1:7443", &quic);
    let mut least = usize::MAX;
    eventually(&format!("two on each\n{}", node.log()), || {
        let tasks = node.tasks("web");
        least = least.min(running(&tasks));
        (running(&tasks) == 4 && tasks.len() == 4 && on(&tasks, "second") == 2).then_some(())
    });
    assert!(least >= 4, "{least} tasks");
}
