//! Rolling changes against tasks that start, fail and stop as chance has it.

use crate::bench::{Bench, agent, app, health_check, resident};
use bramble_core::command::{AppChange, Command};
use bramble_core::model::*;
use proptest::prelude::*;

/// What chance does to the cluster in one turn.
#[derive(Clone, Debug)]
enum Turn {
    Deploy,
    Place,
    /// The nth task goes one state on, or ends if it shall stop.
    Progress(usize),
    Unhealthy(usize),
    Fail(usize),
    /// An agent cannot give the nth task its new size.
    Refuse(usize),
    /// A user kills it.
    Kill(usize),
    Promote,
    Withdraw,
    /// A user insists on another count.
    Scale(u32),
    Wait,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => Just(Turn::Deploy),
        3 => Just(Turn::Place),
        8 => any::<usize>().prop_map(Turn::Progress),
        1 => any::<usize>().prop_map(Turn::Unhealthy),
        1 => any::<usize>().prop_map(Turn::Fail),
        1 => any::<usize>().prop_map(Turn::Refuse),
        1 => Just(Turn::Wait),
    ]
}

/// What users do while a new version is on trial, besides.
fn word() -> impl Strategy<Value = Turn> {
    prop_oneof![
        12 => turn(),
        1 => any::<usize>().prop_map(Turn::Kill),
        1 => Just(Turn::Promote),
        1 => prop::bool::weighted(0.3).prop_map(|w| if w { Turn::Withdraw } else { Turn::Wait }),
        1 => prop::option::weighted(0.3, 0..6u32).prop_map(|n| n.map_or(Turn::Wait, Turn::Scale)),
    ]
}

#[derive(Clone, Debug)]
struct Change {
    before: u32,
    after: u32,
    min_ppm: u64,
    over_ppm: u64,
    checked: bool,
    resident: bool,
    /// Only the size changes.
    vertical: bool,
    /// Of its new version.
    labels: Vec<(&'static str, String)>,
}

/// How new versions are tried.
fn trial() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let after = prop::option::of(1..200u32);
    let how = prop_oneof![
        3 => (1..=100u32).prop_map(|p| Some((LABEL_CANARY, format!("{p}%")))),
        1 => (1..4u32).prop_map(|n| Some((LABEL_CANARY, n.to_string()))),
        3 => Just(Some((LABEL_BLUE_GREEN, "true".to_string()))),
        1 => Just(None),
    ];
    (how, after).prop_map(|(how, after)| {
        let after = after.map(|s| (LABEL_ROLLBACK_AFTER, format!("{s}s")));
        how.into_iter().chain(after).collect()
    })
}

fn change() -> impl Strategy<Value = Change> {
    let part = || prop_oneof![Just(0), Just(PPM), Just(PPM / 2), 0..=PPM];
    (0..6u32, 1..6u32, part(), part(), any::<bool>(), prop::bool::weighted(0.2), any::<bool>())
        .prop_map(|(before, after, min_ppm, over_ppm, checked, resident, vertical)| Change {
            before,
            after,
            min_ppm,
            over_ppm: if resident { 0 } else { over_ppm },
            checked,
            resident,
            vertical,
            labels: vec![],
        })
}

impl Change {
    fn app(&self, instances: u32, cmd: &str) -> App {
        let mut app = match self.resident {
            true => resident("/a", instances, 1),
            false => app("/a", instances),
        };
        match self.vertical {
            true => app.resources.mem_bytes += cmd.len() as u64 * BYTES_PER_MIB,
            false => app.cmd = Some(cmd.into()),
        }
        app.upgrade = UpgradeStrategy { min_health_ppm: self.min_ppm, max_over_ppm: self.over_ppm };
        if self.checked {
            app.health_checks = vec![health_check()];
        }
        app
    }

    /// The same with the labels that try it first.
    fn tried(&self, instances: u32, cmd: &str) -> App {
        let mut app = self.app(instances, cmd);
        app.labels = self.labels.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        app
    }

