//! Persistent volumes: which there are, whose they are and what they take; one given up by name.

use super::ask;
use crate::api::change;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use bramble_core::command::{Command, Rejection};
use bramble_core::model::{AgentId, State, VolumeId};
use bramble_protocol::message::{StreamRequest, VolumeSummary};
use bramble_protocol::native::{VolumeState, VolumeView};
use futures_util::future::join_all;
use http::StatusCode;
use std::collections::{BTreeMap, BTreeSet};

type Key = (AgentId, VolumeId);

/// `GET volumes`: what the cluster knows, with what the connected agents find on their disks.
pub(super) async fn list(call: &Call) -> Result<Reply, ApiError> {
    Ok(reply::json(StatusCode::OK, &views(call).await))
}

async fn views(call: &Call) -> Vec<VolumeView> {
    let agents = call.api().streams.connected();
    let found = |agent| ask::<Vec<VolumeSummary>>(&call.shared, agent, StreamRequest::ListVolumes);
    let found = join_all(agents.iter().map(found)).await;
    let (mut sizes, mut answered) = (BTreeMap::new(), BTreeSet::new());
    for (agent, found) in agents.into_iter().zip(found) {
        match found {
            Ok(volumes) => {
                let sized = |v: VolumeSummary| ((agent.clone(), v.id), v.size_bytes);
                sizes.extend(volumes.into_iter().map(sized));
                answered.insert(agent);
            }
            Err(error) => tracing::warn!(agent_id = %agent, %error, "an agent lists no volumes"),
        }
    }
    // Read after the agents have answered: a volume made meanwhile is known, not left over.
    let mut views = call.api().store.read(known);
    for (key, view) in &mut views {
        let nothing = answered.contains(&key.0).then_some(0);
        view.used_bytes = sizes.remove(key).or(nothing);
    }
    let names = call.api().store.read(|state| {
        let name = |id: &AgentId| state.agents.get(id).map(|agent| agent.name.clone());
        answered.iter().map(|id| (id.clone(), name(id).unwrap_or_default())).collect()
    });
    let names: BTreeMap<AgentId, String> = names;
    for ((agent_id, id), used) in sizes {
        let host = names.get(&agent_id).cloned().unwrap_or_default();
        let view = view(&agent_id, host, &id, VolumeState::LeftOver);
        views.insert((agent_id, id), VolumeView { used_bytes: Some(used), ..view });
    }
    views.into_values().collect()
}

/// Every volume of the replicated state.
fn known(state: &State) -> BTreeMap<Key, VolumeView> {
    let mut views = BTreeMap::new();
    for instance in state.instances.values() {
        let Some(reservation) = &instance.reservation else { continue };
        let parked = instance.is_parked();
        let kind = if parked { VolumeState::Kept } else { VolumeState::Used };
        for volume in &reservation.volumes {
            let view = VolumeView {
                app: Some(instance.app_id.0.clone()),
                reserved_bytes: volume.size_bytes,
                ..view(&reservation.agent_id, reservation.host.clone(), &volume.id, kind)
            };
            views.insert((reservation.agent_id.clone(), volume.id.clone()), view);
        }
    }
    for (agent_id, volumes) in &state.given_up {
        let host = state.agents.get(agent_id).map(|agent| agent.name.clone()).unwrap_or_default();
        for (id, reserved_bytes) in volumes {
            let view = view(agent_id, host.clone(), id, VolumeState::GivenUp);
            let view = VolumeView { reserved_bytes: *reserved_bytes, ..view };
            views.insert((agent_id.clone(), id.clone()), view);
        }
    }
    views
}

fn view(agent_id: &AgentId, host: String, id: &VolumeId, state: VolumeState) -> VolumeView {
    VolumeView {
        id: id.0.clone(),
        agent_id: agent_id.0.clone(),
        host,
        app: None,
        state,
        reserved_bytes: 0,
        used_bytes: None,
    }
}

/// `DELETE volumes/{id}`: of a resting instance, or left over. Answers with what is given up.
pub(in crate::api) async fn remove(call: &Call, id: &str) -> Result<Reply, ApiError> {
    let named = views(call).await.into_iter().find(|view| view.id == id);
    let named = named.ok_or_else(|| ApiError::VolumeUnknown(id.into()))?;
    let (agent_id, id) = (AgentId::new(named.agent_id.clone()), VolumeId::new(id));
    if named.state == VolumeState::Used {
        let in_use = Rejection::VolumeInUse(id);
        return Err(crate::propose::ProposeError::Rejected(in_use).into());
    }
    tracing::info!(volume_id = %id, %agent_id, "a request gives up a volume");
    change::commit(call.api(), Command::GiveUpVolume { agent_id, id }).await?;
    Ok(reply::json(StatusCode::OK, &named))
}
