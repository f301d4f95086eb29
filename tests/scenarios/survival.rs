//! What dies, what lives on, and what is left: kill -9 of everything that can be killed.

use bramble_tests::{
    Node, alive, can_run_containers, cgroup_processes, children_named, eventually,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SLEEPER: &str =
    r#"{"id":"sleeper","cmd":"sleep 100000","cpus":0.1,"mem":16,"instances":2,"backoffSeconds":0}"#;

fn ids(tasks: &[Value]) -> Vec<String> {
    let mut ids: Vec<String> =
        tasks.iter().filter_map(|t| t["id"].as_str()).map(str::to_string).collect();
    ids.sort();
    ids
}

/// Executors of one node: their command line names a directory below its run dir.
fn executors(node: &Node) -> Vec<i32> {
    let below = node.run_dir().display().to_string();
    let ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&below)
    };
    children_named("executor").into_iter().filter(ours).collect()
}

/// Wait until two tasks run, none of which is of `before`.
fn others(node: &Node, before: &[String]) {
    eventually("two other tasks", || {
        let tasks = node.tasks("sleeper");
        let running = tasks.iter().filter(|t| t["state"] == "TASK_RUNNING").count();
        (running == 2 && ids(&tasks).iter().all(|id| !before.contains(id))).then_some(())
    });
}

