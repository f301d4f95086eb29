//! Random offers and demands, judged by a second reading of the rules.

use crate::bench::{Bench, agent, app};
use bramble_core::model::*;
use bramble_core::place::{Policy, place};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const FIELD: &str = "rack";

fn offer() -> impl Strategy<Value = Offer> {
    let rack = prop::option::of(0..3u8);
    (0..3000u64, 0..600u64, 0..6u16, rack, 0..2u32).prop_map(|(cpu, mem, width, rack, gpus)| {
        Offer {
            id: String::new(),
            agent_id: AgentId::new(""),
            hostname: String::new(),
            free: Resources { cpus_milli: cpu, mem_bytes: mem, disk_bytes: 100, gpus },
            ports: match width {
                0 => vec![],
                _ => vec![PortRange { begin: 31_000, end: 30_999 + width }],
            },
            attributes: rack.map(|r| (FIELD.to_string(), format!("r{r}"))).into_iter().collect(),
            roles: <_>::default(),
            generation: 0,
            devices: <_>::default(),
            vitals: <_>::default(),
        }
    })
}

fn constraint() -> impl Strategy<Value = Constraint> {
    use Operator::*;
    let field = prop_oneof![Just("hostname"), Just(FIELD)];
    let rule = prop_oneof![
        Just((Unique, None)),
        Just((Cluster, None)),
        (0..3u8).prop_map(|r| (Cluster, Some(format!("r{r}")))),
        Just((GroupBy, None)),
        (1..4u8).prop_map(|n| (GroupBy, Some(n.to_string()))),
        (0..3u8).prop_map(|r| (Like, Some(format!("r{r}|h{r}|r0")))),
        (0..3u8).prop_map(|r| (Unlike, Some(format!("r{r}|h{r}")))),
        (1..4u8).prop_map(|n| (MaxPer, Some(n.to_string()))),
        (0..3u8).prop_map(|r| (Is, Some(format!("r{r}")))),
    ];
    (field, rule).prop_map(|(field, (operator, value))| Constraint {
        field: field.to_string(),
        operator,
        value,
    })
}

fn wanted(index: usize) -> impl Strategy<Value = App> {
    let ports = prop::collection::vec(prop_oneof![3 => Just(0), 1 => 31_000..31_004u16], 0..3);
    (0..900u64, 0..200u64, ports, prop::collection::vec(constraint(), 0..3)).prop_map(
        move |(cpu, mem, ports, constraints)| {
            let mut app = app(&format!("/app{index}"), 1);
            app.resources = Resources { cpus_milli: cpu, mem_bytes: mem, disk_bytes: 10, gpus: 0 };
            app.constraints = constraints;
            app.require_ports = true;
            app.port_definitions = ports
                .into_iter()
                .map(|port| PortDefinition {
                    port,
                    protocol: Protocol::Tcp,
                    name: None,
                    labels: BTreeMap::new(),
                })
                .collect();
            app
        },
    )
}

/// What the judge knows of an offer.
struct Left {
    free: Resources,
    ports: BTreeSet<u16>,
}

fn value<'a>(field: &str, place: &'a TaskPlace) -> Option<&'a String> {
    if field == "hostname" { Some(&place.0) } else { place.1.get(field) }
}

/// Section 7 once more, by counting over lists.
pub fn holds(rule: &Constraint, here: &TaskPlace, placed: &[TaskPlace]) -> bool {
    let Some(mine) = value(&rule.field, here) else { return rule.operator == Operator::Unlike };
    let all: Vec<&String> = placed.iter().filter_map(|p| value(&rule.field, p)).collect();
    let same = all.iter().filter(|v| **v == mine).count();
    let given = rule.value.as_deref();
    let number = || given.and_then(|v| v.parse::<usize>().ok());
    let listed = || given.is_some_and(|v| v.split('|').any(|part| part == mine));
    match rule.operator {
        Operator::Unique => same == 0,
        Operator::Cluster => match given {
            Some(v) => v == mine,
            None => all.first().is_none_or(|first| *first == mine),
        },
        Operator::GroupBy => {
            let groups: BTreeSet<&String> = all.iter().copied().collect();
            let least = groups.iter().map(|g| all.iter().filter(|v| *v == g).count()).min();
            same == 0 || (groups.len() >= number().unwrap_or(0) && least == Some(same))
        }
        Operator::Like => listed(),
        Operator::Unlike => !listed(),
        Operator::MaxPer => number().is_some_and(|n| same < n),
        Operator::Is => given == Some(mine),
    }
}

