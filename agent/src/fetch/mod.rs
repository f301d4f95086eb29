//! Files a task wants in its sandbox before it starts (Marathon's `fetch`, once `uris`).
//!
//! Owns where they come from, how large and slow they may be, the cache, and what becomes of each
//! in the sandbox. Never writes outside a sandbox and the agent's own directory: how a path is
//! resolved is `image-tools`' business, and so is unpacking.

mod cache;
mod http;
mod source;
mod staging;

use bramble_core::model::Fetch;
use bramble_image_tools::extract::{self, ExtractError, Packing, Source as Then};
use cache::Cache;
use http::{Clients, HttpError};
use source::{Source, SourceError};
use staging::{Staged, Staging, StopOnDrop};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Largest file that is fetched, however much room the disk has, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Longest time one file may take.
const FILE_TIME_MAX: Duration = Duration::from_secs(30 * 60);
const MODE_FILE: u32 = 0o644;
const MODE_EXECUTABLE: u32 = 0o755;
const ANY_EXECUTE_BIT: u32 = 0o111;

/// Tells the user what a fetch is at.
pub type Progress<'a> = &'a (dyn Fn(String) + Send + Sync);

/// A file that could not be brought. The text names it; passwords in URIs are left out.
#[derive(Debug, Error)]
#[error("fetching {uri}")]
pub struct FetchError {
    pub uri: String,
    #[source]
    pub source: Failure,
}

/// Why a file could not be brought.
#[derive(Debug, Error)]
pub enum Failure {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(
        "this node gives tasks none of its own files: start it with --allow-host-volumes, or serve \
         the file over http"
    )]
    FilesNotAllowed,
    #[error("{} is no regular file", .0.display())]
    NotRegular(PathBuf),
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("not there after {} minutes", .0.as_secs() / 60)]
    TooSlow(Duration),
    #[error("larger than the {limit_bytes} bytes that this machine can spare")]
    TooLarge { limit_bytes: u64 },
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error("{0} of the sandbox is where the output goes, and became no plain file")]
    OutputTaken(&'static str),
    #[error("the work was stopped")]
    Stopped,
}

/// The agent's fetcher could not be opened.
#[derive(Debug, Error)]
#[error("making {}", path.display())]
pub struct OpenError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

pub struct Fetcher {
    staging: Staging,
    cache: Cache,
    clients: Clients,
    allow_files: bool,
}

/// What a task prints goes to two files of its sandbox: a directory or a link of that name would
/// lose it.
fn keeps_output(sandbox: &Path) -> Result<(), Failure> {
    for name in ["stdout", "stderr"] {
        let found = std::fs::symlink_metadata(sandbox.join(name));
        if found.is_ok_and(|found| !found.is_file()) {
            return Err(Failure::OutputTaken(name));
        }
    }
    Ok(())
}

