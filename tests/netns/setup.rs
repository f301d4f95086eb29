//! The lab itself: what it claims to do to hosts, it does.

use bramble_tests::lab::{Host, Lab, can_set_up};
use bramble_tests::{Leftovers, eventually};

/// Whether `from` reaches `to` now, with a single packet.
fn reaches(lab: &Lab, from: usize, to: usize) -> bool {
    let mut ping = lab.node(from).inside("busybox");
    ping.args(["ping", "-c", "1", "-W", "1", lab.address(to)]);
    ping.output().expect("ping runs").status.success()
}

#[test]
fn cables_addresses_and_power_are_the_labs() {
    if !can_set_up("the lab") {
        return;
    }
    let mut lab = Lab::new(["a", "b", "c"].map(|name| Host::new(name, "up").nat()).to_vec());
    eventually("a way", || reaches(&lab, 0, 1).then_some(()));
    lab.cut(1);
    assert!(!reaches(&lab, 0, 1));
    lab.mend(1);
    eventually("a way again", || reaches(&lab, 0, 1).then_some(()));
    // Either direction is enough to lose an answer.
    lab.mute(1, true);
    assert!(!reaches(&lab, 0, 1));
    lab.mute(1, false);
    lab.deafen(1, true);
    assert!(!reaches(&lab, 0, 1));
    lab.deafen(1, false);
    assert!(reaches(&lab, 0, 1));
    lab.split(&[&[0], &[1, 2]]);
    assert!(!reaches(&lab, 0, 1) && reaches(&lab, 1, 2));
    lab.unite();
    assert!(reaches(&lab, 0, 1));
    lab.renumber(1);
    eventually("a way to new addresses", || reaches(&lab, 0, 1).then_some(()));
    lab.rotate_addresses();
    eventually("a way to each other's", || reaches(&lab, 0, 1).then_some(()));
    lab.power_off(2);
    assert!(!reaches(&lab, 0, 2));
    lab.boot(2);
    eventually("a way to who has booted", || reaches(&lab, 0, 2).then_some(()));
    lab.slow(0, Some(256));
    assert!(reaches(&lab, 0, 2));
    lab.slow(0, None);
}

#[test]
fn nothing_of_a_node_is_left_when_its_power_is_cut() {
    if !can_set_up("power") {
        return;
    }
    let mut lab = Lab::new(vec![Host::new("alone", "up")]);
    lab.node_mut(0).up();
    let clients = lab.clients(2);
    let app = r#"{"id":"here","cmd":"sleep 1000","cpus":0.1,"mem":16,"instances":2}"#;
    lab.node(0).api("POST", "/v2/apps", Some(app)).expect(201);
    lab.node(0).running("here", 2);
    let (parent, root) = (lab.node(0).cgroup_parent.clone(), lab.node(0).root().to_path_buf());
    assert!(Leftovers::of(&parent, &root, &root.join("run")).processes.len() >= 2);
    lab.power_off(0);
    let none = Leftovers::default();
    assert_eq!(Leftovers::of(&parent, &root, &root.join("run")), none);
    // The disk is as it was: the same tasks' app comes back.
    lab.power_on(0);
    eventually("a leader", || {
        (lab.node(0).try_api("GET", "/v2/leader", None)?.status == 200).then_some(())
    });
    lab.node(0).running("here", 2);
    let history = clients.stop();
    bramble_tests::history::check(&history, bramble_tests::lab::INITIAL).expect("linearizable");
    println!("{} requests", history.len());
    drop(lab);
    assert_eq!(Leftovers::of(&parent, &root, &root.join("run")), none);
    assert!(!root.exists());
}
