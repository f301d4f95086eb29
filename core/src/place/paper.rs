//! Offers on paper: what agents have free by the books of the state alone, and whether a place
//! suits a task that is there already.

use super::constraint::{self, Host, Rules, Tally};
use super::{Policy, accepts_role, place, with_what_is_known};
use crate::model::{
    Agent, App, Demand, Goal, InstanceId, Offer, Operator, State, TaskPlace, without_ports,
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

/// Whether one more task of an app would find a place by the books, beside its well placed ones.
pub(crate) fn has_room(state: &State, app: &App) -> bool {
    let stays = |task: &&crate::model::Task| task.misplaced.is_none();
    let tasks = state.instances_of(&app.id).filter(|i| i.goal == Goal::Running);
    let placed: Vec<TaskPlace> =
        tasks.filter_map(|i| i.task.as_ref()).filter(stays).map(|t| state.place_of(t)).collect();
    let demand = Demand {
        instance_id: InstanceId::compose(&app.id, "paper"),
        app,
        reservation: None,
        placed,
        missing_secrets: state.missing_secrets(app),
    };
    let demands = [demand];
    let offers = state.agents.values().filter(|agent| agent.reachable);
    let offers = offers.map(|agent| on_paper(state, agent)).collect();
    let offers = with_what_is_known(state, offers, &demands);
    !place(&offers, &demands, &Policy::default()).decisions.is_empty()
}

fn on_paper(state: &State, agent: &Agent) -> Offer {
    let used = state.used_on(&agent.id);
    let taken: Vec<u16> = used.ports.into_iter().collect();
    Offer {
        id: String::new(),
        agent_id: agent.id.clone(),
        hostname: agent.name.clone(),
        free: agent.total.minus(&used.resources),
        ports: without_ports(&agent.ports, &taken),
        attributes: BTreeMap::new(),
        roles: BTreeSet::new(),
        generation: state.applied_index,
    }
}
