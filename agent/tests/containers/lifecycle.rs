//! Beginning, end and what happens to a task when someone else dies.

use crate::Case;
use crate::ground::{Ground, Outcome, expect, text, until, wait_dead};
use bramble_agent::runtime::{Adopted, Ended, Phase, RuntimeError, process};
use bramble_core::model::TaskCommand;
use std::time::Duration;

pub const CASES: &[Case] = &[
    Case { name: "exit_codes_and_output", run: exit_codes_and_output },
    Case { name: "creation_fails_cleanly", run: creation_fails_cleanly },
    Case { name: "stop_kills_an_init_that_ignores", run: stop_kills_an_init_that_ignores },
    Case { name: "stop_lets_a_handler_finish", run: stop_lets_a_handler_finish },
    Case { name: "stop_ends_the_grace", run: stop_ends_the_grace },
    Case { name: "stop_reaches_every_process", run: stop_reaches_every_process },
    Case { name: "stop_before_start", run: stop_before_start },
    Case { name: "executor_death_takes_the_container", run: executor_death_takes_the_container },
    Case { name: "container_death_is_an_exit", run: container_death_is_an_exit },
    Case { name: "a_new_agent_adopts", run: a_new_agent_adopts },
    Case { name: "long_task_ids", run: long_task_ids },
];

fn exit_codes_and_output(ground: Ground) -> Outcome {
    let line = "echo $GREETING from $PWD; echo oops >&2; exit 7";
    let record = ground.run(ground.command("t", line))?;
    expect(record.code == 7 && !record.oom && !record.stopped, format!("{record:?}"))?;
    expect(record.failure.is_none(), format!("{record:?}"))?;
    let out = ground.log("t", "stdout");
    expect(out == "hello from /mnt/mesos/sandbox\n", out)?;
    expect(ground.log("t", "stderr") == "oops\n", "stderr")?;
    // Init of a pid namespace is spared from its own signals, unlike its children.
    let record =
        ground.run(ground.command("u", "kill -SEGV $$; sh -c 'kill -SEGV $$'; exit $?"))?;
    expect(record.code == 139, format!("{record:?}"))?;
    expect(ground.runtime.list().map_err(text)?.is_empty(), "nothing is listed")
}

fn creation_fails_cleanly(ground: Ground) -> Outcome {
    let args = TaskCommand::Args(vec!["no-such-program".into()]);
    let launch = ground.image("t", args)?;
    let failed = ground.block(ground.runtime.create(launch))?;
    let Err(RuntimeError::NotCreated(reason)) = failed else { return Err(format!("{failed:?}")) };
    expect(reason.contains("no-such-program"), reason)?;
    let mut launch = ground.image("u", TaskCommand::Args(vec!["true".into()]))?;
    launch.assignment.spec.user = Some("nobody-here".into());
    let failed = ground.block(ground.runtime.create(launch))?;
    let Err(RuntimeError::NotCreated(reason)) = failed else { return Err(format!("{failed:?}")) };
    expect(reason.contains("nobody-here"), reason)?;
    expect(ground.runtime.list().map_err(text)?.is_empty(), "run directories are gone")
}

fn stop_kills_an_init_that_ignores(ground: Ground) -> Outcome {
    let mut handle = ground.start(ground.command("t", "sleep 1000; true"))?;
    let before = std::time::Instant::now();
    ground.block(handle.stop(600_000))?.map_err(text)?;
    let record = ground.exited(&mut handle)?;
    expect(record.stopped && record.code == 137, format!("{record:?}"))?;
    expect(before.elapsed() < Duration::from_secs(120), "the grace was not waited for")?;
    ground.clean("t")
}

fn stop_lets_a_handler_finish(ground: Ground) -> Outcome {
    let line = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    for (id, launch) in [
        ("t", ground.command("t", line)),
        ("u", ground.image("u", TaskCommand::Shell(line.into()))?),
    ] {
        let mut handle = ground.start(launch)?;
        ground.wait_log(id, "ready")?;
        ground.block(handle.stop(20_000))?.map_err(text)?;
        let record = ground.exited(&mut handle)?;
        expect(record.stopped && record.code == 3, format!("{id} {record:?}"))?;
        expect(ground.log(id, "stdout").contains("bye"), "the handler ran")?;
        ground.clean(id)?;
    }
    Ok(())
}

fn stop_ends_the_grace(ground: Ground) -> Outcome {
    let line = "trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done";
    let mut handle = ground.start(ground.command("t", line))?;
    ground.wait_log("t", "ready")?;
    ground.block(handle.stop(600_000))?.map_err(text)?;
    ground.wait_log("t", "no")?;
    until("the word that it stops", || handle.phase() == Some(Phase::Stopping))?;
    // A shorter grace replaces the longer one.
    ground.block(handle.stop(50))?.map_err(text)?;
    let record = ground.exited(&mut handle)?;
    expect(record.stopped && record.code == 137, format!("{record:?}"))?;
    ground.clean("t")
}

