//! New versions on trial: canaries, a second set, the way back by itself, and what users may do
//! in between. Bounds under random turns are in `rolling`.

use crate::bench::{Bench, agent, app, health_check};
use bramble_core::command::{AppChange, Command, Rejection};
use bramble_core::event::Event;
use bramble_core::model::*;

const CANARY: (&str, &str) = (LABEL_CANARY, "10%");
const BLUE_GREEN: (&str, &str) = (LABEL_BLUE_GREEN, "true");
const MINUTE: (&str, &str) = (LABEL_ROLLBACK_AFTER, "60s");

fn id() -> AppId {
    AppId::new("/a")
}

fn version(instances: u32, cmd: &str, labels: &[(&str, &str)]) -> App {
    let mut app = app("/a", instances);
    app.cmd = Some(cmd.into());
    app.health_checks = vec![health_check()];
    app.labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    app
}

/// A cluster on which `instances` of version one run.
fn running(instances: u32) -> Bench {
    let mut bench = Bench::with(vec![agent("n1", 10_000, 4096), agent("n2", 10_000, 4096)]);
    bench.create(version(instances, "one", &[]));
    bench.finish();
    bench
}

/// Let the loops and obedient tasks run for a while that no deadline notices.
fn run(bench: &mut Bench) {
    for _ in 0..30 {
        bench.settle();
        bench.place();
        bench.obey();
        bench.clock += 10;
    }
    bench.settle();
}

/// The loops run, but of the new version nothing turns healthy.
fn run_unhealthy(bench: &mut Bench) {
    for _ in 0..10 {
        bench.settle();
        bench.place();
        let all: Vec<Instance> = bench.state.instances.values().cloned().collect();
        for instance in all.iter().filter(|i| i.task.is_some()) {
            match instance.goal {
                Goal::Decommissioned | Goal::Stopped => {
                    bench.report(&instance.id, TaskState::Killed, None);
                }
                Goal::Running if bench.state.is_current(instance) => {
                    bench.report(&instance.id, TaskState::Running, Some(false));
                }
                Goal::Running => {}
            }
        }
        bench.clock += 10;
    }
    bench.settle();
}

/// (instances of the command "one", of "two", of "three"), whatever they do.
fn crowd(bench: &Bench) -> [usize; 3] {
    let of = |cmd: &str| {
        let named =
            |i: &&&Instance| bench.state.app_of(i).and_then(|app| app.cmd.as_deref()) == Some(cmd);
        bench.instances("/a").iter().filter(named).count()
    };
    ["one", "two", "three"].map(of)
}

fn ids(bench: &Bench) -> Vec<InstanceId> {
    bench.instances("/a").iter().map(|i| i.id.clone()).collect()
}

fn phase(bench: &Bench) -> Option<Phase> {
    bench.state.rollout(&id()).map(|rollout| rollout.phase)
}

fn deployment(bench: &Bench) -> DeploymentId {
    bench.state.deployments.keys().next().expect("a deployment").clone()
}

fn withdraw(bench: &mut Bench) {
    let under_way = deployment(bench);
    bench.roll_back(&under_way, UndoReason::Withdrawn).expect("withdraws");
}

fn force(bench: &mut Bench, app: App) {
    bench.change(vec![AppChange::Update(app)], true).expect("force overrides");
}

