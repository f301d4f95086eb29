//! Pods over a machine of the test's own: what becomes of the whole when something happens to a
//! part, and after a restart.

use crate::reconciler::fake::{Agent, Machine, exited};
use crate::reconciler::performer::{Ending, Refusal};
use crate::reconciler::{UNHEALTHY, WENT_DOWN, key_of};
use crate::samples::{check, pod};
use TaskState::{Failed, Finished, Killed, Running, Staging, Starting};
use bramble_core::converge::Seen;
use bramble_core::model::{
    Assignment, HealthCheck, HealthCheckKind, TaskId, TaskImage, TaskState, TaskStatus,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Containers and what the machine shows of them.
type Parts = &'static [(&'static str, &'static str)];

/// State and words of each container.
fn told(status: &TaskStatus) -> Vec<(&str, TaskState, &str)> {
    status.containers.iter().map(|c| (c.name.as_str(), c.state, c.message.as_str())).collect()
}

/// An agent that runs the pod `p` of containers `a` and `b`.
async fn running(directory: &tempfile::TempDir, machine: &Arc<Machine>) -> Agent {
    let mut agent = Agent::start(directory.path(), machine, "boot").await;
    agent.assign(vec![pod("p", &["a", "b"])]).await;
    let running = agent.until_state("p", Running).await;
    assert_eq!(told(&running), [("a", Running, ""), ("b", Running, "")]);
    assert_eq!(running.ip.as_deref(), Some("172.30.0.2"));
    agent
}

fn exit(machine: &Machine, id: &str, code: i32) {
    machine.exit(id, Ending::Exited(exited(code, false)));
}

fn seen(agent: &Agent, id: &str) -> Option<Seen> {
    agent.handle.roster.seen(&TaskId::new(id))
}

async fn until_container(agent: &Agent, name: &str, state: TaskState) -> TaskStatus {
    let is = |s: &TaskStatus| s.containers.iter().any(|c| c.name == name && c.state == state);
    let found = agent.until(|waiting| waiting.iter().any(is)).await;
    found.into_iter().find(is).unwrap()
}

#[tokio::test]
async fn one_that_finishes_leaves_the_others_and_all_finished_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let agent = running(&directory, &machine).await;
    exit(&machine, "p-a", 0);
    let half = until_container(&agent, "a", Finished).await;
    let exited = "Command exited with status 0";
    assert_eq!((half.state, half.containers[0].exit_code), (Running, Some(0)));
    assert_eq!(told(&half), [("a", Finished, exited), ("b", Running, "")]);
    let sights = ["p", "p-a", "p-b"].map(|id| seen(&agent, id));
    assert_eq!(sights, [Some(Seen::Running), Some(Seen::Ended), Some(Seen::Running)]);

    exit(&machine, "p-b", 0);
    let finished = agent.until_state("p", Finished).await;
    assert_eq!(told(&finished), [("a", Finished, exited), ("b", Finished, exited)]);
    agent.until_logged("clean p").await;
    let log = machine.log();
    let order = ["create p-a", "create p-b", "start p-a", "start p-b", "release p"];
    assert_eq!(log[..5], order);
    assert_eq!(log[5..], ["clean p-a", "clean p-b", "clean p"]);
    assert_eq!(seen(&agent, "p-b"), Some(Seen::Ended));
    agent.leave().await;
}

#[tokio::test]
async fn one_that_fails_takes_the_others_along_and_is_named() {
    let cases = [
        (Ending::Exited(exited(3, false)), "Command exited with status 3", Some(3)),
        (
            Ending::Exited(exited(139, false)),
            { "Command terminated with signal Segmentation fault" },
            Some(139),
        ),
        (Ending::ExecutorDied, "executor died", None),
    ];
    for (ending, message, exit_code) in cases {
        let directory = tempfile::tempdir().unwrap();
        let machine: Arc<Machine> = Arc::default();
        let agent = running(&directory, &machine).await;
        machine.exit("p-b", ending);
        let failed = agent.until_state("p", Failed).await;
        assert_eq!(failed.message, format!("container b: {message}"));
        assert_eq!(failed.exit_code, exit_code);
        let expected = [("a", Killed, "container b failed"), ("b", Failed, message)];
        assert_eq!(told(&failed), expected);
        assert!(machine.log().contains(&"stop(3000) p-a".to_string()));
        assert!(!machine.log().contains(&"stop(3000) p-b".to_string()));
        agent.leave().await;
    }
}

#[tokio::test]
async fn stopping_reaches_each_within_its_own_grace() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut task = pod("p", &["done", "quick", "slow"]);
    task.spec.pod[1].spec.kill_grace_ms = 50;
    task.spec.pod[2].spec.kill_grace_ms = 60_000;
    agent.assign(vec![task.clone()]).await;
    agent.until_state("p", Running).await;
    exit(&machine, "p-done", 0);
    until_container(&agent, "done", Finished).await;
    agent.assign(vec![Assignment { run: false, ..task }]).await;
    let killed = agent.until_state("p", Killed).await;
    let states: Vec<TaskState> = killed.containers.iter().map(|c| c.state).collect();
    assert_eq!(states, [Finished, Killed, Killed]);
    let stops: Vec<String> =
        machine.log().into_iter().filter(|line| line.starts_with("stop")).collect();
    assert_eq!(stops, ["stop(50) p-quick", "stop(3000) p-slow"]);
    agent.leave().await;
}

