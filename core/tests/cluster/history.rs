//! Random histories: whatever is proposed, in whatever order, the state stays sound.

use crate::bench::{Bench, agent, app, resident};
use bramble_core::command::{AppChange, Command, Placed, Rejection};
use bramble_core::machine::apply;
use bramble_core::model::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const AGENTS: [&str; 3] = ["n1", "n2", "gone"];
const APPS: [&str; 5] = ["/a", "/b", "/b/c", "/d", "/e"];

/// One proposal, in terms that mean something in most states.
#[derive(Clone, Debug)]
enum Step {
    Change {
        kind: u8,
        app: usize,
        definition: Definition,
        second: Option<usize>,
        force: bool,
    },
    Advance {
        nth: usize,
        step: u32,
    },
    Cancel(usize),
    Add {
        app: usize,
        count: u8,
    },
    Decommission(usize),
    Wipe(usize),
    /// An agent has removed what was given up.
    Removed(usize),
    Assign(Vec<(usize, usize, Vec<u16>)>),
    Report {
        nth: usize,
        state: u8,
        healthy: Option<bool>,
        skip: u32,
    },
    Reachable {
        agent: usize,
        reachable: bool,
    },
    Drain {
        agent: usize,
        on: bool,
    },
    Rebalance(usize),
    Reset(usize),
    Back {
        nth: usize,
        reason: u8,
    },
    Review(usize),
    Promote(usize),
    AddStable {
        app: usize,
        count: u8,
    },
    Resize {
        app: usize,
        instance: usize,
    },
    /// The loops look once.
    Deploy,
    Place,
    Wait(u32),
    BackInTime(u32),
}

#[derive(Clone, Debug)]
struct Definition {
    instances: u32,
    cpus_milli: u64,
    mem_mib: u64,
    ports: Vec<u16>,
    fixed: bool,
    cmd: u8,
    trial: u8,
    /// MiB; 0 = none.
    volume: u64,
}

fn definition() -> impl Strategy<Value = Definition> {
    let ports = (prop::collection::vec(ports(), 0..3), any::<bool>());
    let volume = prop_oneof![2 => Just(0), 2 => Just(5), 1 => Just(8)];
    (0..6u32, 0..1500u64, 0..600u64, ports, 0..3u8, 0..8u8, volume).prop_map(
        |(instances, cpus_milli, mem_mib, (ports, fixed), cmd, trial, volume)| Definition {
            instances,
            cpus_milli,
            mem_mib,
            ports,
            fixed,
            cmd,
            trial,
            volume,
        },
    )
}

fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(80), 31_000..31_006u16]
}

fn step() -> impl Strategy<Value = Step> {
    let n = || any::<usize>();
    let placed = (n(), 0..AGENTS.len(), prop::collection::vec(ports(), 0..3));
    prop_oneof![
        4 => (0..4u8, 0..APPS.len(), definition(), prop::option::of(0..APPS.len()), any::<bool>())
            .prop_map(|(kind, app, definition, second, force)| Step::Change {
                kind, app, definition, second, force,
            }),
        1 => (n(), 0..3u32).prop_map(|(nth, step)| Step::Advance { nth, step }),
        1 => n().prop_map(Step::Cancel),
        1 => (0..APPS.len(), 0..4u8).prop_map(|(app, count)| Step::Add { app, count }),
        1 => n().prop_map(Step::Decommission),
        1 => n().prop_map(Step::Wipe),
        1 => (0..AGENTS.len()).prop_map(Step::Removed),
        3 => prop::collection::vec(placed, 1..4).prop_map(Step::Assign),
        4 => (n(), 0..8u8, any::<Option<bool>>(), 0..3u32)
            .prop_map(|(nth, state, healthy, skip)| Step::Report { nth, state, healthy, skip }),
        1 => (0..AGENTS.len(), any::<bool>())
            .prop_map(|(agent, reachable)| Step::Reachable { agent, reachable }),
        1 => (0..AGENTS.len(), any::<bool>()).prop_map(|(agent, on)| Step::Drain { agent, on }),
        1 => n().prop_map(Step::Rebalance),
        1 => (0..APPS.len()).prop_map(Step::Reset),
        1 => (n(), 0..3u8).prop_map(|(nth, reason)| Step::Back { nth, reason }),
        1 => n().prop_map(Step::Review),
        1 => n().prop_map(Step::Promote),
        1 => (0..APPS.len(), 0..4u8).prop_map(|(app, count)| Step::AddStable { app, count }),
        1 => (0..APPS.len(), n()).prop_map(|(app, instance)| Step::Resize { app, instance }),
        6 => Just(Step::Deploy),
        3 => Just(Step::Place),
        1 => any::<u16>().prop_map(|ms| Step::Wait(u32::from(ms) * 10)),
        1 => any::<u16>().prop_map(|ms| Step::BackInTime(u32::from(ms))),
    ]
}

