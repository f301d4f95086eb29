//! Offers on paper: what agents have free by the books of the state alone, and whether a place
//! suits a task that is there already.

use super::constraint::{self, Host, Rules, Tally};
use super::{INSTANCES_CONSIDERED_MAX, Policy, Reason, accepts_role, place, with_what_is_known};
use crate::model::{
    Agent, AgentId, App, AppId, Closed, Demand, Goal, Instance, InstanceId, Offer, Operator,
    Resources, State, Task, TaskPlace, Time, Usage, Vitals, without_ports,
};
use std::collections::{BTreeMap, BTreeSet};

/// Judges places on one agent.
pub(crate) struct Judge {
    attributes: BTreeMap<String, String>,
    roles: BTreeSet<String>,
    rules: Rules,
}

impl Judge {
    pub fn new(attributes: BTreeMap<String, String>, roles: BTreeSet<String>) -> Self {
        Self { attributes, roles, rules: Rules::default() }
    }

    /// What of an app's wishes the agent does not fulfil, in words; `None` when it does. Only
    /// wishes that concern the agent itself count, not those that compare the app's tasks.
    pub fn broken(&mut self, app: &App, host: &str) -> Option<String> {
        if !accepts_role(app, &self.roles) {
            return Some("its agent lends to none of the app's roles".into());
        }
        let host = Host { name: host, attributes: &self.attributes };
        let nobody = Tally::default();
        let own = app.constraints.iter().filter(|rule| match rule.operator {
            Operator::Like | Operator::Unlike | Operator::Is => true,
            Operator::Cluster => rule.value.as_deref().is_some_and(|value| !value.is_empty()),
            Operator::Unique | Operator::GroupBy | Operator::MaxPer => false,
        });
        let mut own = own;
        let broken = own.find(|rule| !self.rules.hold(rule, host, &nobody))?;
        Some(format!("constraint [{}] does not hold there any more", constraint::text(broken)))
    }
}

/// What agents have free by the books, while room is promised: what one app is to get, no other
/// may count on.
pub(crate) struct Paper<'a> {
    state: &'a State,
    offers: Vec<Offer>,
    /// Host ports promised, by agent.
    ports: BTreeMap<AgentId, Vec<u16>>,
    /// Where instances without a task would land.
    landings: Vec<Landing<'a>>,
}

/// An instance without a task, and the place that was found for it.
pub(crate) struct Landing<'a> {
    pub app: &'a App,
    pub agent_id: AgentId,
    pub need: Resources,
}

/// What came of asking for room.
#[derive(Default)]
pub(crate) struct Promise {
    /// Instances of the app without a task that find a place, those asked for earlier included.
    pub landing: u32,
    /// What speaks against one more on each agent; empty when all that were asked for fit.
    pub in_the_way: Vec<(AgentId, Vec<Reason>)>,
}

impl<'a> Paper<'a> {
    /// Open the books. What waits already has its places first, whatever its delay, and so has
    /// what is about to wait because a task of its app stops.
    pub fn of(state: &'a State) -> Self {
        let offers = on_paper(state);
        let mut paper = Self { state, offers, ports: BTreeMap::new(), landings: Vec::new() };
        let mut demands = state.demands(Time(u64::MAX));
        demands.extend(missing(state));
        paper.place(&demands);
        paper
    }

    /// Ask for room for so many more instances of an app that stands in the state.
    pub fn promise(&mut self, app: &'a App, count: u32) -> Promise {
        let demand = one_more(self.state, app, None);
        let placed = self.landings.iter().filter(|landing| landing.app.id == app.id);
        let placed = placed.map(|landing| self.place_on(&landing.agent_id));
        let placed: Vec<TaskPlace> = demand.placed.iter().cloned().chain(placed).collect();
        let number = |n: u32| InstanceId::compose(&app.id, &format!("paper-{n}"));
        let demands: Vec<Demand<'a>> = (0..count.min(INSTANCES_CONSIDERED_MAX))
            .map(|n| Demand { instance_id: number(n), placed: placed.clone(), ..demand.clone() })
            .collect();
        let in_the_way = self.place(&demands);
        let landing = self.landings.iter().filter(|landing| landing.app.id == app.id).count();
        Promise { landing: u32::try_from(landing).unwrap_or(u32::MAX), in_the_way }
    }

    /// Where a task would go that has to leave its agent, by the placer's own rules; nothing is
    /// promised.
    pub fn landing_of(&self, app: &'a App, leaves: &Instance) -> Option<AgentId> {
        let mut demand = one_more(self.state, app, Some(&leaves.id));
        let from = leaves.task.as_ref()?.agent_id.clone();
        demand.closed.insert(from, Closed::Leaving);
        let demands = [demand];
        let offers = self.offers_to(&demands);
        let placement = place(&offers, &demands, &Policy::default());
        placement.decisions.into_iter().next().map(|placed| placed.agent_id)
    }

    /// Where instances without a task would land.
    pub fn landings(&self) -> &[Landing<'a>] {
        &self.landings
    }

