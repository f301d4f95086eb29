//! Even out, gently, once an agent is new, back, or open again.
//!
//! Where a task would go is the placer's own choice; this asks only whether the cluster would
//! stand clearly better then. A move must either spread an app over more hosts, or take from an
//! agent that is much fuller and stays at least as full. So every move makes (how apps are spread,
//! how full agents are) smaller in one order, and moving comes to an end: nothing goes to and fro.

use super::INSTANCES_PER_COMMAND_MAX;
use super::crowd::{Crowd, count};
use super::keep::held_by;
use super::moving::may_have_one_more;
use super::select::age_order;
use crate::command::Command;
use crate::model::{
    AgentId, App, Goal, Instance, LABEL_REBALANCE, PPM, Resources, State, Task, TaskId, Time,
};
use crate::place::Paper;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds that an agent has been here before tasks move onto it: one that comes and goes is
/// left alone, and what waits for room has taken it by then.
pub const REBALANCE_AFTER_MS: u64 = 20_000;
/// Milliseconds after its arrival in which tasks move onto an agent.
pub const REBALANCE_FOR_MS: u64 = 900_000;
/// Milliseconds between the beginnings of two moves, in the whole cluster.
pub const REBALANCE_PAUSE_MS: u64 = 5_000;
/// Moves under way at most, in the whole cluster; of one app it is one.
pub const REBALANCE_MOVES_MAX: usize = 2;
/// Milliseconds after which a move is given up: its successor does not come to work.
pub const REBALANCE_MOVE_MS: u64 = 300_000;
/// How much fuller an agent must be than the one a task would go to, in parts per million.
const LOAD_GAP_PPM: u64 = PPM / 5;
/// How many more tasks of an app a host must have than the one a task would go to.
const SPREAD_GAP: u32 = 2;
/// Tasks looked at for one move at most.
const CANDIDATES_MAX: usize = 64;

/// The next task to move just to even out at `now`, if there is one and the budget allows.
pub fn rebalance(state: &State, now: Time) -> Option<Command> {
    let pause =
        state.rebalanced_at > Time(0) && state.rebalanced_at.plus_ms(REBALANCE_PAUSE_MS) > now;
    if pause || state.rebalanced().count() >= REBALANCE_MOVES_MAX {
        return None;
    }
    let targets: BTreeSet<&AgentId> = arrivals(state)
        .filter(|(_, since)| since.plus_ms(REBALANCE_AFTER_MS) <= now)
        .filter(|(_, since)| since.plus_ms(REBALANCE_FOR_MS) > now)
        .map(|(id, _)| id)
        .collect();
    if targets.is_empty() {
        return None;
    }
    let view = View::of(state, targets);
    let task_id = view.to_spread().or_else(|| view.to_relieve())?;
    Some(Command::Rebalance { task_id })
}

/// Moves to give up at `now`: those that take too long, and those of apps that are being changed.
pub fn end_rebalance(state: &State, now: Time) -> Vec<Command> {
    let over = |task: &Task| task.rebalanced.is_some_and(|at| at.plus_ms(REBALANCE_MOVE_MS) <= now);
    let held = |app_id| held_by(state, app_id).next().is_some();
    let moving = state.instances.values().filter(|i| i.goal == Goal::Running);
    let some = state.rebalanced().next().is_some();
    let moving = moving.filter(|_| some).filter_map(|i| Some((&i.app_id, i.task.as_ref()?)));
    let moving = moving.filter(|(_, task)| task.rebalanced.is_some());
    let ended = moving.filter(|(app_id, task)| over(task) || held(*app_id));
    let ids: Vec<TaskId> = ended.map(|(_, task)| task.id.clone()).collect();
    let chunks = ids.chunks(INSTANCES_PER_COMMAND_MAX);
    chunks.map(|ids| Command::EndRebalance { task_ids: ids.to_vec() }).collect()
}

