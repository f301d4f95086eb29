//! A machine drops off the network and comes back.

use bramble_tests::{Node, can_run_containers, cgroup_processes, eventually};
use serde_json::Value;
use std::collections::BTreeSet;

/// Join two nodes' networks by a cable and give each an address.
fn connect(a: &Node, b: &Node) {
    let run = |node: &Node, arguments: &[&str]| {
        assert!(node.inside("ip").args(arguments).status().expect("ip runs").success());
    };
    let other = b.network_pid().to_string();
    run(a, &["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &other]);
    for (node, address) in [(a, "10.98.0.1/24"), (b, "10.98.0.2/24")] {
        run(node, &["addr", "add", address, "dev", "cable"]);
        run(node, &["link", "set", "cable", "up"]);
    }
}

fn cable(node: &Node, state: &str) {
    let status = node.inside("ip").args(["link", "set", "cable", state]).status();
    assert!(status.expect("ip runs").success());
}

fn app(id: &str, strategy: &str) -> String {
    format!(
        r#"{{"id":"{id}","cmd":"sleep 100000","cpus":0.1,"mem":16,"instances":2,
            "unreachableStrategy":{strategy}}}"#
    )
}

fn ids(tasks: &[Value], host: &str) -> Vec<String> {
    let there = tasks.iter().filter(|t| t["host"] == host);
    there.filter_map(|t| t["id"].as_str()).map(str::to_string).collect()
}

fn states(node: &Node, app: &str) -> Vec<(String, String)> {
    let text = |task: &Value, key: &str| task[key].as_str().unwrap_or_default().to_string();
    let tasks = node.tasks(app);
    let mut all: Vec<_> = tasks.iter().map(|t| (text(t, "host"), text(t, "state"))).collect();
    all.sort();
    all
}

#[test]
fn tasks_move_when_a_machine_is_cut_off_and_nothing_stays_twice_when_it_returns() {
    if !can_run_containers("unreachable") {
        return;
    }
    let mut first = Node::builder().arg("--agent-timeout").arg("1s").prepare();
    let home = Node::builder().prepare();
    connect(&first, &home);
    first.up();
    let _far = first.joined_by(&home, "far", "10.98.0.1:7443", &[]);
    let strategies = [
        ("gone", r#"{"inactiveAfterSeconds":0,"expungeAfterSeconds":0}"#),
        ("back", r#"{"inactiveAfterSeconds":0,"expungeAfterSeconds":100000}"#),
        ("waits", r#""disabled""#),
    ];
    let mut before = Vec::new();
    for (id, strategy) in strategies {
        first.api("POST", "/v2/apps", Some(&app(id, strategy))).expect(201);
        let tasks = first.running(id, 2);
        assert_eq!((ids(&tasks, &first.name).len(), ids(&tasks, "far").len()), (1, 1), "{id}");
        before.push(ids(&tasks, "far"));
    }

    cable(&first, "down");
    let here = |state: &str| (first.name.clone(), state.to_string());
    let far = |state: &str| ("far".to_string(), state.to_string());
    let run = || here("TASK_RUNNING");
    let lost = || far("TASK_UNREACHABLE");
    let until = |id: &str, mut expected: Vec<(String, String)>| {
        expected.sort();
        eventually(&format!("{id}: {expected:?}\n{}", first.log()), || {
            (states(&first, id) == expected).then_some(())
        });
    };
    until("gone", vec![run(), run()]);
    until("back", vec![run(), run(), lost()]);
    until("waits", vec![run(), lost()]);
    assert_eq!(first.get("/v2/apps/waits")["app"]["tasksRunning"], 1);
    let why = first.bramble(&["why", "waits"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("its agent is away; waits for it to return"), "{why}");
    // The machine itself goes on with what it was told.
    assert!(cgroup_processes(&home.cgroup_parent).len() >= 3);

    cable(&first, "up");
    first.until_connected("far", true);
    until("gone", vec![run(), run()]);
    until("waits", vec![run(), far("TASK_RUNNING")]);
    assert_eq!(ids(&first.tasks("waits"), "far"), before[2], "the same task");
    eventually(&format!("two tasks of back\n{}", first.log()), || {
        let states = states(&first, "back");
        (states.len() == 2 && states.iter().all(|(_, s)| s == "TASK_RUNNING")).then_some(())
    });
    // What was forgotten ends on the machine, too: only what the API shows runs there.
    eventually(&format!("no forgotten container\n{}", first.log()), || {
        let shown: usize =
            ["gone", "back", "waits"].iter().map(|id| ids(&first.tasks(id), "far").len()).sum();
        let names = home.cgroups().into_iter().filter_map(|dir| Some(dir.file_name()?.to_owned()));
        let tasks: BTreeSet<_> =
            names.filter(|name| name.to_string_lossy().contains("._app.")).collect();
        (tasks.len() == shown).then_some(())
    });
}
