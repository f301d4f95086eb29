//! PID 1 in the running slot's root: what is started, in which order, and the loop that keeps it.

use super::console::{self, chain, say};
use super::control::{self, Asked};
use super::disk::Disk;
use super::events::Events;
use super::identity::MachineId;
use super::modules::{Modules, load_names};
use super::net::{self, Network};
use super::service::Services;
use super::slots::Slots;
use super::status::{self, Cluster, Status, Teller};
use super::sys::{self, Down};
use super::update;
use super::watchdog::Watchdog;
use super::{alone, bramble, clock, data, fat, identity, power, ssh, tree};
use crate::node::NodeConfig;
use crate::node::Slot;
use crate::node::boot::argument;
use crate::node::config::{Complaint, Setting, Token};
use crate::node::control::{Reply, Request};
use crate::node::layout::{CONFIG_FILE, ROOT_MODULES_FILE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Between two rounds in which nothing happened: the watchdog is fed, the trial's time looked at.
const ROUND: Duration = Duration::from_secs(5);
/// Between two looks at bramble: until it answers, and then.
const ASK_SOON: Duration = Duration::from_millis(500);
const ASK_LATER: Duration = Duration::from_secs(30);
/// Ends of bramble in a row that are told as trouble.
const TROUBLE: u32 = 2;
/// Kernel argument that puts all of bramble's log on the console.
const LOG_ARGUMENT: &str = "bramble.log";
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
    cluster: Option<Cluster>,
    next_ask: Instant,
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
    fn start(disk: Disk, slot: Slot) -> io::Result<Node> {
        console::open();
        sys::catch_ctrl_alt_del();
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
            mask.add(signal);
        }
        tree::mount_all();
        let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let slots = Slots::open(disk, slot);
        let text = fs::read(fat::path(CONFIG_FILE)).unwrap_or_default();
        let (mut config, left_out) = NodeConfig::parse(&String::from_utf8_lossy(&text));
        let mut complaints = Vec::new();
        let attached = data::attach(slots.disk());
        if let Err(error) = &attached {
            complaints.push(error.to_string());
        }
        clock::go_on();
        let mut modules = Modules::open();
        load_names(&mut modules, ROOT_MODULES_FILE);
        modules.coldplug();
        let machine = MachineId::settle();
        if machine.moved {
            complaints.push(
                "this card was in another machine before. If it is a copy, flash it anew: two \
                 nodes with one key are one node to a cluster"
                    .into(),
            );
        }
        let hostname = config.hostname.clone().unwrap_or_else(|| identity::hostname(&machine.id));
        tree::name_node(&hostname, &machine.id);
        let watchdog = Watchdog::start(&mut modules);
        let mut network = Network::start();
        let mut services = Services::default();
        // Heard before the cards are looked for, so that none comes in between.
        let events = Events::listen().map_err(|error| say(&format!("uevents: {error}"))).ok();
        if attached.is_ok() {
            complaints.extend(bramble::check(&mut config));
        }
        if config.token == Token::Refused {
            complaints.push(
                "bramble is not started: the token in bramble.toml is wrong, and without one this \
                 node would be a cluster of its own"
                    .into(),
            );
        }
        // From here on children are reaped by the loop alone.
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        network.look(&config, &hostname, &mut services);
        let runs = attached.is_ok() && config.token != Token::Refused;
        if runs {
            let shown = argument(&arguments, LOG_ARGUMENT) == Some("console");
            services.add(bramble::prepare(&config, shown));
        }
        match ssh::server(&config.ssh_keys) {
            Ok(server) => server.into_iter().for_each(|spec| services.add(spec)),
            Err(reason) => complaints.push(reason),
        }
        let (wake, wakes) = io::pipe()?;
        let asked = control::listen(wakes)?;
        clock::follow();
        Ok(Node {
            config,
            left_out,
            complaints,
            hostname,
            slots,
            services,
            network,
            modules,
            watchdog,
            teller: Teller::new(),
            cluster: None,
            next_ask: Instant::now(),
            runs,
            alone: alone::noted(),
            loading: None,
            staging: Arc::default(),
            signals,
            events,
            asked,
            wake,
            down: None,
        })
    }

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
            let next = next_start.into_iter().chain([self.next_ask, now + ROUND]).min();
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
                self.cluster = None;
                self.next_ask = Instant::now() + ASK_SOON;
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
        if !self.runs || Instant::now() < self.next_ask {
            return;
        }
        self.cluster = status::ask().ok();
        let answers = self.cluster.is_some();
        self.next_ask = Instant::now() + if answers { ASK_LATER } else { ASK_SOON };
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
        let seen = self.cluster.as_ref().is_some_and(|cluster| cluster.sees(&self.hostname));
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

    fn answer(&mut self, asked: Asked) {
        let refused = |error: &dyn std::error::Error| Reply::Refused(chain(error));
        let busy = self.staging.load(Ordering::SeqCst);
        let reply = match asked.request {
            Request::Slots => Reply::Slots(self.slots.tell()),
            Request::Stage { .. } | Request::Try { .. } if busy => {
                refused(&super::slots::SlotError::Busy)
            }
            Request::Stage { ref path } => {
                let path = PathBuf::from(path);
                return self.stage(path, asked);
            }
            Request::Try { alone } => match self.slots.try_spare() {
                Ok(how) => {
                    if alone {
                        alone::note(self.slots.running().other());
                    }
                    self.down = Some(how);
                    Reply::Done
                }
                Err(error) => refused(&error),
            },
            Request::Confirm => match self.slots.confirm() {
                Ok(()) => Reply::Done,
                Err(error) => refused(&error),
            },
            Request::Reboot => {
                self.down = Some(Down::Reboot);
                Reply::Done
            }
            Request::Poweroff => {
                self.down = Some(Down::Poweroff);
                Reply::Done
            }
        };
        // Who asked may have left.
        let _ = asked.reply.send(reply);
    }

    /// Write the spare slot on a thread of its own: it takes as long as the card takes.
    fn stage(&mut self, path: PathBuf, asked: Asked) {
        if let Err(error) = self.slots.free_spare() {
            let _ = asked.reply.send(Reply::Refused(chain(&error)));
            return;
        }
        let (device, board) = (self.slots.spare_device(), self.slots.board().to_string());
        let staging = Arc::clone(&self.staging);
        staging.store(true, Ordering::SeqCst);
        let reply = asked.reply.clone();
        let write = move || {
            let answer = match update::write(&path, &device, &board) {
                Ok(version) => {
                    say(&format!("{version} is in the spare slot"));
                    Reply::Done
                }
                Err(error) => Reply::Refused(chain(&error)),
            };
            staging.store(false, Ordering::SeqCst);
            let _ = asked.reply.send(answer);
        };
        if let Err(error) = std::thread::Builder::new().stack_size(128 << 10).spawn(write) {
            self.staging.store(false, Ordering::SeqCst);
            let _ = reply.send(Reply::Refused(error.to_string()));
        }
    }

    fn status(&self) -> Status {
        let mut complaints = self.complaints.clone();
        complaints.extend(self.network.complaints.iter().cloned());
        let trouble = self.services.trouble(bramble::NAME);
        let state = match (&self.cluster, trouble) {
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
            cluster: self.cluster.clone(),
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
