//! The harness: real `bramble` processes, each in a network namespace and directories of its own.
//!
//! Every node leaves nothing behind: its drop stops it, removes what it made, and says loudly
//! what was still there. Waiting is always for something that can be seen, with a bound.

mod answer;
mod binary;
pub mod history;
mod image;
mod joined;
pub mod lab;
mod leftovers;
mod namespace;
mod node;
mod process;
mod registry;
mod wire;

pub use answer::Answer;
pub use binary::{bramble, previous};
pub use image::{BusyboxImage, host_architecture, sha256};
pub use joined::JoinedAgent;
pub use leftovers::Leftovers;
pub use node::{Node, NodeBuilder};
pub use process::{alive, cgroup_processes, children_named, is_zombie};
pub use registry::{Protection, RunningRegistry, Server, has_registry_tools, skopeo_copy, succeed};
pub use wire::{Lost, request};

use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for anything these tests expect. Generous: the machine may be slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long what shall not happen is watched for.
pub const WATCHED: Duration = Duration::from_secs(3);
/// Pause between two looks at something that gives no event.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Look until `found` gives something; panics with `what` when it does not in [`PATIENCE`].
pub fn eventually<T>(what: &str, found: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, found)
}

/// Like [`eventually`], with a bound of its own.
pub fn within<T>(bound: Duration, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(start.elapsed() < bound, "not seen within {bound:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Look for so long that `holds` does: what shall not happen gives no event to await.
pub fn throughout(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(holds(), "not so after {:?}: {what}", start.elapsed());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Whether the tests can run containers here. With `CI=true` they must.
pub fn can_run_containers(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs root, and CI skips nothing"
    );
    eprintln!("SKIPPED {test}: it runs real containers and needs root (use `make test`)");
    false
}

/// Whether programs that a test needs are on this machine. With `CI=true` they must be.
pub fn has_tools(test: &str, tools: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let here = |tool: &str| path.split(':').any(|dir| Path::new(dir).join(tool).exists());
    let missing: Vec<&str> = tools.iter().copied().filter(|tool| !here(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs {missing}, and CI skips nothing"
    );
    eprintln!("SKIPPED {test}: this machine has no {missing} (`make test` installs them)");
    false
}
