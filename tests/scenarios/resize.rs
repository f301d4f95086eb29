//! A change of nothing but size reaches the running container, without a new task.

use bramble_tests::{Node, can_run_containers, cgroup_processes, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::PathBuf;

/// The one task of an app with its id and version.
fn task(node: &Node, app: &str) -> (String, String) {
    let task = node.running(app, 1).remove(0);
    let text = |key: &str| task[key].as_str().unwrap_or_default().to_string();
    (text("id"), text("version"))
}

/// A file of the only task's cgroup, whichever version the machine has.
fn limit_file(node: &Node, task: &str, names: [&str; 2]) -> PathBuf {
    let files = node.cgroups().into_iter().filter(|dir| dir.ends_with(task));
    let files = files.flat_map(|dir| names.map(|name| dir.join(name)));
    files
        .into_iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("no {names:?} of {task}"))
}

const MEMORY: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];

fn read(file: &PathBuf) -> String {
    std::fs::read_to_string(file).expect("a cgroup file").trim().to_string()
}

fn deployed(node: &Node) {
    eventually(&format!("the end of the deployment\n{}", node.log()), || {
        (node.get("/v2/deployments") == serde_json::json!([])).then_some(())
    });
}

/// Holds little until it is told `go` in its sandbox, then 8 MB.
fn sleeper(id: &str, mem: u32) -> String {
    let wait = "while [ ! -e go ]; do sleep 0.05; done";
    let fill = "x=$(head -c 8000000 /dev/zero | tr '\\\\0' x); echo holds ${#x}";
    format!(
        r#"{{"id":"{id}","cmd":"{wait}; {fill}; while :; do sleep 1000; done; echo ${{#x}}",
            "cpus":0.1,"mem":{mem},"backoffSeconds":0}}"#
    )
}

fn go(node: &Node, app: &str) {
    let output = node.bramble(&["exec", app, "touch", "go"]);
    assert!(output.status.success(), "{output:?}");
    eventually("the program's memory", || {
        let output = node.bramble(&["logs", app]);
        String::from_utf8_lossy(&output.stdout).contains("holds 8000000").then_some(())
    });
}

#[test]
fn a_running_task_is_given_more_and_can_use_it() {
    if !can_run_containers("resize") {
        return;
    }
    let mut node = Node::start();
    node.api("POST", "/v2/apps", Some(&sleeper("grows", 4))).expect(201);
    let (id, version) = task(&node, "grows");
    let pids = cgroup_processes(&node.cgroup_parent);
    let init = pids.first().copied().expect("a process");
    let larger = r#"{"mem":96,"cpus":0.5,"disk":10}"#;
    node.api("PUT", "/v2/apps/grows", Some(larger)).expect(200);
    deployed(&node);
    let (after, new_version) = task(&node, "grows");
    assert_eq!(after, id);
    assert_ne!(new_version, version);
    let app = node.get("/v2/apps/grows")["app"].clone();
    assert_eq!(app["version"], new_version.as_str());
    assert_eq!(app["versionInfo"]["lastConfigChangeAt"], new_version.as_str());
    assert!(cgroup_processes(&node.cgroup_parent).contains(&init), "the same process");
    let memory = limit_file(&node, &id, MEMORY);
    assert_eq!(read(&memory), (96 << 20).to_string());
    let quota = read(&limit_file(&node, &id, ["cpu.cfs_quota_us", "cpu.max"]));
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let agent = node.get("/v1/bramble/agents")[0].clone();
    assert_eq!(agent["used"], serde_json::json!({"cpus":0.5,"mem":96.0,"disk":10.0,"gpus":0}));
    go(&node, "grows");

    // What a killed agent has written down but not done is done by its next life.
    node.stop(Signal::SIGKILL);
    std::fs::write(&memory, (64 << 20).to_string()).expect("the earlier limit");
    node.up();
    eventually("the limit", || (read(&memory) == (96 << 20).to_string()).then_some(()));
    assert_eq!(task(&node, "grows").0, id);
    let same = node.api("PUT", "/v2/apps/grows", Some(r#"{"mem":80}"#)).expect(200);
    assert!(same.json()["deploymentId"].is_string());
    deployed(&node);
    assert_eq!((read(&memory), task(&node, "grows").0), ((80 << 20).to_string(), id));
}

#[test]
fn what_does_not_fit_into_less_is_replaced() {
    if !can_run_containers("resize down") {
        return;
    }
    let node = Node::start();
    node.api("POST", "/v2/apps", Some(&sleeper("shrinks", 96))).expect(201);
    let (id, _) = task(&node, "shrinks");
    go(&node, "shrinks");
    node.api("PUT", "/v2/apps/shrinks", Some(r#"{"mem":4}"#)).expect(200);
    deployed(&node);
    let (after, _) = task(&node, "shrinks");
    assert_ne!(after, id);
    assert!(node.log().contains("a task keeps its earlier size"), "{}", node.log());
    assert_eq!(read(&limit_file(&node, &after, MEMORY)), (4 << 20).to_string());
    let app = node.get("/v2/apps/shrinks")["app"].clone();
    assert_eq!(app["lastTaskFailure"], Value::Null, "nothing was killed for memory");

    // A program that looks at its size once asks for a new task.
    let label = r#"{"labels":{"BRAMBLE_RESIZE":"restart"}}"#;
    node.api("PUT", "/v2/apps/shrinks", Some(label)).expect(200);
    deployed(&node);
    let (labelled, _) = task(&node, "shrinks");
    node.api("PUT", "/v2/apps/shrinks", Some(r#"{"mem":8}"#)).expect(200);
    deployed(&node);
    assert_ne!(task(&node, "shrinks").0, labelled);
}

#[test]
fn without_room_a_new_task_takes_over_elsewhere() {
    if !can_run_containers("resize without room") {
        return;
    }
    let node = Node::builder().arg("--resources").arg("mem:100").start();
    node.api("POST", "/v2/apps", Some(&sleeper("moves", 60))).expect(201);
    let (id, _) = task(&node, "moves");
    node.api("PUT", "/v2/apps/moves", Some(r#"{"mem":120}"#)).expect(200);
    let why = eventually("a reason", || {
        let said = node.bramble(&["why", "moves"]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.contains("its agent has no room for the new size").then_some(said)
    });
    assert!(why.contains("needs 120 MiB"), "{why}");
    assert_eq!(node.tasks("moves")[0]["id"], id.as_str(), "nothing is stopped for nothing");
    let _second = node.joined_by(
        &node,
        "second",
        "127.0.0.1:7443",
        &["--quic", "127.0.0.1:0", "--resources", "mem:500"],
    );
    deployed(&node);
    let task = node.running("moves", 1).remove(0);
    assert_eq!(task["host"], "second");
    node.api("DELETE", "/v2/apps/moves", None).expect(200);
    eventually("no task", || node.tasks("moves").is_empty().then_some(()));
}
