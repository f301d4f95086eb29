//! Pods: placed, deployed and kept as apps are, and told container by container.

use crate::bench::{Bench, agent, app, pod};
use bramble_core::command::{AppChange, Command, Rejection};
use bramble_core::event::Event;
use bramble_core::model::*;
use bramble_core::taskenv;

fn report(bench: &mut Bench, id: &InstanceId, states: [TaskState; 2]) -> Vec<Event> {
    report_of(bench, id, 0, states)
}

/// What an agent says of a pod that it has started again by itself this often.
fn report_of(
    bench: &mut Bench,
    id: &InstanceId,
    restarts: u32,
    states: [TaskState; 2],
) -> Vec<Event> {
    let task = bench.state.instances[id].task.clone().expect("it has a task");
    let container = |(name, state): (&str, TaskState)| ContainerStatus {
        name: name.into(),
        state,
        message: String::new(),
        healthy: None,
        exit_code: None,
    };
    let [one, two] = states;
    let status = TaskStatus {
        task_id: task.id,
        sequence: task.last_sequence + 1,
        state: one.min(two),
        message: String::new(),
        healthy: None,
        ip: None,
        exit_code: None,
        probes: None,
        containers: [("one", one), ("two", two), ("stranger", one)].map(container).into(),
        size: None,
        restarts,
    };
    bench.must(Command::RecordStatus { statuses: vec![status] })
}

#[test]
fn containers_have_states_of_their_own() {
    use TaskState::{Finished, Running, Staging, Starting};
    let mut bench = Bench::with(vec![agent("n1", 4000, 4096)]);
    bench.create(pod("/p", 1, "sleep 1", false));
    bench.settle();
    bench.place();
    let id = bench.instances("/p")[0].id.clone();
    let seen = |bench: &Bench| -> Vec<(TaskState, u64)> {
        let task = bench.state.instances[&id].task.as_ref().expect("it has a task");
        task.containers.iter().map(|c| (c.status.state, c.since.0)).collect()
    };
    let placed = bench.clock;
    assert_eq!(seen(&bench), [(Staging, placed); 2]);
    bench.clock += 10;
    report(&mut bench, &id, [Starting, Staging]);
    assert_eq!(seen(&bench), [(Starting, placed + 10), (Staging, placed)]);
    bench.clock += 10;
    let events = report(&mut bench, &id, [Running, Running]);
    let changed = events.iter().find_map(|event| match event {
        Event::TaskStatusChanged { changed_containers, .. } => Some(changed_containers.clone()),
        _ => None,
    });
    assert_eq!(changed, Some(vec!["one".into(), "two".into()]));
    bench.clock += 10;
    // An agent that starts over may say less than it did; nothing goes back for that.
    report(&mut bench, &id, [Finished, Starting]);
    assert_eq!(seen(&bench), [(Finished, placed + 30), (Running, placed + 20)]);
    assert_eq!(bench.instances("/p").len(), 1, "one that is done leaves the others be");
    // Its agent had nobody to ask and has started all of it again: the same task, other containers.
    bench.clock += 10;
    let task = bench.state.instances[&id].task.clone().expect("it has a task");
    report_of(&mut bench, &id, 1, [Running, Starting]);
    assert_eq!(seen(&bench), [(Running, placed + 40), (Starting, placed + 40)]);
    let again = bench.state.instances[&id].task.clone().expect("it has a task");
    assert_eq!((&again.id, again.state), (&task.id, Running), "the task itself never goes back");
    // Said again, it is no further start.
    report_of(&mut bench, &id, 1, [Finished, Running]);
    report_of(&mut bench, &id, 1, [Starting, Starting]);
    assert_eq!(seen(&bench), [(Finished, placed + 40), (Running, placed + 40)]);
}

#[test]
fn a_pod_takes_what_its_containers_take_together() {
    let mut bench = Bench::with(vec![agent("n1", 500, 4096)]);
    // Two containers of a tenth of a core each: two pods fit, a third has no room.
    bench.create(pod("/p", 3, "sleep 1", false));
    bench.settle();
    let placement = bench.place();
    assert_eq!((placement.decisions.len(), placement.refused.len()), (2, 1));
    assert_eq!(bench.state.used_on(&AgentId::new("n1")).resources.cpus_milli, 400);
    let told = taskenv::assignments_on(&bench.state, &AgentId::new("n1"));
    let names: Vec<&str> = told[0].spec.pod.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(told[0].spec.resources.cpus_milli, 200);
}

#[test]
fn an_id_stays_of_its_kind() {
    let mut bench = Bench::with(vec![agent("n1", 4000, 4096)]);
    bench.create(app("/a", 0));
    bench.create(pod("/p", 0, "sleep 1", false));
    let (a, p) = (AppId::new("/a"), AppId::new("/p"));
    let (as_pod, as_app) = (pod("/a", 1, "sleep 1", false), app("/p", 1));
    let rows = [
        (vec![AppChange::Create(as_pod.clone())], Rejection::AppExists(a.clone())),
        (vec![AppChange::Update(as_pod.clone())], Rejection::AppExists(a.clone())),
        (vec![AppChange::Create(as_app.clone())], Rejection::PodExists(p.clone())),
        (vec![AppChange::Update(as_app)], Rejection::PodExists(p)),
        (vec![AppChange::Remove(a.clone()), AppChange::Create(as_pod)], Rejection::AppExists(a)),
    ];
    for (changes, rejection) in rows {
        assert_eq!(bench.change(changes.clone(), true), Err(rejection), "{changes:?}");
    }
}

#[test]
fn actions_say_that_they_are_a_pods() {
    let mut bench = Bench::with(vec![agent("n1", 4000, 4096)]);
    let id = bench.change(
        vec![AppChange::Create(pod("/p", 1, "a", false)), AppChange::Create(app("/a", 1))],
        false,
    );
    let deployment = bench.state.deployments[&id.expect("both are created")].clone();
    let actions: Vec<(&str, bool)> = deployment
        .plan
        .steps
        .iter()
        .flat_map(|step| &step.actions)
        .map(|action| (action.app_id.as_str(), action.pod))
        .collect();
    assert_eq!(actions, [("/a", false), ("/p", true), ("/a", false), ("/p", true)]);
    assert!(deployment.is_of_pod(&AppId::new("/p")) && !deployment.is_of_pod(&AppId::new("/a")));
}
