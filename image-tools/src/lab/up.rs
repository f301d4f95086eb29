//! Starting machines: any of them, in any order, also beside others that run.
//!
//! What fails or is interrupted is taken back as far as it was this run's: what ran before goes on,
//! disks that were there before stay.

use super::accel::{Accel, Wanted};
use super::config::{self, Machine};
use super::error::LabError;
use super::interrupt::Interrupt;
use super::keys::Keys;
use super::network::Network;
use super::place::{Alone, Place};
use super::wait::{Waiting, wait};
use super::{destroy, disks, machine, settings};
use crate::disk::progress::Progress;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to start, and of what.
pub struct Order {
    /// The machines' file.
    pub config: PathBuf,
    /// The lab's directory.
    pub directory: PathBuf,
    /// Names of machines; without any, all.
    pub names: Vec<String>,
    /// Of new machines; none: the one the lab has.
    pub image: Option<PathBuf>,
    /// Makes the cluster's keys.
    pub bramble: Option<PathBuf>,
    pub accel: Wanted,
    /// How long nodes may take to answer; zero: they are not waited for.
    pub patience: Duration,
}

/// What this run has begun.
#[derive(Default)]
struct Begun {
    /// The lab itself.
    lab: bool,
    /// Machines it started, and whether it made them.
    machines: Vec<(Machine, bool)>,
}

/// Start machines and wait for them.
///
/// # Errors
/// The file or the order cannot be meant, the machine lacks something, it was interrupted, or a
/// node did not answer in time.
pub fn up(order: &Order) -> Result<(), LabError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::refused(
            "the lab needs root for a network of its own: run it with sudo",
        ));
    }
    let all = config::read(&order.config)?;
    let chosen = choose(&all, &order.names, &order.config)?;
    let interrupt = Interrupt::listen()?;
    let (place, lab) = Place::open_or_make(&order.directory, &all)?;
    let alone = place.alone()?;
    let mut begun = Begun { lab, ..Begun::default() };
    let started = start(order, &place, &chosen, &mut begun, &interrupt);
    if let Err(error) = started {
        return Err(take_back(place, &alone, &begun, error));
    }
    // Others may add machines meanwhile.
    drop(alone);
    if order.patience.is_zero() {
        return Ok(());
    }
    let waiting = Waiting { all: &all, started: &chosen, place: &place };
    match wait(&waiting, order.patience, &interrupt) {
        Err(LabError::Interrupted) => {
            let alone = place.alone_after_others()?;
            Err(take_back(place, &alone, &begun, LabError::Interrupted))
        }
        ended => ended,
    }
}

/// The machines of these names, in the file's order.
fn choose(all: &[Machine], names: &[String], config: &Path) -> Result<Vec<Machine>, LabError> {
    let place = config.display().to_string();
    if all.is_empty() {
        return Err(LabError::Config { place, text: "there is no machine to start in it".into() });
    }
    let unknown = names.iter().find(|name| all.iter().all(|machine| machine.name != **name));
    if let Some(name) = unknown {
        let known: Vec<_> = all.iter().map(|machine| machine.name.as_str()).collect();
        let text = format!("there is no machine {name} in it; there are {}", known.join(", "));
        return Err(LabError::Config { place, text });
    }
    let wanted = |machine: &&Machine| names.is_empty() || names.contains(&machine.name);
    Ok(all.iter().filter(wanted).cloned().collect())
}

fn start(
    order: &Order,
    place: &Place,
    chosen: &[Machine],
    begun: &mut Begun,
    interrupt: &Interrupt,
) -> Result<(), LabError> {
    let runs = |machine: &&Machine| machine::find(&place.files(&machine.name)).is_some();
    let (running, rest): (Vec<_>, Vec<_>) = chosen.iter().partition(runs);
    for machine in running {
        println!("{}: runs already ({})", machine.name, machine.ip);
    }
    if rest.is_empty() {
        return Ok(());
    }
    let progress = Progress::steps(rest.len() as u64 + 3);
    progress.step("keys");
    let keys = Keys::settle(&place.keys(), order.bramble.as_deref())?;
    interrupt.check()?;
    progress.step("image");
    let new = rest.iter().any(|machine| !place.files(&machine.name).disk.exists());
    let named = order.image.as_deref();
    let base = if new { Some(disks::base(place, named)?) } else { None };
    interrupt.check()?;
    progress.step("processor and network");
    let accel = Accel::settle(order.accel, place, interrupt)?;
    let network = place.network();
    network.make()?;
    for machine in rest {
        interrupt.check()?;
        progress.step("machines");
        begun.machines.push((machine.clone(), !place.files(&machine.name).disk.exists()));
        start_one(place, machine, &keys, base.as_deref(), (&network, accel))?;
        progress.say(&format!("{}: started ({}, {})", machine.name, machine.ip, accel.name()));
    }
    interrupt.check()
}

fn start_one(
    place: &Place,
    machine: &Machine,
    keys: &Keys,
    base: Option<&Path>,
    (network, accel): (&Network, Accel),
) -> Result<(), LabError> {
    let files = place.describe(machine)?;
    settings::write(machine, keys, &files.settings)?;
    if let (Some(base), false) = (base, files.disk.exists()) {
        disks::make(base, &files)?;
    }
    let plug = network.plug(machine.ip)?;
    machine::start(machine, &files, &network.namespace, &plug, accel)
}

/// Undo what this run has begun; gives why.
fn take_back(place: Place, _alone: &Alone, begun: &Begun, why: LabError) -> LabError {
    let undo = || {
        for (machine, made) in &begun.machines {
            match made {
                true => destroy::one(&place, &machine.name)?,
                false => destroy::halt(&place, &machine.name)?,
            }
        }
        // Others may have added machines to it since.
        let last = begun.lab && place.made()?.is_empty();
        if last { destroy::all(place) } else { Ok(()) }
    };
    match undo() {
        Ok(()) => why,
        Err(error) => LabError::refused(format!(
            "{why}; and then: {error}; `bramble-image lab destroy` removes the rest"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_chosen_by_name_in_any_order() {
        let all = config::parse("m1: {}\na1: {}\np1: {}", "f").unwrap();
        let choose = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            let chosen = super::choose(&all, &names, Path::new("f.yaml"));
            chosen.map(|machines| machines.into_iter().map(|one| one.name).collect::<Vec<_>>())
        };
        assert_eq!(choose(&[]).unwrap(), ["m1", "a1", "p1"]);
        assert_eq!(choose(&["p1", "m1", "p1"]).unwrap(), ["m1", "p1"]);
        let said = choose(&["m1", "m2"]).unwrap_err().to_string();
        assert_eq!(said, "f.yaml: there is no machine m2 in it; there are m1, a1, p1");
        assert!(super::choose(&[], &[], Path::new("f")).is_err());
    }
}
