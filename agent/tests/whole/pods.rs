//! Pods: several containers in one network with shared directories, through their lives.

use crate::leader::{Leader, Standing};
use crate::parts::{self, IMAGE, Outcome, Parts, command_task, text};
use crate::{Serving, expect, load_image};
use bramble_agent::runtime::process;
use bramble_core::model::{
    Assignment, ContainerStatus, HealthCheck, HealthCheckKind, PodTask, PublishedPort, SharedMount,
    TaskCommand, TaskId, TaskImage, TaskNetwork, TaskState, TaskStatus, VolumeMode,
};
use bramble_protocol::codec;
use bramble_protocol::executor::ProcessKey;
use bramble_protocol::message::{ExecOutput, StreamRequest};
use bramble_protocol::net::read_frame;
use std::time::Duration;

pub const NAME: &str = "pods_share_live_and_end_as_one";

/// Pause between two looks at what goes away by itself.
const LOOK: Duration = Duration::from_millis(20);

fn container(pod: &str, name: &str, line: &str) -> PodTask {
    let id = format!("{pod}.{name}.1");
    let spec = command_task(&id, line).spec;
    PodTask { name: name.into(), task_id: TaskId::new(id), spec, shared: Vec::new() }
}

fn id_of(pod: &Assignment, at: usize) -> &TaskId {
    &pod.spec.pod[at].task_id
}

fn pod_of(instance: &str, containers: Vec<PodTask>) -> Assignment {
    let mut pod = command_task(&format!("{instance}._pod.1"), "");
    pod.spec.pod = containers;
    pod
}

/// `once` makes the network and is gone; `web` serves what `writer` writes.
fn website(port: u16) -> Assignment {
    let instance = "site.instance-1";
    let once = container(instance, "once", "echo made");
    let mut web = container(instance, "web", "");
    web.spec.command =
        TaskCommand::Args(["-f", "-p", "80", "-h", "/html"].map(str::to_string).to_vec());
    web.spec.image = Some(TaskImage {
        reference: IMAGE.into(),
        force_pull: false,
        parameters: Vec::new(),
        in_sandbox: false,
    });
    let mount =
        |path: &str, mode| SharedMount { volume: "html".into(), container_path: path.into(), mode };
    web.shared = vec![mount("/html", VolumeMode::ReadOnly)];
    let line = "echo served > html/index.html; echo written; exec sleep 1000";
    let mut writer = container(instance, "writer", line);
    writer.shared = vec![mount("html", VolumeMode::ReadWrite)];
    let check = HealthCheck {
        kind: HealthCheckKind::MesosHttp,
        path: Some("/index.html".into()),
        port_index: Some(0),
        port: None,
        command: None,
        grace_ms: 30_000,
        interval_ms: 100,
        timeout_ms: 5000,
        max_consecutive_failures: 3,
        delay_ms: 0,
        ignore_http_1xx: false,
        ip_protocol: None,
    };
    let inside = HealthCheck {
        kind: HealthCheckKind::Command,
        command: Some("test -f html/index.html".into()),
        ..check.clone()
    };
    web.spec.health_checks = vec![check];
    writer.spec.health_checks = vec![inside];
    let mut pod = pod_of(instance, vec![once, web, writer]);
    let published = PublishedPort { host_port: port, container_port: 80, tcp: true, udp: false };
    pod.spec.network = TaskNetwork::Bridge(vec![published]);
    pod.spec.host_ports = vec![port];
    pod
}

