//! Agents: what they have, what is free of it, and what users say of them.

use crate::api::body;
use crate::api::change;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::reply::{self, Reply};
use crate::api::tasks::active;
use axum::body::Body;
use bramble_core::command::Command;
use bramble_core::model::{
    Agent, AgentChange, AgentId, BYTES_PER_MIB, Offer, OfferedDevice, ROLE_ANY, Resources, State,
    Task, Trouble, Vitals,
};
use bramble_protocol::native::{AgentPatch, AgentView, Amounts, DeviceView, HardwareView};
use http::StatusCode;

/// Longest name of an attribute or role, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest value of an attribute, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

/// `GET agents`.
pub(in crate::api) fn list(call: &Call) -> Result<Reply, ApiError> {
    let live = Live::of(call);
    let answer = call.api().store.read(|state| views(state, &live));
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `GET agents/{agent}`.
pub(in crate::api) fn one(call: &Call, name: &str) -> Result<Reply, ApiError> {
    let live = Live::of(call);
    let answer = call.api().store.read(|state| {
        let agent = find(state, name)?;
        Ok::<_, ApiError>(view(state, agent, &live))
    })?;
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `PATCH agents/{agent}`: attributes and roles; answers with the agent as it is then.
pub(in crate::api) async fn change(call: &Call, name: &str, body: Body) -> Result<Reply, ApiError> {
    let agent_id = call.api().store.read(|state| find(state, name).map(|a| a.id.clone()))?;
    let bytes = body::read(&call.headers, body).await?;
    let patch: AgentPatch = serde_json::from_slice(&bytes).map_err(|error| {
        let form = r#"send {"attributes": {"rack": "r1", "old": null}, "roles": ["*"]}"#;
        ApiError::Argument(format!("{form}: {error}"))
    })?;
    let wanted = wanted(patch)?;
    tracing::info!(%agent_id, change = ?wanted, "an agent's settings change");
    change::commit(call.api(), Command::ChangeAgent { agent_id, change: wanted }).await?;
    one(call, name)
}

/// Find an agent by its id, its name, or the start of its id, where only one has it.
pub(super) fn find<'a>(state: &'a State, name: &str) -> Result<&'a Agent, ApiError> {
    if let Some(agent) = state.agents.get(&AgentId::new(name)) {
        return Ok(agent);
    }
    let named: Vec<&Agent> = state.agents.values().filter(|a| a.name == name).collect();
    let begun = || state.agents.values().filter(|a| a.id.as_str().starts_with(name)).collect();
    let found: Vec<&Agent> = if named.is_empty() { begun() } else { named };
    match found.as_slice() {
        [] => Err(ApiError::AgentUnknown(name.into())),
        [one] => Ok(one),
        several => Err(ApiError::Ambiguous {
            name: name.into(),
            candidates: several.iter().map(|agent| agent.id.to_string()).collect(),
            away: several.iter().filter(|a| !a.reachable).map(|a| a.id.to_string()).collect(),
        }),
    }
}

fn wanted(patch: AgentPatch) -> Result<AgentChange, ApiError> {
    for (name, value) in &patch.attributes {
        if !is_plain(name) {
            return Err(ApiError::Argument(format!(
                "'{name}' cannot be the name of an attribute: use at most {NAME_BYTES_MAX} bytes \
                 without spaces; hostname is the agent's name"
            )));
        }
        let value = value.as_deref().unwrap_or_default();
        if value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
            return Err(ApiError::Argument(format!(
                "the value of attribute '{name}' must be one line of at most {VALUE_BYTES_MAX} \
                 bytes"
            )));
        }
    }
    if let Some(role) = patch.roles.iter().flatten().find(|role| !is_role(role)) {
        return Err(ApiError::Argument(format!(
            "'{role}' cannot be a role: use \"*\", or a name without spaces and slashes that does \
             not begin with '-' or '.'"
        )));
    }
    let roles = patch.roles.map(|roles| roles.into_iter().collect());
    Ok(AgentChange { attributes: patch.attributes, roles })
}

