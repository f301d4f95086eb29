//! Decide where waiting instances run: offers x demands -> decisions, and why not.
//!
//! Greedy in the order of the demands; each decision is taken off its offer before the next is
//! made. It must never look at anything but its arguments.

mod constraint;
mod devices;
mod outlook;
mod paper;
mod ports;
mod reason;
mod reserved;

pub use crate::command::Placed;
pub(crate) use constraint::field_value;
pub use outlook::{INSTANCES_CONSIDERED_MAX, Outlook, outlook, present};
pub(crate) use paper::{Judge, Paper};
pub use ports::with_what_is_known;
pub use reason::Reason;
pub use reserved::without_reserved;

use crate::model::{
    AgentId, App, AppId, Closed, Demand, InstanceId, Offer, ROLE_ANY, Resources, TaskPlace, Time,
};
use constraint::{Host, Rules, Tally};
use devices::FreeDevices;
use ports::FreePorts;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What the caller may tune.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where the choice of dynamic ports starts, so that a port just given back rests a while.
    pub port_seed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    pub decisions: Vec<Placed>,
    pub refused: Vec<Refused>,
}

/// An instance that found no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub instance_id: InstanceId,
    pub app_id: AppId,
    /// Every offer's agent and all that spoke against it, in the order of [`Reason::FUNNEL`].
    pub per_agent: Vec<(AgentId, Vec<Reason>)>,
}

/// An offer and what is left of it.
struct Open<'a> {
    offer: &'a Offer,
    free: Resources,
    ports: FreePorts,
    devices: FreeDevices<'a>,
}

