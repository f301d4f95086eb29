//! What a container sees and may do.

use crate::Case;
use crate::ground::{Ground, Outcome, expect, text};
use bramble_agent::runtime::{ExecRequest, ExecStreams, exec::read_all};
use bramble_core::model::{TaskCommand, TaskNetwork, Volume, VolumeMode};
use std::fs;
use tokio::io::AsyncWriteExt;

pub const CASES: &[Case] = &[
    Case { name: "an_image_runs_as_docker_would", run: an_image_runs_as_docker_would },
    Case { name: "users_are_the_images", run: users_are_the_images },
    Case { name: "command_tasks_see_little", run: command_tasks_see_little },
    Case { name: "command_tasks_take_host_users", run: command_tasks_take_host_users },
    Case { name: "an_absent_volume_is_named", run: an_absent_volume_is_named },
    Case { name: "devices_are_out_of_reach", run: devices_are_out_of_reach },
    Case { name: "seccomp_confines", run: seccomp_confines },
    Case { name: "bridge_tasks_have_their_own_network", run: own_network },
    Case { name: "host_volumes_follow_their_mode", run: host_volumes_follow_their_mode },
    Case { name: "exec_sees_the_inside", run: exec_sees_the_inside },
    Case { name: "exec_on_a_terminal", run: exec_on_a_terminal },
    Case { name: "a_task_with_a_terminal", run: a_task_with_a_terminal },
];

fn shell(line: &str) -> TaskCommand {
    TaskCommand::Shell(line.to_string())
}

fn an_image_runs_as_docker_would(ground: Ground) -> Outcome {
    let mut launch = ground.image("t", TaskCommand::Args(vec!["b".into(), "c".into()]))?;
    let image = launch.image.as_mut().ok_or("an image task")?;
    image.entrypoint = vec!["/bin/sh".into(), "-c".into(), "echo $0 $1 $FROM_IMAGE $PWD".into()];
    image.cmd = vec!["unused".into()];
    image.env = vec!["FROM_IMAGE=yes".into(), "GREETING=overridden".into()];
    image.working_dir = Some("/made/for/us".into());
    let record = ground.run(launch)?;
    let out = ground.log("t", "stdout");
    expect(record.code == 0 && out == "b c yes /made/for/us\n", format!("{record:?} {out}"))?;

    let mut launch = ground.image("u", TaskCommand::ImageDefault)?;
    let image = launch.image.as_mut().ok_or("an image task")?;
    let line = "hostname; cat /etc/resolv.conf /etc/hostname; echo $GREETING $HOME; \
                touch /written && echo writable; touch $MESOS_SANDBOX/file; cat /proc/1/comm; \
                ls -d /sys/fs/cgroup/*memory* > /dev/null && echo cgroup";
    image.cmd = vec!["sh".into(), "-c".into(), line.into()];
    ground.run(launch)?;
    let out = ground.log("u", "stdout");
    let want = "box\nnameserver 192.0.2.1\nbox\nhello /root\nwritable\nsh\ncgroup\n";
    expect(out == want, format!("{out}{}", ground.log("u", "stderr")))?;
    expect(ground.dir.path().join("sandboxes/u/file").exists(), "the sandbox is mounted")?;
    expect(!ground.dir.path().join("layer/written").exists(), "the layer stays as it was")
}

fn users_are_the_images(ground: Ground) -> Outcome {
    let line = "id; touch /mnt/mesos/sandbox/mine && echo mine; echo $HOME; \
                cat /proc/self/status | grep -E 'CapEff|NoNewPrivs'; echo again > /dev/stdout";
    let mut launch = ground.image("t", shell(line))?;
    launch.assignment.spec.user = Some("web".into());
    ground.run(launch)?;
    let out = ground.log("t", "stdout");
    let want = "uid=33(web) gid=34(web) groups=29(audio),34(web)\nmine\n/srv\n\
                CapEff:\t0000000000000000\nNoNewPrivs:\t1\nagain\n";
    expect(out == want, format!("{out}{}", ground.log("t", "stderr")))?;
    let mut launch = ground.image("u", shell("id -u; id -g; id -G"))?;
    launch.image.as_mut().ok_or("an image task")?.user = Some("1234:5678".into());
    ground.run(launch)?;
    let out = ground.log("u", "stdout");
    expect(out == "1234\n5678\n5678\n", out)?;
    let launch = ground.image("v", shell("id -G; grep CapEff /proc/self/status"))?;
    ground.run(launch)?;
    let out = ground.log("v", "stdout");
    // Docker's 00000000a80425fb without CAP_MKNOD; root of a shell brings no groups along.
    expect(out == "0\nCapEff:\t00000000a00425fb\n", out)
}

