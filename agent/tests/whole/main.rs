//! A whole agent against a leader of the test's own, over real QUIC, with real containers.
//!
//! This binary is its own executor, as in the container tests, and moves into a network namespace
//! of its own before anything else, so that bridge and ports are nobody's.

mod leader;
mod parts;
mod pods;

use bramble_agent::Agent;
use bramble_core::model::{TaskState, TaskStatus};
use bramble_protocol::message::{ExecOutput, LoadProgress, StreamRequest};
use bramble_protocol::net::{Directory, Endpoint, Links, read_frame};
use leader::{Leader, Standing};
use parts::{Outcome, Parts, bridge_task, command_task, text};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

const NAMES: [&str; 2] = ["an_agent_serves_survives_and_goes_down", pods::NAME];
/// Longest wait for anything that must happen; passing it is a failure, never a pass.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Before anything that could start a thread.
    match (args.first().map(String::as_str), args.get(1)) {
        (Some("executor"), Some(dir)) => leave(bramble_agent::executor::main(Path::new(dir))),
        (Some("exec-in"), Some(dir)) => leave(bramble_agent::executor::exec_main(Path::new(dir))),
        _ => {}
    }
    if args.iter().any(|a| a == "--list") {
        if !args.iter().any(|a| a == "--ignored") {
            NAMES.iter().for_each(|name| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen =
        |name: &&str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    let chosen: Vec<&str> = NAMES.into_iter().filter(chosen).collect();
    if chosen.is_empty() {
        return ExitCode::SUCCESS;
    }
    if let Err(why) = parts::own_network() {
        eprintln!("*** SKIPPED: a whole agent cannot run here: {why} ***");
        let ci = std::env::var("CI").as_deref() == Ok("true");
        return if ci { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let passed: Vec<bool> = chosen.into_iter().map(passes).collect();
    if passed.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn passes(name: &str) -> bool {
    let outcome = Parts::new().and_then(|parts| {
        let tokio = tokio::runtime::Runtime::new().map_err(text)?;
        let run = async {
            match name == pods::NAME {
                true => pods::scenario(&parts).await,
                false => scenario(&parts).await,
            }
        };
        let bounded = async { tokio::time::timeout(LIMIT, run).await };
        let outcome = tokio.block_on(bounded).unwrap_or_else(|_| Err("took too long".into()));
        outcome.and(parts.nothing_is_left())
    });
    match &outcome {
        Ok(()) => println!("test {name} ... ok"),
        Err(reason) => eprintln!("test {name} ... FAILED: {reason}"),
    }
    outcome.is_ok()
}

fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// An agent that serves, and how to make it leave.
struct Serving {
    handle: bramble_agent::AgentHandle,
    leave: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Serving {
    async fn begin(parts: &Parts, at: SocketAddr) -> Outcome<Serving> {
        let local = ([127, 0, 0, 1], 0).into();
        let endpoint = Endpoint::bind(local, Some(parts.agent.clone())).map_err(text)?;
        let agent = Agent::open(parts.config(), &parts.agent.key).await.map_err(text)?;
        let handle = agent.handle();
        let leave = CancellationToken::new();
        let (endpoint, directory) = (Arc::new(endpoint), Arc::new(Directory::default()));
        directory.seed(at);
        let links = Arc::new(Links::new(Arc::clone(&endpoint), directory));
        let task = tokio::spawn(agent.serve(endpoint, links, leave.clone()));
        Ok(Serving { handle, leave, task })
    }

    /// As Ctrl-C does: containers run on.
    async fn leave(self) -> Outcome {
        self.leave.cancel();
        self.task.await.map_err(text)
    }
}

async fn scenario(parts: &Parts) -> Outcome {
    let leader = Leader::new(parts)?;
    let serving = Serving::begin(parts, leader.at()?).await?;
    let mut session = leader.welcome().await?;
    load_image(parts, &session).await?;
    let tasks = vec![
        command_task("cmd.instance-1._app.1", "echo to be heard; echo $$; exec sleep 1000"),
        bridge_task("web.instance-2._app.1", 31_080),
    ];
    session.assign(None, tasks.clone()).await?;
    let command = session.until("cmd", TaskState::Running).await?;
    let web = session.until("web", TaskState::Running).await?;
    expect(command.ip.is_none() && web.ip.is_some(), format!("{command:?} {web:?}"))?;
    let before = logs_and_exec(&session, &command).await?;
    session.until_where("web", |status| status.healthy == Some(true)).await?;
    parts::get("127.0.0.1:31080").await?;
    session.acknowledge_all().await?;
    drop(session);
    serving.leave().await?;

    parts::get("127.0.0.1:31080").await.map_err(|e| format!("without an agent: {e}"))?;
    let serving = Serving::begin(parts, leader.at()?).await?;
    let mut session = leader.welcome().await?;
    session.assign(None, tasks).await?;
    let after = logs_and_exec(&session, &command).await?;
    expect(before == after, format!("the same process goes on: {before:?} {after:?}"))?;
    parts::get("127.0.0.1:31080").await.map_err(|e| format!("adopted: {e}"))?;
    expect(session.heard.is_empty(), format!("nothing new is told: {:?}", session.heard))?;

    serving.handle.stop_all().await.map_err(text)?;
    for name in ["cmd", "web"] {
        let killed = session.until(name, TaskState::Killed).await?;
        expect(killed.message == "node went down", killed.message)?;
    }
    let logs = session.read_log(&command.task_id).await?;
    expect(logs.starts_with("to be heard\n"), format!("logs outlive their task: {logs:?}"))?;
    drop(session);
    serving.leave().await?;
    let stopped = Agent::stop_all(parts.config(), &parts.agent.key).await;
    expect(stopped.map_err(text)? == 0, "nothing was left to stop")
}

/// What the task said and what a command beside it sees of it.
async fn logs_and_exec(session: &Standing, status: &TaskStatus) -> Outcome<(String, String)> {
    let logs = session.read_first_log(&status.task_id).await?;
    expect(logs.starts_with("to be heard\n"), format!("logs: {logs:?}"))?;
    let command =
        ["/bin/sh", "-c", "echo inside; cat /proc/1/comm; readlink /proc/1/ns/pid; exit 7"];
    let request = StreamRequest::Exec {
        task_id: status.task_id.clone(),
        command: command.map(str::to_string).to_vec(),
        tty: false,
        rows: 0,
        columns: 0,
    };
    let (_send, mut receive) = session.open(request).await?;
    let mut said = String::new();
    loop {
        match read_frame(&mut receive).await.map_err(text)? {
            Some(ExecOutput::Stdout(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
            Some(ExecOutput::Exited(7)) => break,
            other => return Err(format!("exec: {other:?} after {said:?}")),
        }
    }
    expect(said.starts_with("inside\nsleep\n"), format!("exec: {said:?}"))?;
    Ok((logs, said))
}

async fn load_image(parts: &Parts, session: &Standing) -> Outcome {
    let archive = parts.archive()?;
    let (mut send, mut receive) = session.open(StreamRequest::LoadImage).await?;
    send.write_all(&archive).await.map_err(text)?;
    send.shutdown().await.map_err(text)?;
    loop {
        match read_frame(&mut receive).await.map_err(text)? {
            Some(LoadProgress::Done(images)) if images.len() == 1 => return Ok(()),
            Some(LoadProgress::Read(_) | LoadProgress::Note(_)) => {}
            other => return Err(format!("load: {other:?}")),
        }
    }
}

fn expect(holds: bool, message: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(message.into()) }
}
