//! "Where would it land?" and "why is it not running?": questions that change nothing.
//!
//! The answers come from `core::place`; this only gathers what it needs and writes it down.

use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use bramble_core::model::{
    AgentId, App, AppId, Offer, Patience, State, Task, TaskState, Time, Unresizable,
};
use bramble_core::place::{INSTANCES_CONSIDERED_MAX, Outlook, Reason, outlook, present};
use bramble_protocol::native::{ObstacleView, OutlookView, PlacementView, ReasonView, Why};
use http::StatusCode;

/// Milliseconds of a second, for rounding up.
const SECOND_MS: u64 = 1000;
/// Tasks whose words are shown.
const PROGRESS_MAX: usize = 10;

/// Say where a definition would land, and change nothing.
pub(in crate::api) fn dry_run(call: &Call, app: &App) -> Reply {
    let offers = call.api().offers.current();
    let answer = call.api().store.read(|state| view(state, app, outlook(state, offers, app)));
    reply::json(StatusCode::OK, &answer)
}

/// `GET /v1/bramble/why/{app}`.
pub(in crate::api) fn why(call: &Call, id: &AppId) -> Result<Reply, ApiError> {
    let offers = call.api().offers.current();
    let answer = {
        let store = &call.api().store;
        store.read(|state| explain(state, offers, id, store.now()))
    };
    let answer = answer.ok_or_else(|| ApiError::AppUnknown(id.clone()))?;
    Ok(reply::json(StatusCode::OK, &answer))
}

fn explain(state: &State, offers: Vec<Offer>, id: &AppId, now: Time) -> Option<Why> {
    let record = state.apps.get(id)?;
    let mut why = Why {
        app: id.0.clone(),
        instances: record.app.instances,
        delay_seconds: record.delay.until.since_ms(now).div_ceil(SECOND_MS),
        deployments: state.deployments_touching(id).map(|d| d.id.0.clone()).collect(),
        last_failure: record.last_failure.as_ref().map(|f| f.message.clone()),
        outlook: view(state, &record.app, present(state, offers, &record.app)),
        ..Why::default()
    };
    // Outside a deployment nobody is about to be given another size.
    let sizes = if why.deployments.is_empty() { Vec::new() } else { state.resizable(id) };
    for instance in state.instances_of(id) {
        let Some(task) = &instance.task else {
            why.waiting += u32::from(instance.is_waiting());
            continue;
        };
        let own = state.app_of(instance).unwrap_or(&record.app);
        if let Some(patience) = state.patience(instance) {
            why.progress.push((task.id.0.clone(), absence_words(patience, now)));
            continue;
        }
        match task.state {
            TaskState::Staging | TaskState::Starting => why.staging += 1,
            TaskState::Running => {
                why.running += 1;
                why.not_ready += u32::from(!own.is_ready(task));
            }
            _ => continue,
        }
        let verdict = sizes.iter().find(|(id, _)| *id == instance.id).map(|(_, verdict)| verdict);
        let stays = own.is_resident();
        let moving = |why: &String| match stays {
            true => format!("stays, because its data is there, although {why}"),
            false => format!("moves when it finds another place: {why}"),
        };
        let words = task
            .misplaced
            .as_ref()
            .map(moving)
            .or_else(|| size_words(task, verdict))
            .or_else(|| (!own.is_ready(task)).then(|| words(own, task)));
        if let Some(words) = words.filter(|_| why.progress.len() < PROGRESS_MAX) {
            why.progress.push((task.id.0.clone(), words));
        }
    }
    Some(why)
}

/// What follows from the absence of a task's agent.
fn absence_words(patience: Patience, now: Time) -> String {
    let seconds = |at: Time| at.since_ms(now).div_ceil(SECOND_MS);
    let coming = |at: Option<Time>| at.filter(|at| *at > now).map(seconds);
    match (coming(patience.inactive), coming(patience.expunge), patience.expunge) {
        (Some(replaced), ..) => format!("its agent is away; replaced in {replaced} s"),
        (None, Some(gone), _) => format!("its agent is away; given up in {gone} s"),
        (None, None, Some(_)) => "its agent is away; given up now".into(),
        (None, None, None) => "its agent is away; waits for it to return".into(),
    }
}

/// How a task comes by the new size of its app.
fn size_words(task: &Task, verdict: Option<&Result<(), Unresizable>>) -> Option<String> {
    if task.resizing().is_some() {
        return Some("is being given its new size as it runs".into());
    }
    match verdict? {
        Err(Unresizable::NewTask) | Ok(()) => None,
        Err(why) => Some(format!("is replaced instead of given its new size: {}", why.describe())),
    }
}

/// What a task that does not do its work yet is at.
fn words(app: &App, task: &Task) -> String {
    if task.state != TaskState::Running {
        let message = task.message.as_str();
        return if message.is_empty() { task.state.as_str().to_string() } else { message.into() };
    }
    if task.healthy == Some(true) || !app.has_health_checks() {
        return "runs, and its readiness check has not said yes yet".into();
    }
    let sick = task.containers.iter().find(|c| c.status.healthy == Some(false));
    if let Some(container) = sick {
        return format!("runs, and the health check of {} fails", container.status.name);
    }
    let cause = task.probes.health.iter().find_map(|h| h.last_failure_cause.as_deref());
    match (task.healthy, cause) {
        (Some(false), Some(cause)) => format!("runs, and its health check fails: {cause}"),
        (Some(false), None) => "runs, and its health check fails".into(),
        _ => "runs, and no health check has succeeded yet".into(),
    }
}

fn view(state: &State, app: &App, outlook: Outlook) -> OutlookView {
    let Outlook { wanted, landings, unplaced, in_the_way, silent } = outlook;
    let host = |id: &AgentId| state.agents.get(id).map_or_else(|| id.0.clone(), |a| a.name.clone());
    let placement = |(id, instances): (AgentId, u32)| PlacementView {
        host: host(&id),
        agent_id: id.0,
        instances,
    };
    let obstacle = |id: AgentId, offers, reasons: &[Reason]| ObstacleView {
        host: host(&id),
        agent_id: id.0,
        offers,
        reasons: reasons.iter().map(reason).collect(),
    };
    let mut agents: Vec<ObstacleView> =
        in_the_way.into_iter().map(|(id, reasons)| obstacle(id, true, &reasons)).collect();
    if unplaced > 0 {
        agents.extend(silent.into_iter().map(|id| obstacle(id, false, &[])));
    }
    OutlookView {
        app: app.id.0.clone(),
        wanted,
        considered: wanted.min(INSTANCES_CONSIDERED_MAX),
        placements: landings.into_iter().map(placement).collect(),
        unplaced,
        agents,
    }
}

fn reason(reason: &Reason) -> ReasonView {
    ReasonView {
        reason: reason.as_str().into(),
        missing: reason.describe(),
        change: reason.smallest_change(),
    }
}
