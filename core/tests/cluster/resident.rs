//! Instances with volumes: they come back to where their data is, and nothing frees it unasked.

use crate::bench::{Bench, agent, app, resident};
use bramble_core::command::{AppChange, Command, Placed, Rejection};
use bramble_core::event::{Event, RefusedAssignment};
use bramble_core::model::*;
use bramble_core::place::Reason;
use std::collections::BTreeSet;

fn two_agents() -> Bench {
    Bench::with(vec![agent("n1", 1000, 1024), agent("n2", 1000, 1024)])
}

fn volumes(bench: &Bench) -> BTreeSet<VolumeId> {
    let reservations = bench.instances("/db").into_iter().filter_map(|i| i.reservation.clone());
    reservations.flat_map(|r| r.volumes).map(|v| v.id).collect()
}

fn given_up(bench: &Bench) -> BTreeSet<VolumeId> {
    bench.state.given_up.values().flat_map(|v| v.keys().cloned()).collect()
}

fn ids(bench: &Bench) -> Vec<InstanceId> {
    bench.instances("/db").iter().map(|i| i.id.clone()).collect()
}

#[test]
fn the_first_task_reserves_and_the_others_return() {
    let mut bench = two_agents();
    bench.create(resident("/db", 1, 10));
    bench.finish();
    let first = bench.instances("/db")[0].clone();
    let kept = first.reservation.clone().expect("reserved with the first task");
    let uuid = first.id.0.rsplit_once("instance-").expect("an instance id").1;
    assert_eq!(kept.volumes[0].id.as_str(), format!("db#data#{uuid}"));
    assert_eq!((kept.volumes[0].id.uuid(), kept.host.as_str()), (uuid, "n1"));

    // It fails, is killed, restarted and changed: the same instance at the same place.
    bench.report(&first.id, TaskState::Failed, None);
    bench.finish();
    bench.must(Command::Decommission { ids: vec![first.id.clone()] });
    assert_eq!(bench.state.instances[&first.id].goal, Goal::Stopped);
    bench.finish();
    bench.change(vec![AppChange::Restart(AppId::new("/db"))], false).expect("restarts");
    bench.finish();
    let mut changed = resident("/db", 1, 10);
    changed.cmd = Some("sleep 2".into());
    bench.update(changed);
    bench.finish();
    let last = bench.instances("/db")[0].clone();
    assert_eq!((&last.id, last.reservation, last.incarnation), (&first.id, Some(kept), 5));
    assert_eq!(last.version, bench.stored("/db").app.version);
    assert!(given_up(&bench).is_empty());
}

#[test]
fn scaling_down_parks_and_scaling_up_wakes() {
    let mut bench = two_agents();
    bench.create(resident("/db", 2, 10));
    bench.finish();
    let both = volumes(&bench);
    assert_eq!(both.len(), 2);
    for count in [1, 0, 2, 1, 2] {
        bench.update(resident("/db", count, 10));
        bench.finish();
        assert_eq!(volumes(&bench), both, "at {count}");
        let running = bench.instances("/db").iter().filter(|i| i.goal == Goal::Running).count();
        assert_eq!(running, count as usize);
        let used = bench.state.reserved().values().map(|r| r.disk_bytes).sum::<u64>();
        assert_eq!(used, 20 * BYTES_PER_MIB, "at {count}");
    }
    bench.update(resident("/db", 3, 10));
    bench.finish();
    assert!(volumes(&bench).is_superset(&both));
}

#[test]
fn a_wipe_and_the_end_of_the_app_give_the_volumes_up() {
    let mut bench = two_agents();
    bench.create(resident("/db", 2, 10));
    bench.finish();
    bench.update(resident("/db", 1, 10));
    bench.finish();
    let (all, before) = (ids(&bench), volumes(&bench));
    bench.must(Command::Wipe { ids: all });
    // The parked one at once; the running one when it has ended.
    assert_eq!(given_up(&bench).len(), 1);
    bench.finish();
    assert_eq!(given_up(&bench), before);
    let fresh = volumes(&bench);
    assert_eq!((fresh.len(), fresh.is_disjoint(&before)), (1, true));

    // What is given up takes its room until it is gone.
    let used = |bench: &Bench| bench.state.reserved().values().map(|r| r.disk_bytes).sum::<u64>();
    assert_eq!(used(&bench), 30 * BYTES_PER_MIB);
    for (agent_id, volumes) in bench.state.given_up.clone() {
        bench.must(Command::ForgetVolumes { agent_id, ids: volumes.into_keys().collect() });
    }
    assert_eq!((used(&bench), bench.state.given_up.len()), (10 * BYTES_PER_MIB, 0));

    bench.update(resident("/db", 0, 10));
    bench.finish();
    bench.change(vec![AppChange::Remove(AppId::new("/db"))], false).expect("removes");
    bench.finish();
    assert_eq!((given_up(&bench), bench.instances("/db").len()), (fresh, 0));
    assert!(bench.state.leaving.is_empty());
}

