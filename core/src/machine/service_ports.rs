//! Service ports: numbers by which load balancers know an app, unique over the cluster.

use crate::command::Rejection;
use crate::model::{App, AppId, State};
use std::collections::{BTreeMap, BTreeSet};

/// First service port given by default (Marathon's `local_port_min`).
pub const SERVICE_PORT_BEGIN: u16 = 10_000;
/// Last one (Marathon's `local_port_max`).
pub const SERVICE_PORT_END: u16 = 20_000;

/// Give every service port written as 0 a number: the one the app had at that place, else the
/// lowest that no app uses. `changed` are the apps of a command, `None` where it removes one.
pub(super) fn assign(
    state: &State,
    changed: &mut BTreeMap<AppId, Option<App>>,
) -> Result<(), Rejection> {
    // All that is kept is known before anything new is given.
    for (id, app) in changed.iter_mut() {
        let Some(app) = app else { continue };
        let earlier = state.apps.get(id).map(|r| r.app.service_ports()).unwrap_or_default();
        keep_earlier(app, &earlier);
    }
    let own = changed.values().flatten().flat_map(App::service_ports);
    if !own.clone().any(|port| port == 0) {
        return Ok(());
    }
    let others = state.apps.iter().filter(|(id, _)| !changed.contains_key(*id));
    let others = others.flat_map(|(_, record)| record.app.service_ports());
    let used: BTreeSet<u16> = own.chain(others).collect();
    let mut free = (SERVICE_PORT_BEGIN..=SERVICE_PORT_END).filter(|port| !used.contains(port));
    for app in changed.values_mut().flatten() {
        for port in places(app).into_iter().filter(|p| **p == 0) {
            *port = free.next().ok_or(Rejection::ServicePortsExhausted {
                begin: SERVICE_PORT_BEGIN,
                end: SERVICE_PORT_END,
            })?;
        }
    }
    Ok(())
}

fn keep_earlier(app: &mut App, earlier: &[u16]) {
    let mut own: BTreeSet<u16> = app.service_ports().into_iter().collect();
    for (port, earlier) in places(app).into_iter().zip(earlier) {
        if *port == 0 && own.insert(*earlier) {
            *port = *earlier;
        }
    }
}

/// Where an app writes its service ports, in definition order.
fn places(app: &mut App) -> Vec<&mut u16> {
    if app.is_host_network() {
        return app.port_definitions.iter_mut().map(|p| &mut p.port).collect();
    }
    app.container
        .iter_mut()
        .filter_map(|c| c.port_mappings.as_mut())
        .flatten()
        .map(|m| &mut m.service_port)
        .collect()
}