    /// Place demands and write down what they take. Gives what spoke against the last refused.
    fn place(&mut self, demands: &[Demand<'a>]) -> Vec<(AgentId, Vec<Reason>)> {
        if demands.is_empty() {
            return Vec::new();
        }
        let offers = self.offers_to(demands);
        let placement = place(&offers, demands, &Policy::default());
        let by_id: BTreeMap<&InstanceId, &Demand<'a>> =
            demands.iter().map(|demand| (&demand.instance_id, demand)).collect();
        for placed in placement.decisions {
            let Some(demand) = by_id.get(&placed.instance_id) else { continue };
            let (agent_id, need) = (placed.agent_id, demand.need());
            if let Some(offer) = self.offers.iter_mut().find(|o| o.agent_id == agent_id) {
                offer.free = offer.free.minus(&need);
            }
            self.ports.entry(agent_id.clone()).or_default().extend(placed.ports);
            self.landings.push(Landing { app: demand.app, agent_id, need });
        }
        placement.refused.into_iter().last().map(|refused| refused.per_agent).unwrap_or_default()
    }

    fn offers_to(&self, demands: &[Demand<'_>]) -> Vec<Offer> {
        let mut offers = with_what_is_known(self.state, self.offers.clone(), demands);
        for offer in &mut offers {
            if let Some(promised) = self.ports.get(&offer.agent_id) {
                offer.ports = without_ports(&offer.ports, promised);
            }
        }
        offers
    }

    fn place_on(&self, agent_id: &AgentId) -> TaskPlace {
        let name = self.state.agents.get(agent_id).map(|agent| agent.name.clone());
        (name.unwrap_or_default(), self.state.attributes_of(agent_id))
    }
}

/// A demand for one more instance of an app, beside its tasks that stay: all but those that may
/// not be where they are, and the one that `leaves`.
fn one_more<'a>(state: &'a State, app: &'a App, leaves: Option<&InstanceId>) -> Demand<'a> {
    let stays = |i: &&Instance| i.goal == Goal::Running && Some(&i.id) != leaves;
    let tasks = state.instances_of(&app.id).filter(stays).filter_map(|i| i.task.as_ref());
    let mut tasks: Vec<&Task> = tasks.filter(|task| task.misplaced.is_none()).collect();
    tasks.sort_by_key(|task| task.staged_at);
    Demand {
        instance_id: InstanceId::compose(&app.id, "paper"),
        app,
        reservation: None,
        placed: tasks.into_iter().map(|task| state.place_of(task)).collect(),
        missing_secrets: state.missing_secrets(app),
        closed: state.closed_to(&app.id),
    }
}

/// Demands of instances that are not there yet and will be once the deployer has looked: of apps
/// whose task stops before its successor is made.
fn missing(state: &State) -> Vec<Demand<'_>> {
    let mut wanted: BTreeMap<&AppId, u32> = BTreeMap::new();
    let counts = |i: &&Instance| i.goal == Goal::Running && !state.is_inactive(&i.id);
    for instance in state.instances.values().filter(counts) {
        *wanted.entry(&instance.app_id).or_default() += 1;
    }
    let mut demands = Vec::new();
    for (id, record) in &state.apps {
        let have = wanted.get(id).copied().unwrap_or_default();
        let missing = record.app.instances.saturating_sub(have).min(INSTANCES_CONSIDERED_MAX);
        // Volumes keep their own room.
        if missing == 0 || record.app.is_resident() {
            continue;
        }
        let demand = one_more(state, &record.app, None);
        demands.extend((0..missing).map(|n| Demand {
            instance_id: InstanceId::compose(id, &format!("missing-{n}")),
            ..demand.clone()
        }));
    }
    demands
}

/// An offer of each agent that is here, by the books alone.
fn on_paper(state: &State) -> Vec<Offer> {
    let reserved = state.reserved();
    let mut used: BTreeMap<&AgentId, Usage> = BTreeMap::new();
    for task in state.instances.values().filter_map(|i| i.task.as_ref()) {
        let usage = used.entry(&task.agent_id).or_default();
        usage.resources = usage.resources.plus(&task.resources);
        usage.ports.extend(task.ports.iter().copied());
    }
    let here = state.agents.values().filter(|agent| agent.reachable);
    let offer = |agent: &Agent| {
        let usage = used.remove(&agent.id).unwrap_or_default();
        let taken: Vec<u16> = usage.ports.into_iter().collect();
        let reserved = reserved.get(&agent.id).copied().unwrap_or_default();
        Offer {
            id: String::new(),
            agent_id: agent.id.clone(),
            hostname: agent.name.clone(),
            free: agent.total.minus(&usage.resources).minus(&reserved),
            ports: without_ports(&agent.ports, &taken),
            attributes: BTreeMap::new(),
            roles: BTreeSet::new(),
            generation: state.applied_index,
            devices: Vec::new(),
            vitals: Vitals::default(),
        }
    };
    here.map(offer).collect()
}
