//! Commands in any order: nothing panics, a rejection changes nothing, and a snapshot is the
//! state.

use crate::bench::{Bench, agent, health_check};
use crate::choices::Choices;
use crate::normalize::{normalize, resolve_id};
use bramble_core::command::{AppChange, Command, GroupChange, Placed};
use bramble_core::machine;
use bramble_core::model::*;
use bramble_protocol::codec;
use bramble_protocol::rest::parse;
use serde_json::json;
use std::sync::OnceLock;

const COMMANDS_MAX: usize = 200;
const APPS: [&str; 7] = ["/a", "/a/b", "/b", "/c/d", "/c/d/e", "/c-d", "/"];
const GROUPS: [&str; 6] = ["/", "/a", "/c", "/c/d", "/e", "/e/f/g"];
const AGENTS: [&str; 3] = ["n1", "n2", "gone"];
const SECRETS: [&str; 3] = ["x", "y", "none"];
const KEYS: [&str; 2] = ["k1", "k2"];
const DEFINITIONS: [&str; 6] = [
    include_str!("../seeds/resident.json"),
    include_str!("../../../master/src/normalize/fixtures/samples/mlb-nginx-old.json"),
    include_str!("../../../master/src/normalize/fixtures/samples/mlb-nginx-15.json"),
    r#"{"id":"/x","cmd":"sleep 5","ports":[0,80]}"#,
    r#"{"id":"/x","cmd":"sleep 5","labels":{"MARATHON_SINGLE_INSTANCE_APP":"true"},
        "upgradeStrategy":{"minimumHealthCapacity":0,"maximumOverCapacity":0}}"#,
    r#"{"id":"/x","cmd":"sleep 5","portDefinitions":[{"port":31001}],"requirePorts":true}"#,
];

/// Apply what `data` chooses.
pub fn apply(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut bench = Bench::with(vec![agent("n1", 2000, 1024), agent("n2", 1500, 700)]);
    while !choices.done() && bench.entries.len() < COMMANDS_MAX {
        for command in commands(&mut bench, &mut choices) {
            attempt(&mut bench, command);
        }
    }
    let mut replayed = State::default();
    for (at, entry) in bench.entries.iter().enumerate() {
        if at % 16 == 8 {
            replayed = restored(&replayed);
        }
        let _ = machine::apply(&mut replayed, entry);
    }
    assert!(replayed == bench.state, "the same entries give another state");
}

fn attempt(bench: &mut Bench, command: Command) {
    let shown = format!("{command:?}");
    let before = content(&bench.state);
    let clock = bench.state.now;
    if let Err(rejection) = bench.apply(command) {
        assert!(content(&bench.state) == before, "{shown}: {rejection}, and something changed");
    }
    assert!(bench.state.now >= clock, "{shown} turned the clock back");
    assert_eq!(bench.state.applied_index, bench.entries.len() as u64, "{shown}");
}

/// The state but for what a rejection may touch.
fn content(state: &State) -> State {
    State { applied_index: 0, now: Time(0), ..state.clone() }
}

fn restored(state: &State) -> State {
    let bytes = codec::to_bytes(state).expect("a state can be written");
    let again: State = codec::from_bytes(&bytes).expect("a state can be read");
    assert!(again == *state, "a snapshot is not the state");
    again
}

