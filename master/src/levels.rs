//! What the API may ask of the process's log: which lines it holds.
//!
//! Only the contract; the program that owns the log fulfils it.

use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;

/// Name of the level that holds for every logger without one of its own.
pub const ROOT_LOGGER: &str = "ROOT";
/// Loggers that may have a level of their own.
pub const LOGGERS_MAX: usize = 64;

/// How much a logger tells, from everything to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Off,
}

impl LogLevel {
    pub const ALL: [LogLevel; 6] = [
        LogLevel::Trace,
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Warn,
        LogLevel::Error,
        LogLevel::Off,
    ];

    /// Marathon's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Off => "off",
        }
    }

    /// Read Marathon's word, in any case.
    pub fn parse(text: &str) -> Option<LogLevel> {
        Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text))
    }
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum LogLevelsError {
    #[error(
        "{LOGGERS_MAX} loggers have a level of their own already; change one of these or restart"
    )]
    Full,
    #[error("this process's log has no levels that could be changed")]
    Fixed,
}

/// The levels of the process's log.
pub trait LogLevels: Send + Sync {
    /// Every logger with a level of its own, [`ROOT_LOGGER`] among them.
    fn all(&self) -> BTreeMap<String, LogLevel>;

    /// The most that this build can ever tell: more was left out when it was compiled.
    fn most(&self) -> LogLevel;

    /// Change a logger's level, for good or for `lasting`.
    ///
    /// # Errors
    /// [`LogLevelsError::Full`] for one more than [`LOGGERS_MAX`].
    fn set(
        &self,
        logger: &str,
        level: LogLevel,
        lasting: Option<Duration>,
    ) -> Result<(), LogLevelsError>;
}
