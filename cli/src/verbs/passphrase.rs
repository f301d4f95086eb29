//! A passphrase: from a file, or typed at the terminal without being shown.

use super::terminal::Silence;
use anyhow::{Context, Result, bail};
use bramble_protocol::secret::Secret;
use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};
use std::path::Path;

/// Longest passphrase in bytes.
const PASSPHRASE_BYTES_MAX: u64 = 4096;

/// Read the passphrase from `file`, or ask for it (twice, when it is a new one) if somebody sits
/// at the terminal. `None`: nobody gave one.
///
/// # Errors
/// The file cannot be read or is empty, or what was typed differs.
pub async fn read(file: Option<&Path>, new: bool) -> Result<Option<Secret>> {
    if let Some(file) = file {
        let opened = std::fs::File::open(file)
            .with_context(|| format!("opening the passphrase file {}", file.display()))?;
        let mut bytes = Vec::new();
        opened
            .take(PASSPHRASE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading the passphrase file {}", file.display()))?;
        return some(trimmed(bytes)).map(Some);
    }
    if !stdin().is_terminal() {
        return Ok(None);
    }
    let typed = some(asked("passphrase: ").await?)?;
    if new && asked("again: ").await? != typed.expose() {
        bail!("the two passphrases differ; nothing was done");
    }
    Ok(Some(typed))
}

fn some(bytes: Vec<u8>) -> Result<Secret> {
    if bytes.is_empty() {
        bail!("the passphrase is empty; nothing was done");
    }
    Ok(Secret::new(bytes))
}

/// Editors end a file with a newline that nobody means.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    bytes
}

async fn asked(prompt: &str) -> Result<Vec<u8>> {
    let _silent = Silence::begin()?;
    let mut out = stderr();
    write!(out, "{prompt}").and_then(|()| out.flush()).context("asking")?;
    let typed = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).map(|_| line)
    });
    let typed = tokio::select! {
        typed = typed => Some(typed),
        _ = tokio::signal::ctrl_c() => None,
    };
    // The user's own newline was not shown either.
    writeln!(out).context("asking")?;
    let Some(typed) = typed else { bail!("stopped; nothing was done") };
    Ok(trimmed(typed.context("reading the passphrase")?.context("reading it")?.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_gives_its_text_without_the_newline() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("p");
        for (text, expected) in [("a b\n", Some("a b")), (" a", Some(" a")), ("\r\n", None)] {
            std::fs::write(&file, text).expect("writes");
            let read = read(Some(&file), true).await.ok().flatten();
            assert_eq!(read, expected.map(|e| Secret::new(e.into())), "{text:?}");
        }
        // Neither a file that is not there nor a directory is a passphrase.
        for file in [dir.path().join("absent"), dir.path().to_path_buf()] {
            let error = format!("{:#}", read(Some(&file), false).await.expect_err("none"));
            assert!(error.contains(&format!("the passphrase file {}", file.display())), "{error}");
        }
    }
}