fn build(name: usize, d: &Definition) -> App {
    let mut app = match d.volume {
        0 => app(APPS[name], d.instances),
        size => resident(APPS[name], d.instances, size),
    };
    app.cmd = Some(format!("sleep {}", d.cmd));
    app.resources.cpus_milli = d.cpus_milli;
    app.resources.mem_bytes = d.mem_mib * BYTES_PER_MIB;
    app.require_ports = d.fixed;
    let label = [
        (LABEL_ROLLBACK_AFTER, "60s"),
        (LABEL_CANARY, "1"),
        (LABEL_CANARY, "50%"),
        (LABEL_BLUE_GREEN, "true"),
    ];
    // Half of all apps ask for nothing.
    let asked = label.get(usize::from(d.trial)).into_iter();
    app.labels = asked.map(|(label, value)| (label.to_string(), value.to_string())).collect();
    app.port_definitions = d
        .ports
        .iter()
        .map(|port| PortDefinition {
            port: *port,
            protocol: Protocol::Tcp,
            name: None,
            labels: Default::default(),
        })
        .collect();
    app
}

fn nth<T: Clone>(items: impl Iterator<Item = T>, n: usize) -> Option<T> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then(|| items[n % items.len()].clone())
}

/// The commands a step comes to.
fn commands(bench: &mut Bench, step: &Step) -> Vec<Command> {
    let id = |n: usize| AppId::new(APPS[n]);
    let state = &bench.state;
    let instance =
        |n: usize| nth(state.instances.keys().cloned(), n).unwrap_or(InstanceId::new("none"));
    let deployment =
        |n: usize| nth(state.deployments.keys().cloned(), n).unwrap_or(DeploymentId::new("none"));
    vec![match step {
        Step::Change { kind, app, definition, second, force } => {
            let mut changes = vec![match kind {
                0 => AppChange::Create(build(*app, definition)),
                1 => AppChange::Update(build(*app, definition)),
                2 => AppChange::Restart(id(*app)),
                _ => AppChange::Remove(id(*app)),
            }];
            changes.extend(second.map(|app| AppChange::Update(build(app, definition))));
            let deployment_id = DeploymentId::new(format!("d{}", bench.entries.len()));
            Command::ChangeApps { deployment_id, changes, force: *force }
        }
        Step::Advance { nth, step } => {
            Command::AdvanceDeployment { id: deployment(*nth), from_step: *step }
        }
        Step::Cancel(n) => Command::CancelDeployment { id: deployment(*n) },
        Step::Add { app, count } => {
            // As UUIDs are, never the same again: what is named by them is given up for good.
            let name =
                |k: u8| InstanceId::compose(&id(*app), &format!("{}-{k}", bench.entries.len()));
            Command::AddInstances { app_id: id(*app), ids: (0..*count).map(name).collect() }
        }
        Step::Decommission(n) => Command::Decommission { ids: vec![instance(*n)] },
        Step::Wipe(n) => Command::Wipe { ids: vec![instance(*n)] },
        Step::Removed(n) => {
            let agent_id = AgentId::new(AGENTS[*n]);
            let ids = state.given_up.get(&agent_id).into_iter().flat_map(|v| v.keys().cloned());
            Command::ForgetVolumes { ids: ids.collect(), agent_id }
        }
        Step::Assign(placed) => {
            let placed = placed.iter().map(|(n, agent, ports)| Placed {
                instance_id: instance(*n),
                agent_id: AgentId::new(AGENTS[*agent]),
                ports: ports.clone(),
                devices: vec![],
            });
            Command::Assign { assignments: placed.collect() }
        }
        Step::Report { nth, state: to, healthy, skip } => {
            Command::RecordStatus { statuses: vec![status(state, *nth, *to, *healthy, *skip)] }
        }
        Step::Reachable { agent, reachable } => {
            let agent_id = AgentId::new(AGENTS[*agent]);
            Command::SetReachable { agent_id, reachable: *reachable }
        }
        Step::Drain { agent, on: true } => {
            Command::Drain { agent_id: AgentId::new(AGENTS[*agent]) }
        }
        Step::Drain { agent, on: false } => {
            Command::Undrain { agent_id: AgentId::new(AGENTS[*agent]) }
        }
        Step::Rebalance(n) => {
            let task = nth(state.instances.values().filter_map(|i| i.task.as_ref()), *n);
            Command::Rebalance { task_id: task.map_or(TaskId::new("none"), |t| t.id.clone()) }
        }
        Step::Reset(n) => Command::ResetDelay { app_id: id(*n) },
        Step::Back { nth, reason } => {
            let overdue = UndoReason::Overdue { app_id: id(0), after_ms: 60_000 };
            let reasons = [UndoReason::Requested, UndoReason::Withdrawn, overdue];
            let reason = reasons[usize::from(*reason)].clone();
            let deployment_id = DeploymentId::new(format!("d{}", bench.entries.len()));
            Command::RollBack { id: deployment(*nth), deployment_id, reason }
        }
        Step::Review(n) => Command::ReviewRollouts { id: deployment(*n) },
        Step::Promote(n) => Command::Promote { id: deployment(*n) },
        Step::AddStable { app, count } => {
            let ids = (0..*count).map(|k| InstanceId::compose(&id(*app), &format!("s{k}")));
            Command::AddStable { app_id: id(*app), ids: ids.collect() }
        }
        Step::Resize { app, instance: n } => {
            Command::Resize { app_id: id(*app), ids: vec![instance(*n)] }
        }
        Step::Deploy => return bench.deployer(),
        Step::Place => {
            bench.place();
            return vec![];
        }
        Step::Wait(ms) => {
            bench.clock += u64::from(*ms);
            return vec![];
        }
        Step::BackInTime(ms) => {
            bench.clock = bench.clock.saturating_sub(u64::from(*ms));
            return vec![];
        }
    }]
}