#[test]
fn an_app_created_again_while_the_old_one_leaves_gets_nothing_of_it() {
    let mut bench = two_agents();
    bench.create(resident("/db", 1, 10));
    bench.finish();
    let old = volumes(&bench);
    bench.change(vec![AppChange::Remove(AppId::new("/db"))], false).expect("removes");
    bench.change(vec![AppChange::Create(resident("/db", 1, 10))], true).expect("creates");
    bench.finish();
    assert_eq!(given_up(&bench), old);
    assert!(volumes(&bench).is_disjoint(&old));
}

#[test]
fn an_instance_waits_for_its_agent_and_for_no_other() {
    let mut bench = two_agents();
    bench.create(resident("/db", 1, 10));
    bench.finish();
    let id = ids(&bench)[0].clone();
    let home = AgentId::new("n1");
    bench.report(&id, TaskState::Failed, None);
    bench.must(Command::SetReachable { agent_id: home.clone(), reachable: false });
    bench.clock += 400_000;
    let refused = bench.place().refused;
    let reasons: Vec<_> = refused[0].per_agent.iter().map(|(a, r)| (a.as_str(), r)).collect();
    let bound = vec![Reason::NoCorrespondingReservationFound { host: "n1".into() }];
    assert_eq!(reasons, [("n2", &bound)]);
    let placed = Placed {
        instance_id: id.clone(),
        agent_id: AgentId::new("n2"),
        ports: vec![],
        devices: vec![],
    };
    let events = bench.must(Command::Assign { assignments: vec![placed] });
    let reason = RefusedAssignment::NotReserved;
    assert!(matches!(&events[..], [Event::AssignmentRefused { reason: r, .. }] if *r == reason));
    bench.must(Command::SetReachable { agent_id: home.clone(), reachable: true });
    bench.finish();
    let task = bench.state.instances[&id].task.clone().expect("it is back");
    assert_eq!(task.agent_id, home);
}

#[test]
fn volumes_keep_their_room_while_no_task_runs() {
    let mut small = agent("n1", 1000, 1024);
    small.total.disk_bytes = 25 * BYTES_PER_MIB;
    let mut bench = Bench::with(vec![small]);
    bench.create(resident("/db", 3, 10));
    bench.settle();
    let refused = bench.place().refused;
    let (need_bytes, free_bytes) = (10 * BYTES_PER_MIB, 5 * BYTES_PER_MIB);
    assert_eq!(refused[0].per_agent[0].1, [Reason::InsufficientDisk { need_bytes, free_bytes }]);
    bench.change(vec![AppChange::Update(resident("/db", 0, 10))], true).expect("scales");
    bench.obey();
    bench.finish();
    let mut other = app("/other", 1);
    other.resources.disk_bytes = 6 * BYTES_PER_MIB;
    bench.create(other);
    bench.settle();
    let refused = bench.place().refused;
    let (need_bytes, free_bytes) = (6 * BYTES_PER_MIB, 5 * BYTES_PER_MIB);
    assert_eq!(refused[0].per_agent[0].1, [Reason::InsufficientDisk { need_bytes, free_bytes }]);
}

#[test]
fn one_volume_is_given_up_by_name_unless_a_task_uses_it() {
    let mut bench = two_agents();
    bench.create(resident("/db", 2, 10));
    bench.finish();
    bench.update(resident("/db", 1, 10));
    bench.finish();
    let mut give_up = |agent: &str, id: &VolumeId| {
        bench.apply(Command::GiveUpVolume { agent_id: AgentId::new(agent), id: id.clone() })
    };
    let stray = VolumeId::new("old#data#7");
    let unknown = Err(Rejection::AgentUnknown(AgentId::new("n9")));
    assert_eq!(give_up("n9", &stray), unknown);
    assert_eq!(give_up("n1", &stray), Ok(vec![]));
    let of = |bench: &Bench, goal: Goal| {
        let instance = bench.instances("/db").into_iter().find(|i| i.goal == goal).cloned();
        instance.and_then(|i| i.reservation).expect("one of each").volumes[0].id.clone()
    };
    let (used, parked) = (of(&bench, Goal::Running), of(&bench, Goal::Stopped));
    let mut give_up = |id: &VolumeId| {
        bench.apply(Command::GiveUpVolume { agent_id: AgentId::new("n1"), id: id.clone() })
    };
    assert_eq!(give_up(&used), Err(Rejection::VolumeInUse(used.clone())));
    assert!(give_up(&parked).is_ok());
    assert_eq!(given_up(&bench), BTreeSet::from([parked, stray]));
    assert_eq!(volumes(&bench), BTreeSet::from([used]));
    bench.finish();
}

#[test]
fn a_trial_of_an_app_with_volumes_that_also_shrinks_comes_to_rest() {
    // None was placed: what stops leaves no volumes that the trial could take over.
    let mut bench = Bench::with(vec![]);
    let id = bench.create(resident("/a", 4, 10));
    bench.must(Command::CancelDeployment { id });
    bench.settle();
    let mut smaller = resident("/a", 1, 10);
    smaller.cmd = Some("two".into());
    smaller.labels.insert(LABEL_CANARY.into(), "1".into());
    bench.update(smaller);
    // Settling is what would not end.
    bench.settle();
    let current = |i: &&Instance| bench.state.is_current(i);
    let running = bench.state.instances.values().filter(|i| i.goal == Goal::Running);
    let (new, old): (Vec<_>, Vec<_>) = running.partition(current);
    assert_eq!((new.len(), old.len()), (1, 3));
}