fn stop_reaches_every_process(ground: Ground) -> Outcome {
    // Init itself does not handle SIGTERM; its child does and gets the grace.
    let child = "trap \"echo child ends; exit 0\" TERM; echo ready; while :; do sleep 0.05; done";
    let line = format!("sh -c '{child}' & wait; sleep 1000; true");
    let mut handle = ground.start(ground.command("t", &line))?;
    ground.wait_log("t", "ready")?;
    ground.block(handle.stop(20_000))?.map_err(text)?;
    let record = ground.exited(&mut handle)?;
    expect(record.stopped, format!("{record:?}"))?;
    expect(ground.log("t", "stdout").contains("child ends"), "the child had its grace")?;
    ground.clean("t")
}

fn stop_before_start(ground: Ground) -> Outcome {
    let launch = ground.command("t", "echo ran");
    let mut handle = ground.block(ground.runtime.create(launch))?.map_err(text)?;
    expect(handle.phase() == Some(Phase::Created), "created")?;
    ground.block(handle.stop(20_000))?.map_err(text)?;
    let record = ground.exited(&mut handle)?;
    expect(record.stopped && ground.log("t", "stdout").is_empty(), format!("{record:?}"))?;
    ground.clean("t")
}

fn executor_death_takes_the_container(ground: Ground) -> Outcome {
    let image = ground.image("u", TaskCommand::Shell("echo up; sleep 1000 & wait".into()))?;
    for (id, launch) in [("t", ground.command("t", "echo up; sleep 1000; true")), ("u", image)] {
        let handle = ground.start(launch)?;
        ground.wait_log(id, "up")?;
        let init = handle.init();
        process::kill(ground.executor_of(id)?).map_err(text)?;
        let ended = ground.block(handle.wait())?;
        expect(ended == Ended::ExecutorDied, format!("{ended:?}"))?;
        wait_dead(init)?;
        let adopted = ground.block(ground.runtime.adopt(id))?.map_err(text)?;
        expect(matches!(adopted, Adopted::Dead), format!("{adopted:?}"))?;
        ground.clean(id)?;
    }
    expect(ground.runtime.list().map_err(text)?.is_empty(), "run directories are gone")?;
    let work = ground.dir.path().join("work");
    let left = std::fs::read_dir(work).map_err(text)?.count();
    expect(left == 0, format!("{left} overlay directories are left"))
}

fn container_death_is_an_exit(ground: Ground) -> Outcome {
    let mut handle = ground.start(ground.command("t", "sleep 1000; true"))?;
    process::kill(handle.init()).map_err(text)?;
    let record = ground.exited(&mut handle)?;
    expect(record.code == 137 && !record.stopped && !record.oom, format!("{record:?}"))?;
    ground.clean("t")
}

fn a_new_agent_adopts(ground: Ground) -> Outcome {
    let line = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let first = ground.start(ground.command("t", line))?;
    ground.wait_log("t", "up")?;
    let init = first.init();
    drop(first);
    let agent = ground.restart()?;
    let ids = agent.list().map_err(text)?;
    expect(ids == ["t"], format!("{ids:?}"))?;
    let adopted = ground.block(agent.adopt("t"))?.map_err(text)?;
    let Adopted::Live(mut handle) = adopted else { return Err(format!("{adopted:?}")) };
    expect(handle.init() == init && handle.phase() == Some(Phase::Running), "the same init runs")?;
    ground.block(handle.stop(20_000))?.map_err(text)?;
    expect(ground.exited(&mut handle)?.code == 5, "its code")?;

    // An end while nobody looked is on disk.
    let second = ground.restart()?;
    let adopted = ground.block(second.adopt("t"))?.map_err(text)?;
    let Adopted::Ended(record) = adopted else { return Err(format!("{adopted:?}")) };
    expect(record.code == 5 && record.stopped, format!("{record:?}"))?;
    let executor = ground.executor_of("t")?;
    wait_dead(executor)?;
    ground.clean("t")?;
    let never = ground.block(second.adopt("never"))?.map_err(text)?;
    expect(matches!(never, Adopted::Dead), format!("{never:?}"))
}

fn long_task_ids(ground: Ground) -> Outcome {
    let id = format!("{}.instance-1._app.1", "long_name_".repeat(40));
    let mut launch = ground.command("t", "echo ok");
    launch.assignment.task_id.0 = id.clone();
    let mut handle = ground.start(launch)?;
    let ids = ground.runtime.list().map_err(text)?;
    expect(ids == [id.clone()], format!("{ids:?}"))?;
    ground.exited(&mut handle)?;
    ground.clean(&id)?;
    until("an empty list", || ground.runtime.list().is_ok_and(|l| l.is_empty()))
}