/// A report of the nth task; one that skips nothing is a repetition.
fn status(state: &State, n: usize, to: u8, healthy: Option<bool>, skip: u32) -> TaskStatus {
    use TaskState::*;
    let to = [Staging, Starting, Running, Running, Finished, Failed, Killed, Lost][usize::from(to)];
    let task = nth(state.instances.values().filter_map(|i| i.task.as_ref()), n);
    TaskStatus {
        task_id: task.map_or(TaskId::new("none"), |t| t.id.clone()),
        sequence: task.map_or(1, |t| t.last_sequence + skip),
        state: to,
        message: String::new(),
        healthy,
        ip: None,
        exit_code: None,
        probes: None,
        containers: Vec::new(),
        restarts: 0,
        size: task.and_then(|t| t.resizing()).map(|resize| SizeReport {
            version: resize.version,
            refused: (skip == 2).then(|| "in use".into()),
        }),
    }
}

/// What holds in every state.
fn sound(state: &State) -> Result<(), TestCaseError> {
    for agent in state.agents.values() {
        let used = state.used_on(&agent.id);
        prop_assert!(agent.total.holds(&used.resources), "overcommitted: {:?}", used);
        let mut ports = BTreeSet::new();
        for (instance, task) in state.tasks_on(&agent.id) {
            // Two of one task never clash here: all are TCP.
            for port in &task.ports {
                prop_assert!(ports.insert(port), "{} twice, also {}", port, instance.id);
            }
        }
    }
    for instance in state.instances.values() {
        prop_assert!(state.app_of(instance).is_some(), "{} has no definition", instance.id);
        prop_assert!(state.assigned_app(instance).is_some(), "{} is told nothing", instance.id);
        if let Some(task) = &instance.task {
            prop_assert!(!task.state.is_terminal());
            prop_assert_eq!(&task.id, &instance.id.task(instance.incarnation));
        } else {
            let rests = instance.goal == Goal::Stopped && instance.reservation.is_some();
            prop_assert!(instance.goal == Goal::Running || rests, "{} idles", instance.id);
        }
    }
    bound(state)?;
    for id in &state.inactive {
        let task = state.instances.get(id).and_then(|i| i.task.as_ref());
        prop_assert!(task.is_some_and(|task| state.is_away(task)), "{} is here", id);
    }
    for id in state.leaving.keys() {
        prop_assert!(!state.apps.contains_key(id));
        prop_assert!(state.instances_of(id).next().is_some());
    }
    for (id, record) in &state.apps {
        let below = format!("{id}/");
        prop_assert!(!state.apps.keys().any(|other| other.0.starts_with(&below)));
        prop_assert!(record.versions.iter().all(|v| v.version < record.app.version));
        prop_assert!(record.app.last_scaling <= record.app.version);
        prop_assert!(record.app.last_config_change <= record.app.version);
    }
    let root = state.root();
    prop_assert_eq!(bramble_core::deploy::plan(&root, &root), Plan::default());
    for deployment in state.deployments.values() {
        let waiting = [Phase::Trying, Phase::Waiting];
        for (app_id, rollout) in &deployment.rollouts {
            let deadline = rollout.deadline.is_some();
            prop_assert!(!deadline || rollout.rollback_after_ms.is_some());
            let at_it = deployment.current_actions().iter().any(|a| a.app_id == *app_id);
            prop_assert!(at_it || !waiting.contains(&rollout.phase), "{} is not at it", app_id);
        }
        prop_assert!((deployment.current_step as usize) < deployment.plan.steps.len());
        for app_id in deployment.affected() {
            let touching = state.deployments_touching(&app_id).count();
            prop_assert_eq!(touching, 1, "{} is changed twice at a time", app_id);
        }
    }
    Ok(())
}