/// Give what was committed a chance to turn out wrong: look at it several times through changes
/// of another app, each of which passes through the whole way of data.
fn stays(node: &Node, app: &str, expected: &[String]) {
    for round in 0..3 {
        let marker = format!(r#"{{"id":"marker{round}","cmd":"sleep 1000","cpus":0.1,"mem":16}}"#);
        node.api("POST", "/v2/apps", Some(&marker)).expect(201);
        node.running(&format!("marker{round}"), 1);
        node.api("DELETE", &format!("/v2/apps/marker{round}"), None).expect(200);
        assert_eq!(ids(&node.tasks(app)), expected);
    }
}

#[test]
fn containers_live_on_when_bramble_is_killed_and_are_taken_back() {
    if !can_run_containers("kill bramble") {
        return;
    }
    let mut node = Node::start();
    node.api("POST", "/v2/apps", Some(SLEEPER)).expect(201);
    let before = ids(&node.running("sleeper", 2));
    let pids = cgroup_processes(&node.cgroup_parent);
    node.stop(Signal::SIGKILL);
    assert_eq!(cgroup_processes(&node.cgroup_parent), pids, "containers went with bramble");
    node.up();
    assert_eq!(ids(&node.running("sleeper", 2)), before);
    stays(&node, "sleeper", &before);
    assert!(pids.iter().all(|pid| alive(*pid)));
    // Adopted means obeyed: it can still be stopped.
    node.api("DELETE", "/v2/apps/sleeper", None).expect(200);
    node.wait_clean();
}

#[test]
fn what_ended_while_bramble_was_away_is_noticed() {
    if !can_run_containers("end while away") {
        return;
    }
    let mut node = Node::start();
    node.api("POST", "/v2/apps", Some(SLEEPER)).expect(201);
    let before = ids(&node.running("sleeper", 2));
    node.stop(Signal::SIGKILL);
    for pid in cgroup_processes(&node.cgroup_parent) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    eventually("the containers' end", || {
        cgroup_processes(&node.cgroup_parent).is_empty().then_some(())
    });
    node.up();
    others(&node, &before);
}

#[test]
fn a_killed_executor_takes_its_container_along_and_is_replaced() {
    if !can_run_containers("kill executor") {
        return;
    }
    let node = Node::start();
    let one = SLEEPER.replace("\"instances\":2", "\"instances\":1");
    node.api("POST", "/v2/apps", Some(&one)).expect(201);
    let first = ids(&node.running("sleeper", 1));
    let pids = cgroup_processes(&node.cgroup_parent);
    let executor = executors(&node);
    assert_eq!(executor.len(), 1);
    kill(Pid::from_raw(executor[0]), Signal::SIGKILL).expect("it lives");
    eventually("the container's end", || pids.iter().all(|pid| !alive(*pid)).then_some(()));
    eventually("another task", || {
        let tasks = node.running("sleeper", 1);
        (ids(&tasks) != first).then_some(())
    });
    let failure = node.get("/v2/apps/sleeper")["app"]["lastTaskFailure"].clone();
    assert_eq!(failure["taskId"].as_str(), Some(first[0].as_str()), "{failure}");
    assert!(failure["message"].as_str().is_some_and(|m| m.contains("executor")), "{failure}");
    node.api("DELETE", "/v2/apps/sleeper", None).expect(200);
    node.wait_clean();
}

#[test]
fn ctrl_c_leaves_apps_running_and_down_stops_them() {
    if !can_run_containers("ctrl-c and down") {
        return;
    }
    let mut node = Node::start();
    node.api("POST", "/v2/apps", Some(SLEEPER)).expect(201);
    let before = ids(&node.running("sleeper", 2));
    let pids = cgroup_processes(&node.cgroup_parent);
    node.stop(Signal::SIGINT);
    let said = node.banner() + &node.log();
    assert!(said.contains("keep running") && said.contains("bramble down"), "{said}");
    assert_eq!(cgroup_processes(&node.cgroup_parent), pids);
    node.up();
    assert_eq!(ids(&node.running("sleeper", 2)), before);
    let output = node.down();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
    assert!(node.cgroups().is_empty(), "{:?}", node.cgroups());
    // A new start with the same data brings them back, as new tasks and without a delay.
    node.up();
    others(&node, &before);
}

#[test]
fn down_works_when_bramble_does_not_run() {
    if !can_run_containers("down alone") {
        return;
    }
    let mut node = Node::start();
    node.api("POST", "/v2/apps", Some(SLEEPER)).expect(201);
    let before = ids(&node.running("sleeper", 2));
    node.stop(Signal::SIGKILL);
    assert!(!cgroup_processes(&node.cgroup_parent).is_empty());
    let output = node.down();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
    assert!(node.cgroups().is_empty(), "{:?}", node.cgroups());
    node.up();
    others(&node, &before);
}

#[test]
fn a_power_cut_brings_apps_back() {
    if !can_run_containers("power cut") {
        return;
    }
    let mut node = Node::start();
    node.api("POST", "/v2/apps", Some(SLEEPER)).expect(201);
    let before = ids(&node.running("sleeper", 2));
    // Everything dies at once, and what lay in the run dir (a tmpfs) is gone.
    node.stop(Signal::SIGKILL);
    for pid in executors(&node).into_iter().chain(cgroup_processes(&node.cgroup_parent)) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    eventually("the end of everything", || {
        (executors(&node).is_empty() && cgroup_processes(&node.cgroup_parent).is_empty())
            .then_some(())
    });
    std::fs::remove_dir_all(node.run_dir()).expect("the run dir can be removed");
    node.up();
    others(&node, &before);
    node.api("DELETE", "/v2/apps/sleeper", None).expect(200);
    node.wait_clean();
}

#[test]
fn no_acknowledged_deploy_is_lost() {
    if !can_run_containers("acknowledged deploys") {
        return;
    }
    let mut node = Node::start();
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        for number in 0..4 {
            let id = format!("kept-{round}-{number}");
            let app =
                format!(r#"{{"id":"{id}","cmd":"sleep 1","cpus":0.1,"mem":16,"instances":0}}"#);
            node.api("POST", "/v2/apps", Some(&app)).expect(201);
            acknowledged.push(format!("/{id}"));
        }
        node.stop(Signal::SIGKILL);
        node.up();
        let apps = node.get("/v2/apps");
        let known: Vec<&str> = apps["apps"]
            .as_array()
            .expect("apps")
            .iter()
            .filter_map(|a| a["id"].as_str())
            .collect();
        for id in &acknowledged {
            assert!(known.contains(&id.as_str()), "{id} is lost in round {round}: {known:?}");
        }
    }
}
