//! Limits that are real: memory, processes, CPU, log size.

use crate::Case;
use crate::ground::{Ground, MIB, Outcome, expect, text, until};
use bramble_core::model::TaskCommand;
use std::fs;

pub const CASES: &[Case] = &[
    Case { name: "two_mib_are_enough_for_hello", run: two_mib_are_enough_for_hello },
    Case { name: "out_of_memory_is_named", run: out_of_memory_is_named },
    Case { name: "processes_are_limited", run: processes_are_limited },
    Case { name: "cpu_is_limited_after_the_start", run: cpu_is_limited_after_the_start },
    Case { name: "limits_change_in_a_running_container", run: limits_change },
    Case { name: "memory_in_use_is_not_taken_away", run: memory_in_use },
    Case { name: "swap_is_no_way_out", run: swap_is_no_way_out },
    Case { name: "a_removed_parent_is_made_anew", run: a_removed_parent_is_made_anew },
    Case { name: "undelegated_controllers_are_done_without", run: undelegated_controllers },
    Case { name: "logs_are_rotated", run: logs_are_rotated },
    Case { name: "an_executor_stays_small", run: an_executor_stays_small },
];

fn cgroup_file(ground: &Ground, id: &str, controller: &str, v1: &str, v2: &str) -> Outcome<String> {
    let path = ground.runtime.cgroup_of(id).map_err(text)?;
    let path = path.trim_start_matches('/');
    let hierarchies = ground.runtime.hierarchies();
    let file = match (hierarchies.is_unified(), &hierarchies.unified) {
        (true, Some(mount)) => mount.join(path).join(v2),
        _ => hierarchies.v1_mount(controller).ok_or("no controller")?.join(path).join(v1),
    };
    fs::read_to_string(&file)
        .map(|t| t.trim().to_string())
        .map_err(|e| format!("{}: {e}", file.display()))
}

fn two_mib_are_enough_for_hello(ground: Ground) -> Outcome {
    if !ground.runtime.limits_memory() {
        return Err("this machine has no memory cgroup: limits cannot be tested".into());
    }
    for mib in [2, 1] {
        let id = format!("t{mib}");
        let mut launch = ground.command(&id, "echo hello world; sleep 0.1; cat");
        launch.assignment.spec.mem_limit_bytes = Some(mib * MIB);
        let mut handle = ground.start(launch)?;
        let file = ["memory.limit_in_bytes", "memory.max"];
        let limit = cgroup_file(&ground, &id, "memory", file[0], file[1]);
        // A task that is already over has taken its cgroup along.
        if let Ok(limit) = limit {
            expect(limit == (mib * MIB).to_string(), format!("limit {limit}"))?;
        }
        let record = ground.exited(&mut handle)?;
        expect(record.code == 0 && !record.oom, format!("{mib} MiB: {record:?}"))?;
        expect(ground.log(&id, "stdout") == "hello world\n", "output")?;
        ground.clean(&id)?;
    }
    Ok(())
}

fn out_of_memory_is_named(ground: Ground) -> Outcome {
    let line = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived";
    let mut launch = ground.command("t", line);
    launch.assignment.spec.mem_limit_bytes = Some(16 * MIB);
    let record = ground.run(launch)?;
    expect(record.oom && record.code != 0, format!("{record:?}"))?;
    expect(!record.stopped && record.failure.is_none(), format!("{record:?}"))
}

fn processes_are_limited(ground: Ground) -> Outcome {
    let mut launch = ground.image(
        "t",
        TaskCommand::Shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all".into()),
    )?;
    let image = launch.assignment.spec.image.as_mut().ok_or("an image task")?;
    image.parameters.push(("pids-limit".into(), "5".into()));
    let record = ground.run(launch)?;
    expect(record.code != 0 && !ground.log("t", "stdout").contains("all"), format!("{record:?}"))?;
    expect(ground.log("t", "stderr").contains("fork"), ground.log("t", "stderr"))?;
    let mut handle = ground.start(ground.command("u", "sleep 1000; true"))?;
    let limit = cgroup_file(&ground, "u", "pids", "pids.max", "pids.max")?;
    expect(limit == "2048", limit)?;
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(&mut handle)?;
    ground.clean("u")
}

fn cpu_is_limited_after_the_start(ground: Ground) -> Outcome {
    let mut launch = ground.command("t", "sleep 1000; true");
    launch.assignment.spec.cpu_limit_milli = Some(500);
    launch.assignment.spec.resources.cpus_milli = 250;
    let mut handle = ground.block(ground.runtime.create(launch))?.map_err(text)?;
    let quota = |ground: &Ground| cgroup_file(ground, "t", "cpu", "cpu.cfs_quota_us", "cpu.max");
    let before = quota(&ground)?;
    expect(before == "-1" || before.starts_with("max"), before)?;
    let shares = cgroup_file(&ground, "t", "cpu", "cpu.shares", "cpu.weight")?;
    match ground.runtime.hierarchies().is_unified() {
        // The mapping differs between runtimes; below the default weight it must be.
        true => expect(shares.parse().is_ok_and(|weight| (1..100).contains(&weight)), shares)?,
        false => expect(shares == "256", shares)?,
    }
    ground.block(handle.start())?.map_err(text)?;
    let after = quota(&ground)?;
    expect(after == "50000" || after == "50000 100000", after)?;
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(&mut handle)?;
    ground.clean("t")
}

