//! A small image made on the spot from Debian's static busybox: no registry needed.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Builds a `docker save` archive around busybox.
pub struct BusyboxImage {
    pub name: String,
    pub command: Vec<String>,
    pub entrypoint: Vec<String>,
    pub environment: Vec<String>,
    pub user: String,
    pub working_directory: String,
    /// As images name it; the host's unless set.
    pub architecture: String,
    /// Further files: path in the image, content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl BusyboxImage {
    /// An image called `name` whose command is `command`.
    pub fn new(name: &str, command: &[&str]) -> Self {
        Self {
            name: name.into(),
            command: command.iter().map(|s| s.to_string()).collect(),
            entrypoint: Vec::new(),
            environment: vec!["PATH=/bin".into()],
            user: String::new(),
            working_directory: String::new(),
            architecture: host_architecture().into(),
            files: Vec::new(),
        }
    }

    /// Add a file.
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.push((path.into(), content.to_vec()));
        self
    }

    fn layer(&self) -> Vec<u8> {
        let mut layer = tar::Builder::new(Vec::new());
        let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
        for directory in ["bin/", "etc/", "tmp/", "www/"] {
            append(&mut layer, directory, &[], 0o755, tar::EntryType::Directory);
        }
        append(&mut layer, "bin/busybox", &busybox, 0o755, tar::EntryType::Regular);
        append(
            &mut layer,
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/www:/bin/sh\n",
            0o644,
            tar::EntryType::Regular,
        );
        append(&mut layer, "etc/group", b"root:x:0:\nweb:x:102:\n", 0o644, tar::EntryType::Regular);
        for applet in ["sh", "sleep", "httpd", "cat", "echo", "ls", "id", "env", "nc", "wget"] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            layer
                .append_link(&mut header, format!("bin/{applet}"), "busybox")
                .expect("a link is appended");
        }
        for (path, content) in &self.files {
            append(&mut layer, path, content, 0o644, tar::EntryType::Regular);
        }
        layer.into_inner().expect("the layer is complete")
    }

    /// Write the archive into `directory`; gives its path.
    pub fn save(&self, directory: &Path) -> PathBuf {
        let layer = self.layer();
        let layer_digest = sha256(&layer);
        let config = serde_json::json!({
            "architecture": self.architecture,
            "os": "linux",
            "history": [{ "created_by": "the harness" }],
            "config": {
                "Env": self.environment,
                "Cmd": self.command,
                "Entrypoint": self.entrypoint,
                "User": self.user,
                "WorkingDir": self.working_directory,
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        })
        .to_string();
        let config_name = format!("{}.json", sha256(config.as_bytes()));
        let layer_name = format!("{layer_digest}/layer.tar");
        let manifest = serde_json::json!([{
            "Config": config_name, "RepoTags": [self.name], "Layers": [layer_name],
        }])
        .to_string();
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, &config_name, config.as_bytes(), 0o644, tar::EntryType::Regular);
        append(&mut archive, &layer_name, &layer, 0o644, tar::EntryType::Regular);
        append(&mut archive, "manifest.json", manifest.as_bytes(), 0o644, tar::EntryType::Regular);
        let path = directory.join(format!("{}.tar", self.name.replace(['/', ':'], "_")));
        let bytes = archive.into_inner().expect("the archive is complete");
        std::fs::write(&path, bytes).expect("the archive can be written");
        path
    }
}

/// This machine's processor, as images name it.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    content: &[u8],
    mode: u32,
    kind: tar::EntryType,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(1);
    archive.append_data(&mut header, path, content).expect("an entry is appended");
}

/// Digest through coreutils, so that the harness does not trust the code it tests.
pub fn sha256(bytes: &[u8]) -> String {
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sha256sum starts");
    child.stdin.take().expect("it has an input").write_all(bytes).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout)[..64].to_string()
}