/// Choose a place for each demand: on the host with the fewest tasks of its app, among equals on
/// the one with most free.
///
/// All demands of one configuration of an app are taken to name the same `placed`.
pub fn place(offers: &[Offer], demands: &[Demand<'_>], policy: &Policy) -> Placement {
    // A number that somebody wants by name is given to nobody by chance.
    let named: BTreeSet<u16> =
        demands.iter().flat_map(|d| d.app.port_requests()).filter_map(|r| r.fixed).collect();
    let mut open: Vec<Open<'_>> = offers
        .iter()
        .map(|offer| Open {
            offer,
            free: offer.free,
            ports: FreePorts::new(&offer.ports, &named, policy.port_seed),
            devices: FreeDevices::of(offer),
        })
        .collect();
    let mut tallies: BTreeMap<(&AppId, Time), Tally> = BTreeMap::new();
    let mut rules = Rules::default();
    let mut placement = Placement::default();
    for demand in demands {
        let tally = tallies
            .entry((&demand.app.id, demand.app.last_config_change))
            .or_insert_with(|| Tally::of(demand.placed.iter()));
        match choose(&open, demand, tally, &mut rules) {
            Ok(index) => {
                let chosen = &mut open[index];
                chosen.free = chosen.free.minus(&demand.need());
                tally.add(&chosen.offer.hostname, &chosen.offer.attributes);
                placement.decisions.push(Placed {
                    instance_id: demand.instance_id.clone(),
                    agent_id: chosen.offer.agent_id.clone(),
                    ports: chosen.ports.take(&demand.app.port_requests()),
                    devices: chosen.devices.take(&demand.app.devices()),
                });
            }
            Err(per_agent) => placement.refused.push(Refused {
                instance_id: demand.instance_id.clone(),
                app_id: demand.app.id.clone(),
                per_agent,
            }),
        }
    }
    placement
}

type Objections = Vec<(AgentId, Vec<Reason>)>;

fn choose(
    open: &[Open<'_>],
    demand: &Demand<'_>,
    tally: &Tally,
    rules: &mut Rules,
) -> Result<usize, Objections> {
    let most = open.iter().fold(Resources::default(), |most, o| Resources {
        cpus_milli: most.cpus_milli.max(o.free.cpus_milli),
        mem_bytes: most.mem_bytes.max(o.free.mem_bytes),
        ..most
    });
    let mut objections = Vec::new();
    let mut best = None;
    for (index, candidate) in open.iter().enumerate() {
        let reasons = reasons_against(candidate, demand, tally, rules);
        if reasons.is_empty() {
            let offer = candidate.offer;
            let key = (
                tally.tasks_on(&offer.hostname),
                Reverse(freedom(&candidate.free, &most)),
                &offer.agent_id,
            );
            if best.as_ref().is_none_or(|(least, _)| key < *least) {
                best = Some((key, index));
            }
        }
        objections.push((candidate.offer.agent_id.clone(), reasons));
    }
    best.map(|(_, index)| index).ok_or(objections)
}

/// The roles whose resources an app takes: those it names, else its own and everybody's.
fn accepted_roles(app: &App) -> impl Iterator<Item = &str> {
    let named = app.accepted_resource_roles.iter().flatten().map(String::as_str);
    let usual = app.accepted_resource_roles.is_none();
    let own = usual.then(|| app.role.as_deref().filter(|role| *role != ROLE_ANY)).flatten();
    named.chain(usual.then_some(ROLE_ANY)).chain(own)
}

/// Whether an app takes what an agent of these roles lends.
fn accepts_role(app: &App, roles: &BTreeSet<String>) -> bool {
    let lends = |role: &str| roles.contains(role) || (roles.is_empty() && role == ROLE_ANY);
    accepted_roles(app).any(lends)
}

/// Whether the constraints of an app let one more of its tasks be at `place` besides those that
/// are `placed`.
pub(crate) fn accepts(app: &App, place: &TaskPlace, placed: &[TaskPlace]) -> bool {
    let tally = Tally::of(placed.iter());
    let host = Host { name: &place.0, attributes: &place.1 };
    let mut rules = Rules::default();
    app.constraints.iter().all(|rule| rules.hold(rule, host, &tally))
}

/// How much is free, CPU and memory alike, as parts of what the freest agent has.
fn freedom(free: &Resources, most: &Resources) -> u128 {
    let share = |part: u64, whole: u64| u128::from(part) * 1_000_000 / u128::from(whole.max(1));
    share(free.cpus_milli, most.cpus_milli) + share(free.mem_bytes, most.mem_bytes)
}

/// All that speaks against an offer, in the order of Marathon's funnel.
fn reasons_against(
    open: &Open<'_>,
    demand: &Demand<'_>,
    tally: &Tally,
    rules: &mut Rules,
) -> Vec<Reason> {
    let app = demand.app;
    let mut reasons = Vec::new();
    if !accepts_role(app, &open.offer.roles) {
        reasons.push(Reason::UnfulfilledRole {
            accepted: accepted_roles(app).map(str::to_string).collect(),
            roles: open.offer.roles.iter().cloned().collect(),
        });
    }
    let host = Host { name: &open.offer.hostname, attributes: &open.offer.attributes };
    for constraint in &app.constraints {
        if !rules.hold(constraint, host, tally) {
            reasons.push(Reason::UnfulfilledConstraint { rule: constraint::text(constraint) });
        }
    }
    let missing = demand.missing_secrets.iter();
    reasons.extend(missing.map(|name| Reason::SecretMissing { name: name.clone() }));
    if let Some(kept) = demand.reservation.filter(|r| r.agent_id != open.offer.agent_id) {
        reasons.push(Reason::NoCorrespondingReservationFound { host: kept.host.clone() });
    }
    match demand.closed.get(&open.offer.agent_id) {
        Some(Closed::Draining) => {
            reasons.push(Reason::AgentMaintenance { host: open.offer.hostname.clone() });
        }
        Some(Closed::Leaving) => reasons.push(Reason::TaskLeaves),
        None => {}
    }
    let (need, free) = (demand.need(), &open.free);
    if need.cpus_milli > free.cpus_milli {
        let (need_milli, free_milli) = (need.cpus_milli, free.cpus_milli);
        reasons.push(Reason::InsufficientCpus { need_milli, free_milli });
    }
    if need.mem_bytes > free.mem_bytes {
        let (need_bytes, free_bytes) = (need.mem_bytes, free.mem_bytes);
        reasons.push(Reason::InsufficientMemory { need_bytes, free_bytes });
    }
    if need.disk_bytes > free.disk_bytes {
        let (need_bytes, free_bytes) = (need.disk_bytes, free.disk_bytes);
        reasons.push(Reason::InsufficientDisk { need_bytes, free_bytes });
    }
    if need.gpus > free.gpus {
        reasons.push(Reason::InsufficientGpus { need: need.gpus, free: free.gpus });
    }
    if let Err(reason) = open.ports.check(&app.port_requests()) {
        reasons.push(reason);
    }
    if let Err(missing) = open.devices.check(&app.devices()) {
        reasons.extend(missing);
    }
    reasons
}

#[cfg(test)]
mod tests;
