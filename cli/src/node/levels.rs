//! The levels of this process's log, as they are set at start and changed by the API.

use anyhow::{Context, Result};
use bramble_master::levels::{LOGGERS_MAX, LogLevel, LogLevels, LogLevelsError, ROOT_LOGGER};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

/// What is logged unless `BRAMBLE_LOG` says otherwise. openraft warns at every heartbeat that a dead
/// master does not answer, twenty times a second; what matters of it the consensus room says once.
const LOG_DEFAULT: &str = "info,openraft=off,mdns_sd=error,quinn=warn";

/// The process's levels, and how to change what is logged to them.
pub struct Levels {
    filter: reload::Handle<Targets, Registry>,
    inner: Mutex<Inner>,
    /// For the timers, which must not keep it.
    own: Weak<Levels>,
}

struct Inner {
    root: LogLevel,
    loggers: BTreeMap<String, LogLevel>,
    temporary: BTreeMap<String, Temporary>,
}

/// A change that will be taken back.
struct Temporary {
    /// The level before; `None`: it had none of its own.
    before: Option<LogLevel>,
    timer: AbortHandle,
}

impl Levels {
    /// Begin to log to standard error.
    pub fn begin() -> Result<Arc<Levels>> {
        let wanted = std::env::var("BRAMBLE_LOG").unwrap_or_else(|_| LOG_DEFAULT.into());
        let targets: Targets =
            wanted.parse().with_context(|| format!("BRAMBLE_LOG is {wanted:?}"))?;
        let (filter, handle) = reload::Layer::new(targets.clone());
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        Ok(Levels::new(&targets, handle))
    }

