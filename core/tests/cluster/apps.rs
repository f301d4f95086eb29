//! Changing apps: conflicts, locks, versions, service ports, removal.

use crate::bench::{Bench, agent, app};
use bramble_core::command::{AppChange, Command, Rejection};
use bramble_core::event::Event;
use bramble_core::model::*;

fn one_agent() -> Bench {
    Bench::with(vec![agent("n1", 8000, 4096)])
}

fn id(text: &str) -> AppId {
    AppId::new(text)
}

fn actions(bench: &Bench, deployment: &DeploymentId) -> Vec<Vec<String>> {
    let action = |a: &DeploymentAction| format!("{} {}", a.kind.as_str(), a.app_id);
    let plan = &bench.state.deployments[deployment].plan;
    plan.steps.iter().map(|s| s.actions.iter().map(action).collect()).collect()
}

#[test]
fn conflicts_are_refused() {
    let mut bench = one_agent();
    bench.create(app("/a/b", 1));
    bench.finish();
    let cases = [
        (AppChange::Create(app("/a/b", 1)), Rejection::AppExists(id("/a/b"))),
        (AppChange::Create(app("/a", 1)), Rejection::PathTaken(id("/a"), id("/a/b"))),
        (AppChange::Create(app("/a/b/c/d", 1)), Rejection::PathTaken(id("/a/b"), id("/a/b/c/d"))),
        (AppChange::Update(app("/x", 1)), Rejection::AppUnknown(id("/x"))),
        (AppChange::Restart(id("/x")), Rejection::AppUnknown(id("/x"))),
        (AppChange::Remove(id("/x")), Rejection::AppUnknown(id("/x"))),
    ];
    for (change, rejection) in cases {
        assert_eq!(bench.change(vec![change], false), Err(rejection));
    }
    // Neighbours whose names only begin alike are no conflict.
    for neighbour in ["/a/bb", "/a/b-c", "/ab"] {
        bench.create(app(neighbour, 0));
    }
    // Within one command later changes see earlier ones.
    let swap = vec![AppChange::Remove(id("/a/b")), AppChange::Create(app("/a/b/c", 1))];
    assert!(bench.change(swap, false).is_ok());
    let clash = vec![AppChange::Create(app("/z", 1)), AppChange::Create(app("/z/y", 1))];
    assert_eq!(bench.change(clash, true), Err(Rejection::PathTaken(id("/z"), id("/z/y"))));
}

#[test]
fn a_lock_holds_until_forced() {
    let mut bench = one_agent();
    let first = bench.create(app("/a", 1));
    let update = AppChange::Update(app("/a", 3));
    assert_eq!(
        bench.change(vec![update.clone()], false),
        Err(Rejection::Locked(vec![first.clone()]))
    );
    bench.create(app("/b", 1));
    bench.events.clear();
    let second = bench.change(vec![update], true).expect("force overrides");
    assert!(
        matches!(&bench.events[0], Event::DeploymentCancelled { id, deployment } if *id == first && deployment.id == first)
    );
    assert!(!bench.state.deployments.contains_key(&first));
    assert_eq!(bench.state.locked_by([&id("/a")]), vec![second]);
    bench.finish();
    assert_eq!(bench.instances("/a").len(), 3);
    assert_eq!(bench.state.locked_by([&id("/a"), &id("/b")]), vec![]);
}