/// When to ask again although nothing has changed, after `now`.
pub fn next_rebalance(state: &State, now: Time) -> Option<Time> {
    let settled = arrivals(state).map(|(_, since)| since.plus_ms(REBALANCE_AFTER_MS));
    let open = arrivals(state).any(|(_, since)| since.plus_ms(REBALANCE_FOR_MS) > now);
    let pause = open.then(|| state.rebalanced_at.plus_ms(REBALANCE_PAUSE_MS));
    let over = state.rebalanced().filter_map(|(_, task)| task.rebalanced);
    let over = over.map(|at| at.plus_ms(REBALANCE_MOVE_MS));
    settled.chain(pause).chain(over).filter(|at| *at > now).min()
}

/// Agents that are here and take tasks, with when they came.
fn arrivals(state: &State) -> impl Iterator<Item = (&AgentId, Time)> {
    let open = |id: &AgentId| {
        state.agents.get(id).is_some_and(|agent| agent.reachable) && !state.is_draining(id)
    };
    state.arrived.iter().filter(move |(id, _)| open(id)).map(|(id, since)| (id, *since))
}

/// The cluster as it will stand once what is under way has come to its end.
struct View<'a> {
    targets: BTreeSet<&'a AgentId>,
    apps: Vec<Settled<'a>>,
    /// How full each agent is that is here and takes tasks, in parts per million.
    loads: BTreeMap<&'a AgentId, u64>,
    totals: BTreeMap<&'a AgentId, Resources>,
    paper: Paper<'a>,
}

/// An app of which nothing is under way.
struct Settled<'a> {
    app: &'a App,
    /// Its instances, those first that go first.
    instances: Vec<(&'a Instance, &'a Task)>,
    /// How many of them are on each agent.
    spread: BTreeMap<&'a AgentId, u32>,
}

impl Settled<'_> {
    fn on(&self, agent_id: &AgentId) -> u32 {
        self.spread.get(agent_id).copied().unwrap_or_default()
    }
}

impl<'a> View<'a> {
    fn of(state: &'a State, targets: BTreeSet<&'a AgentId>) -> Self {
        let paper = Paper::of(state);
        let open = state.agents.values().filter(|a| a.reachable && !state.is_draining(&a.id));
        let totals: BTreeMap<&AgentId, Resources> = open.map(|a| (&a.id, a.total)).collect();
        let mut used: BTreeMap<&AgentId, Resources> = BTreeMap::new();
        // What leaves has left.
        let stays = |i: &&Instance| i.goal == Goal::Running;
        let tasks = state.instances.values().filter(stays).filter_map(|i| i.task.as_ref());
        for task in tasks.filter(|task| task.misplaced.is_none()) {
            let sum = used.entry(&task.agent_id).or_default();
            *sum = sum.plus(&task.resources);
        }
        for landing in paper.landings() {
            let Some((id, _)) = totals.get_key_value(&landing.agent_id) else { continue };
            let sum = used.entry(id).or_default();
            *sum = sum.plus(&landing.need);
        }
        let loads = totals
            .iter()
            .map(|(id, total)| (*id, load(&used.get(id).copied().unwrap_or_default(), total)))
            .collect();
        let apps =
            state.apps.keys().filter_map(|id| settled(state, Crowd::of(state, id))).collect();
        View { targets, apps, loads, totals, paper }
    }

    /// A task of an app that has two more on one host than it would have where the task goes.
    fn to_spread(&self) -> Option<TaskId> {
        let gap = |app: &Settled<'_>, from: &AgentId| {
            let least = self.targets.iter().map(|to| app.on(to)).min()?;
            app.on(from).checked_sub(least)
        };
        let mut uneven: Vec<(u32, &Settled<'a>, &AgentId)> = Vec::new();
        for app in &self.apps {
            for from in app.spread.keys().filter(|id| self.loads.contains_key(*id)) {
                let wide = gap(app, from).filter(|gap| *gap >= SPREAD_GAP);
                uneven.extend(wide.map(|gap| (gap, app, *from)));
            }
        }
        uneven.sort_by_key(|(gap, app, from)| (Reverse(*gap), &app.app.id, *from));
        uneven.into_iter().take(CANDIDATES_MAX).find_map(|(_, app, from)| {
            let (instance, task) = app.instances.iter().find(|(_, task)| task.agent_id == *from)?;
            let to = self.paper.landing_of(app.app, instance)?;
            let wider = self.targets.contains(&to) && app.on(from) >= app.on(&to) + SPREAD_GAP;
            wider.then(|| task.id.clone())
        })
    }