fn commands(bench: &mut Bench, choices: &mut Choices<'_>) -> Vec<Command> {
    let deployment_id = DeploymentId::new(format!("d{}", bench.entries.len()));
    let state = &bench.state;
    vec![match choices.below(24) {
        0..=2 => {
            let changes = choices.some(3, |choices| app_change(choices));
            Command::ChangeApps { deployment_id, changes, force: choices.flag() }
        }
        3..=4 => {
            let group = group(choices);
            let groups = choices.some(3, |choices| group_change(choices));
            let apps = choices.some(3, |choices| app_change(choices));
            let _ = machine::preview(state, &groups, &apps);
            let replaces = choices.flag().then(|| deployment(state, choices));
            let force = choices.flag();
            Command::ChangeGroup { deployment_id, group, groups, apps, force, replaces }
        }
        5 => Command::EnforceRole { group: group(choices), enforce: choices.flag() },
        6 => {
            let from_step = u32::from(choices.byte() % 4);
            Command::AdvanceDeployment { id: deployment(state, choices), from_step }
        }
        7 => Command::CancelDeployment { id: deployment(state, choices) },
        8 => {
            let app_id = app_id(choices);
            let ids =
                choices.some(3, |c| InstanceId::compose(&app_id, &(c.byte() % 8).to_string()));
            Command::AddInstances { app_id, ids }
        }
        9 => Command::Decommission { ids: choices.some(3, |c| instance(state, c)) },
        10 => Command::Assign { assignments: choices.some(3, |c| placed(state, c)) },
        11..=12 => Command::RecordStatus { statuses: choices.some(3, |c| status(state, c)) },
        13 => Command::ResetDelay { app_id: app_id(choices) },
        14 => callback(choices),
        15 => return member(choices),
        16 => return vec![secret(choices)],
        17 => volumes(state, choices),
        18..=20 => return bench.deployer(),
        21 | 22 => {
            bench.place();
            return Vec::new();
        }
        _ => {
            let ms = u64::from(choices.byte()) * 4_000;
            let clock = if choices.flag() { bench.clock + ms } else { bench.clock - ms / 100 };
            bench.clock = clock;
            return Vec::new();
        }
    }]
}

fn app_id(choices: &mut Choices<'_>) -> AppId {
    AppId::new(choices.pick(&APPS).copied().unwrap_or_default())
}

fn group(choices: &mut Choices<'_>) -> GroupId {
    GroupId::new(choices.pick(&GROUPS).copied().unwrap_or_default())
}

fn agent_id(choices: &mut Choices<'_>) -> AgentId {
    AgentId::new(choices.pick(&AGENTS).copied().unwrap_or_default())
}

fn deployment(state: &State, choices: &mut Choices<'_>) -> DeploymentId {
    let all: Vec<&DeploymentId> = state.deployments.keys().collect();
    choices.pick(&all).map_or_else(|| DeploymentId::new("none"), |id| (*id).clone())
}

fn instance(state: &State, choices: &mut Choices<'_>) -> InstanceId {
    let all: Vec<&InstanceId> = state.instances.keys().collect();
    choices.pick(&all).map_or_else(|| InstanceId::new("none"), |id| (*id).clone())
}

/// Definitions that the API would accept.
fn definitions() -> &'static [App] {
    static APPS: OnceLock<Vec<App>> = OnceLock::new();
    APPS.get_or_init(|| {
        let read = |text: &&str| {
            let body = serde_json::from_str(text).expect("a definition is JSON");
            let update = parse::app_update(&body).expect("a definition has the right types");
            let id = resolve_id("/x", "/").expect("an id");
            normalize(&update, id, None, Time(0)).expect("a definition has a meaning")
        };
        DEFINITIONS.iter().map(read).collect()
    })
}

fn app(choices: &mut Choices<'_>) -> App {
    let base = choices.pick(definitions()).expect("there are some");
    let mut app = App { id: app_id(choices), ..base.clone() };
    app.instances = u32::from(choices.byte() % 6);
    app.resources.cpus_milli = u64::from(choices.byte()) * 8;
    if choices.flag() {
        app.health_checks = vec![health_check()];
    }
    app.dependencies = choices.some(2, |choices| app_id(choices));
    app.upgrade.min_health_ppm = u64::from(choices.byte() % 5) * 250_000;
    app.version = Time(u64::from(choices.byte()));
    app
}

fn app_change(choices: &mut Choices<'_>) -> AppChange {
    match choices.below(5) {
        0 | 1 => AppChange::Create(app(choices)),
        2 => AppChange::Update(app(choices)),
        3 => AppChange::Restart(app_id(choices)),
        _ => AppChange::Remove(app_id(choices)),
    }
}

