//! A cluster on paper: entries go in, the deployer and the placer run to rest, tasks progress as
//! the test says. Ids count up, the clock moves when told.

use bramble_core::command::{AppChange, Command, Entry, Rejection};
use bramble_core::deploy::{self, IdSource};
use bramble_core::event::Event;
use bramble_core::machine::apply;
use bramble_core::model::*;
use bramble_core::place::{self, Policy};
use std::collections::BTreeMap;

/// Rounds in which the loops must come to rest.
const ROUNDS_MAX: u32 = 200;

#[derive(Default)]
pub struct Counter(u64);

impl IdSource for Counter {
    fn uuid(&mut self) -> String {
        self.0 += 1;
        format!("{:08}", self.0)
    }
}

pub struct Bench {
    pub state: State,
    pub ids: Counter,
    pub clock: u64,
    pub entries: Vec<Entry>,
    pub events: Vec<Event>,
    /// Whether the deployer evens out.
    pub evens: bool,
    /// What is plugged in, by agent.
    pub devices: BTreeMap<AgentId, Vec<OfferedDevice>>,
}

pub fn app(id: &str, instances: u32) -> App {
    let mut app = App::with_defaults(AppId::new(id));
    app.cmd = Some("sleep 1000".into());
    app.instances = instances;
    app.resources =
        Resources { cpus_milli: 100, mem_bytes: 16 * BYTES_PER_MIB, disk_bytes: 0, gpus: 0 };
    app
}

/// An app with one volume of so many MiB.
pub fn resident(id: &str, instances: u32, size_mib: u64) -> App {
    let mut app = app(id, instances);
    app.upgrade = UpgradeStrategy { min_health_ppm: PPM / 2, max_over_ppm: 0 };
    app.container = Some(Container {
        kind: ContainerKind::Mesos,
        docker: None,
        port_mappings: None,
        volumes: vec![Volume::Persistent {
            container_path: "data".into(),
            mode: VolumeMode::ReadWrite,
            kind: "root".into(),
            size_mib,
            max_size_mib: None,
            profile_name: None,
            constraints: vec![],
        }],
        linux_info: None,
    });
    app
}

/// A pod of two containers, a tenth of a core each, the first of which may have a health check.
pub fn pod(id: &str, instances: u32, line: &str, checked: bool) -> App {
    let plain = app(id, instances);
    let check = PodHealthCheck {
        probe: PodProbe::Exec { command: PodCommand::Shell("true".into()) },
        grace_ms: 300_000,
        interval_ms: 60_000,
        timeout_ms: 20_000,
        delay_ms: 15_000,
        max_consecutive_failures: 3,
    };
    let container = |name: &str, health_check| PodContainer {
        name: name.into(),
        exec: Some(PodExec { command: PodCommand::Shell(line.into()), override_entrypoint: None }),
        resources: plain.resources,
        resource_limits: None,
        endpoints: Vec::new(),
        image: None,
        environment: BTreeMap::new(),
        user: None,
        health_check,
        check: None,
        volume_mounts: Vec::new(),
        artifacts: Vec::new(),
        labels: BTreeMap::new(),
        kill_grace_ms: None,
        tty: None,
        linux_info: None,
    };
    let containers = vec![container("one", checked.then_some(check)), container("two", None)];
    let pod = Pod { containers, volumes: Vec::new() };
    App { cmd: None, resources: pod.resources(), pod: Some(pod), ..plain }
}

pub fn health_check() -> HealthCheck {
    HealthCheck {
        kind: HealthCheckKind::Http,
        path: None,
        port_index: None,
        port: None,
        command: None,
        grace_ms: 300_000,
        interval_ms: 60_000,
        timeout_ms: 20_000,
        max_consecutive_failures: 3,
        delay_ms: 15_000,
        ignore_http_1xx: false,
        ip_protocol: None,
    }
}

pub fn agent(name: &str, cpus_milli: u64, mem_mib: u64) -> Agent {
    Agent {
        id: AgentId::new(name),
        name: name.to_string(),
        total: Resources {
            cpus_milli,
            mem_bytes: mem_mib * BYTES_PER_MIB,
            disk_bytes: 1 << 40,
            gpus: 0,
        },
        ports: vec![PortRange { begin: 31_000, end: 31_099 }],
        attributes: BTreeMap::new(),
        reachable: true,
    }
}

