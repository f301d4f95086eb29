//! Update files, as `bramble-image build` writes them: what the head of one says.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;

/// The head's size. Bytes.
const HEAD_BYTES: usize = 4096;
/// Its first line. The node reads and checks the whole; here only two words of it matter.
const MAGIC: &str = "# bramble node update 1\n";

/// An update file for the nodes of one kind of board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFile {
    pub path: PathBuf,
    pub version: String,
    pub board: String,
    pub bytes: u64,
}

#[derive(Deserialize)]
struct Head {
    version: String,
    board: String,
    length: u64,
}

impl UpdateFile {
    /// # Errors
    /// It cannot be read, is none, or is not all there.
    pub async fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut file =
            tokio::fs::File::open(path).await.with_context(|| format!("opening {shown}"))?;
        let bytes = file.metadata().await.with_context(|| format!("reading {shown}"))?.len();
        let mut head = Vec::new();
        (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut head).await?;
        let Some(head) = parse(&head) else {
            bail!(
                "{shown} is no update file; give the .update that `bramble-image build` wrote \
                 beside the image"
            );
        };
        if bytes != HEAD_BYTES as u64 + head.length {
            bail!("{shown} is not whole: it has {bytes} bytes, and its head says otherwise");
        }
        Ok(Self { path: path.into(), version: head.version, board: head.board, bytes })
    }
}

fn parse(head: &[u8]) -> Option<Head> {
    let text = head.get(..HEAD_BYTES)?.strip_prefix(MAGIC.as_bytes())?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    toml::from_str(std::str::from_utf8(&text[..end]).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(content: &[u8]) -> Result<UpdateFile> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("x.update");
        std::fs::write(&path, content)?;
        UpdateFile::open(&path).await
    }

    #[tokio::test]
    async fn update_files_are_known_by_their_heads() {
        let mut content = format!(
            "{MAGIC}version = \"2\"\nboard = \"pi\"\nlength = 5\nfilesystem = 9\nsha256 = \"x\"\n"
        )
        .into_bytes();
        content.resize(HEAD_BYTES, 0);
        let short = open(&content).await.expect_err("not whole").to_string();
        assert!(short.contains("not whole"), "{short}");
        content.extend(b"12345");
        let file = open(&content).await.expect("an update file");
        assert_eq!((&*file.version, &*file.board, file.bytes), ("2", "pi", 4101));
        for bad in [&b""[..], MAGIC.as_bytes(), &[0; 5000]] {
            let error = open(bad).await.expect_err("none").to_string();
            assert!(error.contains("bramble-image build"), "{error}");
        }
    }
}