#[tokio::test]
async fn what_never_ran_is_told_of_every_container() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| state.hold_fetch = true);
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut task = pod("p", &["a", "b"]);
    // The fake tells of the outer image only.
    let image = TaskImage {
        reference: "nginx".into(),
        force_pull: false,
        parameters: vec![],
        in_sandbox: false,
    };
    task.spec.image = Some(image);
    agent.assign(vec![task.clone()]).await;
    let staging = agent.until_state("p", Staging).await;
    assert_eq!(told(&staging), [("a", Staging, ""), ("b", Staging, "")]);
    agent.assign(vec![Assignment { run: false, ..task }]).await;
    let killed = agent.until_state("p", Killed).await;
    let words = "stopped before it ran";
    assert_eq!(told(&killed), [("a", Killed, words), ("b", Killed, words)]);

    machine.with(|state| {
        state.hold_fetch = false;
        state.refuse = Some(Refusal::error("container b: no such image"));
    });
    agent.assign(vec![pod("q", &["a", "b"])]).await;
    let told_of = agent.until_state("q", TaskState::Error).await;
    assert_eq!(told_of.message, "container b: no such image");
    assert!(told_of.containers.iter().all(|c| c.state == TaskState::Error));
    agent.leave().await;
}

#[tokio::test]
async fn one_that_does_not_start_stops_those_that_did() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| state.refuse_start = Some(TaskId::new("p-b")));
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![pod("p", &["a", "b", "c"])]).await;
    let starting = agent.until(|waiting| waiting.iter().any(|s| s.state != Starting)).await;
    assert!(starting.iter().all(|s| s.state != Running), "not all ran");
    let failed = agent.until_state("p", Failed).await;
    assert_eq!(failed.message, "container b: no such program");
    let log = machine.log();
    assert!(log.contains(&"stop(0) p-a".to_string()) && log.contains(&"stop(0) p-c".to_string()));
    assert!(!log.contains(&"start p-c".to_string()), "{log:?}");
    assert!(failed.containers.iter().all(|c| c.state.is_terminal()));
    agent.until_logged("clean p").await;
    agent.leave().await;
}

fn checked(commands: [Option<&str>; 2]) -> Assignment {
    let mut task = pod("p", &["a", "b"]);
    for (container, command) in task.spec.pod.iter_mut().zip(commands) {
        container.spec.health_checks = command
            .map(|command| HealthCheck {
                command: Some(command.into()),
                interval_ms: 1,
                max_consecutive_failures: 1,
                ..check(HealthCheckKind::Command)
            })
            .into_iter()
            .collect();
    }
    task
}

#[tokio::test]
async fn health_is_that_of_all_containers_and_probed_inside_them() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![checked([Some("true"), Some("true")])]).await;
    let healthy = |s: &TaskStatus| s.healthy == Some(true);
    let waiting = agent.until(|waiting| waiting.iter().any(healthy)).await;
    let status = waiting.iter().find(|s| healthy(s)).unwrap();
    assert!(status.containers.iter().all(|c| c.healthy == Some(true) && c.state == Running));
    assert_eq!(status.probes.as_ref().map(|p| p.health.len()), Some(2));
    let probed = machine.with(|state| state.probed.clone());
    assert_eq!(probed, BTreeSet::from(["p-a", "p-b"].map(TaskId::new)));
    // One that has finished is probed no more, and its health counts no more.
    exit(&machine, "p-a", 0);
    let half = until_container(&agent, "a", Finished).await;
    assert_eq!((half.healthy, half.containers[0].healthy), (Some(true), Some(true)));
    agent.leave().await;
}

#[tokio::test]
async fn an_unhealthy_container_ends_its_pod() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![checked([None, Some("false")])]).await;
    let killed = agent.until_state("p", Killed).await;
    let words = format!("container b: {UNHEALTHY}");
    assert_eq!((killed.message.as_str(), killed.healthy), (words.as_str(), Some(false)));
    let healths: Vec<Option<bool>> = killed.containers.iter().map(|c| c.healthy).collect();
    assert_eq!(healths, [None, Some(false)]);
    agent.leave().await;
}