impl Bench {
    /// A cluster without agents.
    pub fn empty() -> Self {
        Self {
            state: State::default(),
            ids: Counter::default(),
            clock: 1_000_000,
            entries: Vec::new(),
            events: Vec::new(),
            evens: false,
            devices: BTreeMap::new(),
        }
    }

    /// A cluster with these agents.
    pub fn with(agents: Vec<Agent>) -> Self {
        let mut bench = Self::empty();
        for agent in agents {
            let node = Node {
                id: NodeId::new(agent.id.as_str()),
                name: agent.name.clone(),
                role: NodeRole::Full,
                public_key: vec![1],
                admitted_at: Time(1),
            };
            bench.must(Command::AdmitNode { node });
            bench.must(Command::RegisterAgent { agent });
        }
        bench
    }

    pub fn apply(&mut self, command: Command) -> Result<Vec<Event>, Rejection> {
        let entry = Entry { index: self.entries.len() as u64 + 1, now: Time(self.clock), command };
        self.entries.push(entry.clone());
        let result = apply(&mut self.state, &entry);
        if let Ok(events) = &result {
            self.events.extend(events.iter().cloned());
        }
        result
    }

    pub fn must(&mut self, command: Command) -> Vec<Event> {
        let shown = format!("{command:?}");
        match self.apply(command) {
            Ok(events) => events,
            Err(rejection) => panic!("{shown} is refused: {rejection}"),
        }
    }

    pub fn change(
        &mut self,
        changes: Vec<AppChange>,
        force: bool,
    ) -> Result<DeploymentId, Rejection> {
        let deployment_id = DeploymentId::new(self.ids.uuid());
        self.apply(Command::ChangeApps { deployment_id: deployment_id.clone(), changes, force })?;
        Ok(deployment_id)
    }

    pub fn create(&mut self, app: App) -> DeploymentId {
        self.change(vec![AppChange::Create(app)], false).expect("the app is created")
    }

    pub fn update(&mut self, app: App) -> DeploymentId {
        self.change(vec![AppChange::Update(app)], false).expect("the app is updated")
    }

    /// Take a deployment back.
    pub fn roll_back(
        &mut self,
        id: &DeploymentId,
        reason: UndoReason,
    ) -> Result<DeploymentId, Rejection> {
        let (id, deployment_id) = (id.clone(), DeploymentId::new(self.ids.uuid()));
        self.apply(Command::RollBack { id, deployment_id: deployment_id.clone(), reason })?;
        Ok(deployment_id)
    }

    /// Promote whatever waits to be promoted.
    pub fn promote_all(&mut self) {
        let waits = |d: &&Deployment| d.rollouts.values().any(|r| r.phase == Phase::Waiting);
        let waiting: Vec<DeploymentId> =
            self.state.deployments.values().filter(waits).map(|d| d.id.clone()).collect();
        for id in waiting {
            let _ = self.apply(Command::Promote { id });
        }
    }

    /// What the deployer wants now.
    pub fn deployer(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        let now = Time(self.clock);
        for deployment in self.state.deployments.values() {
            if let Some(back) = deploy::give_up(deployment, &self.state, now, &mut self.ids) {
                commands.push(back);
                continue;
            }
            let advance = deploy::advance(deployment, &self.state, now, &mut self.ids);
            commands.extend(advance.commands);
        }
        commands.extend(deploy::stuck(&self.state, now));
        commands.extend(deploy::absences(
            &self.state,
            self.state.now.max(Time(self.clock)),
            &|_| true,
        ));
        commands.extend(deploy::end_rebalance(&self.state, now));
        if self.evens {
            commands.extend(deploy::rebalance(&self.state, now));
        }
        commands.extend(deploy::keep(&self.state, &mut self.ids));
        commands
    }

