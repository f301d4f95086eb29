use super::fake::{Agent, Machine, exited, within};
use super::*;
use crate::samples::assignment;
use bramble_core::model::{HealthCheck, HealthCheckKind, TaskImage, TaskStatus};
use bramble_protocol::executor::ExitRecord;

#[tokio::test]
async fn a_task_runs_to_its_end_and_is_cleaned_after_its_end_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    let running = agent.until_state("a", TaskState::Running).await;
    assert_eq!(running.ip.as_deref(), Some("172.30.0.2"));
    machine.exit("a", Ending::Exited(exited(3, false)));
    let failed = agent.until_state("a", TaskState::Failed).await;
    assert_eq!(failed.message, "Command exited with status 3");
    assert_eq!(failed.exit_code, Some(3));
    assert!(failed.sequence > running.sequence);
    agent.until_logged("clean a").await;
    assert_eq!(machine.log(), ["create a", "start a", "release a", "clean a"]);
    assert_eq!(agent.handle.roster.seen(&TaskId::new("a")), Some(Seen::Ended));

    // The same set again changes nothing, and once the cluster forgets the task so does the agent.
    agent.assign(vec![assignment("a", true)]).await;
    agent.assign(vec![]).await;
    assert_eq!(machine.log().len(), 4);
    assert_eq!(agent.handle.roster.seen(&TaskId::new("a")), None);
    agent.leave().await;
    let (_ledger, contents) = Ledger::open(directory.path()).unwrap();
    assert_eq!(contents, Contents { generation: 3, ..Contents::default() });
}

#[tokio::test]
async fn stopping_is_told_as_killed_with_the_grace_of_the_task() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    agent.until_state("a", TaskState::Running).await;
    agent.assign(vec![assignment("a", false)]).await;
    let killed = agent.until_state("a", TaskState::Killed).await;
    assert_eq!(killed.message, "Command terminated with signal Terminated");
    assert!(machine.log().contains(&"stop(3000) a".to_string()));
    // One that never ran is told too, so that the cluster can forget it.
    agent.assign(vec![assignment("b", false)]).await;
    agent.until_state("b", TaskState::Killed).await;
    assert!(!machine.log().contains(&"create b".to_string()));
    agent.leave().await;
}

#[tokio::test]
async fn a_fetch_is_told_and_can_be_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| state.hold_fetch = true);
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut task = assignment("a", true);
    task.spec.image = Some(TaskImage {
        reference: "nginx".into(),
        force_pull: false,
        parameters: vec![],
        in_sandbox: false,
    });
    agent.assign(vec![task.clone()]).await;
    let staging = agent.until_state("a", TaskState::Staging).await;
    assert_eq!(staging.message, "pulling nginx");
    agent.assign(vec![Assignment { run: false, ..task }]).await;
    agent.until_state("a", TaskState::Killed).await;
    assert!(!machine.log().contains(&"create a".to_string()));
    agent.leave().await;
}

#[tokio::test]
async fn slow_fetches_hold_up_no_command_task() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| state.hold_images = true);
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut tasks: Vec<Assignment> = (0..20).map(|n| assignment(&format!("i{n}"), true)).collect();
    for task in &mut tasks {
        task.spec.image = Some(TaskImage {
            reference: "nginx".into(),
            force_pull: false,
            parameters: vec![],
            in_sandbox: false,
        });
    }
    agent.assign(tasks.clone()).await;
    agent.until_state("i0", TaskState::Staging).await;
    tasks.push(assignment("command", true));
    agent.assign(tasks).await;
    agent.until_state("command", TaskState::Running).await;
    agent.leave().await;
}

#[tokio::test]
async fn a_refused_task_ends_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| state.refuse = Some(Refusal::error("privileged is not allowed here")));
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    let told = agent.until_state("a", TaskState::Error).await;
    assert_eq!(told.message, "privileged is not allowed here");
    agent.leave().await;
}

#[tokio::test]
async fn starts_are_bounded_and_all_happen() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| state.hold_create = true);
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let ids: Vec<String> = (0..40).map(|n| format!("t{n:02}")).collect();
    agent.assign(ids.iter().map(|id| assignment(id, true)).collect()).await;
    within(machine.until(|state| state.creating == 8)).await;
    machine.with(|state| state.hold_create = false);
    let all = |waiting: &[TaskStatus]| {
        waiting.iter().filter(|s| s.state == TaskState::Running).count() == ids.len()
    };
    agent.until(all).await;
    assert_eq!(machine.with(|state| state.creating_most), 8);
    agent.leave().await;
}

