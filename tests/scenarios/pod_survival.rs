//! Pods through deaths: of bramble, of one executor, of one container.

use bramble_tests::{Node, alive, can_run_containers, cgroup_processes, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const POD: &str = r#"{
    "id": "/pair",
    "networks": [{"mode": "container/bridge"}],
    "scheduling": {"backoff": {"backoff": 0}},
    "volumes": [{"name": "shared"}],
    "containers": [
        {"name": "first", "resources": {"cpus": 0.1, "mem": 16},
         "exec": {"command": {"shell": "echo up > shared/first; exec sleep 100000"}},
         "volumeMounts": [{"name": "shared", "mountPath": "shared"}]},
        {"name": "second", "resources": {"cpus": 0.1, "mem": 16},
         "exec": {"command": {"shell": "until grep up both/first; do sleep 0.1; done; exec sleep 100000"}},
         "volumeMounts": [{"name": "shared", "mountPath": "both"}]}
    ]
}"#;

/// The id of each container of the one instance, once both run; others than `before`.
fn containers(node: &Node, before: &[String]) -> Vec<String> {
    eventually("a stable pod", || {
        let status = node.get("/v2/pods/pair::status");
        let instances = status["instances"].as_array()?;
        let [instance] = instances.as_slice() else { return None };
        let of: Vec<&Value> = instance["containers"].as_array()?.iter().collect();
        let run = of.len() == 2 && of.iter().all(|c| c["status"] == "TASK_RUNNING");
        let ids: Vec<String> =
            of.iter().filter_map(|c| c["containerId"].as_str()).map(str::to_string).collect();
        (run && ids.len() == 2 && ids.iter().all(|id| !before.contains(id))).then_some(ids)
    })
}

fn started(node: &Node) -> Vec<String> {
    node.api("POST", "/v2/pods", Some(POD)).expect(201);
    containers(node, &[])
}

/// The executor of one container, by the directory its command line names.
fn executor_of(node: &Node, container: &str) -> i32 {
    let directory = node.run_dir().join("tasks").join(container).display().to_string();
    let named = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&directory)
    };
    let executors = bramble_tests::children_named("executor");
    executors.into_iter().find(named).expect("it has an executor")
}

fn network_of(pid: i32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

fn remove(node: &Node) {
    node.api("DELETE", "/v2/pods/pair", None).expect(202);
    node.wait_clean();
}

#[test]
fn pods_live_on_when_bramble_is_killed_and_are_taken_back() {
    if !can_run_containers("kill bramble under a pod") {
        return;
    }
    let mut node = Node::start();
    let before = started(&node);
    // Not what they call on the way there.
    let pids = eventually("both containers' last programs", || {
        let mut pids = cgroup_processes(&node.cgroup_parent);
        pids.retain(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line == b"sleep\x00100000\0"
        });
        (pids.len() == 2).then_some(pids)
    });
    let networks: std::collections::BTreeSet<_> = pids.iter().map(|pid| network_of(*pid)).collect();
    assert_eq!(networks.len(), 1, "one network: {networks:?}");
    node.stop(Signal::SIGKILL);
    node.up();
    assert_eq!(containers(&node, &[]), before);
    assert!(pids.iter().all(|pid| alive(*pid)), "the same processes");
    // Adopted means watched and obeyed.
    remove(&node);
    assert!(pids.iter().all(|pid| !alive(*pid)));
}

#[test]
fn a_killed_executor_takes_its_whole_pod_along_and_it_is_replaced() {
    if !can_run_containers("kill an executor of a pod") {
        return;
    }
    let node = Node::start();
    let before = started(&node);
    let pids = cgroup_processes(&node.cgroup_parent);
    kill(Pid::from_raw(executor_of(&node, &before[0])), Signal::SIGKILL).expect("it lives");
    eventually("the end of both", || pids.iter().all(|pid| !alive(*pid)).then_some(()));
    containers(&node, &before);
    remove(&node);
}

#[test]
fn a_container_that_ends_while_bramble_is_away_ends_its_pod() {
    if !can_run_containers("end a container of a pod") {
        return;
    }
    let mut node = Node::start();
    let before = started(&node);
    let pids = cgroup_processes(&node.cgroup_parent);
    node.stop(Signal::SIGKILL);
    kill(Pid::from_raw(executor_of(&node, &before[1])), Signal::SIGKILL).expect("it lives");
    node.up();
    containers(&node, &before);
    eventually("the end of both", || pids.iter().all(|pid| !alive(*pid)).then_some(()));
    remove(&node);
}

#[test]
fn a_pod_whose_making_was_cut_short_comes_up_whole() {
    if !can_run_containers("kill bramble while it makes a pod") {
        return;
    }
    let mut node = Node::start();
    for _ in 0..4 {
        node.api("POST", "/v2/pods", Some(POD)).expect(201);
        // Somewhere between its first container's creation and its last one's start.
        eventually("a first process", || {
            (!cgroup_processes(&node.cgroup_parent).is_empty()).then_some(())
        });
        node.stop(Signal::SIGKILL);
        node.up();
        let ids = containers(&node, &[]);
        let networks = ids.iter().map(|id| network_of(init_of(&node, id)));
        let networks: std::collections::BTreeSet<_> = networks.collect();
        assert_eq!(networks.len(), 1, "one network: {networks:?}");
        remove(&node);
    }
}

/// The first process of one container: its executor's child.
fn init_of(node: &Node, container: &str) -> i32 {
    let executor = executor_of(node, container);
    let path = format!("/proc/{executor}/task/{executor}/children");
    let children = std::fs::read_to_string(path).expect("its children");
    children.split_whitespace().next().expect("a child").parse().expect("a pid")
}
