//! Table tests of placing: constraints, preference, ports.

use super::constraint::{Host, Rules, Tally};
use super::*;
use crate::model::*;

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

fn rule(field: &str, operator: Operator, value: Option<&str>) -> Constraint {
    Constraint { field: field.into(), operator, value: value.map(String::from) }
}

/// (operator, value, racks of placed tasks, accepted on rack a / b / without rack)
type Case = (Operator, Option<&'static str>, &'static [&'static str], [bool; 3]);

#[test]
fn constraints_follow_the_contract() {
    use Operator::*;
    let cases: &[Case] = &[
        (Unique, None, &[], [true, true, false]),
        (Unique, None, &["a"], [false, true, false]),
        (Cluster, None, &[], [true, true, false]),
        (Cluster, None, &["b", "a"], [false, true, false]),
        (Cluster, Some("a"), &["b"], [true, false, false]),
        (Cluster, Some(""), &["b"], [false, true, false]),
        (GroupBy, None, &[], [true, true, false]),
        (GroupBy, None, &["a"], [true, true, false]),
        (GroupBy, None, &["a", "a", "b"], [false, true, false]),
        (GroupBy, None, &["a", "b"], [true, true, false]),
        (GroupBy, Some("2"), &["a"], [false, true, false]),
        (GroupBy, Some("3"), &["a", "b"], [false, false, false]),
        (GroupBy, Some("x"), &[], [false, false, false]),
        (Like, Some("a|c"), &[], [true, false, false]),
        (Like, Some("[a-b]"), &[], [true, true, false]),
        (Like, Some(""), &[], [false, false, false]),
        (Like, Some("("), &[], [false, false, false]),
        (Unlike, Some("a"), &[], [false, true, true]),
        (Unlike, Some("(?i)A"), &[], [false, true, true]),
        (MaxPer, Some("2"), &["a", "a", "b"], [false, true, false]),
        (MaxPer, Some("x"), &[], [false, false, false]),
        (Is, Some("a"), &[], [true, false, false]),
    ];
    for (operator, value, placed, accepted) in cases {
        let placed: Vec<TaskPlace> =
            placed.iter().map(|rack| ("h".to_string(), attributes(&[("rack", rack)]))).collect();
        let tally = Tally::of(placed.iter());
        let racks = [attributes(&[("rack", "a")]), attributes(&[("rack", "b")]), attributes(&[])];
        let rule = rule("rack", *operator, *value);
        let hold = |a| Rules::default().hold(&rule, Host { name: "h", attributes: a }, &tally);
        assert_eq!(racks.each_ref().map(hold), *accepted, "{rule:?} {placed:?}");
    }
}

/// (attribute, operator, value, place of an earlier task, accepted)
type Printed = (&'static str, Operator, Option<&'static str>, Option<&'static str>, bool);

/// Values are compared as Marathon prints them: scalars in their shortest form, with at most three
/// decimals, ranges, sets and text as they are.
#[test]
fn values_are_compared_as_they_are_printed() {
    use Operator::*;
    let rows: &[Printed] = &[
        ("4.000", Like, Some("4"), None, true),
        ("4.000", Like, Some(r"4\.000"), None, false),
        ("0.5", Like, Some(r"0\.5"), None, true),
        ("-0.50", Like, Some(r"-0\.5"), None, true),
        ("0.12345", Is, Some("0.123"), None, true),
        ("0.1235", Like, Some(r"0\.124"), None, true),
        ("0.1245", Like, Some(r"0\.124"), None, true),
        ("4.0", Cluster, Some("4"), None, true),
        ("4.0", Unique, None, Some("4"), false),
        ("4.0", MaxPer, Some("1"), Some("4.00"), false),
        ("4.0", Cluster, None, Some("4.000"), true),
        ("4.1", Cluster, None, Some("4"), false),
        ("[1-3,5-7]", Like, Some(r"\[1-3,5-7\]"), None, true),
        ("[1-3,5-7]", Unique, None, Some("[1-3,5-7]"), false),
        ("[1-3,5-7]", Unlike, Some(r"\[1-3\]"), None, true),
        ("{a,b}", Like, Some(r"\{a,b\}"), None, true),
        ("{a,b}", Unique, None, Some("{b,a}"), true),
        ("4.0.1", Is, Some("4.0.1"), None, true),
        ("4.0.1", Like, Some(r"4\.0\.1"), None, true),
    ];
    for (attribute, operator, value, earlier, accepted) in rows {
        let placed: Vec<TaskPlace> =
            earlier.iter().map(|v| ("other".to_string(), attributes(&[("a", v)]))).collect();
        let here = attributes(&[("a", attribute)]);
        let host = Host { name: "h", attributes: &here };
        let rule = rule("a", *operator, *value);
        let held = Rules::default().hold(&rule, host, &Tally::of(placed.iter()));
        assert_eq!(held, *accepted, "{attribute} {rule:?} {earlier:?}");
    }
}

/// An agent without the field takes no task but by UNLIKE, whatever the operator.
#[test]
fn an_agent_without_the_field_is_accepted_by_unlike_alone() {
    use Operator::*;
    let none = BTreeMap::new();
    for (operator, value) in [
        (Unique, None),
        (Cluster, None),
        (Cluster, Some("")),
        (Cluster, Some("a")),
        (GroupBy, None),
        (GroupBy, Some("3")),
        (Like, Some(".*")),
        (Unlike, Some(".*")),
        (MaxPer, Some("5")),
        (Is, Some("")),
    ] {
        for field in ["rack", "@region", "@zone"] {
            let host = Host { name: "h", attributes: &none };
            let held =
                Rules::default().hold(&rule(field, operator, value), host, &Tally::default());
            assert_eq!(held, operator == Unlike, "{field} {operator:?}");
        }
    }
}

/// (accepted by the app, its role, lent by the agent, taken)
type Roles = (Option<&'static [&'static str]>, Option<&'static str>, &'static [&'static str], bool);

#[test]
fn roles_are_matched_between_apps_and_agents() {
    let rows: &[Roles] = &[
        (None, None, &[], true),
        (None, None, &["*"], true),
        (None, None, &["gpu"], false),
        (None, None, &["*", "gpu"], true),
        (None, Some("gpu"), &["gpu"], true),
        (None, Some("gpu"), &[], true),
        (None, Some("*"), &["gpu"], false),
        (Some(&["*"]), Some("gpu"), &["gpu"], false),
        (Some(&["gpu"]), None, &["gpu"], true),
        (Some(&["gpu"]), None, &[], false),
        (Some(&["gpu"]), None, &["*", "gpu"], true),
        (Some(&["a", "gpu"]), None, &["b", "gpu"], true),
        (Some(&["a"]), Some("gpu"), &["gpu"], false),
    ];
    for (accepted, own, lent, taken) in rows {
        let mut app = small("/a");
        app.accepted_resource_roles =
            accepted.map(|roles| roles.iter().map(|r| r.to_string()).collect());
        app.role = own.map(str::to_string);
        let mut offer = offer("n1", 100, 100);
        offer.roles = lent.iter().map(|r| r.to_string()).collect();
        let placement = place(&[offer], &demands(&[leak(app)]), &Policy::default());
        let reasons: Vec<&str> =
            placement.refused.iter().flat_map(|r| &r.per_agent[0].1).map(Reason::as_str).collect();
        let expected: &[&str] = if *taken { &[] } else { &["UnfulfilledRole"] };
        assert_eq!(reasons, expected, "{accepted:?} {own:?} {lent:?}");
    }
}

#[test]
fn expressions_match_the_whole_value() {
    let (host, none) = (attributes(&[("rack", "rack-12")]), Tally::default());
    for (pattern, matches) in [
        ("rack-1", false),
        ("rack-1.", true),
        ("ack-12", false),
        ("x|rack-12", true),
        ("rack-12|x", true),
        (r"rack-\d+", true),
        (r"^rack-\d+$", true),
    ] {
        let host = Host { name: "h", attributes: &host };
        let like = rule("rack", Operator::Like, Some(pattern));
        assert_eq!(Rules::default().hold(&like, host, &none), matches, "{pattern}");
        let unlike = rule("rack", Operator::Unlike, Some(pattern));
        assert_eq!(Rules::default().hold(&unlike, host, &none), !matches, "{pattern}");
    }
}

#[test]
fn fields_name_host_place_or_attribute() {
    let attributes = attributes(&[("zone", "z1"), ("@region", "eu"), ("cores", "4.000")]);
    let none = Tally::default();
    for (field, value, holds) in [
        ("hostname", "h1", true),
        ("@hostname", "h1", true),
        ("@zone", "z1", true),
        ("@region", "eu", true),
        ("region", "eu", false),
        // Numbers are compared as Marathon prints them.
        ("cores", "4", true),
        ("cores", "4.0004", true),
        ("cores", "4.0005", true),
        ("cores", "4.0015", false),
        ("cores", "04", true),
        ("cores", "4.00050001", false),
        ("cores", "-4", false),
        ("cores", "", false),
    ] {
        let host = Host { name: "h1", attributes: &attributes };
        let rule = rule(field, Operator::Is, Some(value));
        assert_eq!(Rules::default().hold(&rule, host, &none), holds, "{field} IS {value}");
    }
}

fn offer(name: &str, cpus_milli: u64, mem_bytes: u64) -> Offer {
    Offer {
        id: name.into(),
        agent_id: AgentId::new(name),
        hostname: name.into(),
        free: Resources { cpus_milli, mem_bytes, disk_bytes: 100, gpus: 0 },
        ports: vec![PortRange { begin: 100, end: 103 }],
        attributes: BTreeMap::new(),
        roles: <_>::default(),
        generation: 0,
        devices: <_>::default(),
        vitals: <_>::default(),
    }
}

fn small(id: &str) -> App {
    let mut app = App::with_defaults(AppId::new(id));
    app.resources = Resources { cpus_milli: 10, mem_bytes: 10, disk_bytes: 0, gpus: 0 };
    app
}

fn demands(apps: &[&'static App]) -> Vec<Demand<'static>> {
    let demand = |(at, app): (usize, &&'static App)| Demand {
        instance_id: InstanceId(format!("i{at}")),
        app,
        reservation: None,
        placed: vec![],
        missing_secrets: vec![],
        closed: <_>::default(),
    };
    apps.iter().enumerate().map(demand).collect()
}

fn leak(app: App) -> &'static App {
    Box::leak(Box::new(app))
}

fn hosts(placement: &Placement) -> Vec<&str> {
    placement.decisions.iter().map(|p| p.agent_id.as_str()).collect()
}

#[test]
fn tasks_spread_then_go_where_most_is_free() {
    let offers = [offer("n1", 100, 100), offer("n2", 300, 300), offer("n3", 200, 200)];
    let (a, b) = (leak(small("/a")), leak(small("/b")));
    let placement = place(&offers, &demands(&[a, a, a, a, b]), &Policy::default());
    assert_eq!(hosts(&placement), ["n2", "n3", "n1", "n2", "n2"]);
    let mut placed = demands(&[a]);
    placed[0].placed = vec![("n2".into(), BTreeMap::new()), ("n3".into(), BTreeMap::new())];
    assert_eq!(hosts(&place(&offers, &placed, &Policy::default())), ["n1"]);
}

#[test]
fn a_refusal_names_all_that_is_missing() {
    let mut large = small("/a");
    large.resources = Resources { cpus_milli: 500, mem_bytes: 500, disk_bytes: 500, gpus: 1 };
    large.accepted_resource_roles = Some(vec!["public".into()]);
    large.constraints = vec![rule("rack", Operator::Is, Some("r1"))];
    large.port_definitions = vec![port(0, Protocol::Tcp); 5];
    let placement = place(&[offer("n1", 100, 200)], &demands(&[leak(large)]), &Policy::default());
    assert_eq!(placement.decisions, []);
    let (agent, reasons) = &placement.refused[0].per_agent[0];
    assert_eq!(agent.as_str(), "n1");
    assert_eq!(
        *reasons,
        [
            Reason::UnfulfilledRole { accepted: vec!["public".into()], roles: vec![] },
            Reason::UnfulfilledConstraint { rule: "rack IS r1".into() },
            Reason::InsufficientCpus { need_milli: 500, free_milli: 100 },
            Reason::InsufficientMemory { need_bytes: 500, free_bytes: 200 },
            Reason::InsufficientDisk { need_bytes: 500, free_bytes: 100 },
            Reason::InsufficientGpus { need: 1, free: 0 },
            Reason::InsufficientPorts { wanted: 5, missing: vec![] },
        ]
    );
    let order: Vec<usize> = reasons
        .iter()
        .filter_map(|r| Reason::FUNNEL.iter().position(|name| *name == r.as_str()))
        .collect();
    assert!(order.is_sorted());
}

fn port(port: u16, protocol: Protocol) -> PortDefinition {
    PortDefinition { port, protocol, name: None, labels: BTreeMap::new() }
}

fn with_ports(id: &str, require_ports: bool, ports: &[(u16, Protocol)]) -> &'static App {
    let mut app = small(id);
    app.require_ports = require_ports;
    app.port_definitions = ports.iter().map(|(p, proto)| port(*p, *proto)).collect();
    leak(app)
}

#[test]
fn ports_are_given_by_name_and_in_turn() {
    use Protocol::*;
    let dynamic = with_ports("/d", false, &[(10_000, Tcp), (10_001, Udp)]);
    let pinned = with_ports("/p", true, &[(101, Tcp)]);
    let both = with_ports("/b", true, &[(102, Tcp), (102, Udp)]);
    let clash = with_ports("/c", true, &[(103, Tcp), (103, UdpTcp)]);
    let outside = with_ports("/o", true, &[(80, Tcp)]);
    let ports = |apps: &[&'static App], port_seed| {
        let offers = [offer("n1", 1000, 1000)];
        let placement = place(&offers, &demands(apps), &Policy { port_seed });
        placement.decisions.iter().map(|p| p.ports.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&[dynamic], 0), [[100, 101]]);
    assert_eq!(ports(&[dynamic], 2), [[102, 103]]);
    assert_eq!(ports(&[dynamic], 7), [[103, 100]]);
    assert_eq!(ports(&[dynamic], u64::MAX).len(), 1);
    assert_eq!(ports(&[dynamic, dynamic, dynamic], 0), [[100, 101], [102, 103]]);
    // 101 is kept for the one that names it, though it comes later.
    assert_eq!(ports(&[dynamic, pinned, pinned], 0), [vec![100, 102], vec![101]]);
    assert_eq!(ports(&[both, both], 0), [[102, 102]]);
    assert_eq!(ports(&[clash, outside], 0), [[0; 0]; 0]);
}

#[test]
fn fixed_ports_outside_the_range_are_had_unless_a_task_holds_them() {
    let outside = with_ports("/o", true, &[(80, Protocol::Tcp), (102, Protocol::Tcp)]);
    let mut state = State::default();
    let total = Resources { cpus_milli: 1000, mem_bytes: 1000, disk_bytes: 1000, gpus: 0 };
    let agent = Agent {
        id: AgentId::new("n1"),
        name: "n1".into(),
        total,
        ports: vec![PortRange { begin: 100, end: 103 }],
        attributes: BTreeMap::new(),
        reachable: true,
    };
    state.agents.insert(agent.id.clone(), agent);
    let demands = demands(&[outside]);
    let mut listening = offer("n1", 1000, 1000);
    listening.ports = vec![PortRange { begin: 100, end: 101 }];
    let with = |offer: Offer| with_what_is_known(&state, vec![offer], &demands).remove(0).ports;
    let extra = PortRange { begin: 80, end: 80 };
    assert_eq!(with(offer("n1", 1, 1)), [extra, PortRange { begin: 100, end: 103 }]);
    // Something listens on 102, inside the range: the agent knows better.
    assert_eq!(with(listening), [extra, PortRange { begin: 100, end: 101 }]);
    assert_eq!(with(offer("unknown", 1, 1)), [PortRange { begin: 100, end: 103 }]);
}
