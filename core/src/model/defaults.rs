//! An app with every default of Marathon's contract (section 3), for code that builds apps.
//!
//! Owns the default numbers of the definition; it must never read a request.

use super::{
    App, AppId, BYTES_PER_MIB, BackoffStrategy, KillSelection, Network, PPM, Resources, Time,
    UnreachableStrategy, UpgradeStrategy,
};
use std::collections::BTreeMap;

/// Thousandths of a core an app asks for by default.
pub const CPUS_MILLI_DEFAULT: u64 = 1000;
/// Memory an app asks for by default, in bytes.
pub const MEM_BYTES_DEFAULT: u64 = 128 * BYTES_PER_MIB;
/// Marathon's launch backoff: 1 s, growing by 1.15 up to 300 s.
pub const BACKOFF_DEFAULT: BackoffStrategy =
    BackoffStrategy { initial_ms: 1000, factor_ppm: 1_150_000, max_ms: 300_000 };
/// Marathon's bounds of a rolling change: never fewer than wanted, at most twice as many.
pub const UPGRADE_DEFAULT: UpgradeStrategy =
    UpgradeStrategy { min_health_ppm: PPM, max_over_ppm: PPM };

impl App {
    /// Build an app that has only an id: one instance on the host network, no ports, no command.
    pub fn with_defaults(id: AppId) -> App {
        App {
            id,
            cmd: None,
            args: None,
            user: None,
            env: BTreeMap::new(),
            instances: 1,
            resources: Resources {
                cpus_milli: CPUS_MILLI_DEFAULT,
                mem_bytes: MEM_BYTES_DEFAULT,
                disk_bytes: 0,
                gpus: 0,
            },
            resource_limits: None,
            executor: String::new(),
            executor_resources: None,
            constraints: Vec::new(),
            fetch: Vec::new(),
            store_urls: Vec::new(),
            container: None,
            networks: vec![Network::Host],
            port_definitions: Vec::new(),
            require_ports: false,
            health_checks: Vec::new(),
            check: None,
            readiness_checks: Vec::new(),
            dependencies: Vec::new(),
            backoff: BACKOFF_DEFAULT,
            upgrade: UPGRADE_DEFAULT,
            labels: BTreeMap::new(),
            accepted_resource_roles: None,
            role: None,
            kill_selection: KillSelection::YoungestFirst,
            unreachable: UnreachableStrategy::After { inactive_ms: 0, expunge_ms: 0 },
            kill_grace_ms: None,
            secrets: BTreeMap::new(),
            residency: None,
            tty: None,
            version: Time(0),
            last_scaling: Time(0),
            last_config_change: Time(0),
            pod: None,
            last_restart: Time(0),
        }
    }
}
