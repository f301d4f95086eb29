//! Instances and tasks: assignment, statuses, backoff, the count that is kept.

use crate::bench::{Bench, agent, app};
use bramble_core::command::{AppChange, Command, Placed, Rejection};
use bramble_core::event::{Event, RefusedAssignment};
use bramble_core::model::*;

fn deployed(definition: App) -> Bench {
    let mut bench = Bench::with(vec![agent("n1", 1000, 1024)]);
    bench.create(definition);
    bench.settle();
    bench
}

fn only(bench: &Bench, id: &str) -> Instance {
    let instances = bench.instances(id);
    assert_eq!(instances.len(), 1, "one instance of {id}");
    instances[0].clone()
}

fn refusal(events: &[Event]) -> Option<RefusedAssignment> {
    events.iter().find_map(|e| match e {
        Event::AssignmentRefused { reason, .. } => Some(*reason),
        _ => None,
    })
}

#[test]
fn agents_must_be_admitted_and_known() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 1024)]);
    let stranger = agent("n2", 1000, 1024);
    assert_eq!(
        bench.apply(Command::RegisterAgent { agent: stranger }),
        Err(Rejection::NotAdmitted(AgentId::new("n2")))
    );
    let away =
        |id: &str, reachable| Command::SetReachable { agent_id: AgentId::new(id), reachable };
    assert_eq!(bench.apply(away("n2", false)), Err(Rejection::AgentUnknown(AgentId::new("n2"))));
    assert_eq!(bench.must(away("n1", true)), []);
    assert_eq!(bench.must(away("n1", false)).len(), 1);
    bench.must(Command::RegisterAgent { agent: agent("n1", 1000, 1024) });
    assert!(bench.state.agents[&AgentId::new("n1")].reachable);
}

#[test]
fn a_cluster_is_founded_once() {
    let mut bench = Bench::empty();
    let rotate = Command::RotateToken { join_secret_sha256: "new".into(), sealed: None };
    assert_eq!(bench.apply(rotate.clone()), Err(Rejection::NotFounded));
    let founder = Node {
        id: NodeId::new("n1"),
        name: "n1".into(),
        role: NodeRole::Full,
        public_key: vec![],
        admitted_at: Time(1),
    };
    let cluster = Cluster {
        id: "c".into(),
        ca_certificate: vec![],
        join_secret_sha256: "old".into(),
        founded_at: Time(1),
        authority: None,
        join_token: None,
        previous: vec![],
        rotation_due: false,
    };
    let found = Command::Found { cluster, founder };
    bench.must(found.clone());
    assert_eq!(bench.apply(found), Err(Rejection::AlreadyFounded));
    bench.must(rotate);
    let digest = bench.state.cluster.as_ref().map(|c| c.join_secret_sha256.as_str());
    assert_eq!(digest, Some("new"));
}

#[test]
fn an_assignment_is_checked_again() {
    let mut definition = app("/a", 3);
    definition.resources.cpus_milli = 400;
    definition.port_definitions = vec![PortDefinition {
        port: 0,
        protocol: Protocol::Tcp,
        name: None,
        labels: Default::default(),
    }];
    let mut bench = deployed(definition);
    let ids: Vec<InstanceId> = bench.instances("/a").iter().map(|i| i.id.clone()).collect();
    let mut assign = |nth: usize, agent: &str, ports: &[u16]| {
        let placed = Placed {
            instance_id: ids[nth].clone(),
            agent_id: AgentId::new(agent),
            ports: ports.to_vec(),
            devices: vec![],
        };
        refusal(&bench.must(Command::Assign { assignments: vec![placed] }))
    };
    assert_eq!(assign(0, "n9", &[31_000]), Some(RefusedAssignment::AgentUnknown));
    assert_eq!(assign(0, "n1", &[]), Some(RefusedAssignment::PortTaken));
    assert_eq!(assign(0, "n1", &[80]), Some(RefusedAssignment::PortTaken));
    assert_eq!(assign(0, "n1", &[31_000, 31_001]), Some(RefusedAssignment::PortTaken));
    assert_eq!(assign(0, "n1", &[31_000]), None);
    assert_eq!(assign(0, "n1", &[31_001]), Some(RefusedAssignment::AlreadyPlaced));
    assert_eq!(assign(1, "n1", &[31_000]), Some(RefusedAssignment::PortTaken));
    assert_eq!(assign(1, "n1", &[31_001]), None);
    assert_eq!(assign(2, "n1", &[31_002]), Some(RefusedAssignment::NotEnough));
    let away = Command::SetReachable { agent_id: AgentId::new("n1"), reachable: false };
    bench.must(away);
    let gone = InstanceId::new("gone");
    for (id, reason) in
        [(&gone, RefusedAssignment::InstanceGone), (&ids[2], RefusedAssignment::AgentUnreachable)]
    {
        let placed = Placed {
            instance_id: id.clone(),
            agent_id: AgentId::new("n1"),
            ports: vec![31_002],
            devices: vec![],
        };
        let events = bench.must(Command::Assign { assignments: vec![placed] });
        assert_eq!(refusal(&events), Some(reason));
    }
}