#[tokio::test]
async fn statuses_are_kept_over_restarts_until_they_are_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    agent.until_state("a", TaskState::Running).await;
    machine.exit("a", Ending::Exited(exited(0, false)));
    let finished = agent.until_state("a", TaskState::Finished).await;
    let before = agent.waiting();
    agent.until_logged("clean a").await;
    agent.leave().await;

    let agent = Agent::start(directory.path(), &machine, "boot").await;
    assert_eq!(agent.waiting(), before);
    let running = before.iter().find(|s| s.state == TaskState::Running).unwrap();
    agent.handle.acknowledge(vec![key_of(running)]).await;
    agent.handle.acknowledge(vec![key_of(running)]).await;
    agent.settle().await;
    assert_eq!(agent.waiting(), std::slice::from_ref(&finished));
    agent.leave().await;

    let agent = Agent::start(directory.path(), &machine, "boot").await;
    assert_eq!(agent.waiting(), [finished]);
    assert_eq!(machine.log().iter().filter(|line| *line == "create a").count(), 1);
    agent.leave().await;
}

#[tokio::test]
async fn a_restart_adopts_reports_and_discards() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let ids = ["lives", "ended", "died", "vanished"];
    agent.assign(ids.map(|id| assignment(id, true)).to_vec()).await;
    for id in ids {
        let running = agent.until_state(id, TaskState::Running).await;
        agent.handle.acknowledge(vec![key_of(&running)]).await;
    }
    agent.settle().await;
    agent.leave().await;
    machine.with(|state| {
        state.log.clear();
        state.found = [("lives", "running"), ("ended", "exited"), ("died", "dead")]
            .map(|(id, kind)| (TaskId::new(id), kind))
            .to_vec();
        state.found.push((TaskId::new("stranger"), "running"));
    });

    let agent = Agent::start(directory.path(), &machine, "boot").await;
    let ended = agent.until_state("ended", TaskState::Failed).await;
    assert_eq!(ended.message, "Command exited with status 1");
    assert_eq!(agent.until_state("died", TaskState::Failed).await.message, "executor died");
    assert_eq!(agent.until_state("vanished", TaskState::Failed).await.message, "executor died");
    assert_eq!(agent.handle.roster.seen(&TaskId::new("lives")), Some(Seen::Running));
    agent.until_logged("clean stranger").await;
    let log = machine.log();
    assert!(!log.iter().any(|line| line.starts_with("create")), "{log:?}");
    // Its limits are set again: the last change of them may not have come that far.
    let done: Vec<&String> = log.iter().filter(|line| line.ends_with("lives")).collect();
    assert_eq!(done, ["resize(1048576) lives"], "{log:?}");
    assert!(log.contains(&"stop(0) stranger".to_string()));
    assert!(agent.waiting().iter().all(|s| s.task_id.as_str() != "lives"), "told nothing new");
    // The adopted one is still watched.
    machine.exit("lives", Ending::Exited(exited(0, false)));
    agent.until_state("lives", TaskState::Finished).await;
    agent.leave().await;
}

#[tokio::test]
async fn adopting_many_created_containers_leaves_room_for_starts() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| state.hold_fetch = true);
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let ids: Vec<String> = (0..=life::STARTS_MAX).map(|n| format!("made{n}")).collect();
    let mut tasks: Vec<Assignment> = ids.iter().map(|id| assignment(id, true)).collect();
    agent.assign(tasks.clone()).await;
    agent.leave().await;
    machine.with(|state| {
        state.hold_fetch = false;
        state.found = ids.iter().map(|id| (TaskId::new(id.as_str()), "created")).collect();
    });

    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    tasks.push(assignment("fresh", true));
    agent.assign(tasks).await;
    for id in ids.iter().map(String::as_str).chain(["fresh"]) {
        agent.until_state(id, TaskState::Running).await;
    }
    assert_eq!(machine.log().iter().filter(|line| line.starts_with("create")).count(), 1);
    agent.leave().await;
}

#[tokio::test]
async fn a_reboot_is_told_as_killed_and_what_never_ran_begins_again() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "first boot").await;
    agent.assign(vec![assignment("ran", true)]).await;
    agent.until_state("ran", TaskState::Running).await;
    machine.with(|state| state.hold_fetch = true);
    agent.assign(vec![assignment("ran", true), assignment("waited", true)]).await;
    agent.leave().await;

    machine.with(|state| state.hold_fetch = false);
    let agent = Agent::start(directory.path(), &machine, "second boot").await;
    let killed = agent.until_state("ran", TaskState::Killed).await;
    assert_eq!(killed.message, "the machine was restarted");
    agent.until_state("waited", TaskState::Running).await;
    agent.leave().await;
}

#[tokio::test]
async fn going_down_stops_everything_starts_nothing_and_keeps_the_assignments() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true), assignment("b", true)]).await;
    agent.until_state("a", TaskState::Running).await;
    agent.until_state("b", TaskState::Running).await;
    within(agent.handle.stop_all()).await.unwrap();
    for id in ["a", "b"] {
        let killed = agent.until_state(id, TaskState::Killed).await;
        assert_eq!(killed.message, WENT_DOWN);
        assert!(machine.log().contains(&format!("clean {id}")));
    }
    let more = vec![assignment("a", true), assignment("b", true), assignment("c", true)];
    agent.assign(more).await;
    assert_eq!(agent.handle.roster.seen(&TaskId::new("c")), None, "down starts nothing");
    agent.leave().await;

    let agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.until_state("c", TaskState::Running).await;
    assert_eq!(agent.handle.roster.seen(&TaskId::new("a")), Some(Seen::Ended));
    agent.leave().await;
}

