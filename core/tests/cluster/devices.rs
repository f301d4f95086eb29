//! Apps that need devices: where they are placed, that no two have one, and that they follow.

use crate::bench::{Bench, agent, app};
use bramble_core::command::{Command, Placed};
use bramble_core::deploy::{self, Stay};
use bramble_core::event::{Event, RefusedAssignment};
use bramble_core::model::*;
use bramble_core::place::{Policy, Reason, outlook, place};
use bramble_core::taskenv;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const STICK: &str = "usb:10c4:ea60";

fn device(key: &str, ids: &[&str], shared: bool) -> OfferedDevice {
    let ids = ids.iter().map(|id| id.to_string()).collect();
    OfferedDevice { key: key.into(), ids, shared, taken: false }
}

fn with_devices(id: &str, instances: u32, devices: &str) -> App {
    let mut app = app(id, instances);
    app.port_definitions.clear();
    app.labels.insert(LABEL_DEVICES.into(), devices.into());
    app
}

fn bench(agents: &[&str]) -> Bench {
    Bench::with(agents.iter().map(|name| agent(name, 4000, 1024)).collect())
}

fn plug(bench: &mut Bench, agent: &str, devices: Vec<OfferedDevice>) {
    bench.devices.insert(AgentId::new(agent), devices);
}

fn task<'a>(bench: &'a Bench, app: &str) -> Option<&'a Task> {
    bench.instances(app)[0].task.as_ref()
}

#[test]
fn an_app_follows_its_stick() {
    let mut bench = bench(&["n1", "n2"]);
    bench.create(with_devices("/zigbee", 1, "usb:10C4:EA60=/dev/zigbee"));
    bench.settle();
    let refused = bench.place().refused;
    let nowhere = Reason::DeviceMissing { id: STICK.into(), taken: false };
    assert_eq!(refused[0].per_agent.len(), 2);
    assert!(refused[0].per_agent.iter().all(|(_, why)| *why == [nowhere.clone()]), "{refused:?}");

    plug(&mut bench, "n2", vec![device("stick#1", &[STICK], false)]);
    bench.finish();
    assert_eq!(task(&bench, "/zigbee").map(|t| t.host.as_str()), Some("n2"));
    let instance = bench.instances("/zigbee")[0];
    let told = taskenv::assignment(&bench.stored("/zigbee").app, instance).expect("a task");
    let held = HeldDevice { key: "stick#1".into(), shared: false };
    let path = Some("/dev/zigbee".to_string());
    assert_eq!(told.spec.devices, [TaskDevice { id: STICK.into(), held, path }]);

    // Pulled: its agent ends the task, and it waits without a delay until the stick is anywhere.
    let id = instance.id.clone();
    plug(&mut bench, "n2", vec![]);
    bench.report(&id, TaskState::Killed, None);
    bench.settle();
    assert_eq!(bench.place().decisions, []);
    plug(&mut bench, "n1", vec![device("stick#7", &[STICK], false)]);
    assert_eq!(bench.place().decisions.len(), 1);
    assert_eq!(task(&bench, "/zigbee").map(|t| t.host.as_str()), Some("n1"));
}

#[test]
fn a_device_has_one_task_and_what_is_shared_has_many() {
    let mut bench = bench(&["n1"]);
    let bus = device("i2c", &["i2c:1"], true);
    plug(&mut bench, "n1", vec![device("stick", &[STICK, "serial:A1"], false), bus]);
    bench.create(with_devices("/one", 1, &format!("{STICK},i2c:1")));
    bench.finish();
    bench.create(with_devices("/bus", 3, "i2c:1"));
    bench.finish();
    // By its other name it is the same stick.
    bench.create(with_devices("/two", 1, "serial:A1"));
    bench.settle();
    let refused = bench.place().refused;
    let taken = Reason::DeviceMissing { id: "serial:A1".into(), taken: true };
    assert_eq!(refused[0].per_agent[0].1, std::slice::from_ref(&taken));
    let told = outlook(&bench.state, bench.offers(), &bench.stored("/two").app);
    assert_eq!(told.in_the_way[0].1, [taken]);

    // Whatever the placer believes, it is checked again where the truth is.
    let id = bench.instances("/two")[0].id.clone();
    let held = |key: &str| HeldDevice { key: key.into(), shared: false };
    for devices in [vec![held("stick")], vec![], vec![held("a"), held("b")]] {
        let (instance_id, agent_id) = (id.clone(), AgentId::new("n1"));
        let placed = Placed { instance_id, agent_id, ports: vec![], devices };
        let events = bench.must(Command::Assign { assignments: vec![placed] });
        let reason = RefusedAssignment::DeviceTaken;
        assert!(matches!(&events[0], Event::AssignmentRefused { reason: r, .. } if *r == reason));
    }
    bench
        .change(vec![bramble_core::command::AppChange::Remove(AppId::new("/one"))], false)
        .expect("removed");
    bench.finish();
    assert!(task(&bench, "/two").is_some());
}