    /// (least working instances, most instances), as Marathon's contract has them. While a new
    /// version is on trial they are those of the larger count; a second set may double it.
    fn bounds(&self, state: &State) -> (usize, usize) {
        let id = AppId::new("/a");
        let wanted = state.apps[&id].app.instances;
        let held = state.held(&id);
        let n = u64::from(held.map_or(wanted, |held| wanted.max(held.stable_instances)));
        let min = (n * self.min_ppm).div_ceil(PPM) as usize;
        let max = (n * (PPM + self.over_ppm) / PPM) as usize;
        let (min, max) = match (min == max, self.resident) {
            (false, _) => (min, max),
            (true, false) => (min, max + 1),
            (true, true) => (min.saturating_sub(1), max),
        };
        match held.filter(|held| held.kind == RolloutKind::BlueGreen) {
            Some(held) => (min, max.max((wanted + held.stable_instances) as usize)),
            None => (min, max),
        }
    }
}

/// Instances that run, stop, or wait for a place.
fn awake(state: &State) -> usize {
    state.instances.values().filter(|i| !i.is_parked()).count()
}

fn working(state: &State) -> usize {
    state
        .instances
        .values()
        .filter(|i| i.goal == Goal::Running)
        .filter(|i| {
            let app = state.app_of(i).expect("every instance has its definition");
            i.task.as_ref().is_some_and(|t| app.is_ready(t))
        })
        .count()
}

/// Instances that shall run, of the present configuration or of others.
fn running(state: &State, current: bool) -> usize {
    let all = state.instances.values().filter(|i| i.goal == Goal::Running);
    all.filter(|i| state.is_current(i) == current).count()
}

/// Judge one command of the deployer. Bounds are those of a restart: scaling has none.
fn judge(change: &Change, before: &State, command: &Command, after: &State) {
    let actions = before.deployments.values().flat_map(Deployment::current_actions);
    if !actions.into_iter().any(|action| action.kind == ActionKind::Restart) {
        return;
    }
    let (min, max) = change.bounds(before);
    match command {
        Command::Decommission { .. } => {
            let (had, have) = (working(before), working(after));
            assert!(have >= min.min(had), "{had} -> {have} working, at least {min}");
        }
        Command::AddInstances { ids, .. } => {
            let have = awake(after);
            assert!(have <= max, "{have} instances, at most {max}");
            assert_eq!(have, awake(before) + ids.len(), "no id is in vain");
            let id = AppId::new("/a");
            let wanted = after.apps[&id].app.instances;
            let fresh = after.held(&id).map_or(wanted, |held| held.fresh(wanted));
            assert!(running(after, true) <= fresh as usize, "at most {fresh} new ones");
        }
        Command::AddStable { ids, .. } => {
            let have = awake(after);
            assert!(have <= max, "{have} instances, at most {max}");
            assert_eq!(have, awake(before) + ids.len(), "no id is in vain");
        }
        _ => {}
    }
}

fn nth(bench: &Bench, n: usize, only: impl Fn(&Instance, &Task) -> bool) -> Option<Instance> {
    let fitting: Vec<&Instance> = bench
        .state
        .instances
        .values()
        .filter(|i| i.task.as_ref().is_some_and(|t| only(i, t)))
        .collect();
    (!fitting.is_empty()).then(|| fitting[n % fitting.len()].clone())
}