#[tokio::test]
async fn an_unhealthy_task_is_stopped_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut task = assignment("a", true);
    task.spec.health_checks = vec![HealthCheck {
        command: Some("false".into()),
        interval_ms: 1,
        max_consecutive_failures: 1,
        ..crate::samples::check(HealthCheckKind::Command)
    }];
    agent.assign(vec![task]).await;
    let killed = agent.until_state("a", TaskState::Killed).await;
    assert_eq!((killed.message.as_str(), killed.healthy), (UNHEALTHY, Some(false)));
    agent.leave().await;
}

#[tokio::test]
async fn a_healthy_task_says_so_once() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut task = assignment("a", true);
    task.spec.health_checks = vec![HealthCheck {
        command: Some("true".into()),
        interval_ms: 1,
        ..crate::samples::check(HealthCheckKind::Command)
    }];
    agent.assign(vec![task]).await;
    let healthy = |waiting: &[TaskStatus]| waiting.iter().any(|s| s.healthy == Some(true));
    let waiting = agent.until(healthy).await;
    assert_eq!(waiting.len(), 1, "the earlier running is superseded");
    assert_eq!(waiting[0].state, TaskState::Running);
    assert!(waiting[0].ip.is_some());
    agent.leave().await;
}

#[tokio::test]
async fn a_gap_asks_for_everything() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(directory.path(), &Arc::default(), "boot").await;
    let set = AssignmentSet {
        generation: 9,
        base: Some(8),
        put: vec![assignment("a", true)],
        ..AssignmentSet::default()
    };
    assert_eq!(agent.handle.follow(set).await.unwrap(), Followed::Gap);
    assert_eq!(agent.handle.held.borrow().generation, 0);
    agent.leave().await;
}

/// Task `a` as a later version of its app wants it.
fn resized(bytes: u64) -> Assignment {
    let mut task = assignment("a", true);
    task.app_version = Time(2);
    task.spec.mem_limit_bytes = Some(bytes);
    task
}

fn size_of(status: &TaskStatus) -> Option<(u64, Option<&str>)> {
    let size = status.size.as_ref()?;
    Some((size.version.0, size.refused.as_deref()))
}

#[tokio::test]
async fn a_running_task_is_given_its_new_size_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    let running = agent.until_state("a", TaskState::Running).await;
    assert_eq!(size_of(&running), Some((1, None)));
    agent.assign(vec![resized(5 << 20)]).await;
    let told = agent.until(|all| all.iter().any(|s| size_of(s) == Some((2, None)))).await;
    assert_eq!(told.len(), 1, "it replaces the earlier word: {told:?}");
    assert_eq!(machine.log(), ["create a", "start a", "resize(5242880) a"]);
    // What ends it for memory is the limit it has now.
    machine.exit("a", Ending::Exited(ExitRecord { oom: true, ..exited(137, false) }));
    let failed = agent.until_state("a", TaskState::Failed).await;
    assert_eq!(failed.message, "Memory limit exceeded: Requested: 5MB");
    agent.leave().await;
}

#[tokio::test]
async fn a_size_that_is_refused_is_told_and_the_task_keeps_the_one_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    machine.with(|state| state.refuse_resize = Some(Refusal::failed("in use")));
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    agent.until_state("a", TaskState::Running).await;
    agent.assign(vec![resized(1 << 10)]).await;
    agent.until(|all| all.iter().any(|s| size_of(s) == Some((2, Some("in use"))))).await;
    machine.exit("a", Ending::Exited(ExitRecord { oom: true, ..exited(137, false) }));
    let failed = agent.until_state("a", TaskState::Failed).await;
    assert_eq!(failed.message, "Memory limit exceeded: Requested: 1MB");
    agent.leave().await;
}

/// The agent dies between the ledger and the cgroup: its next life does what is written.
#[tokio::test]
async fn a_size_that_was_only_written_down_is_given_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    agent.until_state("a", TaskState::Running).await;
    agent.leave().await;
    let (ledger, _) = Ledger::open(directory.path()).unwrap();
    ledger.write(vec![Change::PutAssignment(Arc::new(resized(5 << 20)))]).await.unwrap();
    drop(ledger);
    machine.with(|state| {
        state.log.clear();
        state.found = vec![(TaskId::new("a"), "running")];
    });
    let agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.until(|all| all.iter().any(|s| size_of(s) == Some((2, None)))).await;
    assert_eq!(machine.log(), ["resize(5242880) a"]);
    agent.leave().await;
}
