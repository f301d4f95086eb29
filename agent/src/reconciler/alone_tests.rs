//! What an agent does with nobody to ask. Where nothing must happen, another task shows that the
//! time for it has passed.

use super::super::fake::{Agent, Machine, exited, within};
use super::super::{Ending, UNHEALTHY};
use super::*;
use crate::clock::uptime_ms;
use crate::reconciler::ending::LEASE_OVER;
use crate::reconciler::key_of;
use crate::samples::{assignment, check};
use bramble_core::model::{HealthCheck, HealthCheckKind, TaskImage, TaskState, TaskStatus};
use bramble_protocol::executor::ExitRecord;

fn count(machine: &Machine, line: &str) -> usize {
    machine.log().iter().filter(|l| *l == line).count()
}

fn crash(machine: &Machine, id: &str) {
    machine.exit(id, Ending::Exited(exited(3, false)));
}

/// Wait until a task runs that its agent has started again this often.
async fn restarted(agent: &Agent, id: &str, times: u32) -> TaskStatus {
    let is = |s: &TaskStatus| {
        s.task_id.as_str() == id && s.state == TaskState::Running && s.restarts == times
    };
    let all = agent.until(|all| all.iter().any(is)).await;
    let of_task: Vec<TaskStatus> =
        all.into_iter().filter(|status| status.task_id.as_str() == id).collect();
    assert_eq!(of_task.len(), 1, "its end was taken back: {of_task:?}");
    of_task.into_iter().next().unwrap()
}

/// Let a task of this name crash and be started again: whatever else was to be started, has been.
async fn pass_the_grace(agent: &Agent, machine: &Machine, id: &str) {
    crash(machine, id);
    restarted(agent, id, 1).await;
}

#[tokio::test]
async fn a_task_that_ends_with_no_master_goes_on_under_its_id() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    let before = agent.until_state("a", TaskState::Running).await;
    agent.handle.acknowledge(vec![key_of(&before)]).await;
    agent.handle.led(false).await;
    crash(&machine, "a");
    let again = restarted(&agent, "a", 1).await;
    assert!(again.sequence > before.sequence);
    assert!(again.message.contains("Command exited with status 3"), "{}", again.message);
    // Also after it ended well: whatever ends is launched again.
    machine.exit("a", Ending::Exited(exited(0, false)));
    restarted(&agent, "a", 2).await;
    assert_eq!(count(&machine, "create a"), 3);
    assert_eq!(count(&machine, "clean a"), 2);
    // A master is back and wants what it wanted: the same container goes on.
    agent.handle.led(true).await;
    agent.assign(vec![assignment("a", true)]).await;
    agent.settle().await;
    assert_eq!(agent.handle.roster.seen(&TaskId::new("a")), Some(Seen::Running));
    assert_eq!(count(&machine, "create a"), 3);
    agent.leave().await;
}

#[tokio::test]
async fn what_the_cluster_has_heard_or_ordered_stays_ended() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let ids = ["heard", "unheard", "unwanted", "other"];
    agent.assign(ids.map(|id| assignment(id, true)).to_vec()).await;
    for id in ids {
        agent.until_state(id, TaskState::Running).await;
    }
    crash(&machine, "heard");
    let heard = agent.until_state("heard", TaskState::Failed).await;
    agent.handle.acknowledge(vec![key_of(&heard)]).await;
    crash(&machine, "unheard");
    let unheard = agent.until_state("unheard", TaskState::Failed).await;
    let wanted = |id| assignment(id, id != "unwanted");
    agent.assign(ids.map(wanted).to_vec()).await;
    agent.until_state("unwanted", TaskState::Killed).await;
    agent.handle.led(false).await;
    // The link was gone before anybody noticed: nobody will ever act on that end.
    let again = restarted(&agent, "unheard", 1).await;
    assert!(again.sequence > unheard.sequence);
    pass_the_grace(&agent, &machine, "other").await;
    assert_eq!(count(&machine, "create heard"), 1);
    assert_eq!(count(&machine, "create unwanted"), 1);
    agent.leave().await;
}

#[tokio::test]
async fn a_task_that_fails_its_checks_is_started_again_too() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut task = assignment("a", true);
    task.spec.health_checks = vec![HealthCheck {
        command: Some("false".into()),
        interval_ms: 1,
        max_consecutive_failures: 1,
        ..check(HealthCheckKind::Command)
    }];
    agent.handle.led(false).await;
    agent.assign(vec![task]).await;
    let killed = agent.until_state("a", TaskState::Killed).await;
    assert_eq!(killed.message, UNHEALTHY);
    within(machine.until(|state| state.log.iter().filter(|line| *line == "create a").count() >= 2))
        .await;
    agent.leave().await;
}