fn take(bench: &mut Bench, change: &Change, turn: &Turn) {
    bench.clock += 100;
    match turn {
        Turn::Deploy => {
            bench.settle_with(|before, command, after| judge(change, before, command, after));
            assert_eq!(bench.deployer(), [], "asked again it wants nothing");
        }
        Turn::Place => {
            bench.place();
        }
        Turn::Wait => bench.clock += 60_000,
        Turn::Kill(n) => {
            let Some(instance) = nth(bench, *n, |_, _| true) else { return };
            bench.must(Command::Decommission { ids: vec![instance.id] });
        }
        Turn::Promote => bench.promote_all(),
        Turn::Withdraw => {
            let Some(id) = bench.state.deployments.keys().next().cloned() else { return };
            let _ = bench.roll_back(&id, UndoReason::Withdrawn);
        }
        Turn::Scale(instances) => {
            let app = App { instances: *instances, ..bench.stored("/a").app.clone() };
            bench.change(vec![AppChange::Update(app)], true).expect("force overrides");
        }
        Turn::Progress(n) => {
            let Some(instance) = nth(bench, *n, |_, _| true) else { return };
            let task = instance.task.as_ref().expect("chosen by its task");
            let (state, healthy) = match (instance.goal, task.state) {
                (Goal::Decommissioned | Goal::Stopped, _) => (TaskState::Killed, None),
                (_, TaskState::Staging) => (TaskState::Starting, None),
                (_, TaskState::Starting) => (TaskState::Running, None),
                _ => (TaskState::Running, Some(true)),
            };
            bench.report(&instance.id, state, healthy);
        }
        Turn::Unhealthy(n) => {
            let running = |_: &Instance, t: &Task| t.state == TaskState::Running;
            let Some(instance) = nth(bench, *n, running) else { return };
            bench.report(&instance.id, TaskState::Running, Some(false));
        }
        Turn::Refuse(n) => {
            let resizing = |_: &Instance, t: &Task| t.resizing().is_some();
            let Some(instance) = nth(bench, *n, resizing) else { return };
            bench.refuse_size(&instance.id);
        }
        Turn::Fail(n) => {
            let Some(instance) = nth(bench, *n, |_, _| true) else { return };
            bench.report(&instance.id, TaskState::Failed, None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_rolling_change_keeps_its_bounds_and_ends(
        change in change(),
        turns in prop::collection::vec(turn(), 0..120),
    ) {
        let mut bench = Bench::with(vec![agent("n1", 10_000, 4096), agent("n2", 10_000, 4096)]);
        bench.create(change.app(change.before, "sleep 1"));
        bench.finish();
        let app = change.app(change.after, "sleep 20");
        let id = bench.update(app);
        for turn in &turns {
            if !bench.state.deployments.contains_key(&id) {
                break;
            }
            take(&mut bench, &change, turn);
        }
        // From now on every task does as it is told.
        for _ in 0..200 {
            if bench.state.deployments.is_empty() {
                break;
            }
            take(&mut bench, &change, &Turn::Deploy);
            take(&mut bench, &change, &Turn::Place);
            bench.obey();
            bench.clock += 400_000;
        }
        prop_assert!(bench.state.deployments.is_empty(), "it never ends");
        let config = bench.stored("/a").app.last_config_change;
        prop_assert_eq!(awake(&bench.state), change.after as usize);
        let mut awake = bench.instances("/a");
        awake.retain(|i| !i.is_parked());
        prop_assert!(awake.iter().all(|i| i.version >= config));
        // What rests has data of earlier instances; there are never more than were wanted at once.
        let most = if change.resident { change.before.max(change.after) } else { change.after };
        prop_assert!(bench.instances("/a").len() <= most as usize);
    }

    /// Whatever users say meanwhile, bounds hold, and a word to every question ends it.
    #[test]
    fn a_version_on_trial_keeps_its_bounds_and_ends(
        (change, labels) in (change(), trial()),
        turns in prop::collection::vec(word(), 0..150),
    ) {
        let staged = labels.iter().any(|(label, _)| *label == LABEL_BLUE_GREEN);
        let change = Change { resident: change.resident && !staged, labels, ..change };
        let mut bench = Bench::with(vec![agent("n1", 10_000, 4096), agent("n2", 10_000, 4096)]);
        bench.create(change.tried(change.before, "sleep 1"));
        bench.finish();
        bench.update(change.tried(change.after, "sleep 20"));
        for turn in &turns {
            take(&mut bench, &change, turn);
        }
        // From now on every task does as it is told, and users promote.
        for _ in 0..200 {
            if bench.state.deployments.is_empty() {
                break;
            }
            take(&mut bench, &change, &Turn::Deploy);
            take(&mut bench, &change, &Turn::Promote);
            take(&mut bench, &change, &Turn::Place);
            bench.obey();
            bench.clock += 400;
        }
        prop_assert!(bench.state.deployments.is_empty(), "it never ends");
        // What an overridden deployment had told to stop may not be gone yet.
        bench.finish();
        prop_assert_eq!(awake(&bench.state) as u32, bench.stored("/a").app.instances);
        prop_assert_eq!(running(&bench.state, false), 0);
    }

    #[test]
    fn the_count_is_kept(
        instances in 0..6u32,
        turns in prop::collection::vec(turn(), 0..80),
        kills in prop::collection::vec(any::<usize>(), 0..4),
    ) {
        let change = Change {
            before: 0, after: instances, min_ppm: 0, over_ppm: PPM, checked: false, resident: false,
            labels: vec![],
            vertical: false,
        };
        let mut bench = Bench::with(vec![agent("n1", 10_000, 4096)]);
        bench.create(change.app(instances, "sleep 1"));
        bench.finish();
        for (at, turn) in turns.iter().enumerate() {
            if let Some(instance) =
                kills.get(at).and_then(|n| nth(&bench, *n, |_, _| true))
            {
                bench.must(Command::Decommission { ids: vec![instance.id] });
            }
            match turn {
                Turn::Deploy => bench.settle(),
                turn => take(&mut bench, &change, turn),
            }
            let wanted =
                bench.state.instances.values().filter(|i| i.goal == Goal::Running).count();
            prop_assert!(wanted <= instances as usize);
        }
        bench.finish();
        prop_assert_eq!(bench.instances("/a").len(), instances as usize);
    }

    #[test]
    fn forcing_one_change_over_another_still_ends(
        counts in prop::collection::vec(0..5u32, 1..5),
        turns in prop::collection::vec(turn(), 0..60),
    ) {
        let change = Change {
            before: 0, after: 0, min_ppm: PPM, over_ppm: 0, checked: true, resident: false,
            labels: vec![],
            vertical: false,
        };
        let mut bench = Bench::with(vec![agent("n1", 10_000, 4096)]);
        bench.create(change.app(2, "sleep 1"));
        let mut turns = turns.iter();
        let mut last = 2;
        for (nth, count) in counts.iter().enumerate() {
            for turn in turns.by_ref().take(15) {
                match turn {
                    Turn::Deploy => bench.settle(),
                    turn => take(&mut bench, &change, turn),
                }
            }
            // Every other change only scales.
            let cmd = format!("sleep {}", nth / 2 + 1);
            last = *count;
            bench
                .change(vec![AppChange::Update(change.app(last, &cmd))], true)
                .expect("force overrides");
        }
        bench.finish();
        let config = bench.stored("/a").app.last_config_change;
        prop_assert_eq!(bench.instances("/a").len(), last as usize);
        prop_assert!(bench.instances("/a").iter().all(|i| i.version >= config));
    }
}

/// The numbers of a rolling change at its beginning, as Marathon's contract gives them.
#[test]
fn the_first_moves_of_a_restart() {
    // (n, min, over, stopped at once, started at once)
    let cases = [
        (4, PPM, PPM, 0, 4),
        (4, 0, 0, 4, 0),
        (4, PPM, 0, 0, 1),
        (4, PPM / 2, 0, 2, 0),
        (4, PPM / 2, PPM / 2, 2, 2),
        (3, PPM / 2, PPM / 2, 1, 1),
        (1, PPM, PPM, 0, 1),
        (1, PPM, 0, 0, 1),
    ];
    for (n, min_ppm, over_ppm, stopped, started) in cases {
        let change = Change {
            before: n,
            after: n,
            min_ppm,
            over_ppm,
            checked: false,
            resident: false,
            labels: vec![],
            vertical: false,
        };
        let mut bench = Bench::with(vec![agent("n1", 10_000, 4096)]);
        bench.create(change.app(n, "sleep 1"));
        bench.finish();
        bench.update(change.app(n, "sleep 2"));
        bench.settle();
        let instances = bench.instances("/a");
        let stopping = instances.iter().filter(|i| i.goal == Goal::Decommissioned).count();
        let waiting = instances.iter().filter(|i| i.task.is_none()).count();
        assert_eq!((stopping, waiting), (stopped, started), "n {n} min {min_ppm} over {over_ppm}");
    }
}
