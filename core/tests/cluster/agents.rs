//! What users say of agents: who waits finds a place at once, who stands wrong moves gently.

use crate::bench::{Bench, agent, app};
use bramble_core::command::{Command, Rejection};
use bramble_core::event::Event;
use bramble_core::model::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn says(attributes: &[(&str, Option<&str>)], roles: Option<&[&str]>) -> AgentChange {
    AgentChange {
        attributes: attributes
            .iter()
            .map(|(name, value)| (name.to_string(), value.map(str::to_string)))
            .collect(),
        roles: roles.map(|roles| roles.iter().map(|r| r.to_string()).collect()),
    }
}

fn change(bench: &mut Bench, agent: &str, change: AgentChange) -> Vec<Event> {
    bench.must(Command::ChangeAgent { agent_id: AgentId::new(agent), change })
}

fn rack(value: &str) -> Vec<Constraint> {
    vec![Constraint { field: "rack".into(), operator: Operator::Is, value: Some(value.into()) }]
}

fn on_rack(instances: u32) -> App {
    let mut app = app("/a", instances);
    app.constraints = rack("r1");
    app
}

fn hosts(bench: &Bench) -> Vec<String> {
    let tasks = bench.state.instances.values().filter_map(|i| i.task.as_ref());
    let mut hosts: Vec<String> = tasks.map(|t| t.host.clone()).collect();
    hosts.sort();
    hosts
}

#[test]
fn settings_stand_above_what_the_agent_says_and_outlive_it() {
    let mut own = agent("n1", 1000, 100);
    own.attributes = [("rack", "r0"), ("disk", "ssd")].map(|(k, v)| (k.into(), v.into())).into();
    let mut bench = Bench::with(vec![own.clone()]);
    let id = AgentId::new("n1");
    let events =
        change(&mut bench, "n1", says(&[("rack", Some("r1")), ("disk", None)], Some(&["gpu"])));
    assert_eq!(events, [Event::AgentChanged { agent_id: id.clone() }]);
    let expected = [("rack".to_string(), "r1".to_string())].into();
    assert_eq!(bench.state.attributes_of(&id), expected);
    assert_eq!(bench.state.roles_of(&id), BTreeSet::from(["gpu".to_string()]));
    bench.must(Command::RegisterAgent { agent: own });
    assert_eq!(bench.state.attributes_of(&id), expected, "it has come back");
    // What it does not name stays; saying it again changes nothing.
    assert_eq!(change(&mut bench, "n1", says(&[("rack", Some("r1"))], None)), []);
    change(&mut bench, "n1", says(&[("rack", None), ("disk", Some("ssd"))], Some(&[])));
    assert_eq!(bench.state.attributes_of(&id), [("disk".into(), "ssd".into())].into());
    assert!(bench.state.roles_of(&id).is_empty());
    let unknown = Command::ChangeAgent { agent_id: AgentId::new("n9"), change: says(&[], None) };
    assert_eq!(bench.apply(unknown), Err(Rejection::AgentUnknown(AgentId::new("n9"))));
    let many: Vec<String> = (0..=AGENT_SETTINGS_MAX).map(|n| format!("a{n}")).collect();
    let many: Vec<(&str, Option<&str>)> = many.iter().map(|n| (n.as_str(), Some("x"))).collect();
    let refused = bench.apply(Command::ChangeAgent { agent_id: id, change: says(&many, None) });
    assert_eq!(refused, Err(Rejection::AgentSettingsFull { max: AGENT_SETTINGS_MAX }));
}

#[test]
fn what_waits_is_placed_once_an_agent_suits() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 100), agent("n2", 1000, 100)]);
    bench.create(on_rack(1));
    bench.settle();
    let refused = bench.place().refused;
    assert_eq!(refused.len(), 1);
    change(&mut bench, "n2", says(&[("rack", Some("r1"))], None));
    bench.finish();
    assert_eq!(hosts(&bench), ["n2"]);
    let mut public = app("/p", 1);
    public.accepted_resource_roles = Some(vec!["public".into()]);
    bench.create(public);
    bench.settle();
    let reason = bench.place().refused[0].per_agent[0].1[0].clone();
    assert_eq!(reason.describe(), "role: takes public, the agent lends to *");
    change(&mut bench, "n1", says(&[], Some(&["public"])));
    bench.finish();
    assert_eq!(hosts(&bench), ["n1", "n2"]);
}

#[test]
fn a_task_that_stands_wrong_moves_after_its_replacement_works() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 100), agent("n2", 1000, 100)]);
    for name in ["n1", "n2"] {
        change(&mut bench, name, says(&[("rack", Some("r1"))], None));
    }
    bench.create(on_rack(4));
    bench.finish();
    assert_eq!(hosts(&bench), ["n1", "n1", "n2", "n2"]);
    change(&mut bench, "n1", says(&[("rack", Some("r2"))], None));
    bench.settle();
    let waiting = bench.instances("/a").iter().filter(|i| i.is_waiting()).count();
    assert_eq!((hosts(&bench).len(), waiting), (4, 1), "one at a time, the new one first");
    bench.finish();
    assert_eq!(hosts(&bench), ["n2", "n2", "n2", "n2"]);
    // Nothing more to do; the way back moves nothing, because nothing stands wrong.
    change(&mut bench, "n1", says(&[("rack", Some("r1"))], None));
    assert_eq!(bench.deployer(), []);
}

