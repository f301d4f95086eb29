//! What would become of an app: a placement on paper, and what is in the way of the rest.
//!
//! Owns how an answer to "where would it land?" and "why is it not running?" is found. It places
//! with the placer's own rules and must never have rules of its own, nor change anything.

use super::{Offer, Policy, Reason, place, with_what_is_known, without_reserved};
use crate::model::{
    AgentId, App, AppId, Demand, Goal, Instance, InstanceId, PortRange, Reservation, State,
    TaskPlace,
};
use std::collections::BTreeMap;

/// Instances considered at most: a count of millions, mistyped, must not take the leader's time.
pub const INSTANCES_CONSIDERED_MAX: u32 = 1000;

/// What would become of the instances of an app that have no place yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Instances that want a place.
    pub wanted: u32,
    /// How many of them each agent would get.
    pub landings: BTreeMap<AgentId, u32>,
    /// Those that would find none.
    pub unplaced: u32,
    /// What speaks against one more on each agent, in the order of [`Reason::FUNNEL`]; empty when
    /// all find a place.
    pub in_the_way: Vec<(AgentId, Vec<Reason>)>,
    /// Agents of the cluster that offer nothing now: away, or about to return.
    pub silent: Vec<AgentId>,
}

/// Work out where `app`, as defined here, would go. What it replaces counts as gone: tasks of
/// another configuration give back what they hold.
pub fn outlook(state: &State, offers: Vec<Offer>, app: &App) -> Outlook {
    let (kept, replaced) = split(state, app);
    let wanted = app.instances.saturating_sub(count(&kept));
    considered(state, offers, app, (kept, replaced), wanted)
}

/// Work out where the instances that wait for a place now would get one. Tasks that a change
/// replaces hold what they have until they are told to stop: the new ones wait beside them.
pub fn present(state: &State, offers: Vec<Offer>, app: &App) -> Outlook {
    let placed = state.instances_of(&app.id).filter(|i| i.task.is_some());
    let (kept, stopping): (Vec<_>, Vec<_>) = placed.partition(|i| i.goal == Goal::Running);
    let waiting = state.instances_of(&app.id).filter(|i| i.is_waiting()).count();
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    let wanted = waiting.max(app.instances.saturating_sub(count(&kept)));
    considered(state, offers, app, (kept, stopping), wanted)
}

fn considered(
    state: &State,
    offers: Vec<Offer>,
    app: &App,
    (kept, going): (Vec<&Instance>, Vec<&Instance>),
    wanted: u32,
) -> Outlook {
    let mut offers = without_reserved(state, offers);
    let silent = state.agents.keys().filter(|id| !offers.iter().any(|o| o.agent_id == **id));
    let silent = silent.cloned().collect();
    let mut outlook = Outlook { silent, wanted, ..Outlook::default() };
    give_back(&mut offers, &going);
    // Constraints look at tasks of this configuration alone, as the placer does.
    let moves = |i: &Instance| i.task.as_ref().is_some_and(|task| task.misplaced.is_some());
    let current = kept.iter().copied().filter(|i| state.is_current(i) && !moves(i));
    let current: Vec<&Instance> = current.collect();
    let placed = places(state, &current);
    let mut reservations = idle(state, app, &kept);
    let (missing, closed) = (state.missing_secrets(app), state.closed_to(&app.id));
    let demands: Vec<Demand<'_>> = (0..outlook.wanted.min(INSTANCES_CONSIDERED_MAX))
        .map(|number| Demand {
            instance_id: InstanceId::compose(&app.id, &number.to_string()),
            app,
            reservation: reservations.next(),
            placed: placed.clone(),
            missing_secrets: missing.clone(),
            closed: closed.clone(),
        })
        .collect();
    let offers = with_what_is_known(&without(state, &app.id, &kept), offers, &demands);
    let placement = place(&offers, &demands, &Policy::default());
    for decision in &placement.decisions {
        *outlook.landings.entry(decision.agent_id.clone()).or_default() += 1;
    }
    outlook.unplaced = u32::try_from(placement.refused.len()).unwrap_or(u32::MAX);
    // The last one to be refused met the cluster as full as it gets.
    outlook.in_the_way =
        placement.refused.into_iter().last().map(|r| r.per_agent).unwrap_or_default();
    outlook
}

/// Placed instances that this definition leaves alone, and those it replaces.
fn split<'a>(state: &'a State, app: &'a App) -> (Vec<&'a Instance>, Vec<&'a Instance>) {
    let current = state.apps.get(&app.id).map(|record| &record.app);
    let config = app.config();
    let same = current.filter(|current| current.config() == config);
    let placed = state.instances_of(&app.id).filter(|i| i.task.is_some());
    placed.partition(|i| i.goal == Goal::Running && same.is_some() && state.is_current(i))
}

/// What is reserved for the app and used by none of `kept`: its next tasks go there.
fn idle<'a>(
    state: &'a State,
    app: &'a App,
    kept: &[&Instance],
) -> impl Iterator<Item = &'a Reservation> {
    let kept: Vec<InstanceId> = kept.iter().map(|i| i.id.clone()).collect();
    state
        .instances_of(&app.id)
        .filter(move |i| i.goal != Goal::Decommissioned && !kept.contains(&i.id))
        .filter_map(|i| i.reservation.as_ref())
        .filter(|r| r.fits(app))
}

fn give_back(offers: &mut [Offer], instances: &[&Instance]) {
    for task in instances.iter().filter_map(|i| i.task.as_ref()) {
        let Some(offer) = offers.iter_mut().find(|o| o.agent_id == task.agent_id) else { continue };
        offer.free = offer.free.plus(&task.resources);
        offer.ports.extend(task.ports.iter().map(|port| PortRange { begin: *port, end: *port }));
        offer.ports.sort_unstable();
        offer.mark_devices(&task.devices, false);
    }
}

/// Where instances run, first placed first.
fn places(state: &State, instances: &[&Instance]) -> Vec<TaskPlace> {
    let mut tasks: Vec<_> = instances.iter().filter_map(|i| i.task.as_ref()).collect();
    tasks.sort_by_key(|task| task.staged_at);
    tasks.into_iter().map(|task| state.place_of(task)).collect()
}

/// As much of the state as ports depend on, without what is replaced of an app.
fn without(state: &State, app_id: &AppId, kept: &[&Instance]) -> State {
    let others = state.instances.values().filter(|i| i.app_id != *app_id);
    let instances = others.chain(kept.iter().copied());
    State {
        agents: state.agents.clone(),
        agent_settings: state.agent_settings.clone(),
        instances: instances.map(|i| (i.id.clone(), i.clone())).collect(),
        ..State::default()
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "outlook_tests.rs"]
mod tests;
