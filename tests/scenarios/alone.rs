//! No master anywhere: agents go on, start again what crashes, come up after a power cut, and stop
//! what must not run unseen.

use bramble_tests::{
    JoinedAgent, Node, alive, can_run_containers, cgroup_processes, children_named, eventually,
    throughout,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// For all this time leases have to be renewed.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(12);

/// An app for any machine but the first, whose master is going to be killed.
fn app(first: &Node, id: &str, labels: Value) -> String {
    let constraints = json!([["hostname", "UNLIKE", first.name]]);
    json!({"id": id, "cmd": "sleep 100000", "cpus": 0.1, "mem": 16, "backoffSeconds": 1,
        "constraints": constraints, "labels": labels})
    .to_string()
}

fn deploy(first: &Node, id: &str, labels: Value) -> String {
    first.api("POST", "/v2/apps", Some(&app(first, id, labels))).expect(201);
    task_id(&first.running(id, 1))
}

fn task_id(tasks: &[Value]) -> String {
    tasks[0]["id"].as_str().expect("an id").to_string()
}

fn join(first: &Node, name: &str) -> JoinedAgent {
    first.joined_by(first, name, "127.0.0.1:7443", &[])
}

/// What runs of a task on an agent: its cgroup is named by its id.
fn processes(agent: &JoinedAgent, task: &str) -> Vec<i32> {
    cgroup_processes(&format!("{}/{task}", agent.cgroup_parent))
}

/// Executors of an agent: their command line names a directory below its run dir.
fn executors(agent: &JoinedAgent) -> Vec<i32> {
    let below = agent.run_dir.display().to_string();
    let ours = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&below)
    };
    children_named("executor").into_iter().filter(ours).collect()
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        let _ended = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
}

