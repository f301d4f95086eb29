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

    /// (least working instances, most instances), as Marathon's contract has them.
    fn bounds(&self) -> (usize, usize) {
        let n = u64::from(self.after);
        let min = (n * self.min_ppm).div_ceil(PPM) as usize;
        let max = (n * (PPM + self.over_ppm) / PPM) as usize;
        match (min == max, self.resident) {
            (false, _) => (min, max),
            (true, false) => (min, max + 1),
            (true, true) => (min - 1, max),
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

/// Judge one command of the deployer.
fn judge(change: &Change, before: &State, command: &Command, after: &State) {
    let (min, max) = change.bounds();
    match command {
        Command::Decommission { .. } => {
            let (had, have) = (working(before), working(after));
            assert!(have >= min.min(had), "{had} -> {have} working, at least {min}");
        }
        Command::AddInstances { ids, .. } => {
            let have = awake(after);
            assert!(have <= max, "{have} instances, at most {max}");
            assert_eq!(have, awake(before) + ids.len(), "no id is in vain");
            let new = after
                .instances
                .values()
                .filter(|i| i.goal == Goal::Running)
                .filter(|i| i.version >= after.apps[&i.app_id].app.last_config_change);
            assert!(new.count() <= change.after as usize);
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

    #[test]
    fn the_count_is_kept(
        instances in 0..6u32,
        turns in prop::collection::vec(turn(), 0..80),
        kills in prop::collection::vec(any::<usize>(), 0..4),
    ) {
        let change = Change {
            before: 0, after: instances, min_ppm: 0, over_ppm: PPM, checked: false, resident: false,
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
