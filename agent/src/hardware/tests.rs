use super::*;
use std::fs;
use tempfile::TempDir;

/// A tree like sysfs.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn put(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            fs::write(path, format!("{content}\n")).expect("written");
        }
    }

    fn link(&self, at: &str, to: &str) {
        let path = self.0.path().join(at);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        std::os::unix::fs::symlink(self.0.path().join(to), path).expect("linked");
    }

    fn read(&self) -> Hardware {
        Hardware::read(self.0.path(), true)
    }
}

/// A CP2102 in a hub in a Raspberry Pi.
fn with_stick(tree: &Tree, port: &str, serial: &str) {
    let hub = "devices/platform/scb/fd500000.pcie/usb1/1-1";
    let at = |rest: &str| format!("{hub}/{port}{rest}");
    tree.put(&[
        (&format!("{hub}/idVendor"), "2109"),
        (&format!("{hub}/idProduct"), "3431"),
        (&format!("{hub}/bDeviceClass"), "09"),
        (&at("/idVendor"), "10c4"),
        (&at("/idProduct"), "ea60"),
        (&at("/bDeviceClass"), "00"),
        (&at("/devnum"), "4"),
        (&at("/serial"), serial),
        (&at("/dev"), "189:3"),
        (&at("/uevent"), "MAJOR=189\nMINOR=3\nDEVNAME=bus/usb/001/004\nDEVTYPE=usb_device"),
        (&at("/if0/ttyUSB0/tty/ttyUSB0/dev"), "188:0"),
        (&at("/if0/ttyUSB0/tty/ttyUSB0/uevent"), "MAJOR=188\nMINOR=0\nDEVNAME=ttyUSB0"),
        // A disk in the same stick is none of a task's business.
        (&at("/if1/block/sda/dev"), "8:0"),
        (&at("/if1/block/sda/uevent"), "MAJOR=8\nMINOR=0\nDEVNAME=sda"),
    ]);
    tree.link("bus/usb/devices/1-1", hub);
    tree.link(&format!("bus/usb/devices/{port}"), &at(""));
    tree.link("class/tty/ttyUSB0", &at("/if0/ttyUSB0/tty/ttyUSB0"));
    tree.link(&at("/if0/ttyUSB0/tty/ttyUSB0/device"), &at("/if0"));
}

#[test]
fn a_stick_is_found_with_all_it_brings() {
    let tree = Tree::new();
    with_stick(&tree, "1-1.4", "AB01");
    let found = tree.read().devices;
    assert_eq!(found.len(), 1, "the hub is none, and the port is the stick's: {found:?}");
    let Device { offered, nodes } = &found[0];
    assert_eq!(offered.key, "usb:10c4:ea60:AB01@1-1.4#4");
    assert_eq!(offered.ids, ["usb:10c4:ea60", "usb:10c4:ea60:AB01", "serial:AB01"]);
    assert!(!offered.shared && !offered.taken);
    let named: Vec<(&str, u32, u32)> =
        nodes.iter().map(|n| (n.name.as_str(), n.major, n.minor)).collect();
    assert_eq!(named, [("ttyUSB0", 188, 0), ("bus/usb/001/004", 189, 3)]);
}

#[test]
fn what_is_soldered_in_is_found_by_number_and_by_hardware() {
    let tree = Tree::new();
    let uart = "devices/platform/soc/3f201000.serial/tty/ttyAMA0";
    let bus = "devices/platform/soc/3f804000.i2c/i2c-1/i2c-dev/i2c-1";
    let chip = "devices/platform/soc/3f200000.gpio/gpiochip0";
    let absent = "devices/platform/serial8250/tty/ttyS0";
    let console = "devices/platform/soc/3f215040.serial/tty/ttyS1";
    for (path, numbers, name) in [
        (uart, "204:64", "ttyAMA0"),
        (bus, "89:1", "i2c-1"),
        (chip, "254:0", "gpiochip0"),
        (absent, "4:64", "ttyS0"),
        (console, "4:65", "ttyS1"),
    ] {
        tree.put(&[
            (&format!("{path}/dev"), numbers),
            (&format!("{path}/uevent"), &format!("DEVNAME={name}")),
        ]);
        if path.contains("/tty/") {
            tree.put(&[(&format!("{path}/device/uevent"), "")]);
            tree.link(&format!("class/tty/{name}"), path);
        }
    }
    tree.put(&[
        (&format!("{absent}/type"), "0"),
        ("class/tty/console/active", "tty0 ttyS1"),
        ("class/tty/tty5/dev", "4:5"),
        ("class/tty/tty5/uevent", "DEVNAME=tty5"),
    ]);
    tree.link("class/i2c-dev/i2c-1", bus);
    tree.link("bus/gpio/devices/gpiochip0", chip);
    let found = tree.read().devices;
    let ids: Vec<(Vec<&str>, bool)> = found
        .iter()
        .map(|d| (d.offered.ids.iter().map(String::as_str).collect(), d.offered.shared))
        .collect();
    assert_eq!(
        ids,
        [
            (vec!["gpio:0", "gpio:3f200000.gpio"], true),
            (vec!["i2c:1", "i2c:3f804000.i2c"], true),
            (vec!["serial:ttyAMA0", "serial:3f201000.serial"], false),
        ]
    );
}

