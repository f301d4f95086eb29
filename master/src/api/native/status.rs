//! What the cluster is and has: status, agents, the join token.

use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::tasks::active;
use bramble_core::model::{Agent, AgentId, BYTES_PER_MIB, Resources, State};
use bramble_protocol::native::{AgentView, Amounts, Status, Token};
use http::StatusCode;

pub(in crate::api) fn status(call: &Call) -> Result<Reply, ApiError> {
    let shared = &call.shared;
    let elected = shared.leads();
    let connected = call.api().streams.connected();
    let answer = call.api().store.read(|state| Status {
        cluster: state.cluster.as_ref().map(|cluster| cluster.id.clone()),
        node: shared.hostname.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        leader: elected.then(|| shared.address()),
        elected,
        uptime_seconds: shared.started.elapsed().as_secs(),
        agents: views(state, &connected),
        apps: state.only_apps().count() as u64,
        pods: state.pods().count() as u64,
        tasks: active(state).count() as u64,
        deployments: state.deployments.len() as u64,
    });
    Ok(reply::json(StatusCode::OK, &answer))
}

pub(in crate::api) fn agents(call: &Call) -> Result<Reply, ApiError> {
    let connected = call.api().streams.connected();
    let answer = call.api().store.read(|state| views(state, &connected));
    Ok(reply::json(StatusCode::OK, &answer))
}

/// The token admits machines to the cluster, so even `--open-api` does not hand it out.
pub(in crate::api) fn token(call: &Call) -> Result<Reply, ApiError> {
    if !call.peer.is_local() {
        return Err(ApiError::NodeOnly);
    }
    let token = (call.api().token)().ok_or(ApiError::NoToken)?;
    Ok(reply::json(StatusCode::OK, &Token { token }))
}

fn views(state: &State, connected: &[AgentId]) -> Vec<AgentView> {
    state.agents.values().map(|agent| view(state, agent, connected.contains(&agent.id))).collect()
}

fn view(state: &State, agent: &Agent, connected: bool) -> AgentView {
    AgentView {
        id: agent.id.to_string(),
        name: agent.name.clone(),
        reachable: agent.reachable,
        connected,
        total: amounts(&agent.total),
        used: amounts(&state.used_on(&agent.id).resources),
        tasks: active(state).filter(|(_, task)| task.agent_id == agent.id).count() as u64,
        ports: agent.ports.iter().map(|range| (range.begin, range.end)).collect(),
        attributes: agent.attributes.clone(),
    }
}

fn amounts(resources: &Resources) -> Amounts {
    Amounts {
        cpus: resources.cpus_milli as f64 / 1000.0,
        mem: resources.mem_bytes as f64 / BYTES_PER_MIB as f64,
        disk: resources.disk_bytes as f64 / BYTES_PER_MIB as f64,
        gpus: resources.gpus,
    }
}
