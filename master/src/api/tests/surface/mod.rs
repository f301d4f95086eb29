//! Marathon's contract, sections 1 and 2, row by row: a test per endpoint and method, named so.
//!
//! Every line of a table is asked of a fresh node in the state of [`seed`]; all that is wrong in a
//! table is told at once.

mod apps;
mod corners;
mod definition;
mod deployments;
mod forms;
mod groups;
mod queue;
mod system;
mod tasks;

use crate::api::testing::client::Answer;
use crate::api::testing::{Node, Setup, state};
use bramble_core::model::*;
use serde_json::Value;

/// One line of a table: a request, and what its answer must be.
struct Line {
    name: &'static str,
    before: Vec<(String, String)>,
    ask: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    status: u16,
    wants: Vec<Want>,
}

enum Want {
    /// At a JSON pointer.
    Is(&'static str, Value),
    Has(&'static str),
    Lacks(&'static str),
    /// Exactly these keys, in any order.
    Keys(&'static str, &'static str),
    Text(String),
    Part(&'static str),
    Header(&'static str, String),
}

/// `ask` is `METHOD PATH`.
fn line(name: &'static str, ask: impl Into<String>, status: u16) -> Line {
    Line {
        name,
        before: Vec::new(),
        ask: ask.into(),
        headers: Vec::new(),
        body: String::new(),
        status,
        wants: Vec::new(),
    }
}

impl Line {
    fn body(mut self, body: impl ToString) -> Self {
        self.body = body.to_string();
        self
    }

    /// A request that goes first and must succeed.
    fn after(mut self, ask: &str, body: impl ToString) -> Self {
        self.before.push((ask.into(), body.to_string()));
        self
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn is(self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.want(Want::Is(pointer, value.into()))
    }

    fn has(self, pointer: &'static str) -> Self {
        self.want(Want::Has(pointer))
    }

    fn lacks(self, pointer: &'static str) -> Self {
        self.want(Want::Lacks(pointer))
    }

    fn keys(self, pointer: &'static str, keys: &'static str) -> Self {
        self.want(Want::Keys(pointer, keys))
    }

    fn text(self, text: impl Into<String>) -> Self {
        self.want(Want::Text(text.into()))
    }

    /// The whole body is `{"message":..}`.
    fn message(self, message: &str) -> Self {
        self.text(serde_json::json!({ "message": message }).to_string())
    }

    fn part(self, part: &'static str) -> Self {
        self.want(Want::Part(part))
    }

    fn header(self, name: &'static str, value: impl Into<String>) -> Self {
        self.want(Want::Header(name, value.into()))
    }

    /// The body and header of a deployment's start.
    fn deploys(self) -> Self {
        self.keys("", "deploymentId version").header("marathon-deployment-id", UUID)
    }

    fn want(mut self, want: Want) -> Self {
        self.wants.push(want);
        self
    }
}

/// Stands for any deployment id in [`Line::header`].
const UUID: &str = "a uuid";

/// Ask all lines, each of a node of its own.
async fn table(lines: impl IntoIterator<Item = Line>) {
    table_on(Setup::default, lines).await;
}

async fn table_on(setup: impl Fn() -> Setup, lines: impl IntoIterator<Item = Line>) {
    let mut wrong = Vec::new();
    for line in lines {
        let node = Node::set_up(setup()).await;
        node.edit(seed);
        for (ask, body) in &line.before {
            let answer = send(&node, ask, &[], body).await;
            assert!(answer.status < 300, "{}: {ask}: {}", line.name, answer.text);
        }
        let answer = send(&node, &line.ask, &line.headers, &line.body).await;
        let mut told = |what: String| {
            wrong.push(format!("{} ({}): {what}\n    {}", line.name, line.ask, answer.text));
        };
        if answer.status != line.status {
            told(format!("status {} instead of {}", answer.status, line.status));
            continue;
        }
        line.wants.iter().filter_map(|want| want.missed(&answer)).for_each(&mut told);
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn send(node: &Node, ask: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let (method, path) = ask.split_once(' ').unwrap();
    let mut all = headers.to_vec();
    if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
        all.push(("Content-Type", "application/json"));
    }
    node.tcp().await.ask(method, path, &all, body.to_string()).await
}

impl Want {
    fn missed(&self, answer: &Answer) -> Option<String> {
        let json = || serde_json::from_str::<Value>(&answer.text).unwrap_or_default();
        match self {
            Want::Is(pointer, want) => {
                let got = json().pointer(pointer).cloned();
                let same = match (got.as_ref().and_then(Value::as_f64), want.as_f64()) {
                    (Some(got), Some(want)) => got == want,
                    _ => got.as_ref() == Some(want),
                };
                (!same).then(|| format!("{pointer} is {got:?} instead of {want}"))
            }
            Want::Has(pointer) => {
                json().pointer(pointer).is_none().then(|| format!("{pointer} is not there"))
            }
            Want::Lacks(pointer) => {
                json().pointer(pointer).is_some().then(|| format!("{pointer} is there"))
            }
            Want::Keys(pointer, want) => {
                let json = json();
                let found = json.pointer(pointer).and_then(Value::as_object);
                let mut got: Vec<&str> =
                    found.map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
                let mut want: Vec<&str> = want.split_whitespace().collect();
                got.sort_unstable();
                want.sort_unstable();
                (got != want).then(|| format!("{pointer} has the keys {got:?}, not {want:?}"))
            }
            Want::Text(want) => (answer.text != *want).then(|| format!("the body is not {want}")),
            Want::Part(part) => {
                (!answer.text.contains(part)).then(|| format!("{part:?} is not in the body"))
            }
            Want::Header(name, want) => {
                let got = answer.header(name);
                let same = if want == UUID { got.len() == 36 } else { got == want };
                (!same).then(|| format!("the header {name} is {got:?} instead of {want:?}"))
            }
        }
    }
}

const WEB_ONE: &str = "web.instance-1._app.1";
const WEB_TWO: &str = "web.instance-2._app.1";

/// `/web` with two running tasks and a past failure, `/g/db` of which one waits, `/g/h/idle`
/// without any, and `/busy` with a deployment under way.
fn seed(all: &mut State) {
    all.now = Time(10_000);
    state::add_agent(all);
    for (id, instances) in [("/web", 2), ("/g/db", 2), ("/g/h/idle", 0), ("/busy", 1)] {
        state::add_app(all, id, instances);
    }
    let web = all.apps.get_mut(&AppId::new("/web")).unwrap();
    web.app.cmd = Some("Serve --All".into());
    web.app.env = [("A".to_string(), EnvValue::Plain("1".into()))].into();
    web.app.labels = [("tier", "front"), ("env", "prod"), ("x.y", "a b")]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
    web.app.port_definitions = vec![PortDefinition {
        port: 10_001,
        protocol: Protocol::Tcp,
        name: None,
        labels: <_>::default(),
    }];
    web.last_failure = Some(TaskFailure {
        task_id: TaskId::new("web.instance-0._app.1"),
        agent_id: AgentId::new(state::AGENT),
        host: "node1".into(),
        state: TaskState::Failed,
        message: "exit 1".into(),
        at: Time(5),
        version: Time(1000),
    });
    state::running(all, "/web", "1");
    state::running(all, "/web", "2");
    state::running(all, "/g/db", "3");
    state::waiting(all, "/g/db", "4");
    let busy = all.apps[&AppId::new("/busy")].app.clone();
    let now = Group { apps: [(busy.id.clone(), busy)].into(), ..Group::default() };
    let action =
        DeploymentAction { kind: ActionKind::Scale, app_id: AppId::new("/busy"), pod: false };
    let deployment = Deployment {
        id: DeploymentId::new(HELD),
        version: Time(2000),
        original: now.clone(),
        target: now,
        plan: Plan { steps: vec![Step { actions: vec![action] }] },
        current_step: 0,
        rollouts: Default::default(),
        undoes: None,
    };
    all.deployments.insert(deployment.id.clone(), deployment);
}

/// The deployment that holds `/busy`.
const HELD: &str = "11111111-2222-3333-4444-555555555555";
