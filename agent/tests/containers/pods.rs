//! Containers that share a network: as the runtime makes them, and what becomes of it.

use crate::Case;
use crate::ground::{Ground, Outcome, expect, text, wait_dead};
use bramble_agent::runtime::{
    Adopted, ExecRequest, ExecStreams, Launch, Phase, RuntimeError, SharedDirectory, TaskHandle,
    exec::read_all, process,
};
use bramble_core::model::{TaskCommand, TaskNetwork, VolumeMode};
use bramble_protocol::executor::ProcessKey;
use std::fs;

pub const CASES: &[Case] = &[
    Case { name: "a_network_is_shared_and_outlives_its_maker", run: a_network_is_shared },
    Case { name: "a_network_that_is_gone_is_not_joined", run: a_network_that_is_gone },
    Case { name: "waiting_containers_are_adopted_in_their_network", run: waiting_containers },
    Case { name: "directories_are_shared_by_users_and_modes", run: directories_are_shared },
];

fn networked(ground: &Ground, id: &str, line: &str, of: Option<ProcessKey>) -> Outcome<Launch> {
    let mut launch = ground.image(id, TaskCommand::Shell(line.into()))?;
    launch.assignment.spec.network = TaskNetwork::Bridge(Vec::new());
    launch.pod.network_of = of;
    Ok(launch)
}

fn network_of(pid: i32) -> Outcome<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).map_err(text)?;
    Ok(link.display().to_string())
}

fn exec(ground: &Ground, id: &str, line: &str) -> Outcome<String> {
    let command = ["sh", "-c", line].map(str::to_string).to_vec();
    let request = ExecRequest { command, tty: false, rows: 0, columns: 0 };
    ground.block(async {
        let mut session = ground.runtime.exec(id, request).await.map_err(text)?;
        let Some(ExecStreams::Pipes { mut stdout, mut stderr, .. }) = session.take_streams() else {
            return Err("pipes".to_string());
        };
        let mut out = read_all(&mut stdout).await.map_err(text)?;
        out.extend(read_all(&mut stderr).await.map_err(text)?);
        session.wait().await.map_err(text)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    })?
}

fn end(ground: &Ground, id: &str, handle: &mut TaskHandle) -> Outcome {
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(handle)?;
    ground.clean(id)
}

fn a_network_is_shared(ground: Ground) -> Outcome {
    let wait = "echo up; while [ ! -f /mnt/mesos/sandbox/go ]; do sleep 0.05; done";
    let mut first = ground.start(networked(&ground, "first", wait, None)?)?;
    let of = Some(first.init());
    let mut second = ground.start(networked(&ground, "second", "sleep 1000; true", of)?)?;
    let host = network_of(std::process::id() as i32)?;
    let shared = network_of(first.init().pid)?;
    expect(shared != host, "a network of its own")?;
    expect(network_of(second.init().pid)? == shared, "the same network")?;
    let pids = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).map_err(text);
    expect(pids(first.init().pid)? != pids(second.init().pid)?, "other process ids")?;

    ground.wait_log("first", "up")?;
    fs::write(ground.dir.path().join("sandboxes/first/go"), "").map_err(text)?;
    let record = ground.exited(&mut first)?;
    expect(record.code == 0, format!("{record:?}"))?;
    ground.clean("first")?;
    expect(network_of(second.init().pid)? == shared, "it stays")?;
    let seen = exec(&ground, "second", "readlink /proc/self/ns/net; ls /sys/class/net")?;
    expect(seen == format!("{shared}\nlo\n"), seen)?;
    let of = Some(second.init());
    let mut third = ground.start(networked(&ground, "third", "sleep 1000; true", of)?)?;
    expect(network_of(third.init().pid)? == shared, "by any of them")?;
    end(&ground, "second", &mut second)?;
    end(&ground, "third", &mut third)
}

fn a_network_that_is_gone(ground: Ground) -> Outcome {
    let mut first = ground.start(networked(&ground, "first", "sleep 1000; true", None)?)?;
    let key = first.init();
    let other = ProcessKey { start_ticks: key.start_ticks + 1, ..key };
    let refused = |key| {
        let launch = networked(&ground, "second", "true", Some(key))?;
        match ground.block(ground.runtime.create(launch))? {
            Err(RuntimeError::NotCreated(reason)) => expect(reason.contains("is gone"), reason),
            other => Err(format!("{other:?}")),
        }
    };
    // As if the pid had become another process's.
    refused(other)?;
    end(&ground, "first", &mut first)?;
    refused(key)?;
    expect(ground.runtime.list().map_err(text)?.is_empty(), "nothing is left")
}

fn waiting_containers(ground: Ground) -> Outcome {
    let line = "echo ran; sleep 1000; true";
    let create = |launch| ground.block(ground.runtime.create(launch))?.map_err(text);
    let first = create(networked(&ground, "first", line, None)?)?;
    let second = create(networked(&ground, "second", line, Some(first.init()))?)?;
    let shared = network_of(first.init().pid)?;
    drop((first, second));
    let agent = ground.restart()?;
    let mut adopted = Vec::new();
    for id in ["first", "second"] {
        match ground.block(agent.adopt(id))?.map_err(text)? {
            Adopted::Live(handle) => adopted.push(handle),
            other => return Err(format!("{id}: {other:?}")),
        }
        expect(ground.log(id, "stdout").is_empty(), "it does not run yet")?;
    }
    for handle in &adopted {
        expect(handle.phase() == Some(Phase::Created), format!("{:?}", handle.phase()))?;
        expect(network_of(handle.init().pid)? == shared, "the same network")?;
        ground.block(handle.start())?.map_err(text)?;
    }
    ground.wait_log("second", "ran")?;
    // Its executor's death takes one container, not its neighbours.
    process::kill(ground.executor_of("first")?).map_err(text)?;
    wait_dead(adopted[0].init())?;
    expect(process::is_alive(adopted[1].init()), "the other one goes on")?;
    ground.clean("first")?;
    end(&ground, "second", &mut adopted[1])
}

fn directories_are_shared(ground: Ground) -> Outcome {
    let host_path = ground.dir.path().join("shared");
    fs::create_dir(&host_path).map_err(text)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&host_path, mode).map_err(text)?;
    let directory = |path: &str, mode| SharedDirectory {
        host_path: host_path.clone(),
        container_path: path.into(),
        mode,
    };
    let mut writer = ground.image("writer", TaskCommand::Shell("echo hello > /out/file".into()))?;
    writer.assignment.spec.user = Some("web".into());
    writer.allow_host_volumes = false;
    writer.pod.shared = vec![directory("/out", VolumeMode::ReadWrite)];
    let record = ground.run(writer)?;
    expect(record.code == 0, format!("{record:?} {}", ground.log("writer", "stderr")))?;
    let line = "cat in/file; touch in/other 2> /dev/null || echo read-only";
    let mut reader = ground.command("reader", line);
    reader.pod.shared = vec![directory("in", VolumeMode::ReadOnly)];
    ground.run(reader)?;
    let out = ground.log("reader", "stdout");
    expect(out == "hello\nread-only\n", format!("{out}{}", ground.log("reader", "stderr")))
}