fn is_plain(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    let taken = ["hostname", "@hostname"].contains(&name);
    fits && !taken && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Mesos' rules for roles.
fn is_role(role: &str) -> bool {
    is_plain(role) && !role.starts_with(['-', '.']) && !role.contains('/')
}

/// What this master hears of agents, beside what is stored.
pub(super) struct Live {
    connected: Vec<AgentId>,
    offers: Vec<Offer>,
}

impl Live {
    pub fn of(call: &Call) -> Self {
        let api = call.api();
        Self { connected: api.streams.connected(), offers: api.offers.current() }
    }

    pub fn is_connected(&self, agent: &AgentId) -> bool {
        self.connected.contains(agent)
    }
}

pub(super) fn views(state: &State, live: &Live) -> Vec<AgentView> {
    state.agents.values().map(|agent| view(state, agent, live)).collect()
}

fn view(state: &State, agent: &Agent, live: &Live) -> AgentView {
    let offer = live.offers.iter().find(|offer| offer.agent_id == agent.id);
    let devices = offer.map_or(&[][..], |offer| &offer.devices);
    let mut roles: Vec<String> = state.roles_of(&agent.id).into_iter().collect();
    if roles.is_empty() {
        roles.push(ROLE_ANY.into());
    }
    AgentView {
        id: agent.id.to_string(),
        name: agent.name.clone(),
        reachable: agent.reachable,
        connected: live.connected.contains(&agent.id),
        total: amounts(&agent.total),
        used: amounts(&state.used_on(&agent.id).resources),
        tasks: active(state).filter(|(_, task)| task.agent_id == agent.id).count() as u64,
        ports: agent.ports.iter().map(|range| (range.begin, range.end)).collect(),
        attributes: state.attributes_of(&agent.id),
        roles,
        drain: state.is_draining(&agent.id).then(|| drain_state(state, &agent.id).to_string()),
        hardware: offer.map(|offer| hardware(&offer.vitals)),
        devices: devices.iter().map(|device| device_view(state, &agent.id, device)).collect(),
    }
}

fn hardware(vitals: &Vitals) -> HardwareView {
    let word = |trouble: Trouble| trouble.as_str().to_string();
    HardwareView {
        temperature: vitals.temperature_c,
        undervoltage: vitals.undervoltage.map(word),
        throttled: vitals.throttled.map(word),
        disk_wear: vitals.wear_percent,
        written_gib: vitals.written_gib,
        page_size: vitals.page_bytes,
        memory_limits: vitals.memory_limits,
    }
}

fn device_view(state: &State, agent_id: &AgentId, device: &OfferedDevice) -> DeviceView {
    let holds = |task: &&Task| task.devices.iter().any(|held| held.key == device.key);
    let tasks = state.tasks_on(agent_id).map(|(_, task)| task).filter(holds);
    DeviceView {
        ids: device.ids.clone(),
        shared: device.shared,
        tasks: tasks.map(|task| task.id.0.clone()).collect(),
    }
}

/// Where an agent stands with its draining, in a word.
pub(super) fn drain_state(state: &State, agent_id: &AgentId) -> &'static str {
    match (state.is_draining(agent_id), state.tasks_on(agent_id).next()) {
        (false, _) => "open",
        (true, Some(_)) => "draining",
        (true, None) => "drained",
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

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_core::model::PortRange;

    fn agent(id: &str, name: &str) -> Agent {
        Agent {
            id: AgentId::new(id),
            name: name.into(),
            total: Resources::default(),
            ports: vec![PortRange { begin: 1, end: 2 }],
            attributes: [("rack".to_string(), "own".to_string())].into(),
            reachable: true,
        }
    }

    #[test]
    fn agents_are_found_by_id_name_or_the_start_of_an_id() {
        let mut state = State::default();
        for (id, name) in [("abc1", "pi-1"), ("abd2", "pi-2"), ("fff3", "twin"), ("fff4", "twin")] {
            state.agents.insert(AgentId::new(id), agent(id, name));
        }
        let rows = [
            ("abc1", Ok("abc1")),
            ("pi-2", Ok("abd2")),
            ("abc", Ok("abc1")),
            ("ab", Err("'ab' could be any of: abc1, abd2")),
            ("twin", Err("'twin' could be any of: fff3, fff4")),
            ("pi", Err("Agent 'pi' does not exist")),
        ];
        for (name, want) in rows {
            let found = find(&state, name).map(|a| a.id.to_string()).map_err(|e| e.to_string());
            assert_eq!(found, want.map(str::to_string).map_err(str::to_string), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        let rows = [
            (r#"{"attributes":{"rack":"r1","old":null},"roles":["*","gpu"]}"#, None),
            (r#"{}"#, None),
            (r#"{"attributes":{"":"x"}}"#, Some("''")),
            (r#"{"attributes":{"a b":"x"}}"#, Some("'a b'")),
            (r#"{"attributes":{"hostname":"x"}}"#, Some("hostname is the agent's name")),
            ("{\"attributes\":{\"a\":\"x\\ny\"}}", Some("'a' must be one line")),
            (r#"{"roles":["a/b"]}"#, Some("'a/b' cannot be a role")),
            (r#"{"roles":["-a"]}"#, Some("'-a' cannot be a role")),
        ];
        for (body, problem) in rows {
            let patch: AgentPatch = serde_json::from_str(body).expect("well formed");
            let said = wanted(patch).err().map(|error| error.to_string());
            match (problem, &said) {
                (None, None) => {}
                (Some(part), Some(said)) if said.contains(part) => {}
                _ => panic!("{body}: {said:?}"),
            }
        }
        assert!(serde_json::from_str::<AgentPatch>(r#"{"role":["a"]}"#).is_err());
    }
}