/// All limits of a running container are replaced, up and down and to none, its processes stay.
fn limits_change(ground: Ground) -> Outcome {
    let launch = ground.command("t", "sleep 1000; true");
    let mut spec = launch.assignment.spec.clone();
    let mut handle = ground.start(launch)?;
    let init = handle.init();
    let unified = ground.runtime.hierarchies().is_unified();
    let file = |controller, v1, v2| cgroup_file(&ground, "t", controller, v1, v2);
    let (half, none) = match unified {
        true => ("50000 100000", "max 100000"),
        false => ("50000", "-1"),
    };
    let sizes = [
        (Some(96), 2000, Some(500), half),
        (Some(16), 500, None, none),
        (None, 1000, Some(500), half),
        (Some(32), 1000, None, none),
    ];
    let shares = |milli: u64| match (unified, milli) {
        (false, milli) => (milli * 1024 / 1000).to_string(),
        (true, 2000) => "174".into(),
        (true, 1000) => "100".into(),
        (true, _) => "59".into(),
    };
    for (mib, milli, ceiling, quota) in sizes {
        spec.mem_limit_bytes = mib.map(|mib: u64| mib * MIB);
        spec.resources.cpus_milli = milli;
        spec.cpu_limit_milli = ceiling;
        // Twice: what holds already is no trouble.
        for _ in 0..2 {
            ground.block(ground.runtime.resize("t", &spec))?.map_err(text)?;
        }
        let memory = file("memory", "memory.limit_in_bytes", "memory.max")?;
        match mib {
            Some(mib) => expect(memory == (mib * MIB).to_string(), &memory)?,
            None if unified => expect(memory == "max", &memory)?,
            None => expect(memory.parse::<u64>().is_ok_and(|m| m > 1 << 60), &memory)?,
        }
        let weight = file("cpu", "cpu.shares", "cpu.weight")?;
        expect(weight == shares(milli), format!("{milli}: {weight}"))?;
        let found = file("cpu", "cpu.cfs_quota_us", "cpu.max")?;
        expect(found == quota, found)?;
        if let (false, Ok(both), Some(mib)) =
            (unified, file("memory", "memory.memsw.limit_in_bytes", ""), mib)
        {
            expect(both == (mib * MIB).to_string(), both)?;
        }
    }
    expect(handle.init() == init && handle.phase().is_some(), "the same process")?;
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(&mut handle)?;
    ground.clean("t")
}

/// A limit below what a program uses is refused, and the program goes on under the old one.
fn memory_in_use(ground: Ground) -> Outcome {
    let line = "x=$(head -c 16000000 /dev/zero | tr '\\0' x); echo full; sleep 1000; echo ${#x}";
    let launch = ground.command("t", line);
    let mut spec = launch.assignment.spec.clone();
    let mut handle = ground.start(launch)?;
    ground.wait_log("t", "full")?;
    spec.mem_limit_bytes = Some(4 * MIB);
    let refused = ground.block(ground.runtime.resize("t", &spec))?;
    let told = match refused {
        Ok(()) => return Err("the limit was taken".into()),
        Err(error) => std::error::Error::source(&error).map(ToString::to_string),
    };
    let named = |told: &String| told.contains("in use") && told.contains("4096 KiB");
    expect(told.as_ref().is_some_and(named), format!("{told:?}"))?;
    let limit = cgroup_file(&ground, "t", "memory", "memory.limit_in_bytes", "memory.max")?;
    expect(limit == (64 * MIB).to_string(), limit)?;
    if ground.runtime.hierarchies().is_unified() {
        let high = cgroup_file(&ground, "t", "memory", "", "memory.high")?;
        expect(high == "max", high)?;
    }
    expect(handle.phase().is_some(), "it runs")?;
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(&mut handle)?;
    ground.clean("t")
}

fn swap_is_no_way_out(ground: Ground) -> Outcome {
    let hierarchies = ground.runtime.hierarchies();
    let counted_v1 = hierarchies
        .v1_mount("memory")
        .is_some_and(|mount| mount.join("memory.memsw.limit_in_bytes").exists());
    let mut handle = ground.start(ground.command("t", "sleep 1000; true"))?;
    let files = ("memory.memsw.limit_in_bytes", "memory.swap.max");
    let limit = || cgroup_file(&ground, "t", "memory", files.0, files.1);
    match (hierarchies.is_unified(), counted_v1) {
        (true, _) => {
            let swap = limit()?;
            expect(swap == "0", format!("memory.swap.max {swap}"))?;
        }
        // v1 counts memory and swap together.
        (false, true) => {
            let both = limit()?;
            expect(both == (64 * MIB).to_string(), both)?;
        }
        (false, false) => println!("    this kernel does not account swap"),
    }
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(&mut handle)?;
    ground.clean("t")
}

