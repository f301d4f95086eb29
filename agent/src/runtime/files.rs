//! The small files a task's run directory holds for its container: `/etc/hosts` and friends, and
//! the root of a command task. Owns their text; must never copy a host file that holds a secret.

use super::launch::Launch;
use super::parameters::Parameters;
use super::view;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Root of a command task, in the task's run directory.
pub const COMMAND_ROOT: &str = "rootfs";
/// Mount point of an image's overlay, in the task's run directory.
pub const OVERLAY_ROOT: &str = "rootfs";
/// Host files a command task gets as copies; larger ones are mounted (`view.rs`).
const ETC_COPIED: [&str; 8] = [
    "passwd",
    "group",
    "nsswitch.conf",
    "protocols",
    "services",
    "timezone",
    "os-release",
    "mime.types",
];
/// Largest host file that is copied, in bytes.
const COPY_BYTES_MAX: u64 = 128 * 1024;

/// Write `hosts`, `hostname` and `resolv.conf` into `dir`.
///
/// # Errors
/// The run directory cannot be written.
pub fn write_names(launch: &Launch, parameters: &Parameters, dir: &Path) -> io::Result<()> {
    let hostname = parameters.hostname.as_deref().unwrap_or(&launch.hostname);
    write_readable(&dir.join("hosts"), &hosts(launch, parameters, hostname))?;
    write_readable(&dir.join("hostname"), &format!("{hostname}\n"))?;
    write_readable(&dir.join("resolv.conf"), &resolv_conf(launch, parameters))
}

fn write_readable(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    // Whatever our umask is, the container's users must be able to read it.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

fn hosts(launch: &Launch, parameters: &Parameters, hostname: &str) -> String {
    let own = || "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_string();
    let mut text = match view::own_network(launch) {
        true => own(),
        // On the host's network the host's names hold.
        false => fs::read_to_string("/etc/hosts").unwrap_or_else(|_| own()),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let _infallible = writeln!(text, "127.0.1.1\t{hostname}");
    for (name, address) in &parameters.hosts {
        let _infallible = writeln!(text, "{address}\t{name}");
    }
    text
}

fn resolv_conf(launch: &Launch, parameters: &Parameters) -> String {
    let mut text = String::new();
    if !parameters.dns.is_empty() {
        for server in &parameters.dns {
            let _infallible = writeln!(text, "nameserver {server}");
        }
    } else {
        text = match &launch.resolv_conf {
            Some(given) => given.clone(),
            None => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
    }
    if !parameters.dns_search.is_empty() {
        let _infallible = writeln!(text, "search {}", parameters.dns_search.join(" "));
    }
    text
}

/// Make the root of a command task: symlinks as on the host, a minimal `/etc`, and in `work_dir`
/// its `/tmp`. Mount points are made by libcontainer; the root is read-only afterwards.
///
/// # Errors
/// The run or data directory cannot be written.
pub fn make_command_root(dir: &Path, work_dir: &Path) -> io::Result<PathBuf> {
    let root = dir.join(COMMAND_ROOT);
    let etc = root.join("etc");
    // Its mode is what the task's own user sees as `/`.
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&etc)?;
    for path in [&root, &etc] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    for path in view::host_roots() {
        if let (Ok(target), Some(name)) = (fs::read_link(&path), path.file_name()) {
            symlink(target, root.join(name))?;
        }
    }
    for name in ETC_COPIED {
        let source = Path::new("/etc").join(name);
        if source.metadata().is_ok_and(|m| m.is_file() && m.len() <= COPY_BYTES_MAX) {
            let text = fs::read(&source)?;
            fs::write(etc.join(name), text)?;
            fs::set_permissions(etc.join(name), fs::Permissions::from_mode(0o644))?;
        }
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        fs::copy(dir.join(name), etc.join(name))?;
    }
    let tmp = work_dir.join("tmp");
    fs::create_dir_all(&tmp)?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))?;
    Ok(root)
}
