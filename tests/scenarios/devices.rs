//! Devices and readings of hardware, over trees that look like sysfs. The stick is /dev/kmsg: a
//! character device that every kernel has and that no container may open by itself.

use bramble_tests::{JoinedAgent, Node, can_run_containers, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const KMSG: &str = "1:11";

fn put(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        fs::write(path, format!("{content}\n")).expect("written");
    }
}

/// Plug a serial stick into a machine. It is put together elsewhere: half of it must not be seen.
fn plug(sysfs: &Path) {
    let stick = sysfs.join("stick");
    put(
        &stick,
        &[
            ("idVendor", "10c4"),
            ("idProduct", "ea60"),
            ("serial", "AB01"),
            ("devnum", "4"),
            ("if0/tty/ttyUSB0/dev", KMSG),
            ("if0/tty/ttyUSB0/uevent", "MAJOR=1\nMINOR=11\nDEVNAME=ttyUSB0"),
        ],
    );
    fs::create_dir_all(sysfs.join("bus/usb/devices")).expect("made");
    fs::rename(stick, sysfs.join("bus/usb/devices/1-1.4")).expect("plugged in");
}

fn unplug(sysfs: &Path) {
    fs::rename(sysfs.join("bus/usb/devices/1-1.4"), sysfs.join("pulled")).expect("pulled");
}

/// A node and an agent beside it, each with hardware of its own.
fn machines() -> (Node, JoinedAgent, [PathBuf; 2]) {
    let prepared = Node::builder().prepare();
    let trees = ["one", "two"].map(|name| prepared.root().join(name));
    for tree in &trees {
        put(tree, &[("class/thermal/thermal_zone0/temp", "48000")]);
    }
    let mut node = prepared;
    node.set_env("BRAMBLE_SYSFS", &trees[0].display().to_string());
    node.up();
    let settings = node.root().join("second.toml");
    fs::write(&settings, format!("sysfs = {:?}\n", trees[1])).expect("written");
    let settings = settings.display().to_string();
    let second = node.joined_by(&node, "second", "127.0.0.1:7443", &["--config", &settings]);
    (node, second, trees)
}