#[test]
fn versions_tell_scaling_from_change() {
    let mut bench = one_agent();
    bench.create(app("/a", 1));
    bench.finish();
    let stamps = |bench: &Bench| {
        let app = &bench.stored("/a").app;
        (app.version, app.last_scaling, app.last_config_change)
    };
    let (created, ..) = stamps(&bench);
    assert_eq!(stamps(&bench), (created, created, created));

    let scale = bench.update(app("/a", 2));
    let (scaled, ..) = stamps(&bench);
    assert!(scaled > created);
    assert_eq!(stamps(&bench), (scaled, scaled, created));
    assert_eq!(actions(&bench, &scale), [["ScaleApplication /a"]]);
    bench.finish();

    let mut changed = app("/a", 2);
    changed.cmd = Some("sleep 7".into());
    let change = bench.update(changed.clone());
    let (reconfigured, ..) = stamps(&bench);
    assert_eq!(stamps(&bench), (reconfigured, reconfigured, reconfigured));
    assert_eq!(actions(&bench, &change), [["RestartApplication /a"]]);
    bench.finish();

    let restart = bench.change(vec![AppChange::Restart(id("/a"))], false).expect("restarts");
    let (restarted, ..) = stamps(&bench);
    assert_eq!(stamps(&bench), (restarted, reconfigured, restarted));
    assert_eq!(actions(&bench, &restart), [["RestartApplication /a"]]);
    bench.finish();
    assert!(bench.instances("/a").iter().all(|i| i.version == restarted));

    // The same again changes nothing, and still is a deployment that succeeds.
    bench.events.clear();
    let same = bench.update(changed);
    assert_eq!(stamps(&bench).0, restarted);
    assert!(matches!(
        &bench.events[..],
        [Event::DeploymentStarted { .. }, Event::DeploymentFinished { id, .. }] if *id == same
    ));
}

#[test]
fn versions_increase_even_when_the_clock_stands_or_goes_back() {
    let mut bench = one_agent();
    bench.create(app("/a", 0));
    bench.finish();
    let before = bench.stored("/a").app.version;
    bench.clock = 5;
    for n in 1..=60 {
        bench.update(app("/a", n % 2));
        bench.finish();
        bench.clock = 5;
    }
    let record = bench.stored("/a");
    assert!(record.app.version > before);
    let times: Vec<Time> = record.versions.iter().map(|a| a.version).collect();
    assert!(times.is_sorted() && times.len() == APP_VERSIONS_MAX as usize);
    assert!(times.last() < Some(&record.app.version));
}

#[test]
fn a_version_in_use_outlives_the_history() {
    let mut bench = one_agent();
    bench.create(app("/a", 1));
    bench.finish();
    let first = bench.instances("/a")[0].version;
    for n in 0..70 {
        bench.update(app("/a", 1 + (n % 2)));
        bench.finish();
    }
    // Scaling keeps the oldest task (youngest are killed first), and so its definition.
    assert!(bench.instances("/a").iter().any(|i| i.version == first));
    let record = bench.stored("/a");
    assert!(record.at_version(first).is_some());
    assert!(record.versions.len() <= APP_VERSIONS_MAX as usize + 2);
}

#[test]
fn service_ports_are_given_kept_and_unique() {
    let definition = |port| PortDefinition {
        port,
        protocol: Protocol::Tcp,
        name: None,
        labels: Default::default(),
    };
    let host = |name: &str, ports: &[u16]| {
        let mut app = app(name, 0);
        app.port_definitions = ports.iter().map(|p| definition(*p)).collect();
        app
    };
    let mut bench = one_agent();
    let ports = |bench: &Bench, name: &str| bench.stored(name).app.service_ports();
    bench.create(host("/a", &[0, 10_001, 0]));
    bench.create(host("/b", &[0]));
    assert_eq!(ports(&bench, "/a"), [10_000, 10_001, 10_002]);
    assert_eq!(ports(&bench, "/b"), [10_003]);
    bench.finish();
    // By index, kept; one more is new; an explicit one is obeyed.
    let version = bench.stored("/a").app.version;
    bench.update(host("/a", &[0, 0, 0]));
    assert_eq!(bench.stored("/a").app.version, version, "the same ports are no change");
    bench.update(host("/a", &[0, 9000, 0, 0]));
    assert_eq!(ports(&bench, "/a"), [10_000, 9000, 10_002, 10_001]);
    bench.finish();

    let mapping = PortMapping {
        container_port: 80,
        host_port: Some(0),
        service_port: 0,
        protocol: Protocol::Tcp,
        name: None,
        labels: Default::default(),
        network_names: vec![],
    };
    let mut bridged = app("/c", 0);
    bridged.networks = vec![Network::Bridge];
    bridged.container = Some(Container {
        kind: ContainerKind::Docker,
        docker: None,
        port_mappings: Some(vec![mapping]),
        volumes: vec![],
        linux_info: None,
    });
    bench.create(bridged);
    assert_eq!(ports(&bench, "/c"), [10_004]);

    let full: Vec<u16> = vec![0; 10_000];
    bench.finish();
    let before = bench.state.apps.clone();
    assert!(matches!(
        bench.change(vec![AppChange::Create(host("/full", &full))], false),
        Err(Rejection::ServicePortsExhausted { begin: 10_000, end: 20_000 })
    ));
    assert_eq!(bench.state.apps, before);
}

