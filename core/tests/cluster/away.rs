//! Agents go away and come back: what is replaced, what is forgotten, what waits.

use crate::bench::{Bench, agent, app};
use bramble_core::command::Command;
use bramble_core::deploy;
use bramble_core::event::Event;
use bramble_core::model::*;

const SECOND: u64 = 1000;

fn two() -> Vec<Agent> {
    vec![agent("n1", 1000, 1000), agent("n2", 1000, 1000)]
}

fn reachable(bench: &mut Bench, agent: &str, reachable: bool) -> Vec<Event> {
    bench.must(Command::SetReachable { agent_id: AgentId::new(agent), reachable })
}

/// An app of two, one on each agent, with this strategy.
fn spread(unreachable: UnreachableStrategy) -> Bench {
    let mut bench = Bench::with(two());
    bench.create(App { unreachable, ..app("/a", 2) });
    bench.finish();
    assert_eq!(hosts(&bench), ["n1", "n2"]);
    bench
}

fn after(inactive_s: u64, expunge_s: u64) -> UnreachableStrategy {
    let (inactive_ms, expunge_ms) = (inactive_s * SECOND, expunge_s * SECOND);
    UnreachableStrategy::After { inactive_ms, expunge_ms }
}

fn hosts(bench: &Bench) -> Vec<String> {
    let tasks = bench.state.instances.values().filter_map(|i| i.task.as_ref());
    let mut hosts: Vec<String> = tasks.map(|t| t.host.clone()).collect();
    hosts.sort();
    hosts
}

/// Let every loop run to rest; agents that are away say nothing.
fn run(bench: &mut Bench) {
    for _ in 0..10 {
        bench.settle();
        bench.place();
        let ids: Vec<InstanceId> = bench.state.instances.keys().cloned().collect();
        for id in ids {
            let instance = bench.state.instances[&id].clone();
            let Some(task) = instance.task.as_ref().filter(|t| !bench.state.is_away(t)) else {
                continue;
            };
            match (instance.goal, task.state) {
                (Goal::Running, TaskState::Running) => {}
                (Goal::Running, _) => bench.report(&id, TaskState::Running, None),
                _ => bench.report(&id, TaskState::Killed, None),
            }
        }
    }
}

#[test]
fn a_task_is_replaced_and_forgotten_when_its_app_says() {
    // (strategy, seconds away, hosts then, forgotten)
    let rows = [
        (after(0, 0), 0, vec!["n1", "n1"]),
        (after(10, 20), 9, vec!["n1", "n2"]),
        (after(10, 20), 10, vec!["n1", "n1", "n2"]),
        (after(10, 20), 19, vec!["n1", "n1", "n2"]),
        (after(10, 20), 20, vec!["n1", "n1"]),
        (after(0, 20), 0, vec!["n1", "n1", "n2"]),
        (UnreachableStrategy::Disabled, 1_000_000, vec!["n1", "n2"]),
    ];
    for (strategy, seconds, expected) in rows {
        let mut bench = spread(strategy);
        let events = reachable(&mut bench, "n2", false);
        assert!(matches!(events[1], Event::TaskReachable { reachable: false, .. }));
        let since = bench.clock;
        bench.clock += seconds * SECOND;
        run(&mut bench);
        assert_eq!(hosts(&bench), expected, "{strategy:?} after {seconds} s");
        let next = deploy::next_absence(&bench.state, Time(bench.clock));
        let UnreachableStrategy::After { inactive_ms, expunge_ms } = strategy else {
            assert_eq!(next, None);
            continue;
        };
        let moments = [since + inactive_ms, since + expunge_ms];
        let gone = !expected.contains(&"n2");
        let coming = moments.into_iter().find(|at| *at > bench.clock).filter(|_| !gone);
        assert_eq!(next, coming.map(Time), "{strategy:?} after {seconds} s");
    }
}