#[test]
fn names_that_lead_elsewhere_are_left_alone() {
    let tree = Tree::new();
    for (number, name) in [("1", "../sda"), ("2", "/dev/sda"), ("3", "a b"), ("4", "")] {
        let path = format!("class/i2c-dev/i2c-{number}");
        tree.put(&[
            (&format!("{path}/dev"), "89:1"),
            (&format!("{path}/uevent"), &format!("DEVNAME={name}")),
        ]);
    }
    assert!(tree.read().devices.is_empty(), "{:?}", tree.read().devices);
}

#[test]
fn a_pi_tells_of_its_supply() {
    use Trouble::{Earlier, Never, Now};
    let rows = [
        ("0", Never, Never),
        ("50005", Now, Now),
        ("50000", Earlier, Earlier),
        ("0x10000", Earlier, Never),
        ("80008", Never, Now),
        ("20002", Never, Now),
        ("1", Now, Never),
    ];
    for (bits, undervoltage, throttled) in rows {
        let tree = Tree::new();
        tree.put(&[("devices/platform/soc/soc:firmware/get_throttled", bits)]);
        let vitals = tree.read().vitals;
        assert_eq!(vitals.undervoltage, Some(undervoltage), "{bits}");
        assert_eq!(vitals.throttled, Some(throttled), "{bits}");
    }
    let nothing = Tree::new().read();
    assert_eq!((nothing.vitals.undervoltage, nothing.vitals.throttled), (None, None));
    assert_eq!(nothing.vitals.temperature_c, None);
}

#[test]
fn an_alarm_that_is_over_is_remembered() {
    let tree = Tree::new();
    let alarm = |on: &str| {
        tree.put(&[("class/hwmon/hwmon1/name", "rpi_volt")]);
        tree.put(&[("class/hwmon/hwmon1/in0_lcrit_alarm", on)]);
        tree.read()
    };
    let calm = alarm("0");
    assert_eq!(calm.vitals.undervoltage, Some(Trouble::Never));
    let low = alarm("1").after(&calm);
    assert_eq!(low.vitals.undervoltage, Some(Trouble::Now));
    let after = alarm("0").after(&low);
    assert_eq!(after.vitals.undervoltage, Some(Trouble::Earlier));
    assert_eq!(alarm("0").after(&after), after);
    assert_eq!(after.attributes()["undervoltage"], "yes");
    assert_eq!(calm.attributes()["undervoltage"], "no");
}

#[test]
fn heat_wear_and_writes_are_read() {
    let tree = Tree::new();
    let stat = |sectors: u64| format!("10 0 80 5 20 0 {sectors} 7 0 9 9");
    tree.put(&[
        ("class/thermal/thermal_zone0/temp", "48312"),
        ("class/thermal/thermal_zone1/temp", "61900"),
        ("class/thermal/thermal_zone2/temp", "-274000"),
        ("class/hwmon/hwmon0/temp1_input", "99000"),
        ("block/mmcblk0/device/life_time", "0x02 0x03"),
        ("block/mmcblk0/stat", &stat(6 * 1024 * 1024)),
        ("block/loop0/stat", &stat(1 << 40)),
        ("devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "0"),
        ("devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "2"),
    ]);
    let vitals = tree.read().vitals;
    assert_eq!(vitals.temperature_c, Some(61));
    assert_eq!((vitals.wear_percent, vitals.written_gib), (Some(30), Some(3)));
    assert_eq!(vitals.throttled, Some(Trouble::Earlier));
    assert!(vitals.page_bytes >= 4096 && vitals.memory_limits);
    for (estimate, percent) in [("0x00 0x00", None), ("0x0b 0x01", Some(100)), ("junk", None)] {
        tree.put(&[("block/mmcblk0/device/life_time", estimate)]);
        assert_eq!(tree.read().vitals.wear_percent, percent, "{estimate}");
    }
}

#[test]
fn a_degree_more_or_less_is_no_news() {
    let tree = Tree::new();
    let at = |milli: &str| {
        tree.put(&[("class/thermal/thermal_zone0/temp", milli)]);
        tree.read()
    };
    let mut seen = at("50000");
    let mut told = vec![50];
    for milli in ["51000", "52900", "53100", "51000", "49900"] {
        seen = at(milli).after(&seen);
        told.extend(seen.vitals.temperature_c);
    }
    assert_eq!(told, [50, 50, 50, 53, 53, 49]);
}

#[tokio::test]
async fn a_stick_that_comes_and_goes_is_told() {
    let tree = Tree::new();
    let watcher = Watcher::new(tree.0.path(), false);
    let mut seen = watcher.watch();
    assert!(seen.borrow_and_update().devices.is_empty());
    watcher.look().await;
    assert!(!seen.has_changed().expect("it watches"), "nothing is new");
    with_stick(&tree, "1-1.2", "x");
    watcher.look().await;
    assert!(seen.has_changed().expect("it watches"));
    assert_eq!(seen.borrow_and_update().offered()[0].ids[0], "usb:10c4:ea60");
    fs::remove_file(tree.0.path().join("bus/usb/devices/1-1.2")).expect("pulled");
    fs::remove_file(tree.0.path().join("class/tty/ttyUSB0")).expect("pulled");
    watcher.look().await;
    assert!(seen.borrow_and_update().devices.is_empty());
}
