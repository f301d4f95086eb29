//! Strict clients: every answer that they do not know to the last key makes them raise.

use crate::installed::Client;
use bramble_tests::{Node, can_run_containers};

/// Run one script against a node of its own and see that nothing stays on the machine.
fn drive(client: fn(&str) -> Option<Client>, script: &str) {
    if !can_run_containers(script) {
        return;
    }
    let Some(client) = client(script) else { return };
    let node = Node::start();
    client.run(&node, script);
    node.wait_clean();
}

#[test]
fn the_pypi_client_manages_apps() {
    drive(Client::python, "apps.py");
}

#[test]
fn the_pypi_client_manages_tasks_deployments_and_the_queue() {
    drive(Client::python, "tasks.py");
}

#[test]
fn the_npm_client_manages_and_hears_all_it_knows() {
    drive(Client::npm, "client.js");
}

#[test]
fn the_pypi_client_manages_groups() {
    drive(Client::python, "groups.py");
}

#[test]
fn the_pypi_client_makes_the_leader_abdicate() {
    drive(Client::python, "leader.py");
}

#[test]
fn the_pypi_client_hears_every_event() {
    drive(Client::python, "events.py");
}