#[tokio::test]
async fn after_a_reboot_with_no_master_tasks_come_up_with_what_is_at_hand() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "first boot").await;
    let mut task = assignment("a", true);
    task.spec.image = Some(TaskImage {
        reference: "nginx".into(),
        force_pull: true,
        parameters: vec![],
        in_sandbox: false,
    });
    agent.assign(vec![task.clone(), assignment("told", true)]).await;
    let running = agent.until_state("a", TaskState::Running).await;
    agent.handle.acknowledge(vec![key_of(&running)]).await;
    crash(&machine, "told");
    let told = agent.until_state("told", TaskState::Failed).await;
    agent.handle.acknowledge(vec![key_of(&told)]).await;
    agent.settle().await;
    agent.leave().await;

    machine.with(|state| state.log.clear());
    let agent = Agent::start_alone(directory.path(), &machine, "second boot").await;
    let again = restarted(&agent, "a", 1).await;
    assert!(again.message.contains("the machine was restarted"), "{}", again.message);
    assert_eq!((count(&machine, "create a"), count(&machine, "create told")), (1, 0));
    let at_hand = super::at_hand(Arc::new(task));
    assert!(!at_hand.spec.image.as_ref().unwrap().force_pull);
    // Once more, after a session without word of its end.
    agent.leave().await;
    let agent = Agent::start_alone(directory.path(), &machine, "third boot").await;
    restarted(&agent, "a", 2).await;
    agent.leave().await;
}

#[tokio::test]
async fn with_a_master_there_a_reboot_is_for_the_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "first boot").await;
    agent.assign(vec![assignment("a", true), assignment("b", true)]).await;
    agent.until_state("a", TaskState::Running).await;
    agent.until_state("b", TaskState::Running).await;
    agent.leave().await;
    let agent = Agent::start(directory.path(), &machine, "second boot").await;
    let killed = agent.until_state("a", TaskState::Killed).await;
    agent.handle.acknowledge(vec![key_of(&killed)]).await;
    agent.handle.led(false).await;
    // Nobody has acknowledged that one.
    restarted(&agent, "b", 1).await;
    assert_eq!(count(&machine, "create a"), 1);
    agent.leave().await;
}

#[tokio::test]
async fn what_went_down_on_purpose_stays_down() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true)]).await;
    agent.until_state("a", TaskState::Running).await;
    agent.handle.led(false).await;
    within(agent.handle.stop_all()).await.unwrap();
    agent.leave().await;
    let mut agent = Agent::start_alone(directory.path(), &machine, "boot").await;
    agent.assign(vec![assignment("a", true), assignment("b", true)]).await;
    agent.until_state("b", TaskState::Running).await;
    pass_the_grace(&agent, &machine, "b").await;
    assert_eq!(count(&machine, "create a"), 1);
    agent.until_state("a", TaskState::Killed).await;
    agent.leave().await;
}

#[tokio::test]
async fn an_app_may_ask_not_to_run_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut task = assignment("a", true);
    task.spec.alone.stop_after_ms = Some(1);
    agent.assign(vec![task.clone(), assignment("b", true)]).await;
    agent.until_state("a", TaskState::Running).await;
    agent.until_state("b", TaskState::Running).await;
    assert_eq!(count(&machine, "stop(3000) a"), 0);
    agent.handle.led(false).await;
    let killed = agent.until_state("a", TaskState::Killed).await;
    assert_eq!(killed.message, CUT_OFF);
    assert_eq!(count(&machine, "stop(3000) a"), 1);
    pass_the_grace(&agent, &machine, "b").await;
    assert_eq!(count(&machine, "create a"), 1);
    // Masters are told, and give it a task again.
    agent.handle.led(true).await;
    agent.settle().await;
    assert_eq!(agent.until_state("a", TaskState::Killed).await, killed);
    agent.leave().await;
}

#[tokio::test]
async fn what_must_not_run_twice_runs_under_a_lease_only() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<Machine> = Arc::default();
    let mut agent = Agent::start(directory.path(), &machine, "boot").await;
    let mut task = assignment("a", true);
    task.spec.alone.leased = true;
    assert!(!agent.handle.held.borrow().leased);
    agent.assign(vec![task.clone(), assignment("b", true)]).await;
    assert!(agent.handle.held.borrow().leased);
    agent.until_state("b", TaskState::Running).await;
    // One that is as good as over is none.
    agent.handle.renew(uptime_ms() + 1).await;
    agent.settle().await;
    assert_eq!(count(&machine, "create a"), 0);
    let until = uptime_ms() + 3_600_000;
    agent.handle.renew(until).await;
    agent.until_state("a", TaskState::Running).await;
    let leased = |until: u64| {
        let machine = Arc::clone(&machine);
        async move {
            let id = TaskId::new("a");
            within(machine.until(|state| state.leases.get(&id) == Some(&until))).await;
        }
    };
    leased(until).await;
    agent.handle.renew(until + 5).await;
    agent.handle.renew(until).await;
    leased(until + 5).await;
    assert!(!machine.with(|state| state.leases.contains_key(&TaskId::new("b"))));

    agent.handle.led(false).await;
    let over = ExitRecord { lease_over: true, ..exited(143, true) };
    machine.exit("a", Ending::Exited(over));
    let killed = agent.until_state("a", TaskState::Killed).await;
    assert_eq!(killed.message, LEASE_OVER);
    pass_the_grace(&agent, &machine, "b").await;
    assert_eq!(count(&machine, "create a"), 1, "not started again, even under a lease");
    agent.leave().await;

    // Nor is it cold-started, whatever the ledger says.
    let mut agent = Agent::start_alone(directory.path(), &machine, "next boot").await;
    let mut fresh = task.clone();
    fresh.task_id = TaskId::new("fresh");
    agent.assign(vec![task, fresh.clone(), assignment("b", true)]).await;
    restarted(&agent, "b", 2).await;
    assert_eq!((count(&machine, "create a"), count(&machine, "create fresh")), (1, 0));
    agent.assign(vec![Assignment { run: false, ..fresh }]).await;
    agent.until_state("fresh", TaskState::Killed).await;
    agent.leave().await;
}
