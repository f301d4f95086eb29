//! The way in for people: dropbear, where the node's file has keys.

use super::identity::own_dir;
use super::service::Spec;
use super::tree::put;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const PROGRAM: &str = "/usr/sbin/dropbear";
const HOST_KEYS: &str = "/etc/dropbear";

/// The server, or why there is none. Keys only; the host's own are made at the first login and
/// kept with the node's data.
pub fn server(keys: &[String]) -> Result<Option<Spec>, String> {
    if keys.is_empty() {
        return Ok(None);
    }
    if !Path::new(PROGRAM).exists() {
        return Err("ssh keys are given, but this image was built without dropbear".into());
    }
    let kept = own_dir().join("dropbear");
    let _ = fs::create_dir_all(&kept);
    let _ = fs::remove_dir_all(HOST_KEYS);
    let _ = symlink(kept, HOST_KEYS);
    put("/root/.ssh/authorized_keys", &(keys.join("\n") + "\n"), 0o600);
    let command = [PROGRAM, "-F", "-E", "-R", "-s", "-j", "-k"].map(String::from).to_vec();
    Ok(Some(Spec::background("ssh", command)))
}