#[test]
fn one_that_returns_in_time_goes_on_and_the_surplus_is_stopped() {
    for (selection, left) in
        [(KillSelection::YoungestFirst, "n2"), (KillSelection::OldestFirst, "n1")]
    {
        let mut bench = Bench::with(two());
        let unreachable = after(1, 1000);
        bench.create(App { unreachable, kill_selection: selection, ..app("/a", 2) });
        bench.finish();
        reachable(&mut bench, "n2", false);
        let shown = |bench: &Bench| {
            let tasks = bench.state.instances.values().filter_map(|i| i.task.as_ref());
            tasks.filter(|t| t.host == "n2").map(|t| bench.state.state_name(t)).next()
        };
        assert_eq!(shown(&bench), Some(TASK_UNREACHABLE));
        assert_eq!(bench.state.counts(&AppId::new("/a")).running, 1);
        bench.clock += 5 * SECOND;
        run(&mut bench);
        assert_eq!(bench.state.inactive.len(), 1);
        let events = bench.must(Command::RegisterAgent { agent: agent("n2", 1000, 1000) });
        assert!(matches!(events.last(), Some(Event::TaskReachable { reachable: true, .. })));
        assert!(bench.state.inactive.is_empty() && bench.state.away.is_empty());
        run(&mut bench);
        // Three ran: the replacement is the youngest, one of the first two the oldest.
        let hosts = hosts(&bench);
        assert_eq!(hosts.len(), 2, "{hosts:?}");
        assert!(hosts.contains(&left.to_string()), "{selection:?}: {hosts:?}");
    }
}

#[test]
fn what_must_not_run_twice_is_not_replaced_while_it_may_run() {
    let single = |unreachable| {
        let mut app = App { unreachable, ..app("/a", 1) };
        app.labels.insert(LABEL_SINGLE_INSTANCE.into(), "true".into());
        app.upgrade = UpgradeStrategy { min_health_ppm: 0, max_over_ppm: 0 };
        app
    };
    // (strategy, seconds away, tasks then on the other agent)
    let rows = [
        // No sooner than its lease is surely over, whatever the app says.
        (after(0, 0), 14, 0),
        (after(0, 0), 15, 1),
        (after(3, 7), 14, 0),
        (after(10, 20), 19, 0),
        (after(10, 20), 20, 1),
        (UnreachableStrategy::Disabled, 1_000_000, 0),
    ];
    for (strategy, seconds, moved) in rows {
        let mut bench = Bench::with(two());
        bench.create(single(strategy));
        bench.finish();
        let here = hosts(&bench).remove(0);
        reachable(&mut bench, &here, false);
        bench.clock += seconds * SECOND;
        run(&mut bench);
        let elsewhere = hosts(&bench).iter().filter(|host| **host != here).count();
        assert_eq!((hosts(&bench).len(), elsewhere), (1, moved), "{strategy:?} {seconds}");
    }
}

#[test]
fn stopping_does_not_wait_for_an_agent_that_is_away() {
    let mut bench = spread(UnreachableStrategy::Disabled);
    reachable(&mut bench, "n2", false);
    bench
        .change(vec![bramble_core::command::AppChange::Remove(AppId::new("/a"))], false)
        .expect("removed");
    run(&mut bench);
    assert!(bench.state.instances.is_empty() && bench.state.deployments.is_empty());
    // A change goes on without it, too.
    let mut bench = spread(after(1000, 2000));
    reachable(&mut bench, "n2", false);
    bench.update(App {
        cmd: Some("sleep 7".into()),
        unreachable: after(1000, 2000),
        ..app("/a", 2)
    });
    run(&mut bench);
    assert!(bench.state.deployments.is_empty());
    assert_eq!(hosts(&bench), ["n1", "n1"]);
}

#[test]
fn an_absence_that_ended_before_the_command_came_changes_nothing() {
    let mut bench = spread(after(0, 0));
    reachable(&mut bench, "n2", false);
    let commands = deploy::absences(&bench.state, Time(bench.clock), &|_| true);
    assert_eq!(commands.len(), 1);
    reachable(&mut bench, "n2", true);
    let before = hosts(&bench);
    for command in commands {
        assert_eq!(bench.must(command), []);
    }
    assert_eq!(hosts(&bench), before);
    assert_eq!(reachable(&mut bench, "n2", true), [], "said twice is said once");
}