/// Restart the agent of a running pod over containers that are found as told; gives what was
/// done to them before anything new happens to be told.
async fn restarted(machine: &Arc<Machine>, directory: &tempfile::TempDir, found: Parts) -> Agent {
    let agent = running(directory, machine).await;
    for status in agent.waiting() {
        agent.handle.acknowledge(vec![key_of(&status)]).await;
    }
    agent.settle().await;
    agent.leave().await;
    machine.with(|state| {
        state.log.clear();
        state.found = found.iter().map(|(id, kind)| (TaskId::new(*id), *kind)).collect();
    });
    Agent::start(directory.path(), machine, "boot").await
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_containers() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let found: Parts = &[("p-a", "running"), ("p-b", "running")];
    let agent = restarted(&machine, &directory, found).await;
    agent.settle().await;
    assert_eq!(agent.waiting(), [], "nothing new is told");
    assert_eq!(machine.log(), ["resize(1048576) p-a", "resize(1048576) p-b"]);
    assert_eq!(seen(&agent, "p-a"), Some(Seen::Running));
    exit(&machine, "p-a", 7);
    let failed = agent.until_state("p", Failed).await;
    assert_eq!(failed.message, "container a: Command exited with status 7");
    agent.until_logged("clean p").await;
    agent.leave().await;
}

#[tokio::test]
async fn a_restart_sees_what_ended_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let found: Parts = &[("p-a", "finished"), ("p-b", "running")];
    let agent = restarted(&machine, &directory, found).await;
    let half = until_container(&agent, "a", Finished).await;
    assert_eq!((half.state, half.containers[1].state), (Running, Running));
    assert_eq!(machine.log(), ["resize(1048576) p-b"]);
    exit(&machine, "p-b", 0);
    agent.until_state("p", Finished).await;
    agent.leave().await;

    let cases: [(Parts, TaskState, &str); 5] = [
        (&[("p-a", "finished"), ("p-b", "finished")], Finished, {
            "every container exited with status 0"
        }),
        (&[("p-a", "exited"), ("p-b", "running")], Failed, {
            "container a: Command exited with status 1"
        }),
        (&[("p-a", "running"), ("p-b", "dead")], Failed, "container b: executor died"),
        (&[("p-a", "running")], Failed, "container b: executor died"),
        (&[("p-a", "dead"), ("p-b", "dead")], Failed, "executor died"),
    ];
    for (found, state, message) in cases {
        let directory = tempfile::tempdir().unwrap();
        let machine: Arc<Machine> = Arc::default();
        let agent = restarted(&machine, &directory, found).await;
        let ended = agent.until_state("p", state).await;
        assert_eq!(ended.message, message, "{found:?}");
        assert!(ended.containers.iter().all(|c| c.state.is_terminal()), "{ended:?}");
        agent.until_logged("clean p-b").await;
        agent.leave().await;
        // Its end is told once, however often the agent comes back.
        let agent = Agent::start(directory.path(), &machine, "boot").await;
        assert_eq!(agent.waiting().last(), Some(&ended), "{found:?}");
        assert_eq!(seen(&agent, "p"), Some(Seen::Ended));
        agent.leave().await;
    }
}

#[tokio::test]
async fn a_pod_half_made_by_an_earlier_life_begins_again_or_goes_on() {
    let cases: [(Parts, &[&str]); 3] = [
        // Nothing of it has run: from nothing.
        (&[("p-a", "created")], &["create p-a", "create p-b", "start p-a", "start p-b"]),
        (&[("p-a", "created"), ("p-b", "created")], &["start p-a", "start p-b"]),
        (&[("p-a", "running"), ("p-b", "created")], &["start p-a", "start p-b"]),
    ];
    for (found, done) in cases {
        let directory = tempfile::tempdir().unwrap();
        let machine: Arc<Machine> = Arc::default();
        machine.with(|state| state.hold_create = true);
        let mut agent = Agent::start(directory.path(), &machine, "boot").await;
        agent.assign(vec![pod("p", &["a", "b"])]).await;
        agent.until_state("p", Starting).await;
        agent.leave().await;
        machine.with(|state| {
            state.hold_create = false;
            state.log.clear();
            state.found = found.iter().map(|(id, kind)| (TaskId::new(*id), *kind)).collect();
        });
        let agent = Agent::start(directory.path(), &machine, "boot").await;
        agent.until_state("p", Running).await;
        let log: Vec<String> = machine
            .log()
            .into_iter()
            .filter(|line| line.starts_with("create") || line.starts_with("start"))
            .collect();
        assert_eq!(log, done, "{found:?}");
        agent.leave().await;
    }
}

#[tokio::test]
async fn containers_of_a_pod_nobody_assigned_are_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| {
        state.found = vec![(TaskId::new("p-a"), "running"), (TaskId::new("p-b"), "created")];
    });
    let agent = Agent::start(directory.path(), &machine, "boot").await;
    for id in ["p-a", "p-b"] {
        agent.until_logged(&format!("clean {id}")).await;
        assert!(machine.log().contains(&format!("stop(0) {id}")));
    }
    assert_eq!(agent.waiting(), []);
    agent.leave().await;
}

#[tokio::test]
async fn a_node_that_goes_down_stops_whole_pods() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let agent = running(&directory, &machine).await;
    agent.handle.stop_all().await.unwrap();
    let killed = agent.until_state("p", Killed).await;
    assert_eq!(killed.message, WENT_DOWN);
    assert_eq!(told(&killed), [("a", Killed, WENT_DOWN), ("b", Killed, WENT_DOWN)]);
    agent.leave().await;
}