#[test]
fn without_another_place_a_task_stays_where_it_may_not_be() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 100), agent("n2", 1000, 10)]);
    change(&mut bench, "n1", says(&[("rack", Some("r1"))], None));
    let mut single = on_rack(1);
    single.labels.insert(LABEL_SINGLE_INSTANCE.into(), "true".into());
    single.upgrade = UpgradeStrategy { min_health_ppm: 0, max_over_ppm: 0 };
    bench.create(single);
    bench.finish();
    change(&mut bench, "n1", says(&[("rack", None)], None));
    change(&mut bench, "n2", says(&[("rack", Some("r1"))], None));
    assert_eq!(bench.deployer(), [], "n2 has no room");
    assert_eq!(hosts(&bench), ["n1"]);
    let room = agent("n2", 1000, 100);
    bench.must(Command::RegisterAgent { agent: room });
    // A singleton stops before its next task starts.
    bench.settle();
    assert!(bench.instances("/a").iter().all(|i| i.goal == Goal::Decommissioned));
    bench.finish();
    assert_eq!(hosts(&bench), ["n2"]);
}

#[test]
fn an_agent_that_tells_other_attributes_itself_is_judged_too() {
    let mut own = agent("n1", 1000, 100);
    own.attributes = [("rack".to_string(), "r1".to_string())].into();
    let mut bench = Bench::with(vec![own.clone(), {
        let mut other = agent("n2", 1000, 100);
        other.attributes.clone_from(&own.attributes);
        other
    }]);
    bench.create(on_rack(2));
    bench.finish();
    own.attributes.clear();
    bench.must(Command::RegisterAgent { agent: own });
    let task = |bench: &Bench, host: &str| {
        let tasks = bench.state.instances.values().filter_map(|i| i.task.clone());
        tasks.filter(|t| t.host == host).map(|t| t.misplaced).collect::<Vec<_>>()
    };
    let why = "constraint [rack IS r1] does not hold there any more".to_string();
    assert_eq!(task(&bench, "n1"), [Some(why)]);
    assert_eq!(task(&bench, "n2"), [None]);
    bench.finish();
    assert_eq!(hosts(&bench), ["n2", "n2"]);
}

#[derive(Clone, Debug)]
enum Turn {
    /// The rack of an agent; 0 = none.
    Rack(usize, u8),
    Role(usize, bool),
    Deploy,
    Place,
    Obey,
    Fail(usize),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        2 => (0..3usize, 0..3u8).prop_map(|(agent, rack)| Turn::Rack(agent, rack)),
        1 => (0..3usize, any::<bool>()).prop_map(|(agent, role)| Turn::Role(agent, role)),
        4 => Just(Turn::Deploy),
        3 => Just(Turn::Place),
        2 => Just(Turn::Obey),
        1 => any::<usize>().prop_map(Turn::Fail),
    ]
}

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn working(state: &State) -> usize {
    let running = state.instances.values().filter(|i| i.goal == Goal::Running);
    running.filter_map(|i| i.task.as_ref()).filter(|t| t.state == TaskState::Running).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    /// Whatever users say in whatever order: moving never takes capacity below the minimum, and
    /// where there is room in the end, nothing stands wrong.
    #[test]
    fn moves_keep_the_bounds_and_come_to_rest(
        count in 1..5u32,
        min_ppm in prop_oneof![Just(PPM), Just(PPM / 2), Just(0)],
        turns in prop::collection::vec(turn(), 0..80),
    ) {
        let mut bench = Bench::with(NAMES.map(|name| agent(name, 10_000, 4096)).to_vec());
        change(&mut bench, "n1", says(&[("rack", Some("r1"))], None));
        let mut wanted = on_rack(count);
        wanted.upgrade = UpgradeStrategy { min_health_ppm: min_ppm, max_over_ppm: 0 };
        bench.create(wanted);
        bench.finish();
        let least = (u64::from(count) * min_ppm).div_ceil(PPM) as usize;
        for turn in &turns {
            bench.clock += 1000;
            match turn {
                Turn::Rack(at, rack) => {
                    let value = (*rack > 0).then(|| format!("r{rack}"));
                    change(&mut bench, NAMES[*at], says(&[("rack", value.as_deref())], None));
                }
                Turn::Role(at, other) => {
                    let roles: &[&str] = if *other { &["other"] } else { &[] };
                    change(&mut bench, NAMES[*at], says(&[], Some(roles)));
                }
                Turn::Deploy => bench.settle_with(|before, command, after| {
                    if matches!(command, Command::Decommission { .. }) {
                        let (had, have) = (working(before), working(after));
                        assert!(have >= least.min(had), "{had} -> {have}, at least {least}");
                        assert!(have + 1 >= had.min(count as usize), "more than one at a time");
                    }
                }),
                Turn::Place => drop(bench.place()),
                Turn::Obey => bench.obey(),
                Turn::Fail(n) => {
                    let ids: Vec<InstanceId> = bench.state.instances.values()
                        .filter(|i| i.task.is_some()).map(|i| i.id.clone()).collect();
                    if !ids.is_empty() {
                        bench.report(&ids[n % ids.len()], TaskState::Failed, None);
                    }
                }
            }
        }
        change(&mut bench, "n3", says(&[("rack", Some("r1"))], Some(&[])));
        bench.finish();
        for _ in 0..20 {
            bench.settle();
            bench.place();
            bench.obey();
            bench.clock += 400_000;
        }
        prop_assert_eq!(bench.instances("/a").len(), count as usize);
        for task in bench.state.instances.values().filter_map(|i| i.task.as_ref()) {
            prop_assert_eq!(&task.misplaced, &None);
            let attributes = bench.state.attributes_of(&task.agent_id);
            prop_assert_eq!(attributes.get("rack").map(String::as_str), Some("r1"));
            prop_assert!(bench.state.roles_of(&task.agent_id).is_empty());
        }
    }
}