#[test]
fn one_command_cannot_assign_the_same_room_twice() {
    let mut definition = app("/a", 2);
    definition.resources.cpus_milli = 600;
    let mut bench = deployed(definition);
    let assignments: Vec<Placed> = bench
        .instances("/a")
        .iter()
        .map(|i| Placed {
            instance_id: i.id.clone(),
            agent_id: AgentId::new("n1"),
            ports: vec![],
            devices: vec![],
        })
        .collect();
    let events = bench.must(Command::Assign { assignments });
    assert!(matches!(events[0], Event::TaskAssigned { .. }));
    assert_eq!(refusal(&events), Some(RefusedAssignment::NotEnough));
}

#[test]
fn a_status_is_applied_once_and_never_goes_back() {
    let mut bench = deployed(app("/a", 1));
    bench.place();
    let task_id = only(&bench, "/a").task.expect("placed").id;
    let status = |sequence, state, healthy| TaskStatus {
        task_id: task_id.clone(),
        sequence,
        state,
        message: format!("report {sequence}"),
        healthy,
        ip: None,
        exit_code: None,
        probes: None,
        containers: Vec::new(),
        size: None,
        restarts: 0,
    };
    let mut report = |s: TaskStatus| {
        bench.clock += 10;
        let events = bench.must(Command::RecordStatus { statuses: vec![s] });
        let task = only(&bench, "/a").task;
        (events.len(), task.map(|t| (t.state, t.healthy, t.last_sequence)))
    };
    use TaskState::*;
    assert_eq!(report(status(1, Staging, None)), (1, Some((Staging, None, 1))));
    assert_eq!(report(status(3, Running, Some(true))), (1, Some((Running, Some(true), 3))));
    assert_eq!(report(status(2, Failed, None)), (0, Some((Running, Some(true), 3))));
    assert_eq!(report(status(4, Starting, None)), (1, Some((Running, None, 4))));
    assert_eq!(report(status(5, Failed, None)), (1, None));
    // The end is committed: whatever follows is of no task.
    assert_eq!(report(status(6, Running, None)), (0, None));
    let instance = only(&bench, "/a");
    assert_eq!((instance.incarnation, instance.since), (2, Time(bench.clock - 10)));
    let failure = bench.stored("/a").last_failure.clone().expect("remembered");
    assert_eq!((failure.task_id, failure.message.as_str()), (task_id.clone(), "report 5"));
    let unknown = TaskStatus { task_id: TaskId::new("nonsense"), ..status(1, Running, None) };
    assert_eq!(bench.must(Command::RecordStatus { statuses: vec![unknown] }), []);
}

