//! What the cluster is: status, the join token.

use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::tasks::active;
use bramble_core::model::{NodeId, State};
use bramble_protocol::native::{Status, Token};
use http::StatusCode;

pub(in crate::api) fn status(call: &Call) -> Result<Reply, ApiError> {
    let shared = &call.shared;
    let elected = shared.leads();
    let verdict = call.api().farewell();
    let live = super::agents::Live::of(call);
    let answer = call.api().store.read(|state| Status {
        cluster: state.cluster.as_ref().map(|cluster| cluster.id.clone()),
        node: shared.hostname.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        leader: elected.then(|| shared.address()),
        elected,
        uptime_seconds: shared.started.elapsed().as_secs(),
        agents: super::agents::views(state, &live),
        apps: state.only_apps().count() as u64,
        pods: state.pods().count() as u64,
        tasks: active(state).count() as u64,
        deployments: state.deployments.len() as u64,
        verdict: verdict.map(|farewell| farewell.told()),
        clones: call.api().callers.cloned(|id| name_of(state, id)),
    });
    Ok(reply::json(StatusCode::OK, &answer))
}

fn name_of(state: &State, id: &NodeId) -> String {
    let agent = state.agents.get(&id.agent()).map(|agent| agent.name.clone());
    agent.or_else(|| state.nodes.get(id).map(|node| node.name.clone())).unwrap_or_default()
}

/// The token admits machines to the cluster, so even `--open-api` does not hand it out.
pub(in crate::api) fn token(call: &Call) -> Result<Reply, ApiError> {
    if !call.peer.is_local() {
        return Err(ApiError::NodeOnly);
    }
    let token = (call.api().token)().ok_or(ApiError::NoToken)?;
    Ok(reply::json(StatusCode::OK, &Token { token }))
}
