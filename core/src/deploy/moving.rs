//! Tasks that may not be any more where they are move, as in a change of their app: within its
//! bounds, and only as many as would find another place.
//!
//! From a drained agent as many go at once as the bounds allow. Tasks whose constraints do not hold
//! any more, and those that move just to even out, go one of an app at a time.

use super::Moves;
use super::crowd::{Crowd, count};
use super::restart;
use super::select::age_order;
use super::upgrade::Bounds;
use crate::model::{AgentId, App, Instance, InstanceId, PPM, State};
use crate::place::{Paper, Reason};
use std::collections::BTreeSet;

/// Why tasks move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Their agent is drained, or does not suit their app any more.
    Place,
    /// Another agent has more room. Nothing is wrong, so nothing may be lost by it.
    Evenness,
}

/// Tasks of an app that move now.
pub(super) struct Movers<'a> {
    pub going: Vec<&'a Instance>,
    /// Those that would, and find no other place.
    pub staying: Vec<&'a Instance>,
    /// Why they find none, agent by agent.
    pub in_the_way: Vec<(AgentId, Vec<Reason>)>,
    /// All instances of the app that count.
    all: Vec<&'a Instance>,
    cause: Cause,
}

/// Choose the tasks of an app that move now; `None` when none shall, or may. What they need
/// elsewhere is taken off `paper`, which is opened at first need.
pub(super) fn movers<'a>(
    state: &'a State,
    app: &'a App,
    crowd: &Crowd<'a>,
    paper: &mut Option<Paper<'a>>,
) -> Option<Movers<'a>> {
    // Data cannot move, and where else a device is the books do not know: its app follows it.
    if app.is_resident() || app.wants_devices() {
        return None;
    }
    let (mut wanted, cause) = wanted(state, crowd)?;
    // After a change that was broken off, both configurations are what the app has.
    let all: Vec<&Instance> = crowd.new.iter().chain(&crowd.old).copied().collect();
    let tasks = all.iter().filter(|i| i.task.is_some()).count();
    let good = u32::try_from(tasks - wanted.len()).unwrap_or(u32::MAX);
    // What waits, and what is missing besides, has asked for room when the books were opened.
    let have = count(&all);
    let waiting = have.saturating_sub(good.saturating_add(count(&wanted)));
    let asked = waiting.saturating_add(app.instances.saturating_sub(have));
    let more = app.instances.saturating_sub(good.saturating_add(asked)).min(count(&wanted));
    let promise = paper.get_or_insert_with(|| Paper::of(state)).promise(app, more);
    // Nothing is stopped, nor added, for a task that would find no other place: it is better where
    // it may not be than nowhere. As many stay as are needed beside those that stand well or will.
    let stay = app.instances.saturating_sub(good.saturating_add(promise.landing));
    wanted.sort_by_key(|i| (crowd.is_ready(i), age_order(app, i), &i.id));
    let staying = wanted.split_off(wanted.len().saturating_sub(stay as usize));
    Some(Movers { going: wanted, staying, in_the_way: promise.in_the_way, all, cause })
}

/// The tasks that should move next, and why.
fn wanted<'a>(state: &State, crowd: &Crowd<'a>) -> Option<(Vec<&'a Instance>, Cause)> {
    let agent = |i: &Instance| {
        let task = i.task.as_ref().filter(|task| task.misplaced.is_some())?;
        state.agents.get(&task.agent_id).filter(|agent| agent.reachable)
    };
    let drained = |i: &&Instance| agent(i).is_some_and(|agent| state.is_draining(&agent.id));
    let drained: Vec<&Instance> =
        crowd.new.iter().chain(&crowd.old).copied().filter(drained).collect();
    if !drained.is_empty() {
        return Some((drained, Cause::Place));
    }
    // A change of the app that was broken off comes first: it is the user's own. Only a machine
    // that is to be switched off cannot wait for it.
    if !crowd.old.is_empty() {
        return None;
    }
    let misplaced: Vec<&Instance> =
        crowd.new.iter().copied().filter(|i| agent(i).is_some()).collect();
    let evens = |i: &Instance| i.task.as_ref().is_some_and(|task| task.rebalanced.is_some());
    match misplaced.iter().find(|i| !evens(i)) {
        Some(one) => Some((vec![*one], Cause::Place)),
        None => Some((vec![*misplaced.first()?], Cause::Evenness)),
    }
}

/// The next moves towards moving tasks; `None` when none shall, or can, move now.
pub(super) fn moves<'a>(
    state: &'a State,
    app: &'a App,
    crowd: &Crowd<'a>,
    paper: &mut Option<Paper<'a>>,
) -> Option<Moves> {
    let movers = movers(state, app, crowd, paper)?;
    if movers.going.is_empty() {
        return None;
    }
    let going: BTreeSet<&InstanceId> = movers.going.iter().map(|going| &going.id).collect();
    let mut moving = crowd.clone();
    moving.new = movers.all;
    moving.new.retain(|instance| !going.contains(&instance.id));
    moving.old = movers.going;
    Some(match movers.cause {
        Cause::Place => restart::moves(app, &moving),
        Cause::Evenness => {
            // All of it is kept up, also where the app would bear less.
            let mut all = app.clone();
            all.upgrade.min_health_ppm = PPM;
            restart::moves(&all, &moving)
        }
    })
}

/// Whether an app may have one more instance than it wants, for a while.
pub(super) fn may_have_one_more(app: &App) -> bool {
    Bounds::of(app).max_capacity > app.instances
}