#[test]
fn endings_delay_the_next_launch_but_kills_do_not() {
    use TaskState::*;
    // (ending, delay afterwards, remembered as failure)
    let cases = [
        (Finished, 1000, false),
        (Failed, 1000, true),
        (Error, 1000, true),
        (Lost, 1000, true),
        (Killed, 0, false),
    ];
    for (ending, delay_ms, remembered) in cases {
        let mut bench = deployed(app("/a", 1));
        bench.place();
        let id = only(&bench, "/a").id;
        bench.report(&id, ending, None);
        let record = bench.stored("/a");
        assert_eq!(record.delay.delay_ms, delay_ms, "{ending:?}");
        assert_eq!(record.last_failure.is_some(), remembered, "{ending:?}");
        let now = Time(bench.clock);
        let wake = (delay_ms > 0).then(|| now.plus_ms(delay_ms));
        assert_eq!(bench.state.next_wake(now), wake);
        assert_eq!(bench.state.demands(now).len(), usize::from(delay_ms == 0));
        assert_eq!(bench.state.demands(now.plus_ms(1000)).len(), 1);
        assert_eq!(bench.state.next_wake(now.plus_ms(1000)), None);
        let placed = Placed {
            instance_id: id.clone(),
            agent_id: AgentId::new("n1"),
            ports: vec![],
            devices: vec![],
        };
        let events = bench.must(Command::Assign { assignments: vec![placed.clone()] });
        let refused = (delay_ms > 0).then_some(RefusedAssignment::Delayed);
        assert_eq!(refusal(&events), refused);
        if refused.is_some() {
            bench.must(Command::ResetDelay { app_id: AppId::new("/a") });
            let events = bench.must(Command::Assign { assignments: vec![placed] });
            assert_eq!(refusal(&events), None);
            assert_eq!(only(&bench, "/a").task.expect("placed").id, id.task(2));
        }
    }
}

#[test]
fn a_new_configuration_starts_without_delay() {
    let mut bench = deployed(app("/a", 1));
    bench.place();
    let id = only(&bench, "/a").id;
    bench.report(&id, TaskState::Failed, None);
    let mut fixed = app("/a", 1);
    fixed.cmd = Some("true".into());
    bench.change(vec![AppChange::Update(fixed)], true).expect("updates");
    assert_eq!(bench.stored("/a").delay, LaunchDelay::default());
    bench.settle();
    // The old instance, which waited, is not launched any more.
    assert_ne!(only(&bench, "/a").id, id);
}

#[test]
fn an_outdated_task_that_ends_is_not_launched_again() {
    let mut bench = deployed(app("/a", 1));
    bench.finish();
    let id = only(&bench, "/a").id;
    bench.change(vec![AppChange::Restart(AppId::new("/a"))], false).expect("restarts");
    bench.report(&id, TaskState::Failed, None);
    assert!(bench.instances("/a").is_empty());
    assert_eq!(bench.stored("/a").delay.delay_ms, 0, "the new configuration did not fail");
    bench.finish();
    assert_ne!(only(&bench, "/a").id, id);
}

#[test]
fn before_its_step_an_outdated_task_is_launched_again() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 1024)]);
    bench.create(app("/db", 1));
    bench.finish();
    let mut web = app("/web", 1);
    web.dependencies = vec![AppId::new("/db")];
    bench.create(web);
    bench.finish();
    let restart = |id: &str| AppChange::Restart(AppId::new(id));
    bench.change(vec![restart("/db"), restart("/web")], false).expect("restarts");
    let before = only(&bench, "/web");
    bench.report(&before.id, TaskState::Failed, None);
    let after = only(&bench, "/web");
    assert_eq!((after.id, after.version, after.incarnation), (before.id, before.version, 2));
    assert_eq!(bench.stored("/web").delay.delay_ms, 1000);
    bench.finish();
    assert!(only(&bench, "/web").version > before.version);
}

#[test]
fn decommissioning_ends_instances() {
    let mut bench = deployed(app("/a", 1));
    let waiting = only(&bench, "/a").id;
    let events = bench.must(Command::Decommission { ids: vec![waiting.clone()] });
    assert_eq!(events.len(), 2);
    assert!(bench.state.instances.is_empty());
    assert_eq!(bench.must(Command::Decommission { ids: vec![waiting] }), []);
    bench.finish();
    let running = only(&bench, "/a").id;
    bench.must(Command::Decommission { ids: vec![running.clone()] });
    assert_eq!(bench.must(Command::Decommission { ids: vec![running.clone()] }), []);
    // The count is kept meanwhile: the stopping one does not count.
    bench.settle();
    assert_eq!(bench.instances("/a").len(), 2);
    bench.report(&running, TaskState::Killed, None);
    assert_ne!(only(&bench, "/a").id, running);
}

