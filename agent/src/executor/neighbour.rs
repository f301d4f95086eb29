//! The network of another container that this one shares (pods). Owns finding it: a pid alone may
//! meanwhile be another process, whose network would be a stranger's, or the host's.

use super::error::ExecutorError;
use crate::runtime::process;
use bramble_protocol::executor::ProcessKey;
use serde_json::Value;
use std::fs::File;
use std::os::fd::AsRawFd;

/// A network namespace held open.
pub struct Network {
    namespace: File,
}

impl Network {
    /// Open the network namespace of exactly this process.
    ///
    /// # Errors
    /// It is gone.
    pub fn of(key: ProcessKey) -> Result<Network, ExecutorError> {
        let gone = |_| ExecutorError::NetworkGone { pid: key.pid };
        let namespace = File::open(format!("/proc/{}/ns/net", key.pid)).map_err(gone)?;
        // Looked at after opening: while it lives, nobody else can have had its pid.
        match process::is_alive(key) {
            true => Ok(Network { namespace }),
            false => Err(ExecutorError::NetworkGone { pid: key.pid }),
        }
    }

    /// Name it in an OCI configuration that asks for a network namespace.
    pub fn enter_into(&self, config: &mut Value) {
        let namespaces = config["linux"]["namespaces"].as_array_mut();
        let asked = |kind: &&mut Value| kind["type"] == "network";
        if let Some(network) = namespaces.and_then(|all| all.iter_mut().find(asked)) {
            // The process that enters is our child and has this descriptor, too.
            network["path"] = format!("/proc/self/fd/{}", self.namespace.as_raw_fd()).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_very_process_is_joined() {
        let me = process::key_of(std::process::id() as i32).expect("this process runs");
        let imposter = ProcessKey { start_ticks: me.start_ticks + 1, ..me };
        assert!(matches!(Network::of(imposter), Err(ExecutorError::NetworkGone { .. })));
        let network = Network::of(me).expect("this process has a network");
        let kinds = json!([{ "type": "pid" }, { "type": "network" }]);
        let mut config = json!({ "linux": { "namespaces": kinds } });
        network.enter_into(&mut config);
        let kinds = &config["linux"]["namespaces"];
        assert!(kinds[0].get("path").is_none());
        let path = kinds[1]["path"].as_str().expect("a path");
        assert!(std::fs::read_link(path).expect("opened").to_string_lossy().starts_with("net:"));
        let mut on_host = json!({ "linux": { "namespaces": [{ "type": "pid" }] } });
        network.enter_into(&mut on_host);
        assert_eq!(on_host["linux"]["namespaces"], json!([{ "type": "pid" }]));
    }
}