/// Instances run where their volumes are, and no volume is two instances'.
fn bound(state: &State) -> Result<(), TestCaseError> {
    let mut volumes: BTreeSet<&VolumeId> = state.given_up.values().flat_map(|v| v.keys()).collect();
    prop_assert!(state.given_up.values().all(|volumes| !volumes.is_empty()));
    for instance in state.instances.values() {
        for volume in instance.reservation.iter().flat_map(|r| &r.volumes) {
            prop_assert!(volumes.insert(&volume.id), "{} is reserved twice", volume.id);
        }
        let Some(task) = &instance.task else { continue };
        let app = state.app_of(instance).expect("checked above");
        prop_assert_eq!(app.is_resident(), instance.reservation.is_some());
        if let Some(reservation) = &instance.reservation {
            prop_assert_eq!(&task.agent_id, &reservation.agent_id);
            prop_assert!(reservation.fits(app));
        }
    }
    Ok(())
}

/// Who holds which volume.
fn holders(state: &State) -> BTreeMap<InstanceId, Reservation> {
    let kept = |i: &Instance| Some((i.id.clone(), i.reservation.clone()?));
    state.instances.values().filter_map(kept).collect()
}

/// No command takes a volume from an instance that stays; one that goes leaves its volumes to be
/// removed on their agent; and what was removed is never wanted again.
fn nothing_is_lost(
    before: &State,
    after: &State,
    removed: &mut BTreeSet<VolumeId>,
) -> Result<(), TestCaseError> {
    let now = holders(after);
    for (id, reservation) in holders(before) {
        if let Some(kept) = now.get(&id) {
            prop_assert_eq!(kept, &reservation);
            continue;
        }
        prop_assert!(!after.instances.contains_key(&id), "{} lost its volumes", id);
        let given_up = &after.given_up[&reservation.agent_id];
        prop_assert!(reservation.volumes.iter().all(|v| given_up.contains_key(&v.id)));
    }
    for (agent, volumes) in &before.given_up {
        let left = after.given_up.get(agent);
        let gone = volumes.keys().filter(|id| left.is_none_or(|left| !left.contains_key(*id)));
        removed.extend(gone.cloned());
    }
    for volume in now.values().flat_map(|r| &r.volumes) {
        prop_assert!(!removed.contains(&volume.id), "{} is wanted again", volume.id);
    }
    Ok(())
}