fn command_tasks_see_little(ground: Ground) -> Outcome {
    let secret = ground.dir.path().join("secret");
    fs::write(&secret, "key").map_err(text)?;
    let line = format!(
        "ls -A / | sort | tr '\\n' ' '; echo; \
         cat {} 2>/dev/null && echo LEAK; ls {} 2>/dev/null && echo LEAK; \
         for p in /home /root /var /etc/shadow /etc/ssh /etc/ssl/private /sys /boot /run/* \
           /tmp/*; do test -e $p && echo LEAK $p; done; \
         touch /usr/x /etc/x /x /bin/x 2>/dev/null && echo LEAK writable; \
         touch /tmp/x /run/x /dev/shm/x $MESOS_SANDBOX/x && echo fresh; \
         find / -xdev -type s 2>/dev/null; grep -c . /etc/passwd > /dev/null && echo etc; \
         ls /proc | grep -c '^[0-9]' | grep -q '^[1-9]$' && echo own processes",
        secret.display(),
        ground.dir.path().display(),
    );
    let record = ground.run(ground.command("t", &line))?;
    let out = ground.log("t", "stdout");
    let mut lines = out.lines();
    let root = lines.next().unwrap_or_default();
    for entry in root.split_whitespace() {
        let known = ["bin", "sbin", "usr", "etc", "dev", "proc", "run", "tmp", "mnt"];
        expect(known.contains(&entry) || entry.starts_with("lib"), format!("/{entry} is there"))?;
    }
    let rest: Vec<&str> = lines.collect();
    expect(rest == ["fresh", "etc", "own processes"], format!("{record:?} {out}"))?;
    let mut launch = ground.command("u", "true");
    launch.sandbox = "/usr/share".into();
    let refused = ground.block(ground.runtime.create(launch))?;
    expect(refused.is_err(), "a data directory that tasks can read is refused")
}

fn an_absent_volume_is_named(ground: Ground) -> Outcome {
    let mut launch = ground.command("t", "true");
    launch.assignment.spec.volumes = vec![Volume::Host {
        container_path: "/data".into(),
        host_path: "/nonexistent/data".into(),
        mode: VolumeMode::ReadOnly,
    }];
    match ground.block(ground.runtime.create(launch))? {
        Ok(_) => Err("it was created".into()),
        Err(error) => expect(error.to_string().contains("/nonexistent/data"), error.to_string()),
    }
}

fn command_tasks_take_host_users(ground: Ground) -> Outcome {
    let mut launch = ground.command("t", "id -un; pwd; touch mine && echo mine");
    launch.assignment.spec.user = Some("nobody".into());
    ground.run(launch)?;
    let out = ground.log("t", "stdout");
    expect(
        out == "nobody\n/mnt/mesos/sandbox\nmine\n",
        format!("{out}{}", ground.log("t", "stderr")),
    )
}