/// Limits hold again after the parent was removed under a living agent.
fn a_removed_parent_is_made_anew(ground: Ground) -> Outcome {
    for id in ["t", "u"] {
        let parent = ground.runtime.hierarchies().task(&ground.parent);
        parent.remove().map_err(text)?;
        let mut handle = ground.start(ground.command(id, "sleep 1000; true"))?;
        let files = ["memory.limit_in_bytes", "memory.max"];
        let limit = cgroup_file(&ground, id, "memory", files[0], files[1])?;
        expect(limit == (64 * MIB).to_string(), limit)?;
        ground.block(handle.stop(0))?.map_err(text)?;
        ground.exited(&mut handle)?;
        ground.clean(id)?;
    }
    Ok(())
}

/// On v2 a level with processes of its own hands nothing down; tasks run without its limits.
fn undelegated_controllers(ground: Ground) -> Outcome {
    let Some(mount) = ground.runtime.hierarchies().unified.clone() else { return Ok(()) };
    let is_unified = ground.runtime.hierarchies().is_unified();
    let outer = format!("{}/occupied", ground.parent);
    let dir = mount.join(outer.trim_start_matches('/'));
    fs::create_dir_all(&dir).map_err(text)?;
    let mut occupant = std::process::Command::new("sleep").arg("1000").spawn().map_err(text)?;
    let outcome = fs::write(dir.join("cgroup.procs"), occupant.id().to_string())
        .map_err(text)
        .and_then(|()| below_an_occupied_level(&ground, &outer, is_unified));
    let _gone = occupant.kill();
    occupant.wait().map_err(text)?;
    let group = ground.runtime.hierarchies().task(&outer);
    outcome.and(group.kill_all().and_then(|()| group.remove()).map_err(text))
}

fn below_an_occupied_level(ground: &Ground, outer: &str, is_unified: bool) -> Outcome {
    let runtime = ground.runtime_below(&format!("{outer}/inner"))?;
    let limited = ground.runtime.limits_memory() && !is_unified;
    expect(runtime.limits_memory() == limited, format!("limits: {}", runtime.limits_memory()))?;
    let mut launch = ground.command("t", "echo ran; exit 5");
    launch.assignment.spec.cpu_limit_milli = Some(500);
    let mut handle = ground.block(async {
        let handle = runtime.create(launch).await.map_err(text)?;
        handle.start().await.map_err(text)?;
        Ok::<_, String>(handle)
    })??;
    let record = ground.exited(&mut handle)?;
    ground.block(runtime.clean("t"))?.map_err(text)?;
    let out = ground.log("t", "stdout");
    expect(record.code == 5 && out == "ran\n", format!("{record:?} {out}"))
}

fn logs_are_rotated(ground: Ground) -> Outcome {
    let line = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i of a long log; done";
    let record = ground.run(ground.command("t", &format!("{line}; echo the end")))?;
    expect(record.code == 0, format!("{record:?}"))?;
    let (now, before) = (ground.log("t", "stdout"), ground.log("t", "stdout.1"));
    expect(now.len() <= 64 * 1024 && before.len() <= 64 * 1024, "both are bounded")?;
    expect(now.ends_with("the end\n"), "the newest lines are kept")?;
    expect(!before.is_empty() && before.ends_with(" log\n") || !before.is_empty(), "one rotation")?;
    let files = fs::read_dir(ground.dir.path().join("sandboxes/t")).map_err(text)?.count();
    expect(files == 3, format!("{files} files in the sandbox"))?;

    // A sandbox that cannot be written does not hold the container up.
    let launch = ground.command("u", "head -c 300000 /dev/zero; exit 4");
    let target = ground.dir.path().join("sandboxes/u/stdout");
    std::os::unix::fs::symlink("/dev/full", target).map_err(text)?;
    let record = ground.run(launch)?;
    expect(record.code == 4, format!("{record:?}"))
}

fn an_executor_stays_small(ground: Ground) -> Outcome {
    let mut handle = ground.start(ground.command("t", "echo up; sleep 1000; true"))?;
    ground.wait_log("t", "up")?;
    let executor = ground.executor_of("t")?;
    let rollup = format!("/proc/{}/smaps_rollup", executor.pid);
    let sum = |names: &[&str]| -> Outcome<u64> {
        let smaps = fs::read_to_string(&rollup).map_err(text)?;
        let line = |name: &str| {
            let rest = smaps.lines().find_map(|l| l.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        Ok(names.iter().filter_map(|n| line(n)).sum())
    };
    println!("    executor private memory: {} KiB", sum(&["Private_Clean:", "Private_Dirty:"])?);
    println!("    of it anonymous: {} KiB", sum(&["Anonymous:"])?);
    let status = fs::read_to_string(format!("/proc/{}/status", executor.pid)).map_err(text)?;
    expect(status.contains("Threads:\t1\n"), "one thread")?;
    // Idle means asleep: nothing wakes it.
    let switches = || {
        let path = format!("/proc/{}/status", executor.pid);
        let status = fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("voluntary_ctxt")).map(str::to_string);
        (line, status.contains("State:\tS"))
    };
    until("a sleeping executor", || switches().1)?;
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(&mut handle)?;
    ground.clean("t")
}