#[test]
fn canaries_wait_for_a_word() {
    // (instances, label, canaries, old ones beside them, min, over)
    let rows = [
        (10, "10%", 1, 10, PPM, PPM),
        (10, "15%", 2, 10, PPM, PPM),
        (10, "3", 3, 10, PPM, PPM),
        (1, "10%", 1, 1, PPM, PPM),
        (4, "100%", 4, 4, PPM, PPM),
        (4, "30", 4, 4, PPM, PPM),
        // No room beside: in the place of some, as far as the minimum allows.
        (4, "50%", 2, 3, PPM, 0),
        (4, "25%", 1, 3, PPM / 2, 0),
        (4, "1", 1, 3, 0, 0),
        (1, "1", 1, 0, 0, 0),
    ];
    for (instances, label, canaries, beside, min_health_ppm, max_over_ppm) in rows {
        let mut bench = running(instances);
        let mut two = version(instances, "two", &[(LABEL_CANARY, label)]);
        two.upgrade = UpgradeStrategy { min_health_ppm, max_over_ppm };
        let deployment = bench.update(two);
        run(&mut bench);
        let name = format!("{label} of {instances}, {min_health_ppm} {max_over_ppm}");
        assert_eq!(crowd(&bench), [beside, canaries, 0], "{name}");
        assert_eq!(phase(&bench), Some(Phase::Waiting), "{name}");
        // However long it takes.
        bench.clock += 1_000_000_000;
        run(&mut bench);
        assert_eq!(crowd(&bench), [beside, canaries, 0], "{name}");
        bench.must(Command::Promote { id: deployment });
        run(&mut bench);
        assert_eq!(crowd(&bench), [0, instances as usize, 0], "{name}");
        assert!(bench.state.deployments.is_empty(), "{name}");
    }
}

#[test]
fn a_second_set_waits_beside_the_first() {
    // (old count, new count): the stable set keeps its own until the other is promoted.
    for (old, new) in [(3, 3), (2, 4), (4, 1)] {
        let mut bench = running(old);
        let mut two = version(new, "two", &[BLUE_GREEN]);
        two.upgrade = UpgradeStrategy { min_health_ppm: PPM, max_over_ppm: 0 };
        let deployment = bench.update(two);
        run(&mut bench);
        assert_eq!(crowd(&bench), [old as usize, new as usize, 0]);
        assert_eq!(phase(&bench), Some(Phase::Waiting));
        bench.must(Command::Promote { id: deployment });
        run(&mut bench);
        assert_eq!(crowd(&bench), [0, new as usize, 0]);
        assert!(bench.state.deployments.is_empty());
    }
}