fn devices_are_out_of_reach(ground: Ground) -> Outcome {
    // 254:0 and 8:0 are disks, 4:0 a console, 1:1 memory; 1:3 is /dev/null, refused as a node.
    let line = "for d in 'b 254 0' 'b 8 0' 'c 4 0' 'c 1 1' 'c 1 3' 'c 10 200'; do \
                for dir in /tmp /dev /mnt/mesos/sandbox; do \
                mknod $dir/n $d 2>/dev/null && echo MADE $dir $d; done; done; \
                head -c 1 /dev/kcore 2>/dev/null | grep -q . && echo MEMORY; \
                ls /dev | sort | tr '\\n' ' '; echo x > /dev/null && echo null works";
    let sorted =
        "core fd full kcore mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    for (id, launch) in [("t", ground.command("t", line)), ("u", ground.image("u", shell(line))?)] {
        let launch_log = ground.run(launch)?;
        let out = ground.log(id, "stdout");
        let known = |w: &str| sorted.split(' ').any(|s| s == w) || ["null", "works"].contains(&w);
        let odd: Vec<&str> = out.split_whitespace().filter(|w| !known(w)).collect();
        let stranger = odd.iter().any(|w| !["sort:", "tr:"].contains(w));
        expect(!out.contains("MADE") && !stranger, format!("{id} {launch_log:?} {out}"))?;
        expect(out.contains("null works"), out)?;
    }
    // A node that someone else left in a writable place cannot be opened.
    let launch = ground.command("v", "cat node > /dev/null 2>&1 && echo OPENED; echo done");
    let node = launch.sandbox.join("node");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let zero = nix::sys::stat::makedev(1, 5);
    nix::sys::stat::mknod(&node, nix::sys::stat::SFlag::S_IFCHR, mode, zero).map_err(text)?;
    ground.run(launch)?;
    expect(ground.log("v", "stdout") == "done\n", ground.log("v", "stdout"))
}

fn seccomp_confines(ground: Ground) -> Outcome {
    // Raw calls by number through perl, which every Debian has; busybox covers mount.
    let line = "mount -t tmpfs none /tmp 2>/dev/null && echo MOUNTED; \
                unshare -m true 2>/dev/null && echo UNSHARED; \
                unshare -U true 2>/dev/null && echo USERNS; \
                grep -E '^Seccomp:' /proc/self/status; echo done";
    let launch = ground.image("t", shell(line))?;
    ground.run(launch)?;
    let out = ground.log("t", "stdout");
    expect(out == "Seccomp:\t2\ndone\n", out)?;
    if !cfg!(target_arch = "x86_64") || !std::path::Path::new("/usr/bin/perl").exists() {
        return Ok(());
    }
    // keyctl(250), bpf(321), personality(135) with ADDR_NO_RANDOMIZE, clone3(435), getpid(39).
    let perl = "perl -e 'for my $c ([250,0],[321,0],[135,0x40000],[435,0],[39,0]) { \
                my $r = syscall($c->[0], $c->[1], 0, 0); print $c->[0], \" \", \
                $r < 0 ? $!+0 : \"ok\", \"\\n\"; }'";
    let launch = ground.command("u", perl);
    ground.run(launch)?;
    let out = ground.log("u", "stdout");
    let want = "250 1\n321 1\n135 1\n435 38\n39 ok\n";
    expect(out == want, format!("{out}{}", ground.log("u", "stderr")))
}

fn own_network(ground: Ground) -> Outcome {
    let line = "ls /sys/class/net; cat /proc/net/dev | grep -c :";
    let mut launch = ground.image("t", shell(line))?;
    launch.assignment.spec.network = TaskNetwork::Bridge(Vec::new());
    ground.run(launch)?;
    let out = ground.log("t", "stdout");
    expect(out.starts_with("lo\n"), format!("{out}{}", ground.log("t", "stderr")))
}

fn host_volumes_follow_their_mode(ground: Ground) -> Outcome {
    let shared = ground.dir.path().join("shared");
    fs::create_dir(&shared).map_err(text)?;
    fs::write(shared.join("file"), "from the host\n").map_err(text)?;
    let volume = |container_path: &str, mode| Volume::Host {
        container_path: container_path.into(),
        host_path: shared.display().to_string(),
        mode,
    };
    let line = "cat /ro/file; touch /ro/x 2>/dev/null && echo WRITTEN; touch /rw/y && echo rw";
    let mut launch = ground.image("t", shell(line))?;
    launch.assignment.spec.volumes =
        vec![volume("/ro", VolumeMode::ReadOnly), volume("/rw", VolumeMode::ReadWrite)];
    let mut refused = launch.clone();
    ground.run(launch)?;
    let out = ground.log("t", "stdout");
    expect(out == "from the host\nrw\n", format!("{out}{}", ground.log("t", "stderr")))?;
    refused.allow_host_volumes = false;
    let refused = ground.block(ground.runtime.create(refused))?;
    let message = refused.err().map(text).unwrap_or_default();
    expect(message.contains("--allow-host-volumes"), message)
}

fn request(command: &[&str], tty: bool) -> ExecRequest {
    let command = command.iter().map(|s| s.to_string()).collect();
    ExecRequest { command, tty, rows: 33, columns: 77 }
}