fn good(node: &Node, arguments: &[&str]) -> String {
    let output = node.bramble(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The app's one running task, once it is on this host.
fn running_on(node: &Node, app: &str, host: &str) -> Value {
    eventually(&format!("{app} on {host}\n{}", node.log()), || {
        let task = node.tasks(app).into_iter().next()?;
        (task["host"] == host && task["state"] == "TASK_RUNNING").then_some(task)
    })
}

fn why(node: &Node, app: &str, part: &str) {
    eventually(&format!("{part} in why {app}"), || {
        good(node, &["why", app]).contains(part).then_some(())
    });
}

#[test]
fn an_app_has_its_stick_to_itself_and_follows_it() {
    if !can_run_containers("devices") {
        return;
    }
    let (node, second, [here, there]) = machines();
    let zigbee = json!({"id": "zigbee", "cpus": 0.1, "mem": 16, "backoffSeconds": 0,
        "cmd": "[ $BRAMBLE_DEVICE_0 = /dev/zigbee ] && : > /dev/zigbee && exec sleep 100000",
        "user": "nobody",
        "labels": {"BRAMBLE_DEVICES": "usb:10C4:EA60=/dev/zigbee"}});
    node.api("POST", "/v2/apps", Some(&zigbee.to_string())).expect(201);
    why(&node, "zigbee", "no device usb:10c4:ea60 there (plug usb:10c4:ea60 in there)");

    plug(&there);
    let task = running_on(&node, "zigbee", "second");
    let id = task["id"].as_str().expect("an id").to_string();
    let listed = good(&node, &["agents", "devices", "second"]);
    let row = listed.lines().nth(1).unwrap_or_default();
    for part in ["second", "usb:10c4:ea60", "serial:AB01", &id] {
        assert!(row.contains(part), "{part} in {listed}");
    }

    // By another name it is the same stick, and nobody else's.
    let other = json!({"id": "other", "cpus": 0.1, "mem": 16, "cmd": "sleep 100000",
        "labels": {"BRAMBLE_DEVICES": "serial:AB01"}});
    node.api("POST", "/v2/apps", Some(&other.to_string())).expect(201);
    why(&node, "other", "second: device serial:AB01 is held by another task");
    node.api("DELETE", "/v2/apps/other", None).expect(200);
    // Without the label there is no such device.
    let seen = good(&node, &["exec", "zigbee", "--", "sh", "-c", "ls -l /dev"]);
    assert!(seen.contains("zigbee") && !seen.contains("ttyUSB0"), "{seen}");

    unplug(&there);
    why(&node, "zigbee", "no device usb:10c4:ea60 there");
    plug(&here);
    let moved = running_on(&node, "zigbee", &node.name);
    assert_ne!(moved["id"], id.as_str());
    let log = fs::read_to_string(node.root().join("second/log")).unwrap_or_default();
    assert!(log.contains("device usb:10c4:ea60: it is not plugged in here any more"), "{log}");

    // A restarted agent takes its task back, and notices what was pulled meanwhile.
    drop(second);
    let mut node = node;
    node.stop(nix::sys::signal::Signal::SIGKILL);
    node.up();
    assert_eq!(running_on(&node, "zigbee", &node.name)["id"], moved["id"]);
    node.stop(nix::sys::signal::Signal::SIGKILL);
    unplug(&here);
    node.up();
    eventually("the end of the task", || node.tasks("zigbee").is_empty().then_some(()));
    node.wait_clean();
}

#[test]
fn machines_tell_how_they_do() {
    if !can_run_containers("hardware") {
        return;
    }
    let (node, _second, [here, _]) = machines();
    let throttled = "devices/platform/soc/soc:firmware/get_throttled";
    let hardware = || node.get(&format!("/v1/bramble/agents/{}", node.name));
    let agent = eventually("readings", || {
        let agent = hardware();
        agent["hardware"].is_object().then_some(agent)
    });
    assert_eq!(agent["hardware"]["temperature"], 48);
    assert_eq!(agent["hardware"].get("undervoltage"), None);
    let pages = agent["hardware"]["pageSize"].as_u64().expect("a number");
    assert_eq!(agent["attributes"]["page_size"], pages.to_string());

    put(
        &here,
        &[
            (throttled, "50005"),
            ("class/thermal/thermal_zone0/temp", "82500"),
            ("block/mmcblk0/device/life_time", "0x09 0x02"),
        ],
    );
    let agent = eventually("trouble", || {
        let agent = hardware();
        let known = agent["attributes"]["undervoltage"] == "yes";
        (known && agent["hardware"]["undervoltage"] == "now").then_some(agent)
    });
    let told = &agent["hardware"];
    assert_eq!((&told["throttled"], &told["diskWear"]), (&json!("now"), &json!(90)));
    assert!(good(&node, &["agents"]).contains("82C"));
    let output = node.bramble(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["supply voltage was too low now", "slowed down now", "82 degrees", "90 % of its"] {
        let own = format!("{}: ", node.name);
        let line = said.lines().find(|line| line.contains(part));
        assert!(line.is_some_and(|line| line.starts_with(&own)), "{part} in {said}");
    }
    // What constraints can ask for, they can.
    let strong = json!({"id": "strong", "cpus": 0.1, "mem": 16, "cmd": "sleep 100000",
        "constraints": [["undervoltage", "UNLIKE", "yes"]]});
    node.api("POST", "/v2/apps", Some(&strong.to_string())).expect(201);
    running_on(&node, "strong", "second");
    put(&here, &[(throttled, "50000")]);
    eventually("an end of the trouble", || {
        (hardware()["hardware"]["undervoltage"] == "earlier").then_some(())
    });
}

#[test]
fn a_label_that_cannot_be_read_is_refused() {
    let node = Node::start();
    let bad = json!({"id": "bad", "cmd": "true", "labels": {"BRAMBLE_DEVICES": "usb:xyz"}});
    let answer = node.api("POST", "/v2/apps", Some(&bad.to_string())).expect(422);
    let said = answer.json().to_string();
    assert!(said.contains("/labels/BRAMBLE_DEVICES") && said.contains("10c4:ea60"), "{said}");
}