#[test]
fn what_is_withdrawn_leaves_the_old_tasks_alone() {
    for label in [CANARY, BLUE_GREEN] {
        let mut bench = running(3);
        let before = ids(&bench);
        bench.update(version(5, "two", &[label]));
        run(&mut bench);
        let started = bench.events.len();
        withdraw(&mut bench);
        let undone = bench.events[started..].iter().find_map(|event| match event {
            Event::DeploymentUndone { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(undone, Some(UndoReason::Withdrawn));
        run(&mut bench);
        assert_eq!(ids(&bench), before, "{label:?}: the same instances, none started anew");
        assert!(bench.state.deployments.is_empty());
        let stored = &bench.stored("/a").app;
        assert_eq!((stored.cmd.as_deref(), stored.instances), (Some("one"), 3));
        // The way is free for the next try, which has a version of its own.
        let next = bench.update(version(3, "two", &[label]));
        run(&mut bench);
        bench.must(Command::Promote { id: next });
        run(&mut bench);
        assert_eq!(crowd(&bench), [0, 3, 0]);
    }
}

#[test]
fn only_what_waits_is_promoted_and_only_a_trial_withdrawn() {
    let mut bench = running(2);
    let none = DeploymentId::new("none");
    let unknown = Err(Rejection::DeploymentUnknown(none.clone()));
    assert_eq!(bench.apply(Command::Promote { id: none.clone() }), unknown);
    assert_eq!(bench.apply(Command::ReviewRollouts { id: none.clone() }), unknown);
    let withdrawn = bench.roll_back(&none, UndoReason::Withdrawn);
    assert_eq!(withdrawn, Err(Rejection::DeploymentUnknown(none)));

    let plain = bench.update(version(2, "two", &[MINUTE]));
    let not_staged = bench.roll_back(&plain, UndoReason::Withdrawn);
    assert_eq!(not_staged, Err(Rejection::NotStaged(plain.clone())));
    let not_waiting = Rejection::NotWaiting { id: plain.clone(), still: vec![] };
    assert_eq!(bench.apply(Command::Promote { id: plain.clone() }), Err(not_waiting));
    let overdue = UndoReason::Overdue { app_id: id(), after_ms: 60_000 };
    assert_eq!(bench.roll_back(&plain, overdue), Err(Rejection::NotOverdue(plain)));
    run(&mut bench);

    let canary = bench.update(version(2, "three", &[CANARY]));
    bench.settle();
    let still = Rejection::NotWaiting { id: canary.clone(), still: vec![id()] };
    assert!(still.to_string().contains("/a"), "{still}");
    assert_eq!(bench.apply(Command::Promote { id: canary.clone() }), Err(still));
    run(&mut bench);
    bench.must(Command::Promote { id: canary.clone() });
    let twice = Rejection::NotWaiting { id: canary.clone(), still: vec![] };
    assert_eq!(bench.apply(Command::Promote { id: canary.clone() }), Err(twice));
    // Promoted, it can still be withdrawn while it rolls.
    withdraw(&mut bench);
    run(&mut bench);
    assert_eq!(crowd(&bench), [0, 2, 0]);
}

#[test]
fn a_version_that_never_turns_healthy_goes_by_itself() {
    for labels in [&[MINUTE][..], &[MINUTE, CANARY], &[MINUTE, BLUE_GREEN]] {
        let mut bench = running(3);
        let before = ids(&bench);
        let failed = bench.update(version(3, "two", labels));
        let deadline = Time(bench.clock + 60_000);
        run_unhealthy(&mut bench);
        assert_eq!(bramble_core::deploy::next_deadline(&bench.state), Some(deadline));
        assert!(bench.state.deployments.contains_key(&failed), "it still has time");
        bench.clock = deadline.0 - 1;
        bench.settle();
        assert!(bench.state.deployments.contains_key(&failed), "it still has time");
        bench.clock = deadline.0;
        bench.settle();
        let back = bench.state.deployments.values().next().expect("the way back");
        let reason = UndoReason::Overdue { app_id: id(), after_ms: 60_000 };
        assert_eq!(
            reason.to_string(),
            "The new version of /a was not healthy within 60 s",
            "what users read"
        );
        assert_eq!(back.undoes, Some(Undo { id: failed.clone(), reason: reason.clone() }));
        let told = bench.events.iter().any(|event| {
            matches!(event, Event::DeploymentUndone { id, reason: r, .. }
                if *id == failed && *r == reason)
        });
        assert!(told, "the end of the failed one is told");
        run(&mut bench);
        assert_eq!(ids(&bench), before, "{labels:?}: the old instances were never touched");
        assert!(bench.state.deployments.is_empty());
        assert_eq!(bench.stored("/a").app.cmd.as_deref(), Some("one"));
        let ended = bench.events.len();
        bench.clock += 1_000_000;
        run(&mut bench);
        assert_eq!(bench.events.len(), ended, "nothing follows");
    }
}

#[test]
fn half_a_roll_is_taken_back_too() {
    let mut bench = running(4);
    let mut two = version(4, "two", &[MINUTE]);
    two.upgrade = UpgradeStrategy { min_health_ppm: PPM / 2, max_over_ppm: 0 };
    bench.update(two);
    bench.settle();
    bench.place();
    bench.obey();
    bench.settle();
    bench.place();
    // Two old ones went, and what came instead does not work.
    run_unhealthy(&mut bench);
    assert_eq!(crowd(&bench), [2, 2, 0]);
    let kept: Vec<InstanceId> = bench
        .instances("/a")
        .iter()
        .filter(|i| !bench.state.is_current(i))
        .map(|i| i.id.clone())
        .collect();
    bench.clock += 60_000;
    run(&mut bench);
    assert_eq!(crowd(&bench), [4, 0, 0]);
    assert!(kept.iter().all(|id| bench.state.instances.contains_key(id)));
}

#[test]
fn the_clock_of_a_trial() {
    // A deployment that is healthy in time outlives its deadline, whatever happens then.
    let mut bench = running(2);
    bench.update(version(2, "two", &[MINUTE]));
    run(&mut bench);
    assert!(bench.state.deployments.is_empty());

    // Waiting costs nothing; a canary that fails while it waits has as long as at first.
    let canary = bench.update(version(2, "three", &[MINUTE, CANARY]));
    run(&mut bench);
    bench.clock += 10_000_000;
    bench.settle();
    assert_eq!(phase(&bench), Some(Phase::Waiting));
    let sick =
        bench.instances("/a").iter().find(|i| bench.state.is_current(i)).map(|i| i.id.clone());
    let sick = sick.expect("a canary");
    bench.report(&sick, TaskState::Running, Some(false));
    bench.settle();
    assert_eq!(phase(&bench), Some(Phase::Trying));
    bench.clock += 59_999;
    bench.report(&sick, TaskState::Running, Some(true));
    bench.settle();
    assert_eq!(phase(&bench), Some(Phase::Waiting));
    bench.report(&sick, TaskState::Running, Some(false));
    bench.settle();
    bench.clock += 60_000;
    bench.settle();
    assert!(!bench.state.deployments.contains_key(&canary), "it withdrew itself");
    run(&mut bench);
    assert_eq!(crowd(&bench), [0, 2, 0]);

    // Promoted, the rest has a deadline of its own.
    let again = bench.update(version(2, "three", &[MINUTE, CANARY]));
    run(&mut bench);
    bench.clock += 10_000_000;
    bench.must(Command::Promote { id: again.clone() });
    run_unhealthy(&mut bench);
    assert!(bench.state.deployments.contains_key(&again));
    bench.clock += 60_000;
    run(&mut bench);
    assert_eq!(crowd(&bench), [0, 2, 0]);
}

#[test]
fn what_is_not_a_new_version_is_not_on_trial() {
    let labels = [MINUTE, CANARY];
    let mut bench = Bench::with(vec![agent("n1", 10_000, 4096)]);
    let none = |bench: &Bench| bench.state.deployments.values().all(|d| d.rollouts.is_empty());
    // A new app has nothing to go back to: it stays, and its failure stays to be seen.
    bench.create(version(2, "one", &labels));
    assert!(none(&bench));
    bench.clock += 10_000_000;
    run_unhealthy(&mut bench);
    assert_eq!(crowd(&bench), [2, 0, 0]);
    run(&mut bench);
    bench.update(version(3, "one", &labels));
    assert!(none(&bench), "scaled");
    run(&mut bench);
    bench.change(vec![AppChange::Restart(id())], false).expect("restarts");
    assert!(none(&bench), "restarted");
    run(&mut bench);
    bench.update(version(0, "two", &labels));
    assert!(none(&bench), "suspended");
    run(&mut bench);
    assert_eq!(crowd(&bench), [0, 0, 0]);
    // Nothing runs that canaries could stand beside; the way back is still there.
    bench.update(version(2, "three", &labels));
    let rollout = bench.state.rollout(&id()).expect("a way back");
    assert_eq!((rollout.kind, rollout.phase), (RolloutKind::Rolling, Phase::Rolling));
    run(&mut bench);
    assert_eq!(crowd(&bench), [0, 0, 2]);
    // Only the label of the new version counts.
    bench.update(version(2, "one", &[]));
    assert!(none(&bench), "its labels ask for nothing");
}

/// What users do while a trial waits.
#[test]
fn a_trial_locks_its_app_and_force_goes_on_from_what_is_stable() {
    for label in [CANARY, BLUE_GREEN] {
        let fresh = if label == CANARY { 1 } else { 4 };
        let mut bench = running(4);
        let before = ids(&bench);
        let trial = bench.update(version(4, "two", &[label]));
        run(&mut bench);
        let other = AppChange::Update(version(4, "three", &[label]));
        let locked = Err(Rejection::Locked(vec![trial.clone()]));
        assert_eq!(bench.change(vec![other], false), locked);
        assert_eq!(bench.change(vec![AppChange::Remove(id())], false), locked);
        let scaled = AppChange::Update(version(6, "two", &[label]));
        assert_eq!(bench.change(vec![scaled], false), locked);

        // Another version takes the place of the one on trial, not of the stable one.
        force(&mut bench, version(4, "three", &[label]));
        run(&mut bench);
        assert_eq!(crowd(&bench), [4, 0, fresh]);
        assert!(before.iter().all(|id| bench.state.instances.contains_key(id)));
        withdraw(&mut bench);
        run(&mut bench);
        assert_eq!(ids(&bench), before, "withdrawn, the stable version is back");
        assert_eq!(bench.stored("/a").app.cmd.as_deref(), Some("one"));

        // Scaled by force, the stable version serves the new count and the trial goes on.
        bench.update(version(4, "two", &[label]));
        run(&mut bench);
        force(&mut bench, version(6, "two", &[label]));
        run(&mut bench);
        let fresh = if label == CANARY { 1 } else { 6 };
        assert_eq!(crowd(&bench), [6, fresh, 0], "{label:?}");
        withdraw(&mut bench);
        run(&mut bench);
        assert_eq!(crowd(&bench), [6, 0, 0]);
        assert!(before.iter().all(|id| bench.state.instances.contains_key(id)));

        // A version whose labels ask for no trial just comes.
        bench.update(version(4, "two", &[label]));
        run(&mut bench);
        force(&mut bench, version(4, "three", &[]));
        run(&mut bench);
        assert_eq!(crowd(&bench), [0, 0, 4]);
    }
}

#[test]
fn a_trial_ends_with_its_deployment_or_its_app() {
    for label in [CANARY, BLUE_GREEN] {
        // Cancelled by force: what runs stays as it is, within the count.
        let mut bench = running(4);
        let trial = bench.update(version(4, "two", &[label]));
        run(&mut bench);
        bench.must(Command::CancelDeployment { id: trial });
        run(&mut bench);
        let kept = if label == CANARY { [3, 1, 0] } else { [0, 4, 0] };
        assert_eq!(crowd(&bench), kept, "{label:?}");
        // The next change finishes it.
        bench.update(version(3, "two", &[label]));
        run(&mut bench);
        assert_eq!(crowd(&bench)[1], 3);

        // Rolled back as any deployment can be.
        let mut bench = running(4);
        let before = ids(&bench);
        let trial = bench.update(version(4, "two", &[label]));
        run(&mut bench);
        bench.roll_back(&trial, UndoReason::Requested).expect("rolls back");
        run(&mut bench);
        assert_eq!(ids(&bench), before);

        // Removed: both versions go.
        bench.update(version(4, "two", &[label]));
        run(&mut bench);
        bench.change(vec![AppChange::Remove(id())], true).expect("removes");
        run(&mut bench);
        assert!(bench.state.instances.is_empty() && bench.state.deployments.is_empty());

        // Suspended by force: nothing is left to be tried.
        let mut bench = running(4);
        bench.update(version(4, "two", &[label]));
        run(&mut bench);
        force(&mut bench, version(0, "two", &[label]));
        run(&mut bench);
        assert!(bench.state.instances.is_empty() && bench.state.deployments.is_empty());
    }
}

#[test]
fn the_stable_version_is_kept_up_while_another_is_tried() {
    let mut bench = running(2);
    bench.update(version(2, "two", &[BLUE_GREEN]));
    run(&mut bench);
    let stable = |bench: &Bench| {
        let old = bench.instances("/a").into_iter().filter(|i| !bench.state.is_current(i));
        old.map(|i| i.id.clone()).collect::<Vec<_>>()
    };
    let (failing, killed) = (stable(&bench)[0].clone(), stable(&bench)[1].clone());
    // Its own tasks start again, with a delay of their own.
    bench.report(&failing, TaskState::Failed, None);
    let of = |bench: &Bench, id: &InstanceId| bench.state.delay_of(&bench.state.instances[id]);
    assert_eq!(of(&bench, &failing).delay_ms, 1000);
    assert_eq!(bench.stored("/a").delay, LaunchDelay::default(), "the new one is not to blame");
    bench.must(Command::ResetDelay { app_id: id() });
    assert_eq!(of(&bench, &failing), LaunchDelay::default());
    // A killed one is replaced by its like.
    bench.must(Command::Decommission { ids: vec![killed.clone()] });
    run(&mut bench);
    assert_eq!(crowd(&bench), [2, 2, 0]);
    assert!(stable(&bench).contains(&failing) && !stable(&bench).contains(&killed));
    assert_eq!(phase(&bench), Some(Phase::Waiting));
    // Never more than there were, whoever asks; none once the trial is over.
    let add = |name: &str| Command::AddStable {
        app_id: id(),
        ids: vec![InstanceId::compose(&id(), name)],
    };
    assert_eq!(bench.must(add("x")), []);
    let under_way = deployment(&bench);
    bench.must(Command::Promote { id: under_way });
    assert_eq!(bench.must(add("y")), []);
    let elsewhere = Command::AddStable { app_id: AppId::new("/b"), ids: vec![] };
    assert_eq!(bench.apply(elsewhere), Err(Rejection::AppUnknown(AppId::new("/b"))));
}

/// Each layer has its own trial, which begins when its turn comes.
#[test]
fn layers_are_tried_one_after_the_other() {
    let mut bench = Bench::with(vec![agent("n1", 10_000, 4096)]);
    let named = |id: &str, cmd: &str, needs: &[&str]| {
        let mut app = version(2, cmd, &[CANARY, MINUTE]);
        app.id = AppId::new(id);
        app.dependencies = needs.iter().map(|id| AppId::new(*id)).collect();
        app
    };
    let both = |cmd: &str| vec![named("/a", cmd, &[]), named("/b", cmd, &["/a"])];
    let create = both("one").into_iter().map(AppChange::Create).collect();
    bench.change(create, false).expect("creates");
    bench.finish();
    let update = both("two").into_iter().map(AppChange::Update).collect();
    let trial = bench.change(update, false).expect("updates");
    let phases = |bench: &Bench| {
        let rollouts = bench.state.deployments[&trial].rollouts.values();
        rollouts.map(|r| (r.phase, r.deadline.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(phases(&bench), [(Phase::Trying, true), (Phase::Pending, false)]);
    run(&mut bench);
    bench.clock += 10_000_000;
    bench.must(Command::Promote { id: trial.clone() });
    run(&mut bench);
    assert_eq!(phases(&bench), [(Phase::Proven, false), (Phase::Waiting, false)]);
    // Withdrawn in the second, the first goes back as well: it is one change.
    withdraw(&mut bench);
    run(&mut bench);
    assert!(bench.state.deployments.is_empty());
    assert!(bench.state.instances.values().all(|i| bench.state.is_current(i)));
    for app in ["/a", "/b"] {
        assert_eq!(bench.stored(app).app.cmd.as_deref(), Some("one"));
    }
}

/// A snapshot of before knew nothing of trials.
#[test]
fn deployments_of_earlier_snapshots_are_read() {
    let mut bench = running(1);
    bench.update(version(1, "two", &[]));
    let mut value = serde_cbor::value::to_value(&bench.state).expect("encodes");
    let serde_cbor::Value::Map(state) = &mut value else { panic!("a map") };
    let key = |name: &str| serde_cbor::Value::Text(name.into());
    let Some(serde_cbor::Value::Map(all)) = state.get_mut(&key("deployments")) else {
        panic!("deployments")
    };
    for deployment in all.values_mut() {
        let serde_cbor::Value::Map(fields) = deployment else { panic!("a map") };
        assert!(fields.remove(&key("rollouts")).is_some());
        assert!(fields.remove(&key("undoes")).is_some());
    }
    let bytes = serde_cbor::to_vec(&value).expect("encodes");
    assert!(serde_cbor::from_slice::<State>(&bytes).expect("decodes") == bench.state);
}

#[test]
fn the_way_back_is_kept_however_many_trials_follow_one_another() {
    let mut bench = running(1);
    // No room beside the old one: nothing of it runs while the trials do.
    for number in 0..APP_VERSIONS_MAX + 5 {
        let mut trial = version(1, &format!("trial {number}"), &[(LABEL_CANARY, "100%")]);
        trial.upgrade = UpgradeStrategy { min_health_ppm: 0, max_over_ppm: 0 };
        force(&mut bench, trial);
        run(&mut bench);
    }
    assert_eq!(crowd(&bench), [0, 0, 0]);
    withdraw(&mut bench);
    run(&mut bench);
    assert_eq!(crowd(&bench), [1, 0, 0]);
}
