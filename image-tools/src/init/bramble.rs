//! How bramble is started: its file, its arguments, the images it was flashed with.

use super::console::say;
use super::fat;
use super::service::Spec;
use super::settings::Settings;
use super::tree::{BRAMBLE_CONFIG, bramble_config, put};
use crate::node::NodeConfig;
use crate::node::config::{Role, Token};
use crate::node::layout::{BRAMBLE, DATA_DIR, FOUNDING_FILE, PRELOAD_DIR};
use nix::sys::signal::SigSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// How the programs are named that give it images.
pub const LOAD: &str = "load ";
/// Below the data directory: there once the node belongs to a cluster.
const IDENTITY: &str = "identity";
/// Its name among PID 1's programs.
pub const NAME: &str = "bramble";
/// Where a founding file is handed over: what bramble removes, once used, is this copy; the card
/// is then written by nobody but PID 1.
pub const FOUNDING_COPY: &str = "/run/founding.bramble";

/// Have bramble's program unpacked into memory by the time it is started: the drivers before it
/// keep one processor busy for seconds.
pub fn read_ahead() {
    let read = || {
        // Signals to PID 1 are for its loop.
        let _ = SigSet::all().thread_block();
        let _ = File::open(BRAMBLE).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    };
    // Without it bramble only starts later.
    let _ = thread::Builder::new().stack_size(64 << 10).spawn(read);
}

/// Check the settings meant for bramble with bramble itself, and leave out those that it refuses;
/// gives what it said of them.
pub fn check(config: &mut NodeConfig) -> Vec<String> {
    let mut said = Vec::new();
    if refusal(&bramble_config(config, &[])).is_none() {
        return said;
    }
    let bare = NodeConfig::default();
    // Each alone, so that one does not hide another.
    let token = NodeConfig { token: config.token.clone(), ..bare.clone() };
    if let Some(reason) = refusal(&bramble_config(&token, &[])) {
        said.push(reason);
        config.token = Token::Refused;
    }
    let attributes = NodeConfig { attributes: config.attributes.clone(), ..bare.clone() };
    if let Some(reason) = refusal(&bramble_config(&attributes, &[])) {
        said.push(format!("{reason}; the attributes are left out"));
        config.attributes.clear();
    }
    config.bramble.retain(|key, setting| {
        let alone = [(key.clone(), setting.clone())].into();
        let alone = NodeConfig { bramble: alone, ..bare.clone() };
        let reason = refusal(&bramble_config(&alone, &[]));
        if let Some(reason) = &reason {
            said.push(format!("[bramble] {key} is left out: {reason}"));
        }
        reason.is_none()
    });
    said
}

/// What bramble says against a file.
fn refusal(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    put(BRAMBLE_CONFIG, text, 0o600);
    let output = Command::new(BRAMBLE).args(["up", "--print-config"]).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let text = text.trim().trim_start_matches("bramble: ");
            Some(
                text.replace(&format!("{BRAMBLE_CONFIG}: "), "")
                    .replace(BRAMBLE_CONFIG, "bramble.toml"),
            )
        }
        Err(error) => Some(format!("{BRAMBLE}: {error}")),
    }
}

/// Write its file and give its command.
pub fn prepare(settings: &Settings, shown: bool) -> Spec {
    let config = &settings.config;
    put(BRAMBLE_CONFIG, bramble_config(config, &[]), 0o600);
    let mut command: Vec<String> =
        [BRAMBLE, config.role.verb(), "--data-dir", DATA_DIR].map(String::from).to_vec();
    // Who only runs apps cannot be the first.
    if config.role != Role::Agent && hand_over_founding(settings) {
        command.extend(["--founding".to_string(), FOUNDING_COPY.to_string()]);
    }
    Spec { name: NAME.into(), command, logged: true, shown, once: false }
}

/// From the card until it is used; from a CD, which stays as it is, while this node belongs to no
/// cluster yet.
fn hand_over_founding(settings: &Settings) -> bool {
    let card = || fs::read(fat::path(FOUNDING_FILE)).ok();
    let belongs = Path::new(DATA_DIR).join(IDENTITY).exists();
    let cd = settings.founding.as_ref().filter(|_| !belongs);
    let Some(founding) = cd.cloned().or_else(card) else { return false };
    put(FOUNDING_COPY, founding, 0o600);
    Path::new(FOUNDING_COPY).exists()
}

/// Remove the founding file from the card once bramble has used it and removed its copy.
pub fn settle_founding() {
    if fat::path(FOUNDING_FILE).exists() && !Path::new(FOUNDING_COPY).exists() {
        match fat::remove(FOUNDING_FILE) {
            Ok(()) => say("the founding file was used and is removed from the card"),
            Err(error) => say(&format!("{FOUNDING_FILE} was used; remove it by hand: {error}")),
        }
    }
}

/// The next image archive that was flashed with the node, if one is left.
pub fn preload() -> Option<(PathBuf, Spec)> {
    let entries = fs::read_dir(Path::new(DATA_DIR).join(PRELOAD_DIR)).ok()?;
    let path = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).min()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let command = vec![BRAMBLE.into(), "load".into(), path.to_string_lossy().into_owned()];
    let spec =
        Spec { name: format!("{LOAD}{name}"), command, logged: true, shown: false, once: true };
    Some((path, spec))
}