/// The state but for what a rejection may touch.
fn content(state: &State) -> State {
    State { applied_index: 0, now: Time(0), ..state.clone() }
}

fn bytes(state: &State) -> Vec<u8> {
    serde_cbor::to_vec(state).expect("encodes")
}

fn start() -> Bench {
    let with_disk = |agent: Agent| Agent {
        total: Resources { disk_bytes: 24 * BYTES_PER_MIB, ..agent.total },
        ..agent
    };
    Bench::with([agent("n1", 2000, 1024), agent("n2", 1500, 700)].map(with_disk).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_history_is_sound(steps in prop::collection::vec(step(), 0..150)) {
        let mut bench = start();
        let mut removed = BTreeSet::new();
        for step in &steps {
            for command in commands(&mut bench, step) {
                let before = content(&bench.state);
                let clock = bench.state.now;
                let result: Result<_, Rejection> = bench.apply(command);
                if result.is_err() {
                    prop_assert!(content(&bench.state) == before, "{result:?} changed something");
                }
                nothing_is_lost(&before, &bench.state, &mut removed)?;
                prop_assert!(bench.state.now >= clock);
                prop_assert_eq!(bench.state.applied_index, bench.entries.len() as u64);
            }
            sound(&bench.state)?;
        }
        // The same entries give the same bytes, with a snapshot taken half way.
        let mut replayed = State::default();
        for (at, entry) in bench.entries.iter().enumerate() {
            if at == bench.entries.len() / 2 {
                let restored: State = serde_cbor::from_slice(&bytes(&replayed)).expect("decodes");
                prop_assert!(restored == replayed, "a snapshot is the state");
                replayed = restored;
            }
            let _ = apply(&mut replayed, entry);
        }
        prop_assert_eq!(bytes(&replayed), bytes(&bench.state));
    }

    #[test]
    fn every_history_comes_to_rest(steps in prop::collection::vec(step(), 0..100)) {
        let mut bench = start();
        for step in &steps {
            for command in commands(&mut bench, step) {
                let _ = bench.apply(command);
            }
        }
        // Room for everything, and obedient tasks.
        for name in ["n1", "n2"] {
            let mut large = agent(name, 1_000_000, 1_000_000);
            large.ports = vec![PortRange { begin: 20_000, end: 60_000 }];
            let agent_id = large.id.clone();
            bench.must(Command::RegisterAgent { agent: large });
            bench.must(Command::Undrain { agent_id });
        }
        rest(&mut bench)?;
        prop_assert!(bench.state.leaving.is_empty());
        for (id, record) in &bench.state.apps {
            let count = bench.state.instances_of(id).filter(|i| !i.is_parked()).count();
            // Two machines hold two of an app with fixed ports.
            prop_assert_eq!(count, record.app.instances as usize, "{}", id);
        }
    }
}

/// Let everything run until no command is wanted. An app whose fixed ports find no place waits for
/// ever and keeps its deployment: that is rest, too.
fn rest(bench: &mut Bench) -> Result<(), TestCaseError> {
    for _ in 0..60 {
        bench.settle();
        bench.place();
        bench.obey();
        bench.settle();
        bench.promote_all();
        bench.clock += 400_000;
    }
    let forced: Vec<DeploymentId> = bench.state.deployments.keys().cloned().collect();
    for id in forced {
        let apps = bench.state.deployments[&id].affected();
        let stuck = apps.iter().any(|app| {
            bench.state.instances_of(app).any(|i| {
                i.is_waiting()
                    && bench
                        .state
                        .app_of(i)
                        .is_some_and(|a| a.port_requests().iter().any(|r| r.fixed.is_some()))
            })
        });
        prop_assert!(stuck, "deployment {} is not done", id);
        bench.must(Command::CancelDeployment { id });
    }
    for _ in 0..10 {
        bench.settle();
        bench.obey();
    }
    prop_assert_eq!(bench.deployer(), vec![]);
    Ok(())
}