fn group_change(choices: &mut Choices<'_>) -> GroupChange {
    let id = group(choices);
    match choices.below(3) {
        0 => GroupChange::Create { id, dependencies: choices.some(2, |c| app_id(c)) },
        1 => GroupChange::Put { id, dependencies: choices.some(2, |c| app_id(c)) },
        _ => GroupChange::Remove(id),
    }
}

fn placed(state: &State, choices: &mut Choices<'_>) -> Placed {
    Placed {
        instance_id: instance(state, choices),
        agent_id: agent_id(choices),
        ports: choices.some(3, |choices| 31_000 + u16::from(choices.byte() % 8)),
        devices: choices.some(2, |choices| HeldDevice {
            key: format!("usb@{}", choices.byte() % 3),
            shared: choices.byte() % 4 == 0,
        }),
    }
}

fn status(state: &State, choices: &mut Choices<'_>) -> TaskStatus {
    use TaskState::*;
    let states = [Staging, Starting, Running, Running, Finished, Failed, Killed, Lost];
    let tasks: Vec<&Task> = state.instances.values().filter_map(|i| i.task.as_ref()).collect();
    let task = choices.pick(&tasks);
    let skip = u32::from(choices.byte() % 4);
    let task_id = task.map_or_else(|| TaskId::new("none"), |task| task.id.clone());
    // As JSON, so that a field which comes later, and has its default, is no word here.
    let status = json!({
        "task_id": task_id,
        "sequence": task.map_or(0, |task| task.last_sequence).saturating_add(skip),
        "state": choices.pick(&states),
        "message": "",
        "healthy": choices.flag().then(|| choices.flag()),
        "ip": choices.flag().then_some("10.0.0.2"),
        "exit_code": choices.flag().then_some(1),
        "probes": choices.flag().then(ProbeReport::default),
    });
    serde_json::from_value(status).expect("a status")
}

fn callback(choices: &mut Choices<'_>) -> Command {
    let url = format!("http://x/{}", choices.byte());
    if choices.flag() { Command::AddCallback { url } } else { Command::RemoveCallback { url } }
}

fn secret(choices: &mut Choices<'_>) -> Command {
    let name = choices.pick(&SECRETS).copied().unwrap_or_default().to_string();
    let key_id = choices.pick(&KEYS).copied().unwrap_or_default().to_string();
    let sealed = Sealed(vec![choices.byte(); 8]);
    match choices.below(3) {
        0 => Command::KeepDataKey { id: key_id, node_id: NodeId::new("n1"), copy: sealed },
        1 => Command::PutSecret { name, key_id, value: sealed },
        _ => Command::RemoveSecret { name },
    }
}

fn volumes(state: &State, choices: &mut Choices<'_>) -> Command {
    let kept = |state: &State| {
        let reserved = state.instances.values().filter_map(|i| i.reservation.as_ref());
        reserved.flat_map(|r| &r.volumes).map(|v| v.id.clone()).collect::<Vec<VolumeId>>()
    };
    match choices.below(3) {
        0 => Command::Wipe { ids: choices.some(3, |c| instance(state, c)) },
        1 => {
            let all = kept(state);
            let ids = choices.some(3, |c| c.pick(&all).cloned());
            let agent_id = agent_id(choices);
            Command::ForgetVolumes { agent_id, ids: ids.into_iter().flatten().collect() }
        }
        _ => {
            let app_id = app_id(choices);
            Command::Resize { app_id, ids: choices.some(3, |c| instance(state, c)) }
        }
    }
}

fn member(choices: &mut Choices<'_>) -> Vec<Command> {
    let agent_id = agent_id(choices);
    vec![match choices.below(6) {
        0 => Command::SetReachable { agent_id, reachable: choices.flag() },
        4 => Command::Drain { agent_id },
        5 => Command::Undrain { agent_id },
        1 => {
            let cpus = u64::from(choices.byte()) * 16;
            Command::RegisterAgent { agent: agent(agent_id.as_str(), cpus, 1024) }
        }
        2 => Command::RotateToken { join_secret_sha256: "0".repeat(64), sealed: None },
        _ => Command::SetReachable { agent_id, reachable: true },
    }]
}
