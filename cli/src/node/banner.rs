//! What a node says once it runs.

use crate::config::NodeConfig;
use bramble_core::model::NodeRole;
use bramble_master::server::Master;
use std::net::SocketAddr;

/// The lines of a node that runs.
pub fn up(
    config: &NodeConfig,
    role: NodeRole,
    http: Option<SocketAddr>,
    master: Option<&Master>,
) -> String {
    let Some(http) = http.filter(|_| role != NodeRole::Agent) else {
        return format!(
            "bramble agent {} is up; its cluster's nodes show it in `bramble status`\n",
            config.name
        );
    };
    let url = format!("http://{}", shown(http));
    let open = if config.open_api {
        "API    open to everyone who reaches it (--open-api): they can run code as root here"
    } else {
        "API    open to this machine only; others get 401 (labs: --open-api)"
    };
    // A master that has just joined learns the token a moment later.
    let join = match master.and_then(Master::token) {
        Some(token) => format!("bramble up --token {token}"),
        None => "`bramble token` tells what other machines join with".into(),
    };
    format!(
        "bramble {version} is up: {url}\n\
         {open}\n\
         socket {socket}, for root on this machine\n\
         join   {join}\n\
         try    curl -i -H 'Content-Type: application/json' -d@examples/hello.json {url}/v2/apps\n",
        version = env!("CARGO_PKG_VERSION"),
        socket = config.run_dir.join("bramble.sock").display(),
    )
}

/// A bound address as a user would type it.
fn shown(http: SocketAddr) -> String {
    if http.ip().is_unspecified() { format!("localhost:{}", http.port()) } else { http.to_string() }
}

/// The last line, when apps were left alone.
pub fn left_running(tasks: usize) -> String {
    match tasks {
        0 => "bramble has stopped; no apps were running here\n".into(),
        1 => "bramble has stopped; 1 task keeps running. `bramble up` takes it back, \
            `bramble down` stops it\n"
            .into(),
        more => format!(
            "bramble has stopped; {more} tasks keep running. `bramble up` takes them back, \
             `bramble down` stops them\n"
        ),
    }
}

/// What a stopped node says besides where some of its tasks must not run unseen.
pub fn left_leased() -> String {
    let seconds = bramble_core::lease::LEASE_MS / 1000;
    format!(
        "but apps with volumes and those with MARATHON_SINGLE_INSTANCE_APP end in {seconds} s, \
         unless it is back by then\n"
    )
}