impl Fetcher {
    /// Open the fetcher below `dir`, removing what an earlier life had half done.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(dir: &Path, allow_files: bool) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError { path, source }
        };
        let (staging, cache) = (dir.join("staging"), dir.join("cache"));
        Ok(Self {
            staging: Staging::open(&staging).map_err(failed(&staging))?,
            cache: Cache::open(&cache).map_err(failed(&cache))?,
            clients: Clients::default(),
            allow_files,
        })
    }

    /// Bring files into a sandbox, one after the other. May be dropped at any point.
    ///
    /// # Errors
    /// The first that cannot be brought; those before it stay in the sandbox.
    pub async fn fetch(
        &self,
        wanted: &[Fetch],
        sandbox: &Path,
        progress: Progress<'_>,
    ) -> Result<(), FetchError> {
        for file in wanted {
            progress(format!("fetching {}", source::shown(&file.uri)));
            let brought = self.bring(file, sandbox, progress).await;
            brought.map_err(|source| FetchError { uri: source::shown(&file.uri), source })?;
        }
        Ok(())
    }

    async fn bring(
        &self,
        wanted: &Fetch,
        sandbox: &Path,
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let source = Source::parse(&wanted.uri)?;
        let given = wanted.dest_path.clone().filter(|path| !path.is_empty());
        let name = match given {
            Some(name) => name,
            None => source.file_name()?,
        };
        let (from, then, executable) = match &source {
            Source::Http(url) => {
                let staged = self.download(url, wanted, progress).await?;
                // What the cache holds too must not be the task's to write to.
                let then = if wanted.cache { Then::Kept } else { Then::Moved };
                (Origin::Staged(staged), then, wanted.executable)
            }
            Source::File(path) => {
                let executable = self.look_at(path)?;
                (Origin::Host(path.clone()), Then::Kept, wanted.executable || executable)
            }
        };
        let mode = if executable { MODE_EXECUTABLE } else { MODE_FILE };
        let packing = (wanted.extract && !wanted.executable).then(|| Packing::of(&name)).flatten();
        // As in Mesos: an archive that is not cached stays beside what was in it.
        let keep_archive = packing.is_none() || !wanted.cache;
        let sandbox = sandbox.to_path_buf();
        blocking(move |stop| {
            if let Some(packing) = packing {
                extract::extract(from.path(), packing, &sandbox, stop)?;
            }
            if keep_archive {
                extract::place(from.path(), then, &sandbox, &name, mode)?;
            }
            keeps_output(&sandbox)
        })
        .await
    }

    /// Whether a file of this machine is executable; refused where the node keeps its files.
    fn look_at(&self, path: &Path) -> Result<bool, Failure> {
        if !self.allow_files {
            return Err(Failure::FilesNotAllowed);
        }
        let found = std::fs::metadata(path)
            .map_err(|source| Failure::Read { path: path.into(), source })?;
        if !found.is_file() {
            return Err(Failure::NotRegular(path.into()));
        }
        let limit_bytes = self.limit()?;
        if found.len() > limit_bytes {
            return Err(Failure::TooLarge { limit_bytes });
        }
        Ok(found.permissions().mode() & ANY_EXECUTE_BIT != 0)
    }

    async fn download(
        &self,
        url: &source::Url,
        wanted: &Fetch,
        progress: Progress<'_>,
    ) -> Result<Staged, Failure> {
        if !wanted.cache {
            return self.transfer(url, progress).await;
        }
        // Tasks of one app on one machine ask the server once.
        let turn = self.cache.turn(&wanted.uri);
        let _turn = turn.lock().await;
        let staged = self.staging.name();
        if self.cache.get(&wanted.uri, staged.path()) {
            return Ok(staged);
        }
        let staged = self.transfer(url, progress).await?;
        self.cache.put(&wanted.uri, staged.path());
        Ok(staged)
    }

    async fn transfer(&self, url: &source::Url, progress: Progress<'_>) -> Result<Staged, Failure> {
        let staged = self.staging.name();
        let limit_bytes = self.limit()?;
        let transfer = self.clients.download(url, staged.path(), limit_bytes, progress);
        match tokio::time::timeout(FILE_TIME_MAX, transfer).await {
            Ok(Ok(())) => Ok(staged),
            Ok(Err(HttpError::TooLarge)) => Err(Failure::TooLarge { limit_bytes }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Failure::TooSlow(FILE_TIME_MAX)),
        }
    }

    fn limit(&self) -> Result<u64, Failure> {
        Ok(extract::spare_bytes(self.staging.dir())?.min(FILE_BYTES_MAX))
    }
}

/// Where the bytes are.
enum Origin {
    Staged(Staged),
    Host(PathBuf),
}

impl Origin {
    fn path(&self) -> &Path {
        match self {
            Origin::Staged(staged) => staged.path(),
            Origin::Host(path) => path,
        }
    }
}

/// Work on a thread that may wait for the disk; told to stop when its caller is gone.
async fn blocking(
    work: impl FnOnce(&staging::Stop) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let stop = StopOnDrop::default();
    let theirs = stop.flag();
    tokio::task::spawn_blocking(move || work(&theirs)).await.unwrap_or(Err(Failure::Stopped))
}

#[cfg(test)]
mod tests;