/// Whether an offer could take one more task, by all rules.
fn suits(app: &App, place: &TaskPlace, left: &Left, placed: &[TaskPlace], named: &[u16]) -> bool {
    let requests = app.port_requests();
    let fixed: Vec<u16> = requests.iter().filter_map(|r| r.fixed).collect();
    let distinct: BTreeSet<&u16> = fixed.iter().collect();
    let spare = left.ports.iter().filter(|p| !named.contains(p)).count();
    left.free.holds(&app.resources)
        && app.constraints.iter().all(|c| holds(c, place, placed))
        && distinct.len() == fixed.len()
        && fixed.iter().all(|p| left.ports.contains(p))
        && spare >= requests.len() - fixed.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_decision_holds_and_every_refusal_is_true(
        mut offers in prop::collection::vec(offer(), 0..6),
        apps in (wanted(0), wanted(1), wanted(2)),
        order in prop::collection::vec(0..3usize, 0..14),
        placed in prop::collection::vec(0..6usize, 0..4),
        port_seed in any::<u64>(),
    ) {
        let apps = [apps.0, apps.1, apps.2];
        for (at, offer) in offers.iter_mut().enumerate() {
            offer.agent_id = AgentId::new(format!("agent{at}"));
            offer.hostname = format!("h{at}");
        }
        let spot = |o: &Offer| (o.hostname.clone(), o.attributes.clone());
        let earlier: Vec<TaskPlace> =
            placed.iter().filter_map(|at| offers.get(*at)).map(spot).collect();
        let demands: Vec<Demand<'_>> = order
            .iter()
            .enumerate()
            .map(|(at, app)| Demand {
                instance_id: InstanceId::new(format!("i{at:02}")),
                app: &apps[*app],
                reservation: None,
                placed: if *app == 0 { earlier.clone() } else { vec![] },
                missing_secrets: vec![],
                closed: <_>::default(),
            })
            .collect();
        let placement = place(&offers, &demands, &Policy { port_seed });
        prop_assert_eq!(&placement, &place(&offers, &demands, &Policy { port_seed }));
        prop_assert_eq!(placement.decisions.len() + placement.refused.len(), demands.len());

        let named: Vec<u16> = demands
            .iter().flat_map(|d| d.app.port_requests()).filter_map(|r| r.fixed).collect();
        let mut left: BTreeMap<AgentId, Left> = offers
            .iter()
            .map(|o| {
                let ports = o.ports.iter().flat_map(|r| r.begin..=r.end).collect();
                (o.agent_id.clone(), Left { free: o.free, ports })
            })
            .collect();
        let mut tasks = [earlier, vec![], vec![]];
        for (demand, app) in demands.iter().zip(&order) {
            let definition = &apps[*app];
            let fits = |o: &&Offer| {
                suits(definition, &spot(o), &left[&o.agent_id], &tasks[*app], &named)
            };
            let decided =
                placement.decisions.iter().find(|p| p.instance_id == demand.instance_id);
            let Some(decision) = decided else {
                prop_assert_eq!(offers.iter().find(fits), None, "refused, yet it fits");
                let refused = placement.refused.iter()
                    .find(|r| r.instance_id == demand.instance_id)
                    .expect("refused");
                prop_assert_eq!(refused.per_agent.len(), offers.len());
                prop_assert!(refused.per_agent.iter().all(|(_, reasons)| !reasons.is_empty()));
                continue;
            };
            let offer = offers.iter().find(|o| o.agent_id == decision.agent_id).expect("offered");
            prop_assert!(fits(&offer), "placed where it does not fit");
            let crowd = |o: &Offer| tasks[*app].iter().filter(|(h, _)| *h == o.hostname).count();
            let least = offers.iter().filter(fits).map(crowd).min();
            prop_assert_eq!(Some(crowd(offer)), least, "not spread");
            let requests = definition.port_requests();
            prop_assert_eq!(decision.ports.len(), requests.len());
            let rest = left.get_mut(&decision.agent_id).expect("offered");
            for (request, port) in requests.iter().zip(&decision.ports) {
                prop_assert!(request.fixed.is_none_or(|fixed| fixed == *port));
                prop_assert!(rest.ports.remove(port), "port {} is not free", port);
            }
            rest.free = rest.free.minus(&definition.resources);
            tasks[*app].push(spot(offer));
        }
    }
}

/// Marathon compares only with tasks of the same configuration; without that a rolling change
/// would wait for ever where there is but one host.
#[test]
fn an_app_that_is_alone_on_its_host_can_be_replaced_there() {
    let mut bench = Bench::with(vec![agent("n1", 1000, 1024)]);
    let mut unique = app("/a", 1);
    unique.constraints =
        vec![Constraint { field: "hostname".into(), operator: Operator::Unique, value: None }];
    bench.create(unique.clone());
    bench.finish();
    unique.cmd = Some("sleep 2".into());
    bench.update(unique.clone());
    bench.finish();
    // Scaling finds no second host, and says so.
    unique.instances = 2;
    bench.update(unique);
    bench.settle();
    let refused = bench.place().refused;
    let reasons: Vec<&str> = refused[0].per_agent[0].1.iter().map(|r| r.as_str()).collect();
    assert_eq!(reasons, ["UnfulfilledConstraint"]);
}