    /// Run the deployer until it wants nothing more; `look` sees each command before and after.
    pub fn settle_with(&mut self, mut look: impl FnMut(&State, &Command, &State)) {
        for _ in 0..ROUNDS_MAX {
            let commands = self.deployer();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                let before = self.state.clone();
                self.must(command.clone());
                look(&before, &command, &self.state);
            }
        }
        panic!("the deployer does not come to rest");
    }

    pub fn settle(&mut self) {
        self.settle_with(|_, _, _| {});
    }

    pub fn offers(&self) -> Vec<Offer> {
        self.state
            .agents
            .values()
            .filter(|a| a.reachable)
            .map(|a| {
                // Like an agent, which knows its tasks and nothing of what is reserved besides.
                let tasks = || self.state.tasks_on(&a.id).map(|(_, task)| task);
                let used = tasks().fold(Resources::default(), |sum, t| sum.plus(&t.resources));
                let taken: Vec<u16> = tasks().flat_map(|t| t.ports.clone()).collect();
                let held: Vec<HeldDevice> = tasks().flat_map(|t| t.devices.clone()).collect();
                let mut offer = Offer {
                    id: format!("offer-{}", a.name),
                    agent_id: a.id.clone(),
                    hostname: a.name.clone(),
                    free: a.total.minus(&used),
                    ports: without_ports(&a.ports, &taken),
                    attributes: a.attributes.clone(),
                    roles: <_>::default(),
                    generation: self.state.applied_index,
                    devices: self.devices.get(&a.id).cloned().unwrap_or_default(),
                    vitals: <_>::default(),
                };
                offer.mark_devices(&held, true);
                offer
            })
            .collect()
    }

    /// Run the placer once.
    pub fn place(&mut self) -> place::Placement {
        let demands = self.state.demands(Time(self.clock));
        let offers = place::without_reserved(&self.state, self.offers());
        let offers = place::with_what_is_known(&self.state, offers, &demands);
        let placement = place::place(&offers, &demands, &Policy { port_seed: self.clock });
        if !placement.decisions.is_empty() {
            let assignments = placement.decisions.clone();
            for event in self.must(Command::Assign { assignments }) {
                assert!(matches!(event, Event::TaskAssigned { .. }), "placed, then {event:?}");
            }
        }
        placement
    }

    /// Report a new state of an instance's task; it has the size it was told.
    pub fn report(&mut self, id: &InstanceId, state: TaskState, healthy: Option<bool>) {
        self.report_with(id, state, healthy, None);
    }

    /// Report that a task could not be given its new size.
    pub fn refuse_size(&mut self, id: &InstanceId) {
        let healthy = self.state.instances[id].task.as_ref().and_then(|t| t.healthy);
        self.report_with(id, TaskState::Running, healthy, Some("in use".into()));
    }

    fn report_with(
        &mut self,
        id: &InstanceId,
        state: TaskState,
        healthy: Option<bool>,
        refused: Option<String>,
    ) {
        let instance = &self.state.instances[id];
        let task = instance.task.as_ref().expect("the instance has a task");
        let status = TaskStatus {
            task_id: task.id.clone(),
            sequence: task.last_sequence + 1,
            state,
            message: String::new(),
            healthy,
            ip: None,
            exit_code: None,
            probes: None,
            containers: Vec::new(),
            size: Some(SizeReport { version: instance.assigned_version(), refused }),
            restarts: 0,
        };
        self.must(Command::RecordStatus { statuses: vec![status] });
    }

    /// Every task does what is wanted of it: runs healthily, or ends.
    pub fn obey(&mut self) {
        let instances: Vec<Instance> = self.state.instances.values().cloned().collect();
        for instance in instances {
            let Some(task) = &instance.task else { continue };
            if instance.goal != Goal::Running {
                self.report(&instance.id, TaskState::Killed, None);
            } else if task.state != TaskState::Running
                || task.healthy != Some(true)
                || task.resizing().is_some()
            {
                self.report(&instance.id, TaskState::Running, Some(true));
            }
        }
    }

    /// Let all loops and obedient tasks run until no deployment is left and nothing moves.
    pub fn finish(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.settle();
            self.place();
            self.obey();
            // Longer than any backoff.
            self.clock += 400_000;
            let resting = self.state.instances.values().all(|i| i.task.is_some() || i.is_parked());
            if self.state.deployments.is_empty() && self.deployer().is_empty() && resting {
                return;
            }
        }
        panic!("no end: {:#?}", self.state.deployments);
    }

    pub fn instances(&self, id: &str) -> Vec<&Instance> {
        let id = AppId::new(id);
        self.state.instances.values().filter(|i| i.app_id == id).collect()
    }

    pub fn stored(&self, id: &str) -> &AppRecord {
        &self.state.apps[&AppId::new(id)]
    }
}