pub async fn scenario(parts: &Parts) -> Outcome {
    let leader = Leader::new(parts)?;
    let serving = Serving::begin(parts, leader.at()?).await?;
    let mut session = leader.welcome().await?;
    load_image(parts, &session).await?;
    let pod = website(31_081);
    session.assign(None, vec![pod.clone()]).await?;
    let one_is_done =
        |s: &TaskStatus| s.healthy == Some(true) && is(s, "once", TaskState::Finished);
    let status = session.until_where("site", one_is_done).await?;
    expect(status.state == TaskState::Running && status.ip.is_some(), format!("{status:?}"))?;
    let before = look_inside(&session, &pod).await?;
    parts::get("127.0.0.1:31081").await?;
    session.acknowledge_all().await?;
    drop(session);
    serving.leave().await?;

    parts::get("127.0.0.1:31081").await.map_err(|e| format!("without an agent: {e}"))?;
    let serving = Serving::begin(parts, leader.at()?).await?;
    let mut session = leader.welcome().await?;
    session.assign(None, vec![pod.clone()]).await?;
    let after = look_inside(&session, &pod).await?;
    expect(before == after, format!("the same processes: {before:?} {after:?}"))?;
    parts::get("127.0.0.1:31081").await.map_err(|e| format!("adopted: {e}"))?;
    expect(session.heard.is_empty(), format!("nothing new is told: {:?}", session.heard))?;

    process::kill(executor_of(parts, id_of(&pod, 2))?).map_err(text)?;
    let failed = session.until("site", TaskState::Failed).await?;
    expect(failed.message == "container writer: executor died", &failed.message)?;
    let web_was_stopped = is(&failed, "web", TaskState::Killed) && failed.healthy == Some(true);
    expect(web_was_stopped, format!("{failed:?}"))?;
    let logs = session.read_log(id_of(&pod, 0)).await?;
    expect(logs == "made\n", format!("logs outlive their pod: {logs:?}"))?;
    nothing_runs(parts).await?;

    starts_that_fail(parts, &mut session).await?;
    half_ended(parts, &leader, serving, session).await
}

fn is(status: &TaskStatus, name: &str, state: TaskState) -> bool {
    status.containers.iter().any(|c: &ContainerStatus| c.name == name && c.state == state)
}

/// What commands beside `web` and `writer` see: who they are with, and that they share.
async fn look_inside(session: &Standing, pod: &Assignment) -> Outcome<[String; 2]> {
    let web = "readlink /proc/1/ns/pid; readlink /proc/1/ns/net; cat /html/index.html; \
               touch /html/x 2> /dev/null || echo read-only";
    let writer = "readlink /proc/1/ns/pid; readlink /proc/1/ns/net; cat html/index.html; \
                  busybox wget -qO- http://127.0.0.1/";
    let web = run(session, id_of(pod, 1), &["/bin/busybox", "sh", "-c", web]).await?;
    let writer = run(session, id_of(pod, 2), &["/bin/sh", "-c", writer]).await?;
    let (of_web, of_writer): (Vec<&str>, Vec<&str>) =
        (web.lines().collect(), writer.lines().collect());
    let good = of_web.get(2..) == Some(&["served", "read-only"][..])
        && of_writer.get(2..) == Some(&["served", "served"][..]);
    expect(good, format!("{web:?} {writer:?}"))?;
    let own_processes = of_web[0] != of_writer[0];
    expect(own_processes && of_web[1] == of_writer[1], format!("{web:?} {writer:?}"))?;
    let logs = session.read_log(id_of(pod, 2)).await?;
    expect(logs == "written\n", format!("logs: {logs:?}"))?;
    Ok([web, writer])
}

