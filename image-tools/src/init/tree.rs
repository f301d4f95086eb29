//! The file tree of a running node: what is mounted over the read-only root, and `/etc`.

use super::console::say;
use crate::node::config::{NodeConfig, Setting, Token, quoted};
use nix::mount::{MsFlags, mount};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

pub const BRAMBLE_CONFIG: &str = "/etc/bramble/bramble.toml";
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Limits of what lies in memory. Logs and sockets are small; nothing else belongs there.
const SMALL: &str = "mode=755,size=16m";
/// Kernel settings: a kernel that met a bug in itself starts anew rather than go on.
const SETTINGS: [(&str, &str); 3] = [
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/kernel/hung_task_timeout_secs", "0"),
];

/// Mount what a running system needs. What fails is told, and the rest goes on.
pub fn mount_all() {
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let all = [
        ("devpts", "/dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=620,ptmxmode=666"),
        ("tmpfs", "/dev/shm", strict, "mode=1777,size=25%"),
        ("mqueue", "/dev/mqueue", strict | MsFlags::MS_NOEXEC, ""),
        ("tmpfs", "/tmp", strict, "mode=1777,size=25%"),
        ("tmpfs", "/var", strict, SMALL),
        ("tmpfs", "/root", strict, "mode=700,size=4m"),
        ("cgroup2", "/sys/fs/cgroup", strict | MsFlags::MS_NOEXEC, "nsdelegate"),
    ];
    for (kind, at, flags, options) in all {
        let _ = fs::create_dir_all(at);
        if let Err(error) = mount(Some(kind), at, Some(kind), flags, Some(options)) {
            say(&format!("mounting {at}: {error}"));
        }
    }
    for dir in ["/var/lib/bramble", "/var/log", "/var/tmp", "/run/log", "/run/net"] {
        let _ = fs::create_dir_all(dir);
    }
    for (link, to) in [
        ("/var/run", "/run"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let _ = symlink(to, link);
    }
    if let Err(error) = open_etc() {
        say(&format!("/etc stays as the image has it: {error}"));
    }
    delegate_controllers();
    for (path, value) in SETTINGS {
        // Some are not in every kernel.
        let _ = fs::write(path, value);
    }
}

/// Put a writable copy of the image's `/etc` over it.
fn open_etc() -> io::Result<()> {
    const COPY: &str = "/run/etc";
    fs::create_dir_all(COPY)?;
    copy(Path::new("/etc"), Path::new(COPY))?;
    mount(Some(COPY), "/etc", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// Let every controller be used below the root of the cgroups.
fn delegate_controllers() {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    for controller in controllers.split_ascii_whitespace() {
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}"));
    }
}

/// Write what names the node.
pub fn name_node(hostname: &str, machine_id: &str) {
    if let Err(error) = nix::unistd::sethostname(hostname) {
        say(&format!("setting the host name: {error}"));
    }
    let hosts = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost\n");
    put("/etc/hostname", format!("{hostname}\n"), 0o644);
    put("/etc/hosts", &hosts, 0o644);
    put("/etc/machine-id", format!("{machine_id}\n"), 0o444);
    for (path, text) in [
        (
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        ),
        ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("/etc/shells", "/bin/sh\n"),
        (RESOLV_CONF, ""),
    ] {
        if !Path::new(path).exists() {
            put(path, text, 0o644);
        }
    }
}

/// Write a file of `/etc`, telling where that fails.
pub fn put(path: &str, content: impl AsRef<[u8]>, mode: u32) {
    let write = || -> io::Result<()> {
        if let Some(dir) = Path::new(path).parent() {
            fs::create_dir_all(dir)?;
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content.as_ref())
    };
    if let Err(error) = write() {
        say(&format!("{path}: {error}"));
    }
}

/// bramble's own file, from the node's. `without` are keys that it refused.
pub fn bramble_config(config: &NodeConfig, without: &[String]) -> String {
    let mut text = String::new();
    let mut add = |key: &str, value: &str| {
        if !without.iter().any(|left_out| left_out == key) {
            text.push_str(&format!("{key} = {value}\n"));
        }
    };
    if let Token::Given(token) = &config.token {
        add("token", &quoted(token));
    }
    if !config.attributes.is_empty() {
        let pairs: Vec<String> =
            config.attributes.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        add("attributes", &quoted(&pairs.join(";")));
    }
    for (key, setting) in &config.bramble {
        add(key, &Setting::to_string(setting));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brambles_file_is_what_the_node_was_given() {
        let (config, complaints) = NodeConfig::parse(
            "token = \"BRAMBLE-1-a-b\"\nattributes = { rack = 1, zone = \"a\" }\n[bramble]\n\
             open-api = true\nresources = \"cpus:1\"\nhttp = \"0.0.0.0:80\"\n",
        );
        assert_eq!(complaints, []);
        let text = bramble_config(&config, &["http".into()]);
        assert_eq!(
            text,
            "token = \"BRAMBLE-1-a-b\"\nattributes = \"rack:1;zone:a\"\nopen-api = true\n\
             resources = \"cpus:1\"\n"
        );
        assert_eq!(bramble_config(&NodeConfig::default(), &[]), "");
    }

    #[test]
    fn the_images_etc_is_copied_whole() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/f"), "x").unwrap();
        symlink("d/f", from.path().join("l")).unwrap();
        copy(from.path(), to.path()).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("l")).unwrap(), "x");
        assert!(fs::symlink_metadata(to.path().join("l")).unwrap().is_symlink());
    }
}