    /// A task of an agent that is much fuller than the one where the task goes.
    fn to_relieve(&self) -> Option<TaskId> {
        let emptiest = self.targets.iter().filter_map(|to| self.loads.get(*to)).min()?;
        let full = |load: &u64| *load >= emptiest.saturating_add(LOAD_GAP_PPM);
        let mut sources: Vec<(&AgentId, u64)> = self
            .loads
            .iter()
            .filter(|(_, load)| full(load))
            .map(|(id, load)| (*id, *load))
            .collect();
        sources.sort_by_key(|(id, load)| (Reverse(*load), *id));
        let mut candidates: Vec<(&Settled<'a>, &Instance, &Task)> = Vec::new();
        for (from, _) in &sources {
            // The largest first, so that few move.
            let mut here: Vec<(&Settled<'a>, &Instance, &Task)> = self
                .apps
                .iter()
                .filter_map(|app| {
                    let found = app.instances.iter().find(|(_, task)| task.agent_id == **from);
                    found.map(|(instance, task)| (app, *instance, *task))
                })
                .collect();
            here.sort_by_key(|(app, _, task)| {
                (Reverse(load(&task.resources, &self.totals[from])), &app.app.id)
            });
            candidates.extend(here);
        }
        let found = candidates.into_iter().take(CANDIDATES_MAX);
        found
            .filter(|(app, i, task)| self.relieves(app, i, task))
            .map(|(.., t)| t.id.clone())
            .next()
    }

    fn relieves(&self, app: &Settled<'a>, instance: &Instance, task: &Task) -> bool {
        let Some(to) = self.paper.landing_of(app.app, instance) else { return false };
        let from = &task.agent_id;
        let (Some(before), Some(there)) = (self.loads.get(from), self.loads.get(&to)) else {
            return false;
        };
        let less = load(&task.resources, &self.totals[from]);
        let more = load(&task.resources, &self.totals[&to]);
        let gap = *before >= there.saturating_add(LOAD_GAP_PPM);
        let stays_fuller = there.saturating_add(more) <= before.saturating_sub(less);
        let as_spread = app.on(&to) < app.on(from);
        self.targets.contains(&to) && gap && less > 0 && stays_fuller && as_spread
    }
}

/// The app of a crowd, if its tasks may move just to even out and nothing of it is under way.
fn settled<'a>(state: &'a State, crowd: Crowd<'a>) -> Option<Settled<'a>> {
    let app = crowd.app?;
    let never = app.labels.get(LABEL_REBALANCE).is_some_and(|value| value == "never");
    let bound = never || app.is_single_instance() || app.wants_devices() || !may_have_one_more(app);
    let rests = crowd.stopping == 0 && crowd.old.is_empty();
    let whole = count(&crowd.new) == app.instances && crowd.ready_count() == app.instances;
    if bound || !rests || !whole || state.deployments_touching(&app.id).next().is_some() {
        return None;
    }
    let mut instances: Vec<(&Instance, &Task)> =
        crowd.new.iter().filter_map(|i| Some((*i, i.task.as_ref()?))).collect();
    if instances.iter().any(|(_, task)| task.misplaced.is_some()) {
        return None;
    }
    instances.sort_by_key(|(i, _)| (age_order(app, i), &i.id));
    let mut spread: BTreeMap<&AgentId, u32> = BTreeMap::new();
    for (_, task) in &instances {
        *spread.entry(&task.agent_id).or_default() += 1;
    }
    Some(Settled { app, instances, spread })
}

/// The mean of how much is taken of CPU and memory, in parts per million.
fn load(used: &Resources, total: &Resources) -> u64 {
    let share = |used: u64, total: u64| {
        let ppm = u128::from(used) * u128::from(PPM) / u128::from(total.max(1));
        u64::try_from(ppm).unwrap_or(u64::MAX)
    };
    let cpu = share(used.cpus_milli, total.cpus_milli);
    cpu.saturating_add(share(used.mem_bytes, total.mem_bytes)) / 2
}