async fn run(session: &Standing, task_id: &TaskId, command: &[&str]) -> Outcome<String> {
    let request = StreamRequest::Exec {
        task_id: task_id.clone(),
        command: command.iter().map(|word| word.to_string()).collect(),
        tty: false,
        rows: 0,
        columns: 0,
    };
    let (_send, mut receive) = session.open(request).await?;
    let mut said = String::new();
    loop {
        match read_frame(&mut receive).await.map_err(text)? {
            Some(ExecOutput::Stdout(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
            Some(ExecOutput::Exited(0)) => return Ok(said),
            other => return Err(format!("exec in {task_id}: {other:?} after {said:?}")),
        }
    }
}

fn executor_of(parts: &Parts, task_id: &TaskId) -> Outcome<ProcessKey> {
    let path = parts.dir.path().join("run/tasks").join(task_id.as_str()).join("pid");
    codec::from_bytes(&std::fs::read(path).map_err(text)?).map_err(text)
}

/// Traces go after the end is told; the limit of the whole test bounds the wait.
async fn nothing_runs(parts: &Parts) -> Outcome {
    while !parts.traces()?.is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    let work = parts.dir.path().join("data/work");
    let left = std::fs::read_dir(work).map_err(text)?.count();
    expect(left == 0, format!("{left} work directories are left"))
}

/// An image that cannot be had, a program that is not there: named, and nothing of the others.
async fn starts_that_fail(parts: &Parts, session: &mut Standing) -> Outcome {
    let mut absent = container("noimage.instance-2", "absent", "");
    absent.spec.image = Some(TaskImage {
        reference: "127.0.0.1:1/nothing:here".into(),
        force_pull: false,
        parameters: Vec::new(),
        in_sandbox: false,
    });
    let good = container("noimage.instance-2", "good", "echo ran");
    let image = pod_of("noimage.instance-2", vec![good, absent]);
    let mut missing = container("nofile.instance-3", "missing", "");
    missing.spec.command = TaskCommand::Args(vec!["/no/such/file".into()]);
    let good = container("nofile.instance-3", "good", "echo ran");
    let file = pod_of("nofile.instance-3", vec![good, missing]);
    let good = id_of(&file, 0).clone();
    session.assign(None, vec![image, file]).await?;
    for (name, begins, holds) in [
        ("noimage", "container absent: ", "127.0.0.1:1/nothing:here"),
        ("nofile", "container missing: ", "/no/such/file"),
    ] {
        let failed = session.until(name, TaskState::Failed).await?;
        let told = failed.message.starts_with(begins) && failed.message.contains(holds);
        expect(told, failed.message)?;
    }
    nothing_runs(parts).await?;
    let logs = session.read_log(&good).await?;
    expect(logs.is_empty(), format!("it ran: {logs:?}"))
}

/// One container ends while no agent looks, another one's handler uses its grace at the stop.
async fn half_ended(
    parts: &Parts,
    leader: &Leader,
    serving: Serving,
    mut session: Standing,
) -> Outcome {
    let instance = "half.instance-4";
    let gone = "while [ ! -f go ]; do sleep 0.05; done";
    let handler = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let (first, second) =
        (container(instance, "first", gone), container(instance, "second", handler));
    let pod = pod_of(instance, vec![first, second]);
    session.assign(None, vec![pod.clone()]).await?;
    session.until("half", TaskState::Running).await?;
    while session.read_log(id_of(&pod, 1)).await? != "ready\n" {
        tokio::time::sleep(LOOK).await;
    }
    session.acknowledge_all().await?;
    let generation = session.generation;
    drop(session);
    let executor = executor_of(parts, id_of(&pod, 0))?;
    serving.leave().await?;
    let sandbox = parts.dir.path().join("data/sandboxes").join(id_of(&pod, 0).as_str());
    std::fs::write(sandbox.join("go"), "").map_err(text)?;
    while process::is_alive(executor) {
        tokio::time::sleep(LOOK).await;
    }

    let serving = Serving::begin(parts, leader.at()?).await?;
    let mut session = leader.welcome().await?;
    session.generation = generation;
    session.assign(None, vec![pod.clone()]).await?;
    let status = session.until_where("half", |s| is(s, "first", TaskState::Finished)).await?;
    expect(is(&status, "second", TaskState::Running), format!("{status:?}"))?;
    session.assign(None, vec![Assignment { run: false, ..pod.clone() }]).await?;
    let killed = session.until("half", TaskState::Killed).await?;
    expect(is(&killed, "first", TaskState::Finished), format!("{killed:?}"))?;
    let logs = session.read_log(id_of(&pod, 1)).await?;
    expect(logs == "ready\nbye\n", logs)?;
    nothing_runs(parts).await?;
    serving.handle.stop_all().await.map_err(text)?;
    drop(session);
    serving.leave().await
}
