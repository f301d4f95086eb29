//! Ctrl-C and its like, noted instead of obeyed: who has begun something takes it back first.

use crate::disk::error::Doing;
use crate::lab::LabError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Whether somebody wants this to end.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listen from now on, for as long as this process lives. Programs it starts are not concerned.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn listen() -> Result<Interrupt, LabError> {
        let asked = Interrupt::default();
        let doing = || "listening for signals".to_string();
        let runtime = runtime::Builder::new_current_thread().enable_all().build().doing(doing)?;
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let listening = runtime.block_on(async { kinds.map(signal) });
        for mut one in listening.into_iter().collect::<Result<Vec<_>, _>>().doing(doing)? {
            let asked = asked.clone();
            runtime.spawn(async move {
                while one.recv().await.is_some() {
                    asked.0.store(true, Ordering::Relaxed);
                }
            });
        }
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        Ok(asked)
    }

    /// Whether it came.
    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Go on, unless it came.
    ///
    /// # Errors
    /// It came.
    pub fn check(&self) -> Result<(), LabError> {
        if self.came() { Err(LabError::Interrupted) } else { Ok(()) }
    }
}
