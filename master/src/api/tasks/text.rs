//! The text task list that haproxy-marathon-bridge reads (Marathon's contract, section 2.1.3).

use bramble_core::model::{App, State, Task, TaskState};
use std::fmt::Write;

/// One line per app and service port: name, port, addresses of the running tasks.
pub(super) fn list<'a>(state: &State, apps: impl Iterator<Item = &'a App>) -> String {
    let mut out = String::new();
    for app in apps {
        let name = app.id.safe();
        let running: Vec<&Task> = state
            .instances_of(&app.id)
            .filter_map(|i| i.task.as_ref())
            .filter(|t| t.state == TaskState::Running && !state.is_away(t))
            .collect();
        let ports = app.service_ports();
        if ports.is_empty() {
            line(&mut out, &name, " ", running.iter().map(|t| t.host.clone()).collect());
        }
        for (index, port) in ports.iter().enumerate() {
            let addresses = running.iter().map(|task| address(app, task, index)).collect();
            line(&mut out, &name, &port.to_string(), addresses);
        }
    }
    out
}

fn line(out: &mut String, name: &str, port: &str, mut addresses: Vec<String>) {
    addresses.sort();
    // Writing to a String cannot fail.
    let _ = write!(out, "{name}\t{port}\t");
    for address in addresses {
        let _ = write!(out, "{address}\t");
    }
    out.push('\n');
}

/// Where the service port at `index` is reached on one task.
fn address(app: &App, task: &Task, index: usize) -> String {
    let mappings = app.port_mappings();
    if app.is_host_network() {
        return host_port(task, index);
    }
    match mappings.get(index) {
        Some(mapping) if mapping.host_port.is_none() => {
            let ip = task.ip.as_deref().unwrap_or(&task.host);
            format!("{ip}:{}", mapping.container_port)
        }
        // Mappings that are not on the host take no place among the task's ports.
        _ => host_port(task, mappings.iter().take(index).filter(|m| m.host_port.is_some()).count()),
    }
}

fn host_port(task: &Task, index: usize) -> String {
    format!("{}:{}", task.host, task.ports.get(index).copied().unwrap_or(0))
}