    fn new(targets: &Targets, filter: reload::Handle<Targets, Registry>) -> Arc<Levels> {
        let root = targets.default_level().map_or(LogLevel::Off, level);
        let own = targets.iter().map(|(name, filter)| (name.to_string(), level(filter)));
        let inner = Inner { root, loggers: own.collect(), temporary: BTreeMap::new() };
        Arc::new_cyclic(|own| Levels { filter, inner: Mutex::new(inner), own: own.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a temporary change back.
    fn restore(&self, logger: &str) {
        let mut inner = self.lock();
        let Some(temporary) = inner.temporary.remove(logger) else { return };
        inner.put(logger, temporary.before);
        self.apply(&inner);
        tracing::info!(logger, "a log level is back to what it was");
    }

    fn apply(&self, inner: &Inner) {
        let own = inner.loggers.iter().map(|(name, level)| (name.clone(), filter(*level)));
        let targets = Targets::new().with_default(filter(inner.root)).with_targets(own);
        // It only fails once the log is gone, and then nobody misses it.
        let _ = self.filter.reload(targets);
    }

    /// Wait, then take the change of `logger` back.
    fn restore_after(&self, logger: String, lasting: Duration) -> AbortHandle {
        let own = self.own.clone();
        let waiting = async move {
            tokio::time::sleep(lasting).await;
            if let Some(levels) = own.upgrade() {
                levels.restore(&logger);
            }
        };
        tokio::spawn(waiting).abort_handle()
    }
}

impl Inner {
    fn get(&self, logger: &str) -> Option<LogLevel> {
        if logger == ROOT_LOGGER { Some(self.root) } else { self.loggers.get(logger).copied() }
    }

    fn put(&mut self, logger: &str, level: Option<LogLevel>) {
        match (logger, level) {
            (ROOT_LOGGER, level) => self.root = level.unwrap_or(LogLevel::Info),
            (_, Some(level)) => drop(self.loggers.insert(logger.to_string(), level)),
            (_, None) => drop(self.loggers.remove(logger)),
        }
    }
}

impl LogLevels for Levels {
    fn all(&self) -> BTreeMap<String, LogLevel> {
        let inner = self.lock();
        let mut all = inner.loggers.clone();
        all.insert(ROOT_LOGGER.to_string(), inner.root);
        all
    }

    fn most(&self) -> LogLevel {
        level(tracing::level_filters::STATIC_MAX_LEVEL)
    }

    fn set(
        &self,
        logger: &str,
        level: LogLevel,
        lasting: Option<Duration>,
    ) -> Result<(), LogLevelsError> {
        // log4j's root, in any case; a Java package is written with dots, a module of Rust with ::.
        let logger = if logger.eq_ignore_ascii_case(ROOT_LOGGER) { ROOT_LOGGER } else { logger };
        let mut inner = self.lock();
        let known = inner.get(logger);
        if known.is_none() && inner.loggers.len() >= LOGGERS_MAX {
            return Err(LogLevelsError::Full);
        }
        // What a change on top of a temporary one goes back to is what was before both.
        let earlier = inner.temporary.remove(logger);
        if let Some(earlier) = &earlier {
            earlier.timer.abort();
        }
        if let Some(lasting) = lasting {
            let before = earlier.map_or(known, |earlier| earlier.before);
            let timer = self.restore_after(logger.to_string(), lasting);
            inner.temporary.insert(logger.to_string(), Temporary { before, timer });
        }
        inner.put(logger, Some(level));
        self.apply(&inner);
        Ok(())
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Off => LevelFilter::OFF,
    }
}

fn level(filter: LevelFilter) -> LogLevel {
    match filter {
        LevelFilter::TRACE => LogLevel::Trace,
        LevelFilter::DEBUG => LogLevel::Debug,
        LevelFilter::INFO => LogLevel::Info,
        LevelFilter::WARN => LogLevel::Warn,
        LevelFilter::ERROR => LogLevel::Error,
        _ => LogLevel::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> (Arc<Levels>, reload::Layer<Targets, Registry>) {
        let targets: Targets = text.parse().unwrap();
        let (layer, handle) = reload::Layer::new(targets.clone());
        (Levels::new(&targets, handle), layer)
    }

    fn shown(levels: &Levels) -> String {
        let all = levels.all().into_iter();
        all.map(|(name, level)| format!("{name}={}", level.as_str())).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test(start_paused = true)]
    async fn levels_change_for_good_or_for_a_while() {
        let (levels, filter) = levels("info,a=warn");
        let second = Duration::from_secs(1);
        assert_eq!(shown(&levels), "ROOT=info a=warn");
        let rows = [
            ("root", LogLevel::Debug, None, "ROOT=debug a=warn"),
            ("b::c", LogLevel::Off, None, "ROOT=debug a=warn b::c=off"),
            ("a", LogLevel::Trace, Some(10), "ROOT=debug a=trace b::c=off"),
            ("a", LogLevel::Error, Some(20), "ROOT=debug a=error b::c=off"),
            ("d", LogLevel::Info, Some(10), "ROOT=debug a=error b::c=off d=info"),
        ];
        for (logger, level, seconds, want) in rows {
            let lasting = seconds.map(|n| second * n);
            levels.set(logger, level, lasting).unwrap();
            assert_eq!(shown(&levels), want);
        }
        tokio::time::sleep(second * 11).await;
        assert_eq!(shown(&levels), "ROOT=debug a=error b::c=off", "a change starts anew");
        tokio::time::sleep(second * 11).await;
        assert_eq!(shown(&levels), "ROOT=debug a=warn b::c=off", "back to before both");
        // One for good ends a temporary one.
        levels.set("a", LogLevel::Trace, Some(second)).unwrap();
        levels.set("a", LogLevel::Info, None).unwrap();
        tokio::time::sleep(second * 5).await;
        assert_eq!(shown(&levels), "ROOT=debug a=info b::c=off");
        let held = levels.filter.with_current(ToString::to_string).unwrap();
        assert!(held.contains("a=info") && held.contains("b::c=off"), "{held}");
        drop(filter);
    }

    #[tokio::test]
    async fn loggers_are_counted() {
        let (levels, _filter) = levels("info");
        for number in 0..LOGGERS_MAX {
            levels.set(&format!("l{number}"), LogLevel::Warn, None).unwrap();
        }
        assert_eq!(levels.set("more", LogLevel::Warn, None), Err(LogLevelsError::Full));
        levels.set("l1", LogLevel::Off, None).unwrap();
        levels.set("ROOT", LogLevel::Warn, None).unwrap();
    }
}