#[test]
fn a_singleton_waits_for_the_end_of_the_one_before() {
    let mut single = app("/a", 1);
    single.labels.insert(LABEL_SINGLE_INSTANCE.into(), "true".into());
    let mut bench = deployed(single);
    bench.finish();
    let running = only(&bench, "/a").id;
    bench.must(Command::Decommission { ids: vec![running.clone()] });
    bench.settle();
    assert_eq!(bench.instances("/a").len(), 1);
    bench.report(&running, TaskState::Killed, None);
    bench.finish();
    bench.change(vec![AppChange::Restart(AppId::new("/a"))], false).expect("restarts");
    bench.settle();
    assert_eq!(only(&bench, "/a").goal, Goal::Decommissioned);
    bench.finish();
    assert_eq!(only(&bench, "/a").goal, Goal::Running);
}

#[test]
fn instances_are_never_added_beyond_the_count() {
    let mut bench = deployed(app("/a", 2));
    let id = |name: &str| InstanceId::compose(&AppId::new("/a"), name);
    let ids = |names: &[&str]| names.iter().map(|n| id(n)).collect::<Vec<_>>();
    let add = |ids| Command::AddInstances { app_id: AppId::new("/a"), ids };
    assert_eq!(bench.must(add(ids(&["x", "y"]))), []);
    let taken = bench.instances("/a")[0].id.clone();
    assert_eq!(bench.apply(add(vec![taken.clone()])), Err(Rejection::InstanceExists(taken)));
    let twice = bench.apply(add(ids(&["x", "x"])));
    assert_eq!(twice, Err(Rejection::InstanceExists(id("x"))));
    // Found by the path in their ids, instances of `/a` cannot have those of `/a/b` or none.
    for stray in [InstanceId::new("x"), InstanceId::compose(&AppId::new("/a/b"), "x")] {
        let misnamed = Rejection::InstanceMisnamed(stray.clone(), AppId::new("/a"));
        assert_eq!(bench.apply(add(vec![stray])), Err(misnamed));
    }
    let unknown = Command::AddInstances { app_id: AppId::new("/b"), ids: ids(&["x"]) };
    assert_eq!(bench.apply(unknown), Err(Rejection::AppUnknown(AppId::new("/b"))));
}

#[test]
fn counts_follow_tasks() {
    let mut bench = deployed(app("/a", 3));
    bench.place();
    let ids: Vec<InstanceId> = bench.instances("/a").iter().map(|i| i.id.clone()).collect();
    bench.report(&ids[0], TaskState::Running, Some(true));
    bench.report(&ids[1], TaskState::Running, Some(false));
    let counts = bench.state.counts(&AppId::new("/a"));
    assert_eq!(counts, TaskCounts { staged: 1, running: 2, healthy: 1, unhealthy: 1 });
}

#[test]
fn an_absurd_count_is_approached_in_bounded_looks() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 1024)]);
    bench.create(app("/a", u32::MAX));
    for look in 1..=3u32 {
        let commands = bench.deployer();
        for command in commands {
            bench.must(command);
        }
        let most = look * bramble_core::deploy::INSTANCES_ADDED_MAX;
        assert!(bench.instances("/a").len() <= most as usize);
    }
}

#[test]
fn an_agent_that_lends_less_than_it_gave_out_takes_what_needs_none_of_that() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 1024)]);
    let mut large = app("/large", 1);
    large.resources.disk_bytes = 1 << 39;
    bench.create(large);
    bench.finish();
    let mut shrunk = agent("n1", 1000, 1024);
    shrunk.total.disk_bytes = 1 << 30;
    bench.must(Command::RegisterAgent { agent: shrunk });
    bench.create(app("/none", 1));
    bench.finish();
    assert!(bench.instances("/none")[0].task.is_some());
    let mut some = app("/some", 1);
    some.resources.disk_bytes = 1;
    bench.create(some);
    bench.settle();
    assert_eq!(bench.place().decisions, []);
}
