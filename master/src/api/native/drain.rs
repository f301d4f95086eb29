//! Draining an agent: telling it, taking it back, and what is left on it.

use super::agents::{drain_state, find};
use crate::api::change;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use bramble_core::command::Command;
use bramble_core::deploy::{self, Left, Stay};
use bramble_core::model::{AgentId, State};
use bramble_core::place::Reason;
use bramble_protocol::native::{DrainTask, DrainView};
use bramble_protocol::timestamp;
use http::StatusCode;

/// `GET agents/{agent}/drain`.
pub(in crate::api) fn one(call: &Call, name: &str) -> Result<Reply, ApiError> {
    let answer = call.api().store.read(|state| view(state, name))?;
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `POST` and `DELETE agents/{agent}/drain`; both may be said twice.
pub(in crate::api) async fn change(call: &Call, name: &str, on: bool) -> Result<Reply, ApiError> {
    let agent_id = call.api().store.read(|state| find(state, name).map(|a| a.id.clone()))?;
    tracing::info!(%agent_id, draining = on, "an agent is drained, or opened again");
    let command = match on {
        true => Command::Drain { agent_id },
        false => Command::Undrain { agent_id },
    };
    change::commit(call.api(), command).await?;
    one(call, name)
}

fn view(state: &State, name: &str) -> Result<DrainView, ApiError> {
    let agent = find(state, name)?;
    let tasks = deploy::left(state, &agent.id);
    Ok(DrainView {
        agent_id: agent.id.to_string(),
        host: agent.name.clone(),
        state: drain_state(state, &agent.id).into(),
        since: state.draining.get(&agent.id).map(|drain| timestamp::format(drain.since)),
        tasks: tasks.iter().map(|left| task(state, &agent.id, left)).collect(),
    })
}

fn task(state: &State, agent_id: &AgentId, left: &Left<'_>) -> DrainTask {
    DrainTask {
        id: left.task.id.0.clone(),
        app: left.instance.app_id.0.clone(),
        goes: left.stay.goes(),
        message: words(state, agent_id, &left.stay),
    }
}

/// Why a task is still on an agent.
fn words(state: &State, agent_id: &AgentId, stay: &Stay) -> String {
    match stay {
        Stay::Open => "its agent is open".into(),
        Stay::Stopping => "stops".into(),
        Stay::Going => "goes as soon as its app can spare it".into(),
        Stay::Away => "its agent is away; what follows is for its app's unreachableStrategy".into(),
        Stay::Data => "stays, because its data is there: its app has a persistent volume".into(),
        Stay::Device => {
            "stays, because its device is there: unplug it, and the task follows".into()
        }
        Stay::Deployments(ids) => {
            let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
            format!("goes once deployment {} has ended", ids.join(", "))
        }
        Stay::NoRoom(agents) => {
            let others = agents.iter().filter(|(id, _)| id != agent_id);
            let others: Vec<String> = others.map(|(id, why)| refusal(state, id, why)).collect();
            match others.is_empty() {
                true => "stays, because there is no other agent".into(),
                false => format!("stays, because no other agent takes it: {}", others.join("; ")),
            }
        }
    }
}

fn refusal(state: &State, agent_id: &AgentId, reasons: &[Reason]) -> String {
    let host = state.agents.get(agent_id).map_or(agent_id.as_str(), |agent| agent.name.as_str());
    let reasons: Vec<String> = reasons.iter().map(Reason::describe).collect();
    format!("{host}: {}", reasons.join(", "))
}
