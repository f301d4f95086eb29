//! PID 1 in the running slot's root: what is started, in which order, and the loop that keeps it.

mod requests;
mod start;

use super::console::{chain, say};
use super::control::Asked;
use super::disk::Disk;
use super::events::Events;
use super::modules::Modules;
use super::net::{self, Network};
use super::service::Services;
use super::slots::Slots;
use super::status::{self, Cluster, Status, Teller};
use super::sys::Down;
use super::watchdog::Watchdog;
use super::{alone, bramble, identity, power};
use crate::node::NodeConfig;
use crate::node::Slot;
use crate::node::config::{Complaint, Setting, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Between two rounds in which nothing happened: the watchdog is fed, the trial's time looked at.
const ROUND: Duration = Duration::from_secs(5);
/// Between two looks at bramble: until it answers, and then.
const ASK_SOON: Duration = Duration::from_millis(500);
const ASK_LATER: Duration = Duration::from_secs(30);
/// Ends of bramble in a row that are told as trouble.
const TROUBLE: u32 = 2;
const API_PORT: u16 = 8080;
const NO_LEADER: &str = "running, but the cluster has no leader that it could reach";

/// Run the node. Returns only where its loop cannot be made.
pub fn run(disk: &str, slot: &str) -> i32 {
    let slot = slot.parse().unwrap_or(Slot::A);
    let error = match Node::start(Disk::named(disk), slot) {
        Ok(mut node) => node.keep(),
        Err(error) => error,
    };
    say(&format!("PID 1 cannot go on: {error}"));
    1
}

/// What bramble last answered.
struct Seen {
    cluster: Option<Cluster>,
    next_ask: Instant,
}

impl Default for Seen {
    fn default() -> Self {
        Self { cluster: None, next_ask: Instant::now() }
    }
}

struct Node {
    config: NodeConfig,
    left_out: Vec<Complaint>,
    complaints: Vec<String>,
    hostname: String,
    slots: Slots,
    services: Services,
    network: Network,
    modules: Modules,
    watchdog: Watchdog,
    teller: Teller,
    seen: Seen,
    /// bramble may run: there is data, and no token that was mistyped.
    runs: bool,
    /// The slot that this node itself confirms.
    alone: Option<Slot>,
    /// The archive that is being loaded.
    loading: Option<PathBuf>,
    staging: Arc<AtomicBool>,
    signals: SignalFd,
    events: Option<Events>,
    asked: Receiver<Asked>,
    wake: io::PipeReader,
    down: Option<Down>,
}

impl Node {
    /// The loop. Gives why it cannot go on.
    fn keep(&mut self) -> io::Error {
        loop {
            let next_start = self.services.look();
            self.watchdog.feed();
            self.ask_bramble();
            self.teller.tell(&self.status());
            if self.slots.given_up() && self.down.is_none() {
                say("this slot was on trial and nobody confirmed it; going back to the other");
                self.down = Some(Down::Reboot);
            }
            if let Some(how) = self.down {
                power::down(how, self.services.pid(bramble::NAME), &mut self.watchdog);
            }
            let now = Instant::now();
            let ask = self.runs.then_some(self.seen.next_ask);
            let next = next_start.into_iter().chain(ask).chain([now + ROUND]).min();
            let pause = next.unwrap_or(now).saturating_duration_since(now);
            if let Err(error) = self.wait(pause) {
                return error;
            }
        }
    }

    fn wait(&mut self, pause: Duration) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(events) = &self.events {
            fds.push(PollFd::new(events.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, so that the time has come when it returns.
        let pause = u16::try_from(pause.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut fds, PollTimeout::from(pause)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(fds);
        if ready[0] {
            self.take_signals();
        }
        if ready[1] {
            let mut byte = [0; 1];
            self.wake.read_exact(&mut byte)?;
            if let Ok(asked) = self.asked.try_recv() {
                self.answer(asked);
            }
        }
        if ready.get(2) == Some(&true) {
            self.take_events();
        }
        Ok(())
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => {}
                Ok(Signal::SIGINT) => self.down = Some(Down::Reboot),
                Ok(Signal::SIGTERM) => self.down = Some(Down::Poweroff),
                // An address changed.
                _ => {}
            }
        }
        loop {
            let (pid, how, good) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit {code}"), code == 0),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, signal.to_string(), false),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(name) = self.services.ended(pid, &how) {
                self.loaded(&name, good);
            } else if self.services.pid(bramble::NAME).is_none() && self.runs {
                self.seen.cluster = None;
                self.seen.next_ask = Instant::now() + ASK_SOON;
            }
        }
    }

    fn take_events(&mut self) {
        let mut cards = false;
        while let Some(event) = self.events.as_ref().and_then(Events::next) {
            if let (true, Some(modalias)) = (event.added, &event.modalias) {
                self.modules.load(modalias);
            }
            cards |= event.subsystem == "net";
        }
        if cards {
            self.network.look(&self.config, &self.hostname, &mut self.services);
        }
    }

    fn ask_bramble(&mut self) {
        if !self.runs || Instant::now() < self.seen.next_ask {
            return;
        }
        self.seen.cluster = status::ask().ok();
        let answers = self.seen.cluster.is_some();
        self.seen.next_ask = Instant::now() + if answers { ASK_LATER } else { ASK_SOON };
        self.go_alone();
        if answers {
            bramble::settle_founding();
            self.load_next();
        }
    }

    /// After an update that nobody else watches: confirm it once the cluster sees this node, and
    /// open the node for tasks; also after one that was given up.
    fn go_alone(&mut self) {
        let Some(slot) = self.alone else { return };
        let seen = self.seen.cluster.as_ref().is_some_and(|cluster| cluster.sees(&self.hostname));
        if !seen {
            return;
        }
        if slot == self.slots.running()
            && let Err(error) = self.slots.confirm()
        {
            return say(&chain(&error));
        }
        self.alone = None;
        alone::forget();
        self.services.add(alone::open(&self.hostname));
    }

    /// Give bramble the next image it was flashed with.
    fn load_next(&mut self) {
        if self.loading.is_none()
            && let Some((path, spec)) = bramble::preload()
        {
            say(&spec.name);
            self.services.add(spec);
            self.loading = Some(path);
        }
    }

    fn loaded(&mut self, name: &str, good: bool) {
        if !name.starts_with(bramble::LOAD) {
            return;
        }
        let Some(path) = self.loading.take() else { return };
        if good {
            say(&format!("{name}: done"));
        } else {
            // Kept on the card, but out of the way: it would be tried for ever.
            self.complaints.push(format!("{name} failed; see /run/log/{name}.log"));
        }
        let put_away = if good {
            fs::remove_file(&path)
        } else {
            fs::rename(&path, identity::own_dir().join(path.file_name().unwrap_or_default()))
        };
        match put_away {
            Ok(()) => self.load_next(),
            Err(error) => say(&format!("{}: {error}", path.display())),
        }
    }

    fn status(&self) -> Status {
        let mut complaints = self.complaints.clone();
        complaints.extend(self.network.complaints.iter().cloned());
        let trouble = self.services.trouble(bramble::NAME);
        let state = match (&self.seen.cluster, trouble) {
            _ if !self.runs => "bramble does not run".to_string(),
            (Some(cluster), _) if cluster.leader.is_none() => NO_LEADER.into(),
            (Some(_), _) => "running".into(),
            (None, Some((ends, lines))) if ends >= TROUBLE => {
                complaints.push("bramble ends again and again; its last words:".into());
                complaints.extend(lines.into_iter().map(|line| format!("  {line}")));
                "bramble ends again and again".into()
            }
            (None, _) if matches!(self.config.token, Token::Given(_)) => {
                "starting, or looking for its cluster".into()
            }
            (None, _) => "starting".into(),
        };
        Status {
            hostname: self.hostname.clone(),
            cluster_name: self.config.cluster.clone(),
            image: self.slots.version().into(),
            board: self.slots.board().into(),
            slot: self.slots.running().to_string(),
            on_trial: self.slots.trial_seconds_left().is_some(),
            addresses: net::addresses(),
            api_port: api_port(&self.config),
            state,
            cluster: self.seen.cluster.clone(),
            complaints,
            left_out: self.left_out.clone(),
        }
    }
}

fn api_port(config: &NodeConfig) -> u16 {
    match config.bramble.get("http") {
        Some(Setting::Text(address)) => {
            address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(API_PORT)
        }
        _ => API_PORT,
    }
}
