//! Nodes that are removed, copied, or named like another.

use crate::cluster::{ASK, Cluster, hosts, sleeping};
use bramble_tests::lab::{Host, Lab, can_set_up};
use bramble_tests::{PATIENCE, WATCHED, throughout, within};
use std::path::Path;
use std::process::Command;

/// Apps made before others join: as many entries of the log twice over.
const HISTORY: usize = 400;
/// One for each data key that a master hears of: the first, and one if a leader changed meanwhile.
const COPIES_MAX: usize = 2;

impl Cluster {
    /// Run a verb that must succeed; gives what it said.
    fn told(&self, host: usize, arguments: &[&str]) -> String {
        let output = self.lab.node(host).bramble(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}{errors}");
        said
    }

    /// What a node says to whoever sits at it.
    fn status(&self, host: usize) -> String {
        let output = self.lab.node(host).bramble(&["status"]);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Wait until a node's log has this.
    fn until_logged(&self, host: usize, text: &str) {
        self.awaited(&format!("{text:?} in the log"), || {
            self.lab.node(host).log().contains(text).then_some(())
        });
    }

    /// Ids of the hosts' agents by name, as a host sees them.
    fn agent_id(&self, host: usize, name: &str) -> String {
        let agents = self.see(host, "/v1/bramble/agents").expect("agents");
        let mut agents = agents.as_array().expect("a list").iter();
        let agent = agents.find(|agent| agent["name"] == name);
        agent.expect("listed")["id"].as_str().expect("text").to_string()
    }
}

#[test]
fn a_removed_agent_stops_and_its_tasks_go_elsewhere() {
    if !can_set_up("a removed agent") {
        return;
    }
    let mut cluster = Cluster::form(1, 2);
    let removed = cluster.lab.named("agent1");
    // So few to a host that all three are needed.
    let app = sleeping("moved", "77101", 5);
    let spread = app.replacen('{', r#"{"constraints":[["hostname","MAX_PER","2"]],"#, 1);
    cluster.write(&[0], "POST", "/v2/apps", &spread);
    let found = cluster.until_sleep("77101", 5);
    assert!(found.contains_key(&removed), "{found:?}");
    let before = cluster.token();

    // Any node takes it, the removed one's neighbour as well.
    let said = cluster.told(2, &["rm-node", "agent1", "--yes"]);
    assert!(said.contains("agent1") && said.contains("token"), "{said}");
    cluster.awaited("as many as two hosts may have, and none where they were", || {
        let found = cluster.sleepers("77101");
        let elsewhere: usize = found.values().map(Vec::len).sum();
        (elsewhere == 4 && !found.contains_key(&removed)).then_some(())
    });
    cluster.awaited("a word to who sits there", || {
        cluster.status(removed).contains("removed from the cluster").then_some(())
    });
    let agents = cluster.see(0, "/v1/bramble/agents").expect("agents");
    assert_eq!(agents.as_array().expect("a list").len(), 2, "{agents}");

    // It stays out, and the token it knew admits nobody.
    cluster.lab.kill(removed);
    cluster.lab.start([removed]);
    cluster.awaited("the same word again", || {
        cluster.status(removed).contains("removed from the cluster").then_some(())
    });
    let token = cluster.token();
    assert_ne!(token, before);

    // Until a person lets it in again: as another node, with the present token.
    cluster.lab.node_mut(removed).down();
    let data = cluster.lab.node(removed).data_dir();
    let reset = ["reset-identity", "--yes", "--data-dir", data.to_str().expect("text")];
    cluster.told(removed, &reset);
    cluster.lab.node_mut(removed).spawn_with(&["--token", &before]);
    cluster.until_logged(removed, "token");
    assert_eq!(cluster.connected(0), Some(2));
    cluster.lab.kill(removed);
    cluster.lab.node_mut(removed).spawn_with(&["--token", &token]);
    cluster.awaited("it is back", || (cluster.connected(0)? == 3).then_some(()));
}

#[test]
fn a_removed_master_makes_the_keys_worthless_that_it_knew() {
    if !can_set_up("a removed master") {
        return;
    }
    let mut cluster = Cluster::form(3, 2);
    let (asleep, awake) = (cluster.lab.named("agent1"), cluster.lab.named("agent2"));
    let secret = r#"{"value":"open sesame"}"#;
    cluster.write(&[0], "PUT", "/v1/bramble/secrets/door", secret);
    let before = cluster.token();
    cluster.lab.power_off(asleep);

    // The leader itself: it has to give up its place first.
    let leader = cluster.leader();
    let rest: Vec<usize> = (0..3).filter(|host| *host != leader).collect();
    let name = cluster.lab.node(leader).name.clone();
    let said = cluster.told(awake, &["rm-node", &name, "--yes"]);
    assert!(said.contains("CA"), "{said}");
    cluster.leader_among(&rest);
    // The token names the CA by its hash.
    let token = cluster.awaited("another CA", || {
        let output = cluster.lab.node(rest[0]).bramble(&["token"]);
        let token = String::from_utf8_lossy(&output.stdout).trim().to_string();
        let ca = |token: &str| token.split('-').nth(2).map(str::to_string);
        (output.status.success() && ca(&token) != ca(&before)).then_some(token)
    });
    cluster.awaited("a word to who sits at the removed master", || {
        cluster.status(leader).contains("removed from the cluster").then_some(())
    });
    let masters = cluster.told(awake, &["masters"]);
    assert!(!masters.contains(&name) && masters.contains("leads"), "{masters}");

    // Secrets are still there for apps; the removed master cannot lead nor change anything.
    let app = r#"{"id":"opens","cmd":"test \"$DOOR\" = 'open sesame' && exec sleep 77102",
        "cpus":0.05,"mem":16,"env":{"DOOR":{"secret":"door"}},
        "secrets":{"door":{"source":"door"}}}"#;
    cluster.write(&rest, "POST", "/v2/apps", app);
    cluster.until_sleep("77102", 1);
    let refused = cluster.lab.node(leader).ask("PUT", "/v2/apps/opens", Some(r#"{"mem":20}"#), ASK);
    let refused = refused.expect("an answer");
    let told = refused.status == 503 && refused.body.contains("nothing was done: this node was");
    assert!(told, "a removed master took a change, or lost it: {refused:?}");

    // Started again it hears the same, whichever master it meets first, and says it once.
    cluster.lab.kill(leader);
    cluster.lab.start([leader]);
    cluster.awaited("the same word again", || {
        cluster.status(leader).contains("removed from the cluster").then_some(())
    });
    let words = "the cluster does not want this node";
    cluster.awaited("a second line of it", || {
        (cluster.lab.node(leader).log().matches(words).count() == 2).then_some(())
    });
    throughout(WATCHED, "it is said once in each of its lives, and by others hardly", || {
        let log = cluster.lab.node(leader).log();
        let named = |host: &usize| {
            cluster.lab.node(*host).log().matches("a removed node is turned away").count()
        };
        log.matches(words).count() == 2
            && !log.contains("no session with the leader error=this node was removed")
            && rest.iter().all(|host| named(host) <= 2)
    });

    // Who slept through it comes back by its key, and all of them once more, from their disks.
    cluster.lab.power_on(asleep);
    cluster.awaited("the sleeper is back", || (cluster.connected(rest[0])? == 4).then_some(()));
    for host in [rest[0], rest[1], asleep, awake] {
        cluster.lab.kill(host);
        cluster.lab.start([host]);
    }
    cluster.leader_among(&rest);
    cluster.awaited("all are back", || (cluster.connected(rest[0])? == 4).then_some(()));
    assert_eq!(cluster.told(rest[0], &["token"]).trim(), token);
}

#[test]
fn of_two_masters_the_one_that_alone_votes_hands_over_and_goes() {
    if !can_set_up("one of two masters removed") {
        return;
    }
    // Two and not one: an even count leaves one voter, and the other master learns.
    let cluster = Cluster::form_of(hosts(2, 0), 1);
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("stays", "77103", 1));
    cluster.until_sleep("77103", 1);
    cluster.awaited("a master that could lead", || {
        let masters = cluster.see(0, "/v1/bramble/masters")?;
        let learner = |m: &serde_json::Value| m["standing"] == "learner" && m["lag"] == 0;
        masters.as_array()?.iter().any(learner).then_some(())
    });
    cluster.told(0, &["rm-node", "master1", "--yes"]);
    assert_eq!(cluster.leader_among(&[1]), 1);
    cluster.write(&[1], "POST", "/v2/apps", &sleeping("after", "77104", 1));
    let running = cluster.until_sleep("77104", 1);
    assert!(running.contains_key(&1), "{running:?}");
    // The last one is not to be had.
    let refused = cluster.lab.node(1).bramble(&["rm-node", "master2", "--yes"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("last master"), "{said}");
}

#[test]
fn a_new_master_soon_knows_a_long_history() {
    if !can_set_up("a long history") {
        return;
    }
    let mut cluster = Cluster::of(hosts(3, 0), 1);
    cluster.lab.start([0]);
    let token = cluster.token();
    for n in 0..HISTORY {
        let app = format!(r#"{{"id":"many/app{n}","cmd":"true","instances":0}}"#);
        cluster.write(&[0], "POST", "/v2/apps", &app);
    }
    let start = std::time::Instant::now();
    for host in 1..3 {
        cluster.lab.node_mut(host).spawn_with(&["--token", &token]);
    }
    cluster.masters = 3;
    cluster.until_whole();
    println!("voting after {:?}", start.elapsed());
    for host in 1..3 {
        cluster.awaited("all apps", || {
            let apps = cluster.see(host, "/v2/apps")?;
            (apps["apps"].as_array()?.len() == HISTORY).then_some(())
        });
        // It asks for its copy of the data key once, not until it sees it.
        let copies = cluster.lab.node(host).log().matches("has its copy of the data key").count();
        assert!(copies <= COPIES_MAX, "{copies} copies");
    }
}

/// Copy a disk onto another.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-aT").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}

#[test]
fn a_copied_disk_and_a_name_taken_twice_are_told_apart() {
    if !can_set_up("a copied disk") {
        return;
    }
    let mut plans = hosts(1, 1);
    plans.push(Host::new("copy", "agent"));
    plans.push(Host::new("agent1", "agent"));
    let mut cluster = Cluster { lab: Lab::new(plans), masters: 1 };
    let (first, second, namesake) = (1, 2, 3);
    cluster.lab.start([0]);
    let token = cluster.token();
    cluster.lab.node_mut(first).spawn_with(&["--token", &token]);
    cluster.awaited("both are there", || (cluster.connected(0)? == 2).then_some(()));
    cluster.write(&[0], "POST", "/v2/apps", &sleeping("kept", "77103", 4));
    cluster.until_sleep("77103", 4);
    let id = cluster.agent_id(0, "agent1");

    copy(&cluster.lab.node(first).data_dir(), &cluster.lab.node(second).data_dir());
    cluster.lab.start([second]);
    cluster.until_logged(second, "reset-identity");
    let status = cluster.status(0);
    assert!(status.contains("a second machine runs with the key of agent1"), "{status}");
    // The first one goes on as if nothing had been, and the copy ran nothing.
    assert_eq!(cluster.agent_id(0, "agent1"), id);
    let found = cluster.until_sleep("77103", 4);
    assert!(!found.contains_key(&second), "{found:?}");

    let data = cluster.lab.node(second).data_dir();
    let reset = ["reset-identity", "--yes", "--data-dir", data.to_str().expect("text")];
    within(PATIENCE, "it has ended by itself", || {
        (!cluster.lab.node_mut(second).is_up()).then_some(())
    });
    cluster.told(second, &reset);
    cluster.lab.node_mut(second).spawn_with(&["--token", &token]);
    cluster.awaited("three are there", || (cluster.connected(0)? == 3).then_some(()));

    // Another machine that was given a name on purpose that one has.
    cluster.lab.node_mut(namesake).spawn_with(&["--token", &token]);
    cluster.until_logged(namesake, "agent1");
    cluster.awaited("a refusal that says what to do", || {
        let log = cluster.lab.node(namesake).log();
        log.contains("--name").then_some(())
    });
    assert_eq!(cluster.connected(0), Some(3));
}