#[test]
fn a_removed_app_is_gone_at_once_and_its_tasks_stop() {
    let mut bench = one_agent();
    bench.create(app("/a", 2));
    bench.finish();
    let remove = bench.change(vec![AppChange::Remove(id("/a"))], false).expect("removes");
    assert_eq!(actions(&bench, &remove), [["StopApplication /a"]]);
    assert!(bench.state.apps.is_empty());
    // Its tasks can still be resolved, and its path is locked by the deployment.
    assert!(bench.instances("/a").iter().all(|i| bench.state.app_of(i).is_some()));
    let create = AppChange::Create(app("/a", 1));
    let refused = bench.change(vec![create.clone()], false);
    assert_eq!(refused, Err(Rejection::Locked(vec![remove])));

    bench.settle();
    assert!(bench.instances("/a").iter().all(|i| i.goal == Goal::Decommissioned));
    // Forced, a new app of the name is none of the old one's.
    bench.change(vec![create], true).expect("force overrides");
    bench.settle();
    assert_eq!(bench.instances("/a").len(), 3);
    bench.finish();
    assert_eq!(bench.instances("/a").len(), 1);
    assert!(bench.state.leaving.is_empty());

    bench.change(vec![AppChange::Remove(id("/a"))], false).expect("removes");
    bench.finish();
    assert!(bench.state.instances.is_empty() && bench.state.leaving.is_empty());
}

#[test]
fn a_cancelled_removal_still_leaves_nothing() {
    let mut bench = one_agent();
    bench.create(app("/a", 2));
    bench.finish();
    let remove = bench.change(vec![AppChange::Remove(id("/a"))], false).expect("removes");
    bench.must(Command::CancelDeployment { id: remove });
    bench.finish();
    assert!(bench.state.instances.is_empty() && bench.state.leaving.is_empty());
}

#[test]
fn a_change_after_a_cancelled_restart_finishes_it() {
    let mut bench = one_agent();
    bench.create(app("/a", 3));
    bench.finish();
    let restart = bench.change(vec![AppChange::Restart(id("/a"))], false).expect("restarts");
    bench.settle();
    bench.must(Command::CancelDeployment { id: restart });
    let config = bench.stored("/a").app.last_config_change;
    let scale = bench.change(vec![AppChange::Update(app("/a", 2))], false).expect("scales");
    assert_eq!(actions(&bench, &scale), [["RestartApplication /a"]]);
    bench.finish();
    assert_eq!(bench.instances("/a").len(), 2);
    assert!(bench.instances("/a").iter().all(|i| i.version >= config));
}

#[test]
fn steps_are_taken_in_order() {
    let mut bench = one_agent();
    let deployment = bench.create(app("/a", 1));
    let advance = |from_step| Command::AdvanceDeployment { id: deployment.clone(), from_step };
    let mismatch = Rejection::StepMismatch { id: deployment.clone(), at: 0, from: 1 };
    assert_eq!(bench.apply(advance(1)), Err(mismatch));
    assert!(matches!(
        &bench.must(advance(0))[..],
        [Event::DeploymentStep { id, step: 1, deployment: d }]
            if *id == deployment && d.current_step == 1
    ));
    assert!(matches!(
        &bench.must(advance(1))[..],
        [Event::DeploymentFinished { id, deployment: d }]
            if *id == deployment && d.plan.steps.len() == 2
    ));
    let unknown = Err(Rejection::DeploymentUnknown(deployment.clone()));
    assert_eq!(bench.apply(advance(1)), unknown);
    assert_eq!(bench.apply(Command::CancelDeployment { id: deployment.clone() }), unknown);
}