#[test]
fn a_new_version_waits_for_the_device_of_the_old() {
    let mut bench = bench(&["n1", "n2"]);
    plug(&mut bench, "n1", vec![device("stick", &[STICK], false)]);
    let mut app = with_devices("/a", 1, STICK);
    bench.create(app.clone());
    bench.finish();
    app.cmd = Some("sleep 2".into());
    bench.update(app.clone());
    bench.finish();
    assert_eq!(bench.instances("/a").len(), 1);
    // What would land where counts the device that the replaced task gives back.
    app.cmd = Some("sleep 3".into());
    let told = outlook(&bench.state, bench.offers(), &app);
    assert_eq!((told.unplaced, told.landings.len()), (0, 1));
}

#[test]
fn a_drained_agent_keeps_what_has_its_devices() {
    let mut bench = bench(&["n1", "n2"]);
    plug(&mut bench, "n1", vec![device("stick", &[STICK], false)]);
    bench.create(with_devices("/a", 1, STICK));
    bench.finish();
    let agent_id = AgentId::new("n1");
    bench.must(Command::Drain { agent_id: agent_id.clone() });
    bench.settle();
    let left = deploy::left(&bench.state, &agent_id);
    assert_eq!((left.len(), &left[0].stay), (1, &Stay::Device));
    assert!(!left[0].stay.goes());
}

fn plugged() -> impl Strategy<Value = Vec<OfferedDevice>> {
    let one = (prop::collection::btree_set(0..5u8, 1..4), any::<bool>(), any::<bool>());
    prop::collection::vec(one, 0..5).prop_map(|devices| {
        let device = |(at, (ids, shared, taken)): (usize, (BTreeSet<u8>, bool, bool))| {
            let ids = ids.into_iter().map(|id| format!("i2c:{id}")).collect();
            // An agent marks nothing that is shared.
            OfferedDevice { key: format!("d{at}"), ids, shared, taken: taken && !shared }
        };
        devices.into_iter().enumerate().map(device).collect()
    })
}

/// Whether some choice of free devices serves all requests, by trying every one.
fn servable(requests: &[String], free: &[OfferedDevice]) -> bool {
    let Some((first, rest)) = requests.split_first() else { return true };
    free.iter().enumerate().filter(|(_, device)| device.ids.contains(first)).any(|(at, device)| {
        let mut left = free.to_vec();
        if !device.shared {
            left.remove(at);
        }
        servable(rest, &left)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Every decision gives each request a device that answers to it, exclusive ones once; nothing
    /// is refused that could be served.
    #[test]
    fn devices_are_given_once_and_whenever_possible(
        plugged in prop::collection::vec(plugged(), 1..3),
        asked in prop::collection::vec(prop::collection::vec(0..5u8, 1..4), 1..6),
    ) {
        let apps: Vec<App> = asked.iter().enumerate().map(|(at, ids)| {
            let ids: Vec<String> = ids.iter().map(|id| format!("i2c:{id}")).collect();
            with_devices(&format!("/a{at}"), 1, &ids.join(","))
        }).collect();
        let bench = bench(&["n0", "n1"]);
        let offers: Vec<Offer> = bench.offers().into_iter().zip(&plugged)
            .map(|(offer, devices)| Offer { devices: devices.clone(), ..offer }).collect();
        let demands: Vec<Demand<'_>> = apps.iter().enumerate().map(|(at, app)| Demand {
            instance_id: InstanceId::new(format!("i{at}")),
            app,
            reservation: None,
            placed: vec![],
            missing_secrets: vec![],
            closed: <_>::default(),
        }).collect();
        let placement = place(&offers, &demands, &Policy::default());
        let mut free: BTreeMap<AgentId, Vec<OfferedDevice>> = offers.iter().map(|offer| {
            let free = offer.devices.iter().filter(|d| !d.taken).cloned().collect();
            (offer.agent_id.clone(), free)
        }).collect();
        for demand in &demands {
            let requests: Vec<String> = demand.app.devices().into_iter().map(|r| r.id).collect();
            let decided = placement.decisions.iter().find(|p| p.instance_id == demand.instance_id);
            let Some(decided) = decided else {
                for (agent, free) in &free {
                    prop_assert!(!servable(&requests, free), "{agent} could serve {requests:?}");
                }
                continue;
            };
            prop_assert_eq!(decided.devices.len(), requests.len());
            let free = free.get_mut(&decided.agent_id).expect("offered");
            for (request, held) in requests.iter().zip(&decided.devices) {
                let at = free.iter().position(|device| device.key == held.key);
                let at = at.expect("free, and given to nobody else");
                prop_assert!(free[at].ids.contains(request) && free[at].shared == held.shared);
                if !held.shared {
                    free.remove(at);
                }
            }
        }
    }
}