fn log(first: &Node, agent: &JoinedAgent) -> String {
    let path = first.root().join(&agent.name).join("log");
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Wait until a task runs again and has processes, none of which is of `before`. That it has some is
/// not enough: they may be those of a start that fails.
fn runs_again(first: &Node, agent: &JoinedAgent, task: &str, before: &[i32]) -> Vec<i32> {
    eventually(&format!("{task} runs again\n{}", log(first, agent)), || {
        let told = log(first, agent);
        let mut of_task =
            told.lines().filter(|line| line.contains(task) && line.contains("state="));
        of_task.next_back().filter(|line| line.contains("TASK_RUNNING"))?;
        let now = processes(agent, task);
        (!now.is_empty() && now.iter().all(|pid| !before.contains(pid))).then_some(now)
    })
}

/// Start the first node again; the very same tasks run, in the very same processes.
fn nothing_is_new(first: &mut Node, agent: &JoinedAgent, app: &str, task: &str, pids: &[i32]) {
    first.up();
    first.until_connected(&agent.name, true);
    for round in 0..3 {
        let marker = deploy(first, &format!("{app}-marker{round}"), json!({}));
        eventually("the marker", || (!processes(agent, &marker).is_empty()).then_some(()));
        assert_eq!(task_id(&first.running(app, 1)), task);
    }
    assert!(pids.iter().all(|pid| alive(*pid)), "{}", log(first, agent));
    let failure = &first.get(&format!("/v2/apps/{app}"))["app"]["lastTaskFailure"];
    assert!(failure.is_null(), "{failure}");
}

#[test]
fn a_crash_with_no_master_is_mended_by_the_agent_and_nothing_is_new_afterwards() {
    if !can_run_containers("alone") {
        return;
    }
    let mut first = Node::start();
    let far = join(&first, "far");
    let task = deploy(&first, "lonely", json!({}));
    let pids = processes(&far, &task);
    first.stop(Signal::SIGKILL);
    // At once: the agent does not even know yet that nobody hears it.
    kill_all(&pids);
    let pids = runs_again(&first, &far, &task, &pids);
    kill_all(&pids);
    let pids = runs_again(&first, &far, &task, &pids);
    nothing_is_new(&mut first, &far, "lonely", &task, &pids);
    let told = first.running("lonely", 1);
    let shown = first.get("/v2/apps/lonely/tasks")["tasks"][0].clone();
    assert_eq!(shown["id"], told[0]["id"]);
}

#[test]
fn after_a_power_cut_with_no_network_tasks_start_from_the_ledger() {
    if !can_run_containers("cold boot") {
        return;
    }
    let mut first = Node::start();
    let mut far = join(&first, "far");
    let task = deploy(&first, "lonely", json!({}));
    let single = deploy(&first, "single", json!({"MARATHON_SINGLE_INSTANCE_APP": "true"}));
    assert!(!processes(&far, &single).is_empty());
    let stopped = deploy(&first, "stopped", json!({}));
    first.api("DELETE", "/v2/apps/stopped", None).expect(200);
    eventually("its end", || processes(&far, &stopped).is_empty().then_some(()));
    first.stop(Signal::SIGKILL);
    // Everything dies at once, and what lay in the run dir (a tmpfs) is gone.
    far.kill();
    let before = [executors(&far), cgroup_processes(&far.cgroup_parent)].concat();
    kill_all(&before);
    eventually("the end of everything", || {
        let left = [executors(&far), cgroup_processes(&far.cgroup_parent)].concat();
        left.is_empty().then_some(())
    });
    std::fs::remove_dir_all(&far.run_dir).expect("the run dir can be removed");
    let start = Instant::now();
    far.spawn();
    let pids = runs_again(&first, &far, &task, &before);
    eprintln!("cold boot to running: {:?}", start.elapsed());
    // What must not run twice waits for a master, and what was over stays so.
    assert!(processes(&far, &single).is_empty() && processes(&far, &stopped).is_empty());
    nothing_is_new(&mut first, &far, "lonely", &task, &pids);
    let again = eventually("the singleton as a new task", || {
        let tasks = first.tasks("single");
        let runs = tasks.len() == 1 && tasks[0]["state"] == "TASK_RUNNING";
        runs.then(|| task_id(&tasks)).filter(|id| *id != single)
    });
    assert!(!processes(&far, &again).is_empty() && processes(&far, &single).is_empty());
}

#[test]
fn cut_off_singletons_end_by_themselves_and_apps_may_ask_to() {
    if !can_run_containers("cut off") {
        return;
    }
    let mut first = Node::start();
    let far = join(&first, "far");
    let kept = deploy(&first, "kept", json!({"BRAMBLE_ON_PARTITION": "keep"}));
    let stops = deploy(&first, "stops", json!({"BRAMBLE_ON_PARTITION": "stop:1s"}));
    let single = deploy(&first, "single", json!({"MARATHON_SINGLE_INSTANCE_APP": "true"}));
    let pids = processes(&far, &kept);
    // Leases are renewed: with masters there, all run for longer than one lasts.
    let all = [&kept, &stops, &single];
    throughout(LONGER_THAN_A_LEASE, &format!("all run\n{}", log(&first, &far)), || {
        all.iter().all(|task| !processes(&far, task).is_empty())
    });
    first.stop(Signal::SIGKILL);
    eventually("the end of what does not run cut off", || {
        (processes(&far, &stops).is_empty() && processes(&far, &single).is_empty()).then_some(())
    });
    nothing_is_new(&mut first, &far, "kept", &kept, &pids);
    for (id, before) in [("stops", &stops), ("single", &single)] {
        let tasks = first.running(id, 1);
        assert_ne!(task_id(&tasks), *before, "{id}");
        let failure = &first.get(&format!("/v2/apps/{id}"))["app"]["lastTaskFailure"];
        assert!(failure.is_null(), "{id} was stopped on purpose: {failure}");
    }
    assert!(!processes(&far, &kept).is_empty());
}

#[test]
fn a_singleton_never_runs_twice_though_its_agent_is_frozen() {
    if !can_run_containers("frozen") {
        return;
    }
    let first = Node::builder().arg("--agent-timeout").arg("1s").start();
    let agents = [join(&first, "far"), join(&first, "near")];
    let single = deploy(&first, "single", json!({"MARATHON_SINGLE_INSTANCE_APP": "true"}));
    let [frozen, other] = match processes(&agents[0], &single).is_empty() {
        false => [&agents[0], &agents[1]],
        true => [&agents[1], &agents[0]],
    };
    assert!(!processes(frozen, &single).is_empty());
    frozen.signal(Signal::SIGSTOP);
    eventually(&format!("a replacement\n{}", first.log()), || {
        let old = !processes(frozen, &single).is_empty();
        let new = cgroup_processes(&other.cgroup_parent);
        assert!(!old || new.is_empty(), "both run");
        (!new.is_empty()).then_some(())
    });
    let again = task_id(&first.running("single", 1));
    assert_ne!(again, single);
    frozen.signal(Signal::SIGCONT);
    first.until_connected(&frozen.name, true);
    eventually("nothing left on the one that was frozen", || {
        cgroup_processes(&frozen.cgroup_parent).is_empty().then_some(())
    });
    assert_eq!(task_id(&first.running("single", 1)), again);
    assert!(!processes(other, &again).is_empty());
}
