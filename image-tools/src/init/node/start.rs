//! What is done once, from an empty root to the loop: mounts, data, drivers, names, programs.

use super::{Node, Seen};
use crate::init::console::{self, say};
use crate::init::disk::Disk;
use crate::init::events::Events;
use crate::init::identity::MachineId;
use crate::init::modules::{Modules, load_names};
use crate::init::net::Network;
use crate::init::service::Services;
use crate::init::settings::Settings;
use crate::init::slots::Slots;
use crate::init::status::Teller;
use crate::init::watchdog::Watchdog;
use crate::init::{alone, bramble, clock, control, data, identity, ssh, sys, tree};
use crate::node::Slot;
use crate::node::boot::argument;
use crate::node::config::Token;
use crate::node::layout::ROOT_MODULES_FILE;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs;
use std::io;
use std::sync::Arc;

/// Kernel argument that puts all of bramble's log on the console.
const LOG_ARGUMENT: &str = "bramble.log";
const MOVED: &str = "this card was in another machine before. If it is a copy, flash it anew: two \
    nodes with one key are one node to a cluster";
const TOKEN_REFUSED: &str = "bramble is not started: the token in bramble.toml is wrong, and without \
    one this node would be a cluster of its own";

impl Node {
    pub(super) fn start(disk: Disk, slot: Slot) -> io::Result<Node> {
        console::open();
        sys::catch_ctrl_alt_del();
        tree::mount_all();
        bramble::read_ahead();
        let slots = Slots::open(disk, slot);
        let mut complaints = Vec::new();
        let has_data = match data::attach(slots.disk()) {
            Ok(()) => true,
            Err(error) => {
                complaints.push(error.to_string());
                false
            }
        };
        clock::go_on();
        let mut modules = Modules::open();
        load_names(&mut modules, ROOT_MODULES_FILE);
        modules.coldplug();
        let mut settings = Settings::read();
        let hostname = name(&settings, &mut complaints);
        let watchdog = Watchdog::start(&mut modules);
        let mut network = Network::start();
        let mut services = Services::default();
        // Heard before the cards are looked for, so that none comes in between.
        let events = Events::listen().map_err(|error| say(&format!("uevents: {error}"))).ok();
        if has_data {
            complaints.extend(bramble::check(&mut settings.config));
        }
        let token_refused = settings.config.token == Token::Refused;
        if token_refused {
            complaints.push(TOKEN_REFUSED.into());
        }
        // From here on children are reaped by the loop alone.
        let signals = take_signals()?;
        network.look(&settings.config, &hostname, &mut services);
        let runs = has_data && !token_refused;
        if runs {
            services.add(bramble::prepare(&settings, log_is_shown()));
        }
        match ssh::server(&settings.config.ssh_keys) {
            Ok(server) => server.into_iter().for_each(|spec| services.add(spec)),
            Err(reason) => complaints.push(reason),
        }
        let (wake, wakes) = io::pipe()?;
        let asked = control::listen(wakes)?;
        clock::follow();
        Ok(Node {
            config: settings.config,
            left_out: settings.left_out,
            complaints,
            hostname,
            slots,
            services,
            network,
            modules,
            watchdog,
            teller: Teller::new(),
            seen: Seen::default(),
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
}

/// Name the node; gives its name.
fn name(settings: &Settings, complaints: &mut Vec<String>) -> String {
    let machine = MachineId::settle();
    if machine.moved {
        complaints.push(MOVED.into());
    }
    let given = settings.config.hostname.clone();
    let hostname = given.unwrap_or_else(|| identity::hostname(&machine.id));
    tree::name_node(&hostname, &machine.id);
    hostname
}

fn log_is_shown() -> bool {
    let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    argument(&arguments, LOG_ARGUMENT) == Some("console")
}

/// Have signals wait for the loop, in this and all later threads.
fn take_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}