fn exec_sees_the_inside(ground: Ground) -> Outcome {
    let mut launch = ground.image("t", shell("echo up; sleep 1000; true"))?;
    launch.assignment.spec.user = Some("web".into());
    let mut handle = ground.start(launch)?;
    ground.wait_log("t", "up")?;
    let line = "id -u; id -G; echo $GREETING $PWD; cat; \
                grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd):' /proc/self/status; \
                cat /proc/1/comm; mount -t tmpfs none /tmp 2>/dev/null; exit 42";
    let (code, out, err) = ground.block(async {
        let mut session =
            ground.runtime.exec("t", request(&["sh", "-c", line], false)).await.map_err(text)?;
        let Some(ExecStreams::Pipes { mut stdin, mut stdout, mut stderr }) = session.take_streams()
        else {
            return Err("pipes".to_string());
        };
        stdin.write_all(b"typed\n").await.map_err(text)?;
        drop(stdin);
        let out = read_all(&mut stdout).await.map_err(text)?;
        let err = read_all(&mut stderr).await.map_err(text)?;
        let code = session.wait().await.map_err(text)?;
        Ok((code, String::from_utf8_lossy(&out).into_owned(), err))
    })??;
    let want = "33\n34 29\nhello /\ntyped\nCapEff:\t0000000000000000\n\
                CapBnd:\t00000000a00425fb\nNoNewPrivs:\t1\nSeccomp:\t2\nsh\n";
    let sorted_groups = out.replace("29 34", "34 29");
    expect(code == 42 && sorted_groups == want, format!("{code} {out} {err:?}"))?;

    let missing = ground.block(async {
        let mut session =
            ground.runtime.exec("t", request(&["absent"], false)).await.map_err(text)?;
        let Some(ExecStreams::Pipes { mut stderr, .. }) = session.take_streams() else {
            return Err("pipes".to_string());
        };
        let err = read_all(&mut stderr).await.map_err(text)?;
        let code = session.wait().await.map_err(text)?;
        Ok((code, String::from_utf8_lossy(&err).into_owned()))
    })??;
    expect(missing.0 == 127 && missing.1.contains("absent"), format!("{missing:?}"))?;
    let nobody = ground.block(ground.runtime.exec("nope", request(&["sh"], false)))?;
    expect(nobody.is_err(), "no such task")?;
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(&mut handle)?;
    ground.clean("t")
}

fn exec_on_a_terminal(ground: Ground) -> Outcome {
    let mut handle = ground.start(ground.image("t", shell("echo up; sleep 1000; true"))?)?;
    ground.wait_log("t", "up")?;
    let (code, out) = ground.block(async {
        let line = "tty; stty size; echo $TERM; read x; echo got $x; stty size; exit 3";
        let mut session =
            ground.runtime.exec("t", request(&["sh", "-c", line], true)).await.map_err(text)?;
        let Some(ExecStreams::Terminal(mut terminal)) = session.take_streams() else {
            return Err("a terminal".to_string());
        };
        session.resize(44, 88).map_err(text)?;
        terminal.write_all(b"word\n").await.map_err(text)?;
        let out = read_all(&mut terminal).await.map_err(text)?;
        let code = session.wait().await.map_err(text)?;
        Ok((code, String::from_utf8_lossy(&out).replace('\r', "")))
    })??;
    let good = out.contains("/dev/pts/0") && out.contains("44 88") && out.contains("got word");
    expect(code == 3 && good && out.contains("xterm"), format!("{code} {out}"))?;
    ground.block(handle.stop(0))?.map_err(text)?;
    ground.exited(&mut handle)?;
    ground.clean("t")
}

fn a_task_with_a_terminal(ground: Ground) -> Outcome {
    let mut launch = ground.image("t", shell("tty; echo out; echo err >&2; exit 6"))?;
    launch.assignment.spec.tty = true;
    let record = ground.run(launch)?;
    let out = ground.log("t", "stdout").replace('\r', "");
    expect(record.code == 6, format!("{record:?} {out}"))?;
    expect(out == "/dev/console\nout\nerr\n" || out == "/dev/pts/0\nout\nerr\n", out)
}
